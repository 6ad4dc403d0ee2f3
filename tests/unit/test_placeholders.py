"""Chunk placeholders: what fits the chunk keys, and what comes out."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from forwarder.api import placeholders
from forwarder.api.buffering import BufferSection, ChunkKeys
from forwarder.api.chunk import Chunk
from forwarder.api.errors import ConfigError, UnrecoverableError

DAY = ChunkKeys(timekey=86400, zone="UTC")
HOUR = ChunkKeys(timekey=3600, zone="UTC")


def chunk(tag: str | None = None, timekey: int | None = None, **variables: str | None) -> Chunk:
    key = SimpleNamespace(tag=tag, timekey=timekey, variables=tuple(variables.items()))
    return cast(Chunk, SimpleNamespace(id=b"\x01" * 16, key=key))


@pytest.mark.parametrize(
    ("template", "keys", "why"),
    [
        ("/p/x", ChunkKeys(), None),
        ("/p/${tag}", ChunkKeys(tag=True), None),
        ("/p/${tag[0]}.${tag[-1]}", ChunkKeys(tag=True), None),
        ("/p/x", ChunkKeys(tag=True), "no tag placeholder"),
        ("/p/${tag[1]}", ChunkKeys(), "tag is not a chunk key"),
        ("/p/${host}", ChunkKeys(fields=("host",)), None),
        ("/p/${$.a.b}", ChunkKeys(fields=("$.a.b",)), None),
        ("/p/${host}", DAY, "no time placeholders"),
        ("/p/%Y%m%d/${host}", DAY, "host"),
        ("/p/%Y%m%d", DAY, None),
        ("/p/%Y%m", DAY, "no time placeholders"),
        ("/p/%F", DAY, None),
        ("/p/%G-%V", DAY, "no time placeholders"),
        ("/p/%Y%m%d%p", HOUR, "as fine as timekey 3600"),
        ("/p/%L", ChunkKeys(), None),
        ("/p/%Y%m%d%H", DAY, None),
        ("/p/%Y%m%d", HOUR, "as fine as timekey 3600"),
        ("/p/%Y%m%d", ChunkKeys(), "time is not a chunk key"),
        ("/p/${a}", ChunkKeys(fields=("a", "b")), "no placeholders for the chunk keys b"),
        ("/p/${chunk_id}", ChunkKeys(), None),
    ],
)
def test_validation(template: str, keys: ChunkKeys, why: str | None) -> None:
    if why is None:
        placeholders.validate("path", template, keys)
    else:
        with pytest.raises(ConfigError, match=why) as caught:
            placeholders.validate("path", template, keys)
        assert caught.value.param == "path"


@pytest.mark.parametrize(
    ("template", "keys", "of", "expected"),
    [
        ("a-${chunk_id}", ChunkKeys(), chunk(), "a-" + "01" * 16),
        ("${tag}|${tag[0]}|${tag[-1]}", ChunkKeys(tag=True), chunk("a.b.c"), "a.b.c|a|c"),
        ("x/${h}/", ChunkKeys(fields=("h",)), chunk(h="web"), "x/web/"),
        ("x/${h}", ChunkKeys(fields=("h",)), chunk(h=None), "x/"),
        ("%Y-%m-%d_%H", HOUR, chunk(timekey=1_699_999_200), "2023-11-14_22"),
        ("%s %z %%", HOUR, chunk(timekey=1_699_999_200), "1699999200 +0000 %"),
        ("%Y%m%d", DAY._replace(zone="+09:00"), chunk(timekey=1_699_974_000), "20231115"),
        ("%d %H", DAY._replace(zone="Asia/Tokyo"), chunk(timekey=1_699_974_000), "15 00"),
        # a field's own percent sign is not a time directive
        ("%d-${h}", DAY._replace(fields=("h",)), chunk(timekey=1_699_920_000, h="%Y"), "14-%Y"),
    ],
)
def test_extraction(template: str, keys: ChunkKeys, of: Chunk, expected: str) -> None:
    warnings: list[str] = []
    assert placeholders.extract(template, of, keys, warnings.append) == expected
    assert warnings == []


def test_a_missing_tag_part_is_empty_with_a_warning() -> None:
    warnings: list[str] = []
    text = placeholders.extract("${tag[5]}x", chunk("a.b"), ChunkKeys(tag=True), warnings.append)
    assert text == "x"
    assert len(warnings) == 1


@pytest.mark.parametrize("value", ["../x", "a/../../etc", "/etc", "..\\x", "\\x"])
def test_values_cannot_leave_the_directory(value: str) -> None:
    for keys, of in ((ChunkKeys(tag=True), chunk(value)), (ChunkKeys(fields=("tag2",)), chunk(tag2=value))):
        template = "/logs/${tag}" if keys.tag else "/logs/${tag2}"
        with pytest.raises(UnrecoverableError, match="directory"):
            placeholders.extract(template, of, keys, lambda _: None)


@pytest.mark.parametrize(
    ("template", "fields", "values"),
    [
        ("/logs/${a}${b}x", ("a", "b"), {"a": ".", "b": "./"}),
        ("/logs/${a}/x", ("a",), {"a": ".."}),
        ("../${a}./x", ("a",), {"a": "."}),
    ],
)
def test_values_cannot_leave_the_directory_together(
    template: str, fields: tuple[str, ...], values: dict[str, str]
) -> None:
    with pytest.raises(UnrecoverableError, match="directory"):
        placeholders.extract(template, chunk(**values), ChunkKeys(fields=fields), lambda _: None)


@pytest.mark.parametrize(("tag", "template"), [("../etc", "${tag[0]}"), ("/etc.x", "${tag[1]}")])
def test_a_part_of_a_tag_that_leads_out_is_refused_too(tag: str, template: str) -> None:
    with pytest.raises(UnrecoverableError, match="directory"):
        placeholders.extract(template, chunk(tag), ChunkKeys(tag=True), lambda _: None)


@pytest.mark.parametrize(
    ("keys", "of", "expected"),
    [
        (ChunkKeys(fields=("a",)), chunk(a="v"), "v||${tag}"),
        (ChunkKeys(), chunk(), "${a}|${b}|${tag}"),
    ],
)
def test_placeholders_that_are_no_chunk_keys(keys: ChunkKeys, of: Chunk, expected: str) -> None:
    warnings: list[str] = []
    assert placeholders.extract("${a}|${b}|${tag}", of, keys, warnings.append) == expected
    assert warnings


def section(**values: Any) -> BufferSection:
    made = BufferSection()
    for name, value in values.items():
        setattr(made, name, value)
    return made


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"chunk_keys": []}, ChunkKeys()),
        ({"chunk_keys": ["tag", "time"], "timekey": 60.0}, ChunkKeys(True, 60, None, ())),
        ({"chunk_keys": ["time"], "timekey": 60.0, "timekey_use_utc": True, "timekey_zone": "+09:00"},
         ChunkKeys(False, 60, "UTC", ())),
        ({"chunk_keys": ["a", "$.b.c", "a"]}, ChunkKeys(False, None, None, ("a", "$.b.c"))),
    ],
)  # fmt: skip
def test_chunk_keys(values: dict[str, Any], expected: ChunkKeys) -> None:
    assert section(**values).keys() == expected


@pytest.mark.parametrize(
    ("values", "param"),
    [
        ({"chunk_keys": ["time"]}, "timekey"),
        ({"chunk_keys": ["time"], "timekey": 0.0}, "timekey"),
        ({"chunk_keys": ["a b"]}, "chunk_keys"),
        ({"chunk_keys": ["$['a']"]}, "chunk_keys"),
        ({"type": "redis"}, "@type"),
        ({"flush_thread_count": 0}, "flush_thread_count"),
    ],
)
def test_impossible_buffers_are_refused(values: dict[str, Any], param: str) -> None:
    with pytest.raises(ConfigError) as caught:
        section(**values).configure()
    assert caught.value.param == param
