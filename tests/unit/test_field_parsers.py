"""Parsers of fields that name themselves (logfmt, kv, cef) and of MessagePack."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forwarder.api import ConfigError
from forwarder.api.parsing import CommonParser
from forwarder.api.testing import run
from forwarder.parsers.cef import CefParser
from forwarder.parsers.kv import KvParser
from forwarder.parsers.logfmt import LogfmtParser
from forwarder.parsers.msgpack import MsgpackParser

NOON = 1677585600_000_000_000  # 28 Feb 2023 12:00:00 UTC


def made(cls: type[CommonParser], **parameters: Any) -> CommonParser:
    parser = cls()
    for name, value in parameters.items():
        setattr(parser, name, value)
    parser.given = frozenset(parameters)
    parser.configure()
    return parser


def parsed(cls: type[CommonParser], text: str | bytes, **parameters: Any) -> Any:
    """The one event, (time, record), or what else came."""
    compiled = made(cls, **parameters).compiled()
    assert compiled is not None
    events = compiled.parse(text)
    return events[0] if len(events) == 1 and not isinstance(events, str) else events


@pytest.mark.parametrize(
    ("text", "parameters", "want"),
    [
        ("a=1 b=two", {}, (None, {"a": "1", "b": "two"})),
        (r'msg="it \"works\" \n \u00e9 \ud83d\ude00 \x C:\dir" ok', {},
         (None, {"msg": 'it "works" \n é \U0001f600 \\x C:\\dir', "ok": True})),
        ("time=2023-02-28T12:00:00Z level=info", {}, (NOON, {"level": "info"})),
        ("time=2023-02-28T12:00:00Z", {"keep_time_key": True}, (NOON, {"time": "2023-02-28T12:00:00Z"})),
        ("ts=1677585600 n=5 f=1.5", {"time_key": "ts", "time_type": "unixtime",
                                     "types": {"n": "integer", "f": "float"}}, (NOON, {"n": 5, "f": 1.5})),
        ("url=/a?b=c x= \t y", {}, (None, {"url": "/a?b=c", "x": "", "y": True})),
        ('a="" b="-" c=-', {"null_empty_string": True, "null_value_pattern": "^-$"},
         (None, {"a": None, "b": None, "c": None})),
        ("a=1 b=2 a=3", {}, (None, {"a": "3", "b": "2"})),
        ('"junk" =x é=ü', {}, (None, {"junk": True, "x": True, "é": "ü"})),
        (b"a=\xff", {}, (None, {"a": b"\xff"})),
        ('a="open', {}, "malformed"),
        ('a="open\\', {}, "malformed"),
        ("time=noon", {}, "invalid_time"),
        (" \t", {}, "unmatched"),
        ("", {}, "unmatched"),
    ],
)  # fmt: skip
def test_logfmt(text: str | bytes, parameters: dict[str, Any], want: Any) -> None:
    assert parsed(LogfmtParser, text, **parameters) == want


NAMES = st.text(st.sampled_from("abcXYZ09_.-é"), min_size=1)


@given(st.dictionaries(NAMES, st.text(), min_size=1, max_size=40))
def test_logfmt_reads_what_is_quoted_as_json(record: dict[str, str]) -> None:
    line = " ".join(f"{name}={json.dumps(value)}" for name, value in record.items())
    assert parsed(LogfmtParser, line, time_key=None) == (None, _without_halves(record))


def _without_halves(record: dict[str, str]) -> dict[str, str]:
    """JSON writes halves of surrogate pairs, which are no text."""
    return {
        name: "".join("\ufffd" if 0xD800 <= ord(letter) < 0xE000 else letter for letter in value)
        for name, value in record.items()
    }


@pytest.mark.parametrize(
    ("text", "parameters", "want"),
    [
        ("a=1 b=2", {}, (None, {"a": "1", "b": "2"})),
        (" a=1\t\n b=x=y ", {}, (None, {"a": "1", "b": "x=y"})),
        ("a:1|b:2||c", {"kv_delimiter": "|", "kv_char": ":"}, (None, {"a": "1", "b": "2", "c": None})),
        ("a=1, b=2;c=3", {"kv_delimiter": r"/[,;]\s*/"}, (None, {"a": "1", "b": "2", "c": "3"})),
        ("a=>1&&b=>2", {"kv_delimiter": "&&", "kv_char": "=>"}, (None, {"a": "1", "b": "2"})),
        ("a=1 a=2", {"types": {"a": "integer"}}, (None, {"a": 2})),
        ("time=2023-02-28T12:00:00Z a=1", {}, (NOON, {"a": "1"})),
        ("", {}, (None, {})),
    ],
)  # fmt: skip
def test_kv(text: str, parameters: dict[str, Any], want: Any) -> None:
    assert parsed(KvParser, text, **parameters) == want


@pytest.mark.parametrize(
    ("parameters", "param"), [({"kv_char": ""}, "kv_char"), ({"kv_delimiter": "/(/"}, "kv_delimiter")]
)
def test_kv_names_the_parameter_at_fault(parameters: dict[str, Any], param: str) -> None:
    with pytest.raises(ConfigError) as caught:
        made(KvParser, **parameters)
    assert caught.value.param == param


HEAD = {
    "cef_version": "0", "cef_device_vendor": "V", "cef_device_product": "P", "cef_device_version": "1",
    "cef_device_event_class_id": "100", "cef_name": "Name", "cef_severity": "5",
}  # fmt: skip
CEF = "CEF:0|V|P|1|100|Name|5|"
SYSLOG = {"syslog_timestamp": "Feb 28 12:00:00", "syslog_hostname": "gate", "syslog_tag": "fw"}


@pytest.mark.parametrize(
    ("text", "parameters", "want"),
    [
        (CEF, {}, (None, HEAD)),
        (CEF[:-1], {}, (None, HEAD)),
        (CEF + "src=10.0.0.1 msg=two words cs1Label=Rule cs1=a b  ", {},
         (None, HEAD | {"src": "10.0.0.1", "msg": "two words", "cs1Label": "Rule", "cs1": "a b"})),
        (CEF + r"a=x\=y\\z\n\q b= c=http://h/?k=v&l=w", {},
         (None, HEAD | {"a": "x=y\\z\n\\q", "b": "", "c": "http://h/?k=v&l=w"})),
        (r"CEF:0|V\|W|P\\|1|100|N\x|5|", {},
         (None, HEAD | {"cef_device_vendor": "V|W", "cef_device_product": "P\\", "cef_name": "N\\x"})),
        ("2023-02-28T12:00:00Z gate fw " + CEF + "a=1", {},
         (NOON, SYSLOG | {"syslog_timestamp": "2023-02-28T12:00:00Z"} | HEAD | {"a": "1"})),
        ("<134>1 2023-02-28T12:00:00Z gate \ufeff" + CEF, {},
         (NOON, SYSLOG | {"syslog_timestamp": "2023-02-28T12:00:00Z", "syslog_tag": ""} | HEAD)),
        ("Feb 28 2023 12:00:00 x", {}, "unmatched"),
        (CEF + "rt=1677585600000 a=1", {"time_key": "rt"}, (NOON, HEAD | {"a": "1"})),
        (CEF + "rt=Feb 28 2023 21:00:00 a=1", {"time_key": "rt", "timezone": "+09:00", "keep_time_key": True},
         (NOON, HEAD | {"rt": "Feb 28 2023 21:00:00", "a": "1"})),
        (CEF + "rt=28/02/2023", {"time_key": "rt", "time_format": "%d/%m/%Y", "utc": True},
         (NOON - 12 * 3600 * 10**9, HEAD)),
        (CEF + "rt=when", {"time_key": "rt"}, "invalid_time"),
        (CEF + "a=1 a=2 n=7", {"types": {"n": "integer", "cef_severity": "integer"}},
         (None, HEAD | {"cef_severity": 5, "a": "2", "n": 7})),
        (CEF + "a=1", {"output_raw_field": True}, (None, HEAD | {"a": "1", "raw": CEF + "a=1"})),
        (CEF, {"log_format": "syslog"}, "unmatched"),
        ("2023-02-28T12:00:00Z gate fw " + CEF, {"log_format": "plain"}, "unmatched"),
        (CEF, {"cef_version": 1}, "unmatched"),
        ("CEF:0|V|P|1|100|Name", {}, "unmatched"),
        ("xCEF:0|V|P|1|100|Name|5|", {}, "unmatched"),
        ("Nix 99 12:00:00 gate fw " + CEF, {}, "invalid_time"),
        ("", {}, "unmatched"),
    ],
)  # fmt: skip
def test_cef(text: str, parameters: dict[str, Any], want: Any) -> None:
    assert parsed(CefParser, text, **parameters) == want


def test_cef_time_of_the_header_in_a_zone() -> None:
    [time_ns, _] = parsed(CefParser, "Feb 28 12:00:00 gate fw " + CEF, log_utc_offset="+09:00")
    assert time_ns % (24 * 3600 * 10**9) == 3 * 3600 * 10**9  # of the present year


def test_cef_keys_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "keys.yaml"
    file.write_text("producers: # all\n  - act\n  - msg\nsrc\n")
    want = (None, HEAD | {"msg": "a b=c", "act": "x"})
    strict = {"parse_strict_mode": True, "cef_keyfilename": str(file)}
    assert parsed(CefParser, CEF + "msg=a b=c act=x", **strict) == want
    for text in ("", "two words\n"):
        file.write_text(text)
        with pytest.raises(ConfigError) as caught:
            made(CefParser, **strict)
        assert caught.value.param == "cef_keyfilename"
    with pytest.raises(ConfigError):
        made(CefParser, parse_strict_mode=True)


CEF_VALUES = st.text(st.characters(codec="utf-8", exclude_characters="\x00")).map(str.strip)


@given(st.dictionaries(st.from_regex(r"[A-Za-z0-9_.-]+", fullmatch=True), CEF_VALUES, max_size=5))
def test_cef_reads_what_is_escaped(record: dict[str, str]) -> None:
    record = {name: value for name, value in record.items() if name not in HEAD}

    def escaped(value: str) -> str:
        for plain, written in (("\\", "\\\\"), ("=", "\\="), ("\n", "\\n"), ("\r", "\\r")):
            value = value.replace(plain, written)
        return value

    # other white space of Unicode is text to CEF, ASCII's at the ends is not
    line = CEF + " ".join(f"{name}={escaped(value)}" for name, value in record.items())
    assert parsed(CefParser, line) == (None, HEAD | record)


@pytest.mark.parametrize(
    ("value", "want"),
    [
        ({"a": 1}, [(None, {"a": 1})]),
        ([{"a": 1}, {"b": [None, {"c": 1.5}]}], [(None, {"a": 1}), (None, {"b": [None, {"c": 1.5}]})]),
        ([{"a": 1}, 5], [(None, {"a": 1})]),
        ([], []),
        (5, "unmatched"),
        ([5], "unmatched"),
    ],
)
def test_msgpack(value: Any, want: Any) -> None:
    for parameters in ({}, {"types": {"z": "integer"}}):
        compiled = made(MsgpackParser, **parameters).compiled()
        assert compiled is not None
        assert compiled.parse(msgpack.packb(value)) == want


def test_msgpack_values_behind_each_other_and_rules() -> None:
    compiled = made(
        MsgpackParser, time_key="t", time_type="unixtime", types={"n": "integer"}, null_empty_string=True
    ).compiled()
    assert compiled is not None
    data = msgpack.packb({"t": 1677585600, "n": "7", 5: "x"}) + msgpack.packb({"e": ""})
    assert compiled.parse(data) == [(NOON, {"n": 7, 5: "x"}), (None, {"e": None})]
    assert compiled.parse(msgpack.packb([{"t": "x"}, {"n": "1"}])) == [(0, {}), (None, {"n": 1})]
    assert compiled.parse(msgpack.packb({"t": None})) == "invalid_time"
    assert compiled.parse(data[:-1]) == "malformed"
    assert compiled.parse(b"\xc1") == "malformed"
    assert compiled.parse(b"") == "unmatched"
    assert compiled.parse(b"\x91" * 600 + b"\xc0") == "limit"


@given(st.binary(max_size=60), st.sampled_from([LogfmtParser, KvParser, CefParser, MsgpackParser]))
def test_nothing_crashes(text: bytes, cls: type[CommonParser]) -> None:
    for prefix in (b"", b"CEF:0|a|b|c|d|e|f|", b'k="'):
        compiled = made(cls, types={"k": "float"}).compiled()
        assert compiled is not None
        assert isinstance(compiled.parse(prefix + text), str | list)


def test_they_stand_in_configurations() -> None:
    with run(
        """
        <filter l>
          @type parser
          key_name m
          <parse>
            @type logfmt
            types n:integer
          </parse>
        </filter>
        <filter k>
          @type parser
          key_name m
          <parse>
            @type kv
            kv_delimiter "|"
            kv_char ":"
          </parse>
        </filter>
        <filter c>
          @type parser
          key_name m
          <parse>
            @type cef
          </parse>
        </filter>
        <filter m>
          @type parser
          key_name m
          <parse>
            @type msgpack
          </parse>
        </filter>
        <match **>
          @type test
        </match>
        """
    ) as driver:
        driver.emit("l", {"m": "n=5 ok"})
        driver.emit("k", {"m": "a:1|b:2"})
        driver.emit("c", {"m": CEF + "a=1"})
        driver.emit("m", {"m": msgpack.packb({"b": b"\xff"})})
        assert driver.records() == [
            {"n": 5, "ok": True}, {"a": "1", "b": "2"}, HEAD | {"a": "1"}, {"b": b"\xff"},
        ]  # fmt: skip
