"""The parsers regexp, grok, multiline_grok and none, and the options that all parsers share."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forwarder import _native
from forwarder.api import ConfigError
from forwarder.api.parsing import CommonParser
from forwarder.api.testing import run
from forwarder.cli.main import main
from forwarder.parsers.grok import GrokParser, GrokSection
from forwarder.parsers.multiline_grok import MultilineGrokParser
from forwarder.parsers.none import NoneParser
from forwarder.parsers.regexp import RegexpParser

P = TypeVar("P", bound=CommonParser)


def made(cls: type[P], **parameters: Any) -> P:
    """A configured parser."""
    parser = cls()
    for name, value in parameters.items():
        setattr(parser, name, value)
    parser.configure()
    return parser


def grok_section(pattern: str, **parameters: Any) -> GrokSection:
    section = GrokSection()
    for name, value in {"pattern": pattern, **parameters}.items():
        setattr(section, name, value)
    return section


def records(parser: CommonParser, text: str | bytes) -> Any:
    """The records, or the reason why there are none."""
    compiled = parser.compiled()
    assert compiled is not None
    events = compiled.parse(text)
    return events if isinstance(events, str) else [record for _, record in events]


@pytest.mark.parametrize(
    ("expression", "text", "want"),
    [
        (r"/^(?<a>\w+)(?: (?<b>\d+))?$/", "one", {"a": "one"}),
        (r"/level=(?<level>\w+)/", "x\nlevel=info", {"level": "info"}),
        (r"/^(?:a=(?<v>\d+)|b=(?<v>\w+))$/", "b=xy", {"v": "xy"}),
        (r"/(?<a>é+)/", "xéé", {"a": "éé"}),
        (r"/^(?<a>.)b/", b"\xffb", {"a": b"\xff"}),
        (r"/^(?<a>a*)$/", "", {"a": ""}),
        (r"^(?<a>\d+)$", "x", "unmatched"),
        (r"/^(?<a>(a|aa)+)$/", "a" * 64 + "!", "match_limit"),
    ],
)
def test_regexp(expression: str, text: str | bytes, want: Any) -> None:
    got = records(made(RegexpParser, expression=expression), text)
    assert got == (want if isinstance(want, str) else [want])


@pytest.mark.parametrize(
    ("kind", "text", "want"),
    [
        ("integer", "12abc", 12),
        ("integer", "-7", -7),
        ("integer", " 1_000x", 1000),
        ("integer", "abc", 0),
        ("integer", "", 0),
        ("integer", "18446744073709551615", 2**64 - 1),
        ("integer", "-9223372036854775808", -(2**63)),
        ("integer", "99999999999999999999", "99999999999999999999"),
        ("float", "3.25x", 3.25),
        ("float", "1e3", 1000.0),
        ("float", ".5", 0.5),
        ("float", "1.", 1.0),
        ("float", "x", 0.0),
        ("bool", "TRUE", True),
        ("bool", "yes", True),
        ("bool", "1", True),
        ("bool", "on", False),
        ("string", "7", "7"),
        ("array", "a,b,,", ["a", "b"]),
        ("array:;", "a;b,c", ["a", "b,c"]),
        ("array: ", " a  b ", ["a", "b"]),
        ("time:%Y-%m-%d %z", "2023-07-01 +0000", 1_688_169_600.0),
        ("time:+09:00:%Y-%m-%d", "2023-07-01", 1_688_137_200.0),
        ("time:unixtime", "1700000000", 1_700_000_000.0),
        ("time:%Y", "x", None),
    ],
)
def test_types(kind: str, text: str, want: Any) -> None:
    parser = made(RegexpParser, expression=r"/\A(?<v>.*)\z/m", types={"v": kind})
    assert records(parser, text) == [{"v": want}]


def test_null_values_stay_as_null() -> None:
    parser = made(
        RegexpParser,
        expression="/^(?<a>[^,]*),(?<b>.*)$/",
        null_value_pattern="/^-$/",
        null_empty_string=True,
        types={"a": "integer"},
    )
    assert records(parser, "-,") == [{"a": None, "b": None}]
    assert records(parser, "5,--") == [{"a": 5, "b": "--"}]


def test_the_time_field_is_taken_out_unless_it_is_kept() -> None:
    options = {"expression": r"/^(?<time>\S+) (?<m>.*)$/", "time_type": "unixtime"}
    for keep, want in [(False, {"m": "x"}), (True, {"time": "1700000000", "m": "x"})]:
        compiled = made(RegexpParser, **options, keep_time_key=keep).compiled()
        assert compiled.parse("1700000000 x") == [(1_700_000_000_000_000_000, want)]


@pytest.mark.parametrize(
    ("parameters", "param", "word"),
    [
        ({"expression": "/^(.*)$/"}, "expression", "expression"),
        ({"expression": "/(?<a>[/"}, "expression", "closed"),
        ({"expression": "/(?<a>x"}, "expression", "slash"),
        ({"expression": "/(?<a>x)/", "types": {"a": "int"}}, "types", '"int"'),
        ({"expression": "/(?<a>x)/", "null_value_pattern": "/(/"}, "null_value_pattern", "closed"),
        ({"expression": "/(?<a>x)/", "utc": True, "localtime": True}, "localtime", "only one"),
        ({"expression": "/(?<a>x)/", "utc": True}, "time_format", "time_format"),
        ({"expression": "/(?<a>x)/", "time_format": "%G-W%V"}, "time_format", "week"),
    ],
)
def test_mistakes_name_the_parameter(parameters: dict[str, Any], param: str, word: str) -> None:
    with pytest.raises(ConfigError) as caught:
        made(RegexpParser, **parameters)
    assert word in caught.value.message
    assert caught.value.param == param


ATOMS = st.sampled_from(["a", "b", r"\d", r"\w", r"\s", "[ab]", "[^a]", ".", "(?:ab|a)", r"\."])
REPEATS = st.sampled_from(["", "*", "+", "?", "{1,2}", "*?", "+?", "{2}"])
PATTERNS = st.lists(st.tuples(ATOMS, REPEATS).map("".join), min_size=1, max_size=5).map("".join)


@given(PATTERNS, st.text("ab1 .x\n", max_size=12))
def test_simple_patterns_match_as_in_python(source: str, text: str) -> None:
    found = re.search(f"(?P<v>{source})", text, re.MULTILINE | re.ASCII)
    got = records(made(RegexpParser, expression=f"(?<v>{source})"), text)
    assert got == ([{"v": found["v"]}] if found else "unmatched")


@given(st.text(r"ab[]()\^$|*+?{}<>:=!&,-1#\n", max_size=16), st.binary(max_size=20))
def test_any_source_works_or_is_refused(source: str, text: bytes) -> None:
    try:
        parser = made(RegexpParser, expression=f"(?<v>{source})")
    except ConfigError:
        return
    assert isinstance(records(parser, text), list | str)


@pytest.mark.parametrize(
    ("pattern", "text", "want"),
    [
        ("%{WORD:w} %{NUMBER:i:integer} %{NUMBER:f:float} %{WORD:b:bool}", "abc 12 3.25 true",
         {"w": "abc", "i": 12, "f": 3.25, "b": True}),
        ("%{NOTSPACE:a:array} %{NUMBER:s:string}", "x,y 7", {"a": ["x", "y"], "s": "7"}),
        ("%{IP} %{WORD:w} %{NUMBER}", "10.0.0.1 abc 5", {"w": "abc"}),
        (r"^(?<c>[A-Z]{3}-\d+): %{GREEDYDATA:m}", "ABC-12: it broke", {"c": "ABC-12", "m": "it broke"}),
        ("%{WORD:w} %{WORD:w}", "one two", {"w": "two"}),
        ("^%{WORD:w} %{GREEDYDATA:rest}", "one a\nb", {"w": "one", "rest": "a"}),
        ("%{WORD:[a][b]} %{WORD:@c.d}", "x y", {"a.b": "x", "@c.d": "y"}),
        ("^%{UNIXPATH:p} %{QS:q} %{UUID:id} %{LOGLEVEL:l} %{BASE16NUM:h}$",
         '/var/x.log "quoted \\" text" 123e4567-e89b-12d3-a456-426614174000 WARN 0xFF',
         {"p": "/var/x.log", "q": '"quoted \\" text"', "id": "123e4567-e89b-12d3-a456-426614174000",
          "l": "WARN", "h": "0xFF"}),
        ("%{URI:u}", "http://h.example:81/a?b", {"u": "http://h.example:81/a?b", "port": "81"}),
        ("%{MONTH:m} %{WORD:w}", "März x", {"m": "März", "w": "x"}),
        ("^%{IP:ip}$", "nothing", {"message": "nothing"}),
        ("^%{IP:ip}$", b"\xff", {"message": b"\xff"}),
        ("%{IPV6:ip} x", "2001:db8::1 x", {"ip": "2001:db8::1"}),
    ],
)  # fmt: skip
def test_grok(pattern: str, text: str | bytes, want: dict[str, Any]) -> None:
    assert records(made(GrokParser, grok_pattern=pattern), text) == [want]


def test_grok_sections_are_tried_in_order_with_times_of_their_own() -> None:
    sections = [
        grok_section("^A %{NOTSPACE:at} %{WORD:w}$", time_key="at", time_format="%FT%T%z", name="first"),
        grok_section(
            "^B %{HTTPDATE:at} %{WORD:w}$", time_key="at", time_format="%d/%b/%Y:%T %z", keep_time_key=True
        ),
    ]
    parser = made(GrokParser, grok=sections, grok_name_key="by", grok_failure_key="why")
    compiled = parser.compiled()
    assert compiled.parse("A 2023-07-01T12:00:00+0200 one") == [
        (1_688_205_600 * 10**9, {"w": "one", "by": "first"})
    ]
    assert compiled.parse("B 01/Jul/2023:12:00:00 +0000 two") == [
        (1_688_212_800 * 10**9, {"at": "01/Jul/2023:12:00:00 +0000", "w": "two", "by": 1})
    ]
    assert compiled.parse("C") == [(None, {"message": "C", "why": "No grok pattern matched"})]
    assert compiled.parse("A yesterday one") == "invalid_time"


def test_grok_failure_key_message_takes_the_place_of_the_message() -> None:
    parser = made(GrokParser, grok_pattern="%{IP:ip}", grok_failure_key="message")
    assert records(parser, "x") == [{"message": "No grok pattern matched"}]


def test_own_grok_patterns(tmp_path: Path) -> None:
    (tmp_path / "one").write_text("# mine\nAA x%{BB}\n")
    (tmp_path / "two").write_text("BB [0-9]+\nWORD w+\n")
    for path in (tmp_path, tmp_path / "two"):
        parser = made(GrokParser, grok_pattern="%{BB:b} %{WORD:w}", custom_pattern_path=str(path))
        assert records(parser, "12 wow") == [{"b": "12", "w": "w"}]
    (tmp_path / "two").write_bytes(b"\xff")
    with pytest.raises(ConfigError) as caught:
        made(GrokParser, grok_pattern="%{WORD:w}", custom_pattern_path=str(tmp_path))
    assert caught.value.param == "custom_pattern_path"


def test_missing_grok_patterns_are_a_warning(tmp_path: Path) -> None:
    with run(f"""
        <filter **>
          @type parser
          key_name m
          <parse>
            @type grok
            grok_pattern %{{WORD:w}}
            custom_pattern_path {tmp_path}/none
          </parse>
        </filter>
        <match **>
          @type test
        </match>
    """) as driver:
        driver.emit("t", {"m": "x"})
        assert driver.records() == [{"w": "x"}]
        assert "custom_pattern_path" in driver.log


@pytest.mark.parametrize(
    ("parameters", "word"),
    [
        ({}, "grok"),
        ({"grok_pattern": "%{NOPE:x}"}, "NOPE"),
        ({"grok_pattern": "%{WORD}"}, "named group"),
        ({"grok_pattern": "%{WORD:w:word}"}, '"word"'),
    ],
)
def test_grok_mistakes(parameters: dict[str, Any], word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        made(GrokParser, **parameters)


def test_a_pattern_with_an_unknown_type_is_left_out() -> None:
    with run("""
        <filter **>
          @type parser
          key_name m
          <parse>
            @type grok
            <grok>
              pattern %{WORD:w:word}
            </grok>
            <grok>
              pattern %{INT:n:integer}
            </grok>
          </parse>
        </filter>
        <match **>
          @type test
        </match>
    """) as driver:
        driver.emit("t", {"m": "x 5"})
        assert driver.records() == [{"n": 5}]
        assert '"word"' in driver.log


def test_a_longer_timeout_lets_a_pattern_try_longer() -> None:
    text = "a" * 34 + "!"
    for timeout, want in [(None, "match_limit"), (100.0, "unmatched"), (0.0, "match_limit")]:
        parser: CommonParser = made(RegexpParser, expression="/^(?<a>(a|aa)+)$/", timeout=timeout)
        assert records(parser, text) == want
        grok = made(GrokParser, grok_pattern="^(?<a>(a|aa)+)$", timeout=timeout)
        assert (records(grok, text) == "match_limit") == (want == "match_limit")


def test_a_dot_matches_newlines_in_multiline_grok() -> None:
    pattern = r"^\[%{WORD:l}\] %{WORD:first}\n%{GREEDYDATA:rest}"
    parser = made(MultilineGrokParser, grok_pattern=pattern, multiline_start_regexp=r"/^\[/")
    assert records(parser, "[INFO] a\n b\nc") == [{"l": "INFO", "first": "a", "rest": " b\nc"}]
    with pytest.raises(ConfigError) as caught:
        made(MultilineGrokParser, grok_pattern=pattern, multiline_start_regexp="/(/")
    assert caught.value.param == "multiline_start_regexp"


def test_none_keeps_bytes() -> None:
    assert records(made(NoneParser), b"ab\xff") == [{"message": b"ab\xff"}]
    assert records(made(NoneParser, message_key="log"), "é") == [{"log": "é"}]


def test_hostile_texts_end_in_time() -> None:
    parser = made(GrokParser, grok_pattern="^%{DATA:a}%{DATA:b}%{DATA:c}%{DATA:d}%{DATA:e}=%{IP:ip}!$")
    # that they end at all is the test; the time limit of every test is the deadline
    assert records(parser, "=" * 20_000 + "!") == "match_limit"
    assert records(parser, "é=" * 20_000 + "!") == "match_limit"


def test_grok_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = tmp_path / "lines"
    lines.write_bytes(b"10.0.0.1 GET 5\n\xc3\xa9 10.0.0.1 GET x\n")
    pattern = "%{IP:client} %{WORD:method} %{NUMBER:n}"
    assert main(["grok", pattern, str(lines)]) == 1
    out = capsys.readouterr().out
    assert "'10.0.0.1'" in out
    caret = next(line for line in out.splitlines() if "^" in line)
    assert caret == "                 ^ %{NUMBER:n} does not match here"
    assert main(["grok", "--json", "%{IP:client}", str(lines)]) == 0
    assert capsys.readouterr().out.count('"matched": true') == 2
    assert main(["grok", "%{NOPE}", str(lines)]) == 1
    assert "NOPE" in capsys.readouterr().err


def test_explanations_count_elements() -> None:
    elements, matched, start, end = _native.grok_explain(["A a+\nB b+\n"], "x%{A}-%{B:b}", b"..xaa-c")
    assert elements == ["x", "%{A}", "-", "%{B:b}"]
    assert (matched, start, end) == (3, 2, 6)
