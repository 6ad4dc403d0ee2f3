"""The syslog parser: examples, and a comparison with the regular expressions that it stands for."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from forwarder import _native

ISO = "%Y-%m-%dT%H:%M:%S.%L%z"
SECOND = 1_000_000_000
FEB_2023 = 1_677_585_600 * SECOND  # 2023-02-28T12:00:00Z


def make(
    message_format: str = "rfc3164",
    *,
    with_priority: bool = False,
    time_format: str | None = None,
    rfc5424_time_format: str = ISO,
    support_colonless_ident: bool = True,
    parser_engine: str = "regexp",
    **options: Any,
) -> _native.CompiledParser:
    return _native.syslog_parser(
        message_format, with_priority, time_format, rfc5424_time_format, support_colonless_ident,
        parser_engine, {"timezone": "UTC", **options},
    )  # fmt: skip


def record(parser: _native.CompiledParser, text: str | bytes) -> Any:
    """The one record, or the reason."""
    events = parser.parse(text)
    if isinstance(events, str):
        return events
    assert len(events) == 1
    return events[0][1]


def february(clock: str) -> int:
    year = datetime.now(UTC).year
    return int(datetime.fromisoformat(f"{year}-02-08T{clock}+00:00").timestamp()) * SECOND


T = "Feb  8 12:00:00"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"{T} h app[77]: msg", {"host": "h", "ident": "app", "pid": "77", "message": "msg"}),
        (f"{T} h app: msg", {"host": "h", "ident": "app", "message": "msg"}),
        (f"{T} h app msg", {"host": "h", "ident": "app", "message": "msg"}),
        # as in Fluentd: what stands before the next colon goes
        (f"{T} h app msg: more", {"host": "h", "ident": "app", "message": "more"}),
        (f"{T} h app[main]: msg", {"host": "h", "ident": "app", "message": "msg"}),
        (f"{T} h app[1] x: msg", {"host": "h", "ident": "app", "pid": "1", "message": "msg"}),
        (f"{T} h app[]: msg", {"host": "h", "ident": "app", "message": "msg"}),
        (f"{T} h app[12", {"host": "h", "ident": "app", "message": "[12"}),
        (f"{T} h : msg", {"host": "h", "ident": "", "message": "msg"}),
        (f"{T} h ", {"host": "h", "ident": "", "message": ""}),
        (f"{T}  h app: x", {"host": "", "ident": "h", "message": "x"}),
        (f"{T} h app:    x  ", {"host": "h", "ident": "app", "message": "x  "}),
        (f"{T} h app: one\ntwo", {"host": "h", "ident": "app", "message": "one"}),
        (f"{T} h app: one\r\ntwo", {"host": "h", "ident": "app", "message": "one"}),
        (f"{T} h app: one\r\r", {"host": "h", "ident": "app", "message": "one\r"}),
        (f"{T} h app: a\x00b", {"host": "h", "ident": "app", "message": "a\0b"}),
        (f"{T} h äpp: ü", {"host": "h", "ident": "äpp", "message": "ü"}),
        (f"{T} - -: -", {"host": "-", "ident": "-", "message": "-"}),
        (f"{T} h", "unmatched"),
        (T, "invalid_time"),
        ("", "invalid_time"),
        ("nonsense", "invalid_time"),
        ("a b c d e", "invalid_time"),
        (f" {T} h app: x", "invalid_time"),
        ("Feb 30 25:00:00 h app: x", "invalid_time"),
    ],
)
def test_rfc3164(text: str, expected: Any) -> None:
    assert record(make(), text) == expected


@pytest.mark.parametrize("text", ["Feb 8 12:34:56", "Feb  8 12:34:56", "feb   8 12:34:56"])
def test_rfc3164_time_has_the_present_year(text: str) -> None:
    events = make(keep_time_key=True).parse(f"{text} h app: x")
    assert not isinstance(events, str)
    assert events[0][0] == february("12:34:56")
    assert events[0][1]["time"] == re.sub(" +", " ", text)


def test_times_of_one_session_do_not_disturb_each_other() -> None:
    # a session is one batch: filter parser is the way to run several texts through one
    clocks = ["12:00:00", "12:00:00", "12:00:01", "12:09:59", "12:10:00", "11:59:59", "12:00:60", "12:00:00"]
    texts = [f"Feb  8 {clock} h a: x" for clock in clocks] + ["Feb  8 1:2:3 h a: x", "Feb  9 12:00:00 h a: x"]
    times = [parsed for parsed, _ in run_all(make(), texts)]
    alone = [make().parse(text) for text in texts]
    assert times == [events[0][0] for events in alone if not isinstance(events, str)]
    assert times[2] - times[0] == SECOND
    assert times[9] - times[0] == 86400 * SECOND


def run_all(parser: _native.CompiledParser, texts: list[str | bytes] | list[str]) -> list[tuple[int, Any]]:
    stream = _native.EventStream.from_events([(1, {"log": text}) for text in texts])
    applied = _native.ParserFilter(parser, "log").apply(_native.EventBatch([("t", stream)]))
    return [event for _, part in applied.good.streams() for event in part]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("h app 1 ID - msg here", {"extradata": "-", "message": "msg here"}),
        ("h app 1 ID -", {"extradata": "-"}),
        ("h app 1 ID - a\nb\n", {"extradata": "-", "message": "a\nb"}),
        ("h app 1 ID - \n", {"extradata": "-", "message": ""}),
        ('h app 1 ID [ex@1 a="b c"] x', {"extradata": '[ex@1 a="b c"]', "message": "x"}),
        ('h app 1 ID [ex@1 a="b c"]', {"extradata": '[ex@1 a="b c"]'}),
        (
            r'h app 1 ID [a@1 x="1"][b@2 y="q\"z\]"] two elements',
            {"extradata": r'[a@1 x="1"][b@2 y="q\"z\]"]', "message": "two elements"},
        ),
        ("h app 1 ID [] x] y", {"extradata": "[]", "message": "x] y"}),
        ("h app 1 ID - ", "unmatched"),
        ("h app 1 ID -x", "unmatched"),
        ("h app 1 ID [a", "unmatched"),
        ("h app 1 ID", "unmatched"),
        ("h app 1", "unmatched"),
        ("h  app 1 ID - x", "unmatched"),
        (f"h {'a' * 49} 1 ID - x", "unmatched"),
        (f"h app {'1' * 129} ID - x", "unmatched"),
        (f"h app 1 {'I' * 33} - x", "unmatched"),
    ],
)
def test_rfc5424(text: str, expected: Any) -> None:
    if isinstance(expected, dict):
        expected = {"host": "h", "ident": "app", "pid": "1", "msgid": "ID", **expected}
    assert record(make("rfc5424"), f"2023-02-28T12:00:00.003Z {text}") == expected


def test_rfc5424_finds_the_first_words_that_fit() -> None:
    parser = make("rfc5424")
    found = record(parser, f"2023-02-28T12:00:00Z {'h' * 300} app 1 ID - x")
    assert found["host"] == "h" * 255
    found = record(parser, "2023-02-28T12:00:00Z hé app 1 ID more - x")
    assert (found["host"], found["msgid"], found["message"]) == ("app", "more", "x")


@pytest.mark.parametrize(
    ("text", "nanos"),
    [
        ("2023-02-28T12:00:00Z", 0),
        ("2023-02-28T12:00:00.003Z", 3_000_000),
        ("2023-02-28T12:00:00.123456789Z", 123_456_789),
        ("2023-02-28T13:30:00.5+01:30", 500_000_000),
        ("2023-02-28T10:30:00.5-0130", 500_000_000),
        ("2023-02-28T12:00:01Z", SECOND),
    ],
)
def test_rfc5424_time(text: str, nanos: int) -> None:
    events = make("rfc5424", keep_time_key=True).parse(f"{text} h a p m - x")
    assert not isinstance(events, str)
    assert (events[0][0], events[0][1]["time"]) == (FEB_2023 + nanos, text)


@pytest.mark.parametrize("text", ["-", "2023", "2023-02-28T12:00:00", "2023-13-28T12:00:00Z"])
def test_rfc5424_time_that_does_not_fit(text: str) -> None:
    assert make("rfc5424").parse(f"{text} h a p m - x") == "invalid_time"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"<34>{T} h a: x", 34),
        (f"<034>{T} h a: x", 34),
        (f"<999>{T} h a: x", 999),
        (f"junk\n<13>{T} h a: x", 13),
        ("<16>1 2023-02-28T12:00:00Z h app 1 ID - x", 16),
        ("<16>123 2023-02-28T12:00:00Z h app 1 ID - x", 16),
        (f"<6>{T} h a: x\n<16>1 2023-02-28T12:00:00Z h app 1 ID - x", "unmatched"),
        ("<16>1234 2023-02-28T12:00:00Z h app 1 ID - x", "unmatched"),
        (f"<1000>{T} h a: x", "unmatched"),
        (f"<>{T} h a: x", "unmatched"),
        (f"{T} h a: x", "unmatched"),
        ("<6>nonsense", "invalid_time"),
        ("<6", "unmatched"),
    ],
)
def test_auto_with_priority(text: str, expected: int | str) -> None:
    found = record(make("auto", with_priority=True), text)
    assert (found if isinstance(found, str) else found["pri"]) == expected


def test_custom_time_formats() -> None:
    parser = make(time_format="%Y-%m-%dT%H:%M:%S%z")
    events = parser.parse("2023-02-28T12:00:00+0000 host1 app[5]: m")
    assert events == [(FEB_2023, {"host": "host1", "ident": "app", "pid": "5", "message": "m"})]
    assert parser.parse("2023-02-28T12:00:00.5+0000 host1 app[5]: m") == "invalid_time"
    spaced = make("rfc5424", time_format="%Y %m %d %H:%M:%S", keep_time_key=True)
    events = spaced.parse("2023  02 28 12:00:00 h a p m - x")
    assert not isinstance(events, str)
    assert (events[0][0], events[0][1]["time"]) == (FEB_2023, "2023 02 28 12:00:00")
    assert make(time_type="unixtime").parse("1677585600 x y h a: m") == [
        (FEB_2023, {"host": "h", "ident": "a", "message": "m"})
    ]
    with pytest.raises(ValueError, match="rfc3164, rfc5424 or auto"):
        make("rfc1")


def test_zone_and_daylight_saving() -> None:
    berlin = make(timezone="Europe/Berlin")
    year = datetime.now(UTC).year
    for month, name, offset in ((1, "Jan", 1), (7, "Jul", 2)):
        events = berlin.parse(f"{name} 15 12:34:56 h a: x")
        assert not isinstance(events, str)
        expected = datetime(year, month, 15, 12, 34, 56, tzinfo=timezone(timedelta(hours=offset)))
        assert events[0][0] == int(expected.timestamp()) * SECOND


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"<6>{T} h app[7]: x\ny\n", {"host": "h", "pri": 6, "ident": "app", "pid": "7", "message": "x\ny"}),
        (f"<6>{T} h app: x", {"host": "h", "pri": 6, "ident": "app", "message": "x"}),
        (f"<6>{T} h app x: y", {"host": "h", "pri": 6, "ident": "app", "message": "x: y"}),
        (f"<6>{T} h app[7] x", {"host": "h", "pri": 6, "ident": "app", "pid": "7", "message": "x"}),
        (f"<6>{T} h word", {"host": "h", "pri": 6, "message": "word"}),
        (f"<6>{T} h  x", {"host": "h", "pri": 6, "ident": "", "message": "x"}),
        (f"<6>{T} h ]: x[", {"host": "h", "pri": 6, "ident": "]: x", "pid": None, "message": "x["}),
        (f"<6>{T} h ]: x", "invalid_time"),
        (f"<x>{T} h app: x", {"host": "h", "pri": 0, "ident": "app", "message": "x"}),
        (f"<>{T} h app: x", "unmatched"),
        ("<6>Feb 8 12:00:00 h app: x", "unmatched"),
        (f"<6>{T} h", "unmatched"),
        (f"{T} h a: x", "unmatched"),
        ("<6", "invalid_time"),
        ("<6>Xxx 28 12:00:00 h app: x", "invalid_time"),
    ],
)
def test_string_engine_rfc3164(text: str, expected: Any) -> None:
    found = record(make(with_priority=True, parser_engine="string"), text)
    assert found == expected
    if isinstance(expected, dict):
        assert list(found) == list(expected)


def test_string_engine_without_colonless_ident() -> None:
    parser = make(parser_engine="string", support_colonless_ident=False)
    assert record(parser, f"{T} h no ident: x") == {"host": "h", "message": "no ident: x"}
    assert record(parser, f"{T} h app: x") == {"host": "h", "ident": "app", "message": "x"}
    assert record(parser, "Feb 28 12:00:00.25 h app: x")["message"] == "x"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("- msg here\n", {"extradata": "-", "message": "msg here"}),
        ("- ", {"extradata": "-", "message": ""}),
        ("-", {"extradata": "-"}),
        ("-xyz", {"extradata": "-", "message": "yz"}),
        (r'[a b="\"c\]"] m', {"extradata": '[a b=""c]"]', "message": "m"}),
        ("[a] b", {"extradata": "[a]", "message": "b"}),
        ("[a", {"extradata": "[a"}),
        ("", {"extradata": ""}),
    ],
)
def test_string_engine_rfc5424(text: str, expected: Any) -> None:
    parser = make("rfc5424", with_priority=True, parser_engine="string")
    found = record(parser, f"<6>1 2023-02-28T12:00:00.003Z h app 1 ID {text}")
    assert found == {"host": "h", "ident": "app", "pid": "1", "msgid": "ID", "pri": 6, **expected}


def test_bytes_that_are_no_utf8_stay() -> None:
    found = record(make(), f"{T} h app: ".encode() + b"a\xffb")
    assert found == {"host": "h", "ident": "app", "message": b"a\xffb"}


# ---------------------------------------------------------------- against regular expressions

RFC3164_REST = re.compile(
    rb"(?P<host>[^ ]*) (?P<ident>[^ :\[]*)(?:\[(?P<pid>[0-9]+)\])?(?:[^:]*:)? *(?P<message>.*)$", re.MULTILINE
)
RFC5424_REST = re.compile(
    rb"(?P<host>[!-~]{1,255}) (?P<ident>[!-~]{1,48}) (?P<pid>[!-~]{1,128}) (?P<msgid>[!-~]{1,32}) "
    rb"(?P<extradata>-|\[.*?(?<!\\)\])(?: (?P<message>.+))?\Z",
    re.DOTALL,
)
GOOD_TIMES = {
    b"Feb 8 12:00:00",
    b"Feb 28 12:00:00",
    b"2023-02-28T12:00:00.003Z",
    b"2023-02-28T12:00:00+01:00",
}


def reference(text: bytes, rest: re.Pattern[bytes], words: int) -> Any:
    """What Fluentd's regexp engine does with a message without priority."""
    end = -1
    for _ in range(words):
        while text[end + 1 : end + 2] == b" ":
            end += 1
        end = text.find(b" ", end + 1)
        if end < 0:
            return "invalid_time"
    time = re.sub(rb" +", b" ", text[:end])
    if time not in GOOD_TIMES:
        return "invalid_time"
    match = rest.search(text, end + 1)
    if match is None:
        return "unmatched"
    fields = {"time": time, **{name: value for name, value in match.groupdict().items() if value is not None}}
    if "message" in fields:
        fields["message"] = re.sub(rb"(\r\n|\n|\r)\Z", b"", fields["message"])
    return {name: as_text(value) for name, value in fields.items()}


def as_text(value: bytes) -> str | bytes:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value


def text_of(*fragments: bytes) -> st.SearchStrategy[bytes]:
    anything = st.one_of(st.sampled_from(fragments), st.sampled_from(fragments), st.binary(max_size=3))
    return st.lists(anything, max_size=14).map(b"".join)


COMMON = (
    b" ",
    b" ",
    b"  ",
    b"h",
    b"app",
    b"app:",
    b"[12]",
    b"[x]",
    b":",
    b"]",
    b"\n",
    b"\r\n",
    b"-",
    b"\xc3\xbc",
)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([b"Feb  8 12:00:00 ", b"Feb 28 12:00:00 ", b"x "]), text_of(*COMMON))
@example(b"Feb 28 12:00:00 ", b"h app b\n: c\nd")
def test_rfc3164_is_what_the_regular_expression_says(time: bytes, rest: bytes) -> None:
    text = time + rest
    assert record(make(keep_time_key=True), text) == reference(text, RFC3164_REST, 3)


@settings(max_examples=400, deadline=None)
@given(
    st.sampled_from([b"2023-02-28T12:00:00.003Z ", b"2023-02-28T12:00:00+01:00 ", b"  - "]),
    st.one_of(
        text_of(*COMMON, b" - ", b" [a] ", b'[a b="\\]"]', b"\\", b"h a p m ", b"h a p m - x", b"a" * 40),
        text_of(b"h a p m ", b"[", b"]", b"] ", b"\\]", b"-", b" ", b"x y"),
    ),
)
@example(b"2023-02-28T12:00:00.003Z ", b"a b c d - e f g h [ x ] y [ z\\] ")
@example(b"2023-02-28T12:00:00.003Z ", b"h a p m [ h a p m [] h a p m - x")
def test_rfc5424_is_what_the_regular_expression_says(time: bytes, rest: bytes) -> None:
    text = time + rest
    assert record(make("rfc5424", keep_time_key=True), text) == reference(text, RFC5424_REST, 1)


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(["rfc3164", "rfc5424", "auto"]),
    st.sampled_from(["regexp", "string"]),
    st.booleans(),
    text_of(*COMMON, b"<6>", b"<16>1 ", b"Feb 28 12:00:00 ", b"2023-02-28T12:00:00.003Z ", b"[", b"h a p m "),
)
def test_any_bytes_give_one_record_or_a_reason(
    message_format: str, engine: str, with_priority: bool, text: bytes
) -> None:
    parser = make(message_format, parser_engine=engine, with_priority=with_priority)
    found = record(parser, text)
    if isinstance(found, str):
        assert found in {"unmatched", "invalid_time"}
    else:
        assert "host" in found
        assert ("pri" in found) == with_priority


@pytest.mark.parametrize("piece", [b"a a a a [", b"[", b"] ", b"a ", b"\n<1>", b"a" * 500 + b" "])
def test_hostile_messages_cost_linear_time(piece: bytes) -> None:
    # quadratic work on these two megabytes would run into pytest's time limit
    text = b"<6>1 2023-02-28T12:00:00Z " + piece * (2_000_000 // len(piece))
    for engine in ("regexp", "string"):
        record(make("auto", with_priority=True, parser_engine=engine), text)
