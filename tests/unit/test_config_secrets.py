"""What looks like a credential is never printed."""

from __future__ import annotations

import pytest

from forwarder.config import Diagnostics
from forwarder.config.secrets import mask_text, mask_value, secret_name


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://elastic:changeme@es:9200/x", "https://elastic:xxxxxx@es:9200/x"),
        ("http://u:p%40w@a,http://v:q@b", "http://u:xxxxxx@a,http://v:xxxxxx@b"),
        ("redis://:pw@h", "redis://:xxxxxx@h"),
        ("https://ghp_0123456789abcdef@h", "https://xxxxxx@h"),
        ("https://example.com/a@b", "https://example.com/a@b"),
        ("Bearer abc.def-123", "Bearer xxxxxx"),
        ('{"Authorization":"Basic dXNlcjpwdw=="}', '{"Authorization":"Basic xxxxxx"}'),
        ("basic authentication", "basic authentication"),
        ("AKIAIOSFODNN7EXAMPLE", "xxxxxx"),
        ('{"api_key":"a\\"b","x":"y"}', '{"api_key":"xxxxxx","x":"y"}'),
        ("-----BEGIN PRIVATE KEY-----\nMII\n-----END", "-----BEGIN PRIVATE KEY-----xxxxxx-----END"),
        ("plain text", "plain text"),
    ],
)  # fmt: skip
def test_mask_value(text: str, expected: str) -> None:
    assert mask_value(text) == expected


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        ("password", True),
        ("shared_key", True),
        ("private_key_passphrase", True),
        ("aws_sec_key", True),
        ("client_secret", True),
        ("api_token", True),
        ("tag_key", False),
        ("time_key", False),
        ("private_key_path", False),
        ("tokenizer", False),
    ],
)
def test_secret_name(name: str, secret: bool) -> None:
    assert secret_name(name) is secret


def test_mask_text_is_for_lines() -> None:
    assert mask_text('  password "a b" # c') == "  password xxxxxx"
    assert mask_text("  user name") == "  user name"
    assert mask_text("  odd value", secret="odd") == "  odd xxxxxx"


def test_messages_are_masked() -> None:
    diagnostics = Diagnostics()
    diagnostics.error("cannot use http://u:pw@host")
    assert diagnostics.render() == "error: cannot use http://u:xxxxxx@host"
