"""The JSON parser: examples, and a comparison with Python's json."""

from __future__ import annotations

import json
import math
import re
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from forwarder import _native


def make(**options: Any) -> _native.CompiledParser:
    return _native.json_parser("oj", {"time_key": "time", "time_type": "float", **options})


def value(text: str | bytes) -> Any:
    """What one JSON value becomes; a reason where it is none."""
    raw = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    events = make().parse(b'{"v":' + raw + b"}")
    if isinstance(events, str):
        return f"refused: {events}"
    [(time_ns, record)] = events
    assert time_ns is None
    return record["v"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"a":1}', [(None, {"a": 1})]),
        (' \t\r\n{ "a" : 1 } \n', [(None, {"a": 1})]),
        ("{}", [(None, {})]),
        ('[{"a":1},{"b":2}]', [(None, {"a": 1}), (None, {"b": 2})]),
        ('[{"a":1},5,[{}],null,{"b":2}]', [(None, {"a": 1}), (None, {"b": 2})]),
        ("[]", []),
        ("[ ]", []),
        ("[1]", "unmatched"),
        ("[{},]", "unmatched"),
        ("[{}", "unmatched"),
        ("[{} {}]", "unmatched"),
        ("{}{}", "unmatched"),
        ("{} x", "unmatched"),
        ("1", "unmatched"),
        ('"text"', "unmatched"),
        ("null", "unmatched"),
        ("", "unmatched"),
        ("{bad", "unmatched"),
        ("\x00", "unmatched"),
        # as Oj 3.14 in Fluentd
        ("/* a */ {/**/} ", [(None, {})]),
        ("{} // b", "unmatched"),
        ("{} /* b */", "unmatched"),
        ("\ufeff{}", "unmatched"),
        ("{}\x00x", [(None, {})]),
        ('{"a":"\\ud83d"}', "unmatched"),
        ('{"a":"\\ude00"}', "unmatched"),
        ('{"a":"\\ud83d\\u0041"}', [(None, {"a": "\U0001f441"})]),
    ],
)
def test_objects_are_events(text: str, expected: Any) -> None:
    assert make().parse(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("18446744073709551615", 2**64 - 1),
        ("18446744073709551616", "18446744073709551616"),
        ("-9223372036854775808", -(2**63)),
        ("-9223372036854775809", "-9223372036854775809"),
        ("1" + "0" * 400, "1" + "0" * 400),
        ("1e400", "1e400"),
        ("-1.5E+400", "-1.5E+400"),
        ("1e-400", 0.0),
        ("-0", 0),
        ("0.1", 0.1),
        ("1.0", 1.0),
        ("123456789.123456789123456789", 123456789.12345679),
        (r'"\ud83d\ude00\u00e9"', "😀é"),
        (b'"a\xffb"', b"a\xffb"),
        (b'"\\n\xff"', b"\n\xff"),
        ('"a\tb\x00\x7f"', "a\tb\x00\x7f"),
        (r'"\""', '"'),
        ("Infinity", math.inf),
        ("-Infinity", -math.inf),
        ("-NaN", "refused: unmatched"),
        ("Inf", "refused: unmatched"),
        ("01", "refused: unmatched"),
        ("+1", "refused: unmatched"),
        (".5", "refused: unmatched"),
        ("5.", "refused: unmatched"),
        (r'"\x41\ü\'"', "x41ü'"),
        ("'a'", "refused: unmatched"),
        ("[1,]", "refused: unmatched"),
        ('{"a":1,"b":{"a":2,"a":3},"a":4}', {"a": 4, "b": {"a": 3}}),
        ("[" * 255 + "]" * 255, None),
        ("[" * 256 + "]" * 256, "refused: limit"),
        ("[" * 1_000_000, "refused: limit"),
        ('{"a":' * 1_000_000, "refused: limit"),
    ],
)
def test_values(text: str | bytes, expected: Any) -> None:
    found = value(text)
    if expected is not None:
        assert found == expected
        assert type(found) is type(expected)


def test_of_two_equal_keys_the_first_gives_the_place_and_the_last_the_value() -> None:
    events = make().parse('{"a":1,"time":5,"b":2,"time":6,"a":3}')
    assert events == [(6_000_000_000, {"a": 3, "b": 2})]
    assert list(events[0][1]) == ["a", "b"]


@pytest.mark.parametrize(
    ("options", "text", "expected"),
    [
        ({}, '{"time":1700000000.25,"a":1}', [(1_700_000_000_250_000_000, {"a": 1})]),
        ({}, '{"time":1700000000.1}', [(1_700_000_000_100_000_000, {})]),
        ({}, '{"time":"1700000000.123456789"}', [(1_700_000_000_123_456_789, {})]),
        ({}, '{"time":null}', "invalid_time"),
        ({}, '{"time":[1]}', "invalid_time"),
        ({}, '[{"a":1},{"time":{}},{"a":2}]', [(None, {"a": 1}), (None, {"a": 2})]),
        ({}, '[{"time":{}}]', "invalid_time"),
        ({"time_type": "unixtime"}, '{"time":1700000000.9}', [(1_700_000_000_000_000_000, {})]),
        ({"keep_time_key": True}, '{"time":5}', [(5_000_000_000, {"time": 5})]),
        ({"time_key": "t"}, '{"t":5,"time":6}', [(5_000_000_000, {"time": 6})]),
        ({"time_key": None}, '{"time":5}', [(None, {"time": 5})]),
        (
            {"time_type": "string", "time_format": "%Y-%m-%d %z"},
            '{"time":"2023-11-14 +0000"}',
            [(1_699_920_000_000_000_000, {})],
        ),
        ({"time_type": "string", "time_format": "%Y"}, '{"time":2023}', "invalid_time"),
        (
            {"types": {"i": "integer", "s": "string", "b": "bool"}},
            '{"i":"12x","s":1.5,"b":"Yes","o":{"i":"1"}}',
            [(None, {"i": 12, "s": "1.5", "b": True, "o": {"i": "1"}})],
        ),
        ({"types": {"s": "string"}}, '{"s":null}', [(None, {"s": None})]),
        ({"types": {"i": "integer"}}, '{"i":-1.9}', [(None, {"i": -1})]),
        ({"types": {"i": "integer"}}, '{"i":1e30}', [(None, {"i": "1000000000000000019884624838656"})]),
        ({"null_empty_string": True}, '{"a":"","c":[""]}', [(None, {"a": None, "c": [""]})]),
        ({"null_value_pattern": "/^-$/"}, '{"a":"-","b":"--"}', [(None, {"a": None, "b": "--"})]),
    ],
)  # fmt: skip
def test_the_common_parameters(options: dict[str, Any], text: str, expected: Any) -> None:
    assert make(**options).parse(text) == expected


def test_all_names_of_libraries_mean_the_same() -> None:
    for name in ("oj", "yajl", "json"):
        assert _native.json_parser(name, {}).parse('{"a":"\\/"}') == [(None, {"a": "/"})]
    with pytest.raises(ValueError, match="expected oj, yajl or json"):
        _native.json_parser("simdjson", {})


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=40),
    lambda inner: st.lists(inner, max_size=20) | st.dictionaries(st.text(max_size=12), inner, max_size=20),
    max_leaves=40,
)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(JSON_VALUES, st.booleans(), st.sampled_from([None, 1, "\t"]))
@example({f"{number:070}": number for number in range(100)}, False, None)
@example(["x" * length for length in (0, 31, 32, 255, 256, 65_535, 65_536)], True, None)
def test_what_python_writes_is_read_back(original: Any, ascii_only: bool, indent: Any) -> None:
    text = json.dumps(original, ensure_ascii=ascii_only, indent=indent)
    found = value(text)
    assert found == original
    assert repr(found) == repr(original)  # int or float, 0.0 or -0.0, and the order of keys


def comparable(read: Any) -> Any:
    """What Python reads as this parser gives it."""
    match read:
        case bool() | None:
            return read
        case int():
            return read if -(2**63) <= read < 2**64 else str(read)
        case float():
            return "too large" if math.isinf(read) else read
        case str():
            read.encode()  # refuses halves of surrogate pairs, as the parser does
            return read
        case list():
            return [comparable(item) for item in read]
        case dict():
            return {comparable(key): comparable(item) for key, item in read.items()}
    raise AssertionError(read)


def is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


FRAGMENTS = st.sampled_from(
    [
        b"{", b"}", b"[", b"]", b",", b":", b'"', b'"a"', b'"b":', b"1", b"-", b"0", b".5", b"e3", b"null",
        b"true", b" ", b"\\", b"\\u00", b'"\\ud83d"', b"\xc3\xa9", b"9" * 19, b'{"k":', b"\n", b"E+",
    ]
)  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(st.one_of(st.lists(FRAGMENTS, max_size=12).map(b"".join), st.text(max_size=20).map(str.encode)))
@example(b"1.0E5")
@example(b"-0")
def test_it_takes_what_python_takes_and_nothing_else(text: bytes) -> None:
    if re.search(rb'/|\f|\0|\\[^"\\/bfnrtu]', text) or not is_utf8(text):
        return  # comments and the like, which Python does not take
    found = value(text)
    try:
        expected = comparable(json.loads(b'{"v":' + text + b"}", strict=False))
    except ValueError:
        assert found == "refused: unmatched"
        return
    if "v" not in expected or expected["v"] == "too large":
        return
    assert repr(found) == repr(expected["v"])


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_give_events_or_a_reason(text: bytes) -> None:
    for whole in (text, b"{" + text + b"}", b'{"a":"' + text + b'"}', b"[{}," + text + b"]"):
        events = make().parse(whole)
        assert isinstance(events, list) or events in {"unmatched", "invalid_time", "limit"}


def test_long_and_wide_texts() -> None:
    text = json.dumps({"m": "x" * 65_536, "n": "\0" * 1000, "w": {str(n): n for n in range(70_000)}})
    [(_, record)] = make().parse(text)
    assert record == json.loads(text)


@pytest.mark.parametrize("piece", ['{"a":1,"a":2},', '"a":[[],', '"\\n', "/**/", "1,", "[", '"k":0,'])
def test_hostile_texts_cost_linear_time(piece: str) -> None:
    # quadratic work on these megabytes would run into pytest's time limit
    for start in ("[", "{", '{"x":['):
        make().parse(start + piece * (3_000_000 // len(piece)))
