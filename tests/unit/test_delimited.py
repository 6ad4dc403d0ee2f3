"""Parsers and formatters of delimited text, and the parsers of web servers' logs."""

from __future__ import annotations

import csv
import io
from typing import Any, TypeVar

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forwarder.api import ConfigError, EventBatch, EventStream
from forwarder.api.formatting import CommonFormatter
from forwarder.api.parsing import CommonParser
from forwarder.parsers.apache import ApacheParser
from forwarder.parsers.apache2 import Apache2Parser
from forwarder.parsers.apache_error import ApacheErrorParser
from forwarder.parsers.csv import CsvParser
from forwarder.parsers.ltsv import LtsvParser
from forwarder.parsers.multiline import MultilineParser
from forwarder.parsers.nginx import NginxParser
from forwarder.parsers.tsv import TsvParser
from forwarder.plugins.formatters.csv import CsvFormatter
from forwarder.plugins.formatters.ltsv import LtsvFormatter
from forwarder.plugins.formatters.msgpack import MsgpackFormatter
from forwarder.plugins.formatters.tsv import TsvFormatter

P = TypeVar("P", CommonParser, CommonFormatter)

NOON = 1677585600_000_000_000  # 28 Feb 2023 12:00:00 UTC


def made(cls: type[P], **parameters: Any) -> P:
    """A configured plugin."""
    plugin = cls()
    for name, value in parameters.items():
        setattr(plugin, name, value)
    plugin.configure()
    return plugin


def parsed(parser: CommonParser, text: str | bytes) -> Any:
    """The events, or the reason why there are none."""
    compiled = parser.compiled()
    assert compiled is not None
    return compiled.parse(text)


def formatted(formatter: CommonFormatter, *records: dict[str, Any]) -> bytes:
    compiled = formatter.compiled()
    assert compiled is not None
    stream = EventStream.from_events([(NOON, record) for record in records])
    return compiled.format(EventBatch([("t", stream)]))


@pytest.mark.parametrize(
    ("parameters", "text", "want"),
    [
        ({}, "1,2", {"a": "1", "b": "2"}),
        ({}, "1", {"a": "1", "b": None}),
        ({}, '"x ""y"", z",', {"a": 'x "y", z', "b": None}),
        ({}, '"unclosed,b', "malformed"),
        ({}, "", "unmatched"),
        ({}, b"\xff,\xc3\xa9", {"a": b"\xff", "b": "é"}),
        ({"types": {"a": "integer"}}, "7,8", {"a": 7, "b": "8"}),
        ({"null_empty_string": True}, '"",x', {"a": None, "b": "x"}),
        ({"time_key": "a", "time_type": "unixtime"}, "1677585600,x", {"b": "x"}),
        ({"time_key": "b"}, "1", "invalid_time"),
        ({"parser_engine": "fast"}, "1", {"a": "1"}),
        ({"parser_engine": "fast", "delimiter": ";"}, '"a;b";', {"a": "a;b", "b": None}),
    ],
)
def test_csv(parameters: dict[str, Any], text: str | bytes, want: Any) -> None:
    outcome = parsed(made(CsvParser, keys=["a", "b"], **parameters), text)
    assert (outcome if isinstance(outcome, str) else outcome[0][1]) == want
    if "time_type" in parameters:
        assert outcome[0][0] == NOON


@given(st.lists(st.text(st.characters(exclude_characters="\x00\r\n", codec="utf-8")), min_size=2, max_size=5))
def test_csv_reads_what_csv_writers_write(row: list[str]) -> None:
    text = io.StringIO()
    csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\n").writerow(row)
    names = [f"k{number}" for number in range(len(row))]
    (event,) = parsed(made(CsvParser, keys=names), text.getvalue())
    assert event[1] == dict(zip(names, row, strict=True))


@given(st.dictionaries(st.text(), st.text() | st.integers(-(2**63), 2**64 - 1) | st.none(), max_size=4))
def test_csv_readers_read_what_is_written(record: dict[str, Any]) -> None:
    names = [name for name in record if name and not name.startswith("$")] or ["x"]
    for force in (True, False):
        line = formatted(made(CsvFormatter, fields=names, force_quotes=force), record)
        (row,) = csv.reader(io.StringIO(line.decode(), newline=""))
        # a row of one empty column looks like a row without columns
        assert (row or [""]) == [str("" if record.get(name) is None else record[name]) for name in names]


@given(st.binary(max_size=80), st.sampled_from([",", " ", "ab", "\t"]))
def test_nothing_crashes(text: bytes, delimiter: str) -> None:
    for parser in (
        made(CsvParser, keys=["a", "b"], delimiter=delimiter),
        made(CsvParser, keys=["a", "b"], delimiter=delimiter, parser_engine="fast"),
        made(TsvParser, keys=["a", "b"], delimiter=delimiter),
        made(LtsvParser, delimiter=delimiter),
        made(LtsvParser, delimiter_pattern="/[, ]*/"),
    ):
        outcome = parsed(parser, text)
        assert isinstance(outcome, str) or len(outcome) == 1


def test_a_delimiter_that_cannot_be_one() -> None:
    for parameters in ({"delimiter": ""}, {"delimiter": '"'}):
        with pytest.raises(ConfigError) as caught:
            made(CsvParser, keys=["a"], **parameters)
        assert caught.value.param == "delimiter"


def test_tsv_and_ltsv() -> None:
    assert parsed(made(TsvParser, keys=["a", "b"]), "1\t2\t3")[0][1] == {"a": "1", "b": "2\t3"}
    ltsv = made(LtsvParser, types={"n": "integer"})
    assert parsed(ltsv, "time:2023-02-28T12:00:00Z\tn:5\tx:y:z\tnone") == [(NOON, {"n": 5, "x": "y:z"})]
    spaces = made(LtsvParser, delimiter_pattern=r"/[\s,]+/", label_delimiter="=")
    assert parsed(spaces, "a=1, b=2")[0][1] == {"a": "1", "b": "2"}


LINE = '192.168.0.1 - - [28/Feb/2023:12:00:00 +0000] "GET /a?b=c HTTP/1.1" 200 777'


@pytest.mark.parametrize(
    ("cls", "text", "want"),
    [
        (ApacheParser, LINE, {"host": "192.168.0.1", "user": "-", "method": "GET", "path": "/a?b=c",
                              "code": "200", "size": "777"}),
        (ApacheParser, LINE + ' "r" "a"', {"host": "192.168.0.1", "user": "-", "method": "GET",
                                           "path": "/a?b=c", "code": "200", "size": "777", "referer": "r",
                                           "agent": "a"}),
        (Apache2Parser, LINE, {"host": "192.168.0.1", "user": None, "method": "GET", "path": "/a?b=c",
                               "code": 200, "size": 777, "referer": None, "agent": None}),
        (Apache2Parser, '- x bob [28/Feb/2023:12:00:00 +0000] "GET /\\"q HTTP/1.0" 0 - "-" "a \\" b"',
         {"host": None, "user": "bob", "method": "GET", "path": '/\\"q', "code": None, "size": None,
          "referer": None, "agent": 'a \\" b'}),
        (NginxParser, "127.0.0.1 192.168.0.1 - [28/Feb/2023:12:00:00 +0000] \"GET / HTTP/1.1\" 200 777 \"-\" "
         "\"Opera\" \"10.0.0.1\"",
         {"remote": "127.0.0.1", "host": "192.168.0.1", "user": "-", "method": "GET", "path": "/",
          "code": "200", "size": "777", "referer": "-", "agent": "Opera",
          "http_x_forwarded_for": "10.0.0.1"}),
        (ApacheErrorParser, "[Tue Feb 28 12:00:00 2023] [error] [client 127.0.0.1] denied",
         {"level": "error", "client": "127.0.0.1", "message": "denied"}),
        (ApacheErrorParser, "[Tue Feb 28 12:00:00 2023] [notice] [pid 7] [client 1.2.3.4] x",
         {"level": "notice", "pid": "7", "client": "1.2.3.4", "message": "x"}),
    ],
)  # fmt: skip
def test_web_server_logs(cls: type[CommonParser], text: str, want: dict[str, Any]) -> None:
    # the error log's times name no zone
    zone = {"time_format": "%b %d %H:%M:%S %Y", "utc": True} if cls is ApacheErrorParser else {}
    assert parsed(made(cls, **zone), text) == [(NOON, want)]


def test_apache2_says_why_not() -> None:
    parser = made(Apache2Parser, keep_time_key=True)
    assert parsed(parser, "no log line") == "unmatched"
    assert parsed(parser, LINE.replace("Feb", "Nix")) == "invalid_time"
    assert parsed(parser, LINE)[0][1]["time"] == "28/Feb/2023:12:00:00 +0000"


def test_multiline() -> None:
    parser = made(
        MultilineParser,
        format_firstline=r"/^\d{4}/",
        format1=r"/^(?<time>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) /",
        format2=r"/(?<level>\w+) (?<message>.*)/",
        time_format="%Y-%m-%d %H:%M:%S",
        utc=True,
    )
    assert parsed(parser, "2023-02-28 12:00:00 ERROR boom\n at a\n at b") == [
        (NOON, {"level": "ERROR", "message": "boom\n at a\n at b"})
    ]
    assert parsed(parser, "nothing") == "unmatched"
    lines = made(MultilineParser, format1=r"/(?<a>\d)\n?/", unmatched_lines="yes")
    assert [record for _, record in parsed(lines, "1\n2\nx")] == [
        {"a": "1"}, {"a": "2"}, {"unmatched_line": "x"},
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("parameters", "param"),
    [
        ({}, "format1"),
        ({"format1": "(?<a>x)"}, "format1"),
        ({"format1": "/(?<a>x)/", "format3": "/y/"}, "format3"),
        ({"format1": "/(?<a>x/"}, "format1"),
        ({"format1": "/x/"}, "format1"),
        ({"format1": "/(?<a>x)/", "format_firstline": "/(/"}, "format_firstline"),
    ],
)
def test_multiline_mistakes(parameters: dict[str, str], param: str) -> None:
    with pytest.raises(ConfigError) as caught:
        made(MultilineParser, **parameters)
    assert caught.value.param == param


RECORD: dict[str, Any] = {"s": 'a"b,c\td', "i": 5, "f": 1.5, "t": True, "n": None, "h": {"k": [1]}, "e": ""}


@pytest.mark.parametrize(
    ("formatter", "want"),
    [
        (made(CsvFormatter, fields=["s", "i", "n", "gone"]), '"a""b,c\td","5","",""\n'),
        (made(CsvFormatter, fields=["s", "i", "n", "e", "f"], force_quotes=False), '"a""b,c\td",5,,"",1.5\n'),
        (made(CsvFormatter, fields=["i", "$.h.k[0]"], delimiter="TAB", add_newline=False), '"5"\t"1"'),
        (made(TsvFormatter, keys=["i", "gone", "t", "h"]), '5\t\ttrue\t{"k"=>[1]}\n'),
        (made(TsvFormatter, keys=["i", "$.h"], delimiter="--", newline="crlf"), "5--\r\n"),
        (
            made(LtsvFormatter, replacement="_"),
            's:a"b,c_d\ti:5\tf:1.5\tt:true\tn:\th:{"k"=>[1]}\te:\n',
        ),
        (
            made(LtsvFormatter, delimiter=",", label_delimiter="="),
            's=a"b c\td,i=5,f=1.5,t=true,n=,h={"k"=>[1]},e=\n',
        ),
    ],
)
def test_formatters(formatter: CommonFormatter, want: str) -> None:
    assert formatted(formatter, RECORD, RECORD).decode() == want * 2


def test_msgpack() -> None:
    unpacker = msgpack.Unpacker()
    unpacker.feed(formatted(made(MsgpackFormatter), RECORD, {}, {"b": b"\xff"}))
    assert list(unpacker) == [RECORD, {}, {"b": b"\xff"}]


def test_csv_wants_fields() -> None:
    for fields in ([], [""], ["$.[x"]):
        with pytest.raises(ConfigError):
            made(CsvFormatter, fields=fields)
