"""The formatter plugins, their native forms, and `<inject>`."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from forwarder import _native
from forwarder.api import ConfigError, EventBatch, EventStream, Formatter
from forwarder.api.inject import Inject
from forwarder.plugins.formatters.hash import HashFormatter
from forwarder.plugins.formatters.json import JsonFormatter
from forwarder.plugins.formatters.out_file import OutFileFormatter
from forwarder.plugins.formatters.single_value import SingleValueFormatter
from forwarder.plugins.formatters.stdout import StdoutFormatter

TIME = 1_700_000_000_250_000_000


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


class Log:
    """Keeps warnings."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warning(self, message: str, **_fields: object) -> None:
        self.warnings.append(message)


def context() -> Any:
    return SimpleNamespace(log=Log(), worker_id=3)


def made(cls: type[Formatter], **params: Any) -> Formatter:
    formatter = cls()
    formatter.context = context()
    for name, value in params.items():
        setattr(formatter, name, value)
    formatter.configure()
    return formatter


def batch(record: dict[Any, Any], time_ns: int = TIME, tag: str = "t.a") -> EventBatch:
    return EventBatch([(tag, EventStream.from_events([(time_ns, record)]))])


CASES: list[tuple[type[Formatter], dict[str, Any], dict[Any, Any], bytes]] = [
    (JsonFormatter, {}, {"a": 1}, b'{"a":1}\n'),
    (JsonFormatter, {"newline": "crlf"}, {"a": 1}, b'{"a":1}\r\n'),
    (JsonFormatter, {"add_newline": False}, {"a": 1}, b'{"a":1}'),
    (JsonFormatter, {"json_parser": "json"}, {"a": 1e16}, b'{"a":1.0e+16}\n'),
    (JsonFormatter, {}, {"a": 1e16}, b'{"a":10000000000000000.0}\n'),
    (HashFormatter, {}, {"a": 1, "b": None, "c": "x\n"}, b'{"a"=>1, "b"=>nil, "c"=>"x\\n"}\n'),
    (HashFormatter, {"add_newline": False}, {}, b"{}"),
    (HashFormatter, {}, {"l": [1.5, {"é": "#{x}"}]}, b'{"l"=>[1.5, {"\\u00E9"=>"\\#{x}"}]}\n'),
    (SingleValueFormatter, {}, {"message": "hello", "x": 1}, b"hello\n"),
    (SingleValueFormatter, {}, {"x": 2}, b"\n"),
    (SingleValueFormatter, {"message_key": "x"}, {"x": 2}, b"2\n"),
    (SingleValueFormatter, {"message_key": "x"}, {"x": None}, b"\n"),
    (SingleValueFormatter, {"message_key": "x"}, {"x": {"a": [1]}}, b'{"a"=>[1]}\n'),
    (SingleValueFormatter, {"message_key": "x", "add_newline": False}, {"x": b"\xff"}, b"\xff"),
    (OutFileFormatter, {}, {"a": 1}, b'2023-11-14T22:13:20+00:00\tt.a\t{"a":1}\n'),
    (OutFileFormatter, {"utc": True}, {"a": 1}, b'2023-11-14T22:13:20Z\tt.a\t{"a":1}\n'),
    (OutFileFormatter, {"localtime": False}, {"a": 1}, b'2023-11-14T22:13:20Z\tt.a\t{"a":1}\n'),
    (OutFileFormatter, {"timezone": "+09:00"}, {"a": 1}, b'2023-11-15T07:13:20+09:00\tt.a\t{"a":1}\n'),
    (OutFileFormatter, {"output_time": False}, {"a": 1}, b't.a\t{"a":1}\n'),
    (OutFileFormatter, {"output_tag": False}, {"a": 1}, b'2023-11-14T22:13:20+00:00\t{"a":1}\n'),
    (OutFileFormatter, {"time_type": "float"}, {"a": 1}, b'1700000000.250000000\tt.a\t{"a":1}\n'),
    (OutFileFormatter, {"time_type": "unixtime"}, {"a": 1}, b'1700000000\tt.a\t{"a":1}\n'),
    (OutFileFormatter, {"time_format": "%H:%M:%S.%L"}, {"a": 1}, b'22:13:20.250\tt.a\t{"a":1}\n'),
    (OutFileFormatter, {"delimiter": "SPACE"}, {"a": 1}, b'2023-11-14T22:13:20+00:00 t.a {"a":1}\n'),
    (OutFileFormatter, {"delimiter": "comma"}, {"a": 1}, b'2023-11-14T22:13:20+00:00,t.a,{"a":1}\n'),
    (StdoutFormatter, {}, {"a": 1}, b'2023-11-14 22:13:20.250000000 +0000 t.a: {"a":1}\n'),
    (
        StdoutFormatter,
        {"output_type": "hash"},
        {"a": 1},
        b'2023-11-14 22:13:20.250000000 +0000 t.a: {"a"=>1}\n',
    ),
    (StdoutFormatter, {"time_format": "%s", "utc": True}, {"a": 1}, b'1700000000 t.a: {"a":1}\n'),
    (
        StdoutFormatter,
        {"time_format": "%s", "output_type": "single_value", "message_key": "a"},
        {"a": "x\n"},
        b"1700000000 t.a: x\n\n",
    ),
    (
        StdoutFormatter,
        {"time_format": "%s", "output_type": "out_file", "output_time": False},
        {"a": 1},
        b'1700000000 t.a: t.a\t{"a":1}\n',
    ),
    (
        StdoutFormatter,
        {"time_format": "%s", "output_type": "csv", "fields": ["b", "a"], "force_quotes": False},
        {"a": 1, "b": "x"},
        b"1700000000 t.a: x,1\n",
    ),
    (
        StdoutFormatter,
        {"time_format": "%s", "output_type": "tsv", "keys": ["a", "b"], "delimiter": ";"},
        {"a": 1, "b": "x"},
        b"1700000000 t.a: 1;x\n",
    ),
    (
        StdoutFormatter,
        {"time_format": "%s", "output_type": "ltsv", "label_delimiter": "="},
        {"a": 1, "b": "x"},
        b"1700000000 t.a: a=1\tb=x\n",
    ),
    (HashFormatter, {}, {"a": "é\U0001f600\x7f"}, b'{"a"=>"\\u00E9\\u{1F600}\\u007F"}\n'),
    (HashFormatter, {}, {"a": [1e14, 1e15, 1234567890123456.75]},
     b'{"a"=>[100000000000000.0, 1.0e+15, 1234567890123456.8]}\n'),
    (OutFileFormatter, {"time_format": "%+"}, {}, b"%+\tt.a\t{}\n"),
]  # fmt: skip


@pytest.mark.parametrize(("cls", "params", "record", "text"), CASES)
def test_text(cls: type[Formatter], params: dict[str, Any], record: dict[Any, Any], text: bytes) -> None:
    assert made(cls, **params).format_batch(batch(record)) == text


@pytest.mark.parametrize("cls", sorted({case[0] for case in CASES}, key=lambda cls: cls.__name__))
def test_no_python_per_event(cls: type[Formatter], monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_args: object) -> bytes:
        raise AssertionError("format was called for an event")

    monkeypatch.setattr(cls, "format", forbidden)
    formatter = made(cls)
    assert formatter.compiled() is not None
    events = EventStream.from_events((TIME, {"message": "x"}) for _ in range(100))
    assert formatter.format_batch(EventBatch([("t", events)])).count(b"\n") == 100


@pytest.mark.parametrize(
    ("cls", "params", "words"),
    [
        (OutFileFormatter, {"timezone": "Nowhere/AtAll"}, "Nowhere/AtAll"),
        (OutFileFormatter, {"utc": True, "localtime": True}, "utc and localtime"),
        (StdoutFormatter, {"output_type": "nope"}, "'nope'"),
        (StdoutFormatter, {"output_type": "csv"}, "output_type csv needs fields"),
    ],
)
def test_wrong_parameters_are_named(cls: type[Formatter], params: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        made(cls, **params)


def test_a_delimiter_that_is_no_word_is_a_tab_and_a_warning() -> None:
    formatter = made(OutFileFormatter, delimiter="|", output_time=False)
    assert formatter.format_batch(batch({})) == b"t.a\t{}\n"
    assert "'|'" in formatter.context.log.warnings[0]  # type: ignore[attr-defined]


def test_whole_seconds_as_float_have_eight_digits_as_in_fluentd() -> None:
    formatter = made(OutFileFormatter, time_type="float", output_tag=False)
    assert formatter.format_batch(batch({}, 1_700_000_000_000_000_000)) == b"1700000000.00000000\t{}\n"
    assert formatter.format_batch(batch({}, 1_700_000_000_050_000_000)) == b"1700000000.050000000\t{}\n"


def test_times_and_tags_change_from_event_to_event() -> None:
    times = [0, 999_999_999, 1_000_000_000, TIME, 1_000_000_001, 0]
    joined = EventBatch.concat([batch({"n": n}, at, f"tag{n % 2}") for n, at in enumerate(times)])
    lines = made(OutFileFormatter, time_format="%s.%N", delimiter="SPACE").format_batch(joined).decode()
    assert lines.splitlines() == [
        f'{at // 10**9}.{at % 10**9:09} tag{n % 2} {{"n":{n}}}' for n, at in enumerate(times)
    ]


@pytest.mark.parametrize(
    ("newline", "text"),
    [("\n", b"{}\n"), ("\r\n", b"{}\n"), ("", b"{}\n"), ("\n\n", b"{}\n\n"), ("\r", b"{}\n")],
)
def test_lines_formatter_takes_one_line_end_off(newline: str, text: bytes) -> None:
    assert _native.lines_formatter(_native.json_formatter("oj", newline)).format(batch({})) == text


def injected(section: Inject, record: dict[Any, Any]) -> dict[Any, Any]:
    section.configure()
    section.bind(context())
    ((_, stream),) = section.apply(batch(record)).streams()
    ((time_ns, changed),) = stream
    assert time_ns == TIME
    return changed


def inject(**params: Any) -> Inject:
    section = Inject()
    for name, value in params.items():
        setattr(section, name, value)
    return section


@pytest.mark.parametrize(
    ("params", "record", "expected"),
    [
        ({"tag_key": "tg"}, {"a": 1}, {"a": 1, "tg": "t.a"}),
        ({"time_key": "tm"}, {"a": 1}, {"a": 1, "tm": 1700000000.25}),
        ({"time_key": "tm", "time_type": "unixtime"}, {}, {"tm": 1700000000}),
        ({"time_key": "tm", "time_type": "unixtime_millis"}, {}, {"tm": 1700000000250}),
        ({"time_key": "tm", "time_type": "unixtime_micros"}, {}, {"tm": 1700000000250000}),
        ({"time_key": "tm", "time_type": "unixtime_nanos"}, {}, {"tm": TIME}),
        ({"time_key": "tm", "time_type": "string"}, {}, {"tm": "2023-11-14T22:13:20+00:00"}),
        ({"time_key": "tm", "time_type": "string", "utc": True}, {}, {"tm": "2023-11-14T22:13:20Z"}),
        (
            {"time_key": "tm", "time_type": "string", "time_format": "%H%M%z", "timezone": "+0900"},
            {},
            {"tm": "0713+0900"},
        ),
        ({"hostname_key": "h", "hostname": "web"}, {}, {"h": "web"}),
        ({"hostname_key": "h"}, {}, {"h": os.uname().nodename}),
        ({"worker_id_key": "w"}, {}, {"w": 3}),
        ({}, {"a": 1}, {"a": 1}),
        ({"hostname": "unused"}, {"a": 1}, {"a": 1}),
        (
            {"hostname_key": "h", "hostname": "web", "worker_id_key": "w", "tag_key": "tg", "time_key": "tm"},
            {"w": "old", "a": {"h": 1}, "tm": "old", "last": 1},
            {"w": 3, "a": {"h": 1}, "tm": 1700000000.25, "last": 1, "h": "web", "tg": "t.a"},
        ),
        ({"hostname_key": "x", "hostname": "web", "tag_key": "x"}, {}, {"x": "t.a"}),
    ],
)
def test_inject(params: dict[str, Any], record: dict[Any, Any], expected: dict[Any, Any]) -> None:
    changed = injected(inject(**params), record)
    assert list(changed.items()) == list(expected.items())


def test_inject_into_wide_records_and_several_tags() -> None:
    wide = {f"k{n}": n for n in range(15)}
    section = inject(tag_key="tag")
    section.bind(context())
    joined = EventBatch.concat([batch(wide, TIME, "a"), batch({}, TIME, "b"), batch(wide, TIME, "a")])
    changed = section.apply(joined)
    assert [(tag, [record for _, record in stream]) for tag, stream in changed.streams()] == [
        ("a", [{**wide, "tag": "a"}]),
        ("b", [{"tag": "b"}]),
        ("a", [{**wide, "tag": "a"}]),
    ]
    assert len(changed) == 3


def test_inject_takes_an_unknown_zone_for_the_machines() -> None:
    where = context()
    section = inject(time_key="t", time_type="string", time_format="%H%z", timezone="Nowhere/AtAll")
    section.configure()
    section.bind(where)
    assert "Nowhere/AtAll" in where.log.warnings[0]
    [(_, stream)] = section.apply(batch({}, TIME)).streams()
    assert [record for _, record in stream] == [{"t": "22+0000"}]


def test_inject_refuses_a_host_name_that_is_a_chunk_key() -> None:
    with pytest.raises(ConfigError, match="hostname_key"):
        inject(hostname_key="host").bind(context(), ("host",))


def test_inject_warns_of_a_format_without_a_key() -> None:
    where = context()
    inject(time_format="%Y", tag_key="t").bind(where)
    assert "time_format" in where.log.warnings[0]
