"""Addresses of clusters."""

from __future__ import annotations

import base64

import pytest

from forwarder.plugins.outputs.elasticsearch.hosts import Defaults, Node, cloud, escaped, parse

PLAIN = Defaults()
OURS = Defaults("https", 9243, "/es/", "ann", "p w")


@pytest.mark.parametrize(
    ("text", "defaults", "expected"),
    [
        ("localhost", PLAIN, ["http://localhost:9200"]),
        ("a:1,b", PLAIN, ["http://a:1", "http://b:9200"]),
        (" a , b:2 ,", PLAIN, ["http://a:9200", "http://b:2"]),
        ("a", OURS, ["https://a:9243/es"]),
        ("http://a", OURS, ["http://a:80/es"]),
        ("https://a/x/y/,http://b:7", OURS, ["https://a:443/x/y", "http://b:7/es"]),
        ("::1", PLAIN, ["http://[::1]:9200"]),
        ("[::1]", PLAIN, ["http://[::1]:9200"]),
        ("2001:db8::5,a:1", OURS, ["https://[2001:db8::5]:9243/es", "https://a:1/es"]),
        ("http://[::1]:9201/p", PLAIN, ["http://[::1]:9201/p"]),
        ("https://u:p@a:1", PLAIN, ["https://a:1"]),
    ],
)
def test_addresses(text: str, defaults: Defaults, expected: list[str]) -> None:
    assert [str(node) for node in parse(text, defaults)] == expected


def test_an_address_may_bring_its_own_credentials() -> None:
    nodes = parse("http://bob:s%40crt@a,b,http://%{j+}:%{a@b}@c", Defaults(user="ann", password="pw"))
    assert [(node.host, node.user, node.password) for node in nodes] == [
        ("a", "bob", "s%40crt"),
        ("b", "ann", "pw"),
        ("c", "j%2B", "a%40b"),
    ]
    # what Fluentd sends for this, recorded
    assert nodes[0].authorization == "Basic Ym9iOnMlNDBjcnQ="
    assert Node("http", "a", 1).authorization is None


@pytest.mark.parametrize(
    "text",
    ["", " , ", "ftp://bob:hunter2@a", "http://bob:hunter2@", "http://bob:hunter2@a:99999", "a:0", "a b",
     "http://bob:hunter2@a:x", "bob:hunter2@a"],
)  # fmt: skip
def test_what_is_no_address_is_named_without_its_password(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected|no URL|no host") as caught:
        parse(text, PLAIN)
    assert "hunter2" not in str(caught.value)


def test_nothing_prints_a_password() -> None:
    assert "pw" not in repr(Node("http", "a", 1, "", "ann", "pw")) + repr(Defaults(user="ann", password="pw"))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("eu.example.com$abc$def", "https://abc.eu.example.com:443"),
        ("eu.example.com:9243$abc$", "https://abc.eu.example.com:9243"),
    ],
)
def test_cloud_ids(content: str, expected: str) -> None:
    text = "name:" + base64.b64encode(content.encode()).decode()
    assert str(cloud(text, "u", "p")) == expected


@pytest.mark.parametrize("text", ["", "name:", "name:%%%", "name:" + base64.b64encode(b"host$").decode()])
def test_what_is_no_cloud_id(text: str) -> None:
    with pytest.raises(ValueError, match="Cloud ID"):
        cloud(text, None, None)


@pytest.mark.parametrize(
    ("value", "expected"), [(None, None), ("a@b", "a@b"), ("%{a@b+}", "a%40b%2B"), ("%{plain}", "plain")]
)
def test_escaped_values(value: str | None, expected: str | None) -> None:
    assert escaped(value) == expected
