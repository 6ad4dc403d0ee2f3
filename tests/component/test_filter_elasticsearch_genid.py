"""Filter `elasticsearch_genid` against digests made by Python's hashlib."""

from __future__ import annotations

import base64
import hashlib
import uuid
from typing import Any

import pytest

from forwarder.api import ConfigError
from forwarder.api.testing import Driver, run

RECORD = {"a": "x", "n": 5, "list": [1, "b"], "map": {"k": 1}, "empty": None}


def driver(parameters: str) -> Driver:
    return run(
        f"<filter **>\n@type elasticsearch_genid\n{parameters}\n</filter>\n<match **>\n@type test\n</match>"
    )


def genid(parameters: str, record: dict[str, Any] = RECORD, name: str = "_hash") -> str:
    with driver(parameters) as engine:
        engine.emit("t.g", (1_700_000_000_900_000_000, record))
        (found,) = engine.records()
    assert {**found, name: 1} == {**record, name: 1}
    return str(found[name])


@pytest.mark.parametrize(
    ("parameters", "kind", "seed"),
    [
        ("record_keys a,n", "sha1", "x_5"),
        ("record_keys a,list,missing,empty\nseparator +", "md5", "x+1+b++"),
        ("record_keys a\ninclude_tag_in_seed true\ninclude_time_in_seed true", "sha256", "t.g_1700000000_x"),
        ("use_entire_record true", "sha512", '|a|x|n|5|list|[1, "b"]|map|{"k"=>1}|empty|'),
    ],
)
def test_digests(parameters: str, kind: str, seed: str) -> None:
    digest = hashlib.new(kind, seed.encode()).digest()
    expected = base64.b64encode(digest).decode()
    assert genid(f"use_record_as_seed true\nhash_type {kind}\n{parameters}") == expected


def test_random_ids_are_uuids() -> None:
    found = {genid("hash_id_key id", {"id": 1, "b": 2}, "id") for _ in range(3)}
    assert len(found) == 3
    assert {uuid.UUID(base64.b64decode(each).decode()).version for each in found} == {4}


def test_a_seed_needs_fields() -> None:
    with pytest.raises(ConfigError, match="needs record_keys"):
        driver("use_record_as_seed true")
