"""JSON text from MessagePack bytes: `native/src/json_out.rs` as Python sees it."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forwarder import _native
from forwarder.api import EventBatch, EventStream

TIME = 1_700_000_000_250_000_000
JSON = _native.json_formatter("oj", "\n")
RUBY = _native.json_formatter("ruby", "")


def batch(*records: dict[Any, Any]) -> EventBatch:
    return EventBatch([("t.a", EventStream.from_events((TIME, record) for record in records))])


def raw(*bodies: bytes) -> EventBatch:
    """Records as MessagePack, for what no Python object becomes."""
    return EventBatch([("t.a", EventStream(b"".join(b"\x92\xce\x65\x53\xf1\x00" + body for body in bodies)))])


# What Fluentd 1.19.3 wrote (conformance 525, 528), and RFC 8259 for the rest.
WRITTEN = [
    ({}, "{}"),
    (
        {"s": "text", "i": 5, "f": 1.5, "b": True, "n": None, "l": [1, "x"], "o": {"k": "v"}, "u": "é✓"},
        '{"s":"text","i":5,"f":1.5,"b":true,"n":null,"l":[1,"x"],"o":{"k":"v"},"u":"é✓"}',
    ),
    ({"q": 'a"b,c\td\\e/f'}, '{"q":"a\\"b,c\\td\\\\e/f"}'),
    ({"nl": "a\nb", "ctl": "\x01"}, '{"nl":"a\\nb","ctl":"\\u0001"}'),
    ({"html": "<&>'", "uni": "\u2028", "emoji": "😀"}, '{"html":"<&>\'","uni":"\u2028","emoji":"😀"}'),
    ({'k"\n': 1}, '{"k\\"\\n":1}'),
    ({"big": 2**64 - 1, "small": -(2**63)}, '{"big":18446744073709551615,"small":-9223372036854775808}'),
    ({"nan": math.nan, "inf": [math.inf, -math.inf]}, '{"nan":null,"inf":[null,null]}'),
    ({"bin": b"\xff\xfeok"}, '{"bin":"\ufffd\ufffdok"}'),
    ({1: "a", -2: "b", 1.5: "c", None: "d"}, '{"1":"a","-2":"b","1.5":"c","":"d"}'),
    ({"empty": [[], {}, ""]}, '{"empty":[[],{},""]}'),
]


@pytest.mark.parametrize(("record", "text"), WRITTEN)
def test_records_as_fluentd_writes_them(record: dict[Any, Any], text: str) -> None:
    assert JSON.format(batch(record)) == text.encode() + b"\n"


@pytest.mark.parametrize(
    ("value", "oj", "ruby"),
    [
        (0.0, "0.0", "0.0"),
        (-0.0, "0.0", "-0.0"),
        (0.1, "0.1", "0.1"),
        (1e14, "100000000000000.0", "100000000000000.0"),
        (1e15, "1000000000000000.0", "1.0e+15"),
        (1e16, "10000000000000000.0", "1.0e+16"),
        (1e19, "1.0e+19", "1.0e+19"),
        (1e-4, "0.0001", "0.0001"),
        (1.25e-5, "1.25e-05", "1.25e-05"),
        (1.7976931348623157e308, "1.7976931348623157e+308", "1.7976931348623157e+308"),
    ],
)
def test_floats_have_the_layout_of_oj_or_of_ruby(value: float, oj: str, ruby: str) -> None:
    assert JSON.format(batch({"f": value})) == f'{{"f":{oj}}}\n'.encode()
    assert RUBY.format(batch({"f": value})) == f'{{"f":{ruby}}}'.encode()


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"\x81\xa1t\xd7\x00\x65\x53\xf1\x00\x0e\xe6\xb2\x80", '{"t":1700000000}'),  # EventTime
        (b"\x81\xa1x\xd4\x05A", '{"x":"A"}'),  # unknown ext
        (b"\x81\xa1s\xa3a\xffb", '{"s":"a\ufffdb"}'),  # a str that is no UTF-8
        (b"\x81\xa1s\xa2\xc3\xa9", '{"s":"é"}'),
        (b"\x81\xa1f\xca\x3f\xc0\x00\x00", '{"f":1.5}'),  # float32
        (b"\x81\x91\xa1k\x01", '{"[\\"k\\"]":1}'),  # an array as key
        (b"\x81\xd9\x01k\xd9\x01v", '{"k":"v"}'),  # longer heads than needed
        (b"\xde\x00\x01\xda\x00\x01k\xdb\x00\x00\x00\x01v", '{"k":"v"}'),
    ],
)
def test_what_only_messagepack_can_say(body: bytes, text: str) -> None:
    written = JSON.format(raw(body)).decode()
    assert written == text + "\n"
    json.loads(written)


def test_deep_nesting_and_large_values_go_through() -> None:
    deep: Any = 1
    for _ in range(500):
        deep = [deep]
    record = {
        "deep": deep,
        "long": "x" * 100_000,
        "escapes": '"' * 100_000,
        "keys": {"k" * 70_000: "é" * 50_000},
    }
    assert json.loads(JSON.format(batch(record))) == record


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(st.lists(st.dictionaries(st.text(), VALUES, max_size=20), min_size=1, max_size=5))
def test_any_record_reads_back(records: list[dict[str, Any]]) -> None:
    written = JSON.format(batch(*records)).decode()
    assert [json.loads(line) for line in written.split("\n")[:-1]] == records


@given(st.lists(st.binary(max_size=80), min_size=1, max_size=6))
def test_any_bytes_give_valid_json(values: list[bytes]) -> None:
    as_bin = {f"k{number}": value for number, value in enumerate(values)}
    expected = {key: value.decode(errors="replace") for key, value in as_bin.items()}
    assert json.loads(JSON.format(batch(as_bin))) == expected
    as_str = bytes([0xDF, 0, 0, 0, len(values)]) + b"".join(
        b"\xa2k%d" % number + bytes([0xD9, len(value)]) + value for number, value in enumerate(values)
    )
    assert json.loads(JSON.format(raw(as_str))) == expected


@given(st.binary(max_size=60))
def test_any_bytes_as_keys_give_valid_json(key: bytes) -> None:
    written = JSON.format(raw(b"\x81\xd9" + bytes([len(key)]) + key + b"\x01"))
    assert json.loads(written) == {key.decode(errors="replace"): 1}
