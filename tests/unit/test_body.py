"""The native reader of bodies and streams, and what in_http makes of requests, for any input."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

import msgpack
import pytest
import urllib3
from hypothesis import example, given
from hypothesis import strategies as st

from forwarder._native import BodyReader, form_fields, inflate, json_parser
from forwarder.api.http_message import Head
from forwarder.plugins.inputs.http import request

RECORDS = st.lists(
    st.dictionaries(st.text(max_size=8), st.integers(-5, 5) | st.text(max_size=8), max_size=3), max_size=6
)
READER = BodyReader(json_parser("oj", {}))


def outcome(call: Callable[[], Any]) -> tuple[Any, str | None]:
    """What a call gives, or the reason why it does not."""
    try:
        return call(), None
    except ValueError as error:
        return None, error.args[1]
    except request.Bad as bad:
        return None, bad.reason


def records(batch: Any) -> list[dict[str, Any]]:
    return [record for _, stream in batch.streams() for _, record in stream]


@given(RECORDS, st.sampled_from(["lines", "json"]), st.integers(1, 40))
def test_a_stream_gives_the_same_however_it_is_cut(
    given_records: list[dict[str, Any]], sequence: str, step: int
) -> None:
    indent = 1 if sequence == "json" else None
    data = "\n".join(json.dumps(record, indent=indent) for record in given_records).encode()
    got: list[dict[str, Any]] = []
    rest = b""
    for at in range(0, len(data) + step, step):
        rest += data[at : at + step]
        intake, used = READER.feed(sequence, rest, "t", at + step > len(data))
        assert intake.failures == []
        rest = rest[used:]
        got += records(intake.batch)
    assert rest == b""
    assert got == given_records


@given(RECORDS)
def test_the_three_forms_of_a_body_give_the_same(given_records: list[dict[str, Any]]) -> None:
    bodies = {
        "text": json.dumps(given_records).encode(),
        "lines": "\n".join(json.dumps(record) for record in given_records).encode(),
        "msgpack": msgpack.packb(given_records),
    }
    for form, body in bodies.items():
        assert records(READER.read(form, body, "t").batch) == given_records


@given(st.binary(max_size=200), st.sampled_from(["text", "lines", "msgpack"]), st.booleans())
def test_any_bytes_give_events_or_a_reason(body: bytes, form: str, added: bool) -> None:
    reader = BodyReader(json_parser("oj", {}), time_key="time", tag_key="tag")
    intake, reason = outcome(lambda: reader.read(form, body, "t", None, {"a": [1]} if added else None))
    if reason is not None:
        assert reason in ("malformed", "invalid_time")
        return
    assert intake.received == len(intake.batch) + sum(count for _, count, _ in intake.failures)
    assert all(record["a"] == [1] for record in records(intake.batch) if added)


@given(st.lists(st.tuples(st.binary(max_size=9), st.binary(max_size=9)), min_size=1, max_size=9))
def test_forms_are_read_as_they_were_written(fields: list[tuple[bytes, bytes]]) -> None:
    assert form_fields(urlencode(fields).encode(), 100) == fields


@given(
    st.dictionaries(
        st.text("abcdef-_", min_size=1, max_size=9), st.binary(max_size=99), min_size=1, max_size=5
    )
)
@example({"json": b"\r\n--", "a": b"\r\n--B--\r\n"})
def test_multipart_bodies_are_read_as_they_were_written(fields: dict[str, bytes]) -> None:
    body, kind = urllib3.encode_multipart_formdata(fields)
    head = Head("POST", "/t", ((b"content-type", kind.encode()),), "127.0.0.1")
    assert request.fields_of_body(head, body) == {name.encode(): value for name, value in fields.items()}


@given(st.binary(max_size=300), st.sampled_from(["gzip", "deflate", "zstd"]))
def test_any_bytes_decompress_or_do_not(data: bytes, method: str) -> None:
    plain, reason = outcome(lambda: inflate(method, data, 1000))
    assert reason in (None, "decompress_error", "decompression_size_limit")
    assert reason is not None or len(plain) <= 1000


@given(st.binary(max_size=60))
def test_any_time_is_one_or_refused(text: bytes) -> None:
    time_ns, reason = outcome(lambda: request.time_of({b"time": text}))
    assert reason in (None, "invalid_time")
    assert time_ns is None or 0 <= time_ns < 2**32 * 10**9


@pytest.mark.parametrize(
    ("text", "time_ns"),
    [
        (b"1700000000", 1_700_000_000 * 10**9),
        (b" 1700000000.123456 x", 1_700_000_000_123_456_000),
        (b"1_7.5", 17_500_000_000),
        (b"17e8", 1_700_000_000 * 10**9),
        (b"0.000001", 1000),
        (b"0", None),
        (b"now", None),
        (b"", None),
    ],
)
def test_times_are_read_as_ruby_reads_them(text: bytes, time_ns: int | None) -> None:
    assert request.time_of({b"time": text}) == time_ns
