"""What a Fluentd 1.19 answered to configurations that were made by chance (TZ=UTC)."""

from __future__ import annotations

from typing import Any

import pytest

from forwarder.api.testing import run
from forwarder.config.diagnostics import InvalidConfiguration

GREP = "@type grep\n<{0}>\nkey {1}\npattern {2}\n</{0}>"


def parser(*lines: str, reserve: bool = False) -> str:
    return (
        f"@type parser\nkey_name m\nreserve_data {str(reserve).lower()}\n<parse>\n"
        + "\n".join(lines)
        + "\n</parse>"
    )


def outcome(section: str, record: dict[str, Any]) -> tuple[list[dict[str, Any]], int]:
    """The records that go on, and how many go to @ERROR."""
    conf = f"""
        <filter t>
          {section}
        </filter>
        <match t>
          @type test
          @id good
        </match>
        <label @ERROR>
          <match t>
            @type test
            @id bad
          </match>
        </label>
    """
    with run(conf) as engine:
        engine.emit("t", record)
        return engine.records("good"), len(engine.records("bad"))


SYSLOG = ("@type syslog", "message_format rfc5424", "parser_engine string")


@pytest.mark.parametrize(
    ("section", "record", "want", "failed"),
    [
        # above a nested key is something without fields: grep lets the event pass
        (GREP.format("regexp", "$.n.k", "/x/"), {"n": "text"}, [{"n": "text"}], 0),
        (GREP.format("exclude", "$.n.k", "/./"), {"n": 5}, [{"n": 5}], 0),
        (GREP.format("regexp", "$.n.k", "/x/"), {"n": ["x"]}, [{"n": ["x"]}], 0),
        (GREP.format("regexp", "$.n.k", "/x/"), {"n": None}, [], 0),
        (GREP.format("regexp", "$.n[0]", "/x/"), {"n": {"k": "x"}}, [], 0),
        (GREP.format("regexp", "$.n[1]", "/x/"), {"n": ["x"]}, [], 0),
        # too few words are reported before a time that does not fit
        (parser(*SYSLOG, reserve=True), {"m": " "}, [{"m": " "}], 1),
        (parser(*SYSLOG, reserve=True), {"m": "x h a p m - y"}, [], 1),
        (parser("@type json", reserve=True), {"m": 5}, [{"m": 5}], 1),
        (parser("@type json", "json_parser json", reserve=True), {"m": 5}, [], 1),
        (parser("@type regexp", r"expression /(?<p>\p{Punct})/"), {"m": "|+/"}, [{"p": "/"}], 0),
        (parser("@type regexp", r"expression /(?<p>[[:punct:]])/"), {"m": "|+/"}, [{"p": "|"}], 0),
        ("@type record_transformer\nrenew_time_key a", {"a": 1700000000123}, [{"a": 1700000000123}], 0),
        (parser("@type ltsv", "types a:integer"), {"m": "time:'23\ta:1"}, [{"a": 1}], 0),
        (parser("@type ltsv"), {"m": "time:1"}, [], 1),
        (parser("@type ltsv", "time_type unixtime"), {"m": "time:1700000000123"}, [{}], 0),
        (parser("@type grok", "grok_pattern %{HTTPDATE:time}"), {"m": "28/Feb/2013:12:00:00 +0900"}, [], 1),
        (parser("@type grok", "grok_pattern %{WORD:time}", "time_key"), {"m": "x"}, [{"time": "x"}], 0),
    ],
)
def test_events(section: str, record: dict[str, Any], want: list[dict[str, Any]], failed: int) -> None:
    assert outcome(section, record) == (want, failed)


@pytest.mark.parametrize(
    "section",
    [
        parser("@type none", "utc true"),
        parser("@type apache2", "timezone +09:00"),
        parser("@type none", "types message:int"),
        parser("@type syslog", "types pid:null"),
        parser("@type ltsv", "types a:array:,,b:integer"),
        "@type stdout\n<format>\n@type json\ntimezone Nope\n</format>",
        "@type stdout\n<format>\n@type ltsv\ntime_type mixed\n</format>",
    ],
)
def test_configurations_that_are_refused(section: str) -> None:
    with pytest.raises(InvalidConfiguration):
        outcome(section, {})


def test_a_syslog_format_is_enough_for_mixed_times() -> None:
    assert outcome(parser("@type syslog", "time_type mixed"), {"m": "x"}) == ([], 1)
