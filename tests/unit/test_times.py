"""Times: strptime by Ruby's rules, seen through the regexp parser."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forwarder import _native

S = 1_000_000_000
NOON = 1_688_212_800  # 2023-07-01T12:00:00Z


def read(text: str, **options: Any) -> int | str | None:
    """The time that the parser finds, or why it finds none."""
    parser = _native.regexp_parser(r"/\A(?<time>.*)\z/m", False, False, {"time_key": "time", **options})
    events = parser.parse(text)
    if isinstance(events, str):
        return events
    ((time_ns, record),) = events
    assert record == {}
    return time_ns


@pytest.mark.parametrize(
    ("text", "options", "seconds"),
    [
        ("28/Feb/2023:12:00:00 +0900", {"time_format": "%d/%b/%Y:%H:%M:%S %z"}, 1_677_553_200),
        (
            "2023-07-01 12:00:00",
            {"time_format": "%Y-%m-%d %H:%M:%S", "timezone": "America/New_York"},
            1_688_227_200,
        ),
        (
            "2023-12-01 12:00:00",
            {"time_format": "%Y-%m-%d %H:%M:%S", "timezone": "America/New_York"},
            1_701_450_000,
        ),
        ("1700000000.5", {"time_type": "float"}, 1_700_000_000.5),
        ("1700000000", {"time_type": "unixtime"}, 1_700_000_000),
        ("x", {"time_type": "unixtime"}, 0),  # as Ruby's to_i
        ("1688212800", {"time_type": "mixed", "time_format_fallbacks": ["%iso8601", "unixtime"]}, NOON),
        (
            "2023-07-01T12:00:00Z",
            {"time_type": "mixed", "time_format_fallbacks": ["%iso8601", "unixtime"]},
            NOON,
        ),
        ("1688212800.5", {"time_type": "mixed", "time_format_fallbacks": ["unixtime"]}, NOON + 0.5),
        ("Sat, 01 Jul 2023 12:00:00 GMT", {}, NOON),
        ("01/07/2023 12:00:00 UTC", {}, NOON),
        ("01-07-2023 12:00 UTC", {}, NOON),
        ("1.7.2023 12:00 UTC", {}, NOON),
        ("23/7/1 12:00 UTC", {}, NOON),
        ("2023070112 UTC", {}, NOON),
        ("2023-07-01 21:00:00 +0900", {}, NOON),
        ("2023-07-01 12pm UTC", {}, NOON),
        ("2023-07-01 13pm", {}, NOON + 3600),
        ("9 PM 2023-07-01", {"time_format": None}, NOON + 9 * 3600),
        ("2023-182", {}, NOON - 12 * 3600),
        ("182 2023", {"time_format": "%j %Y"}, NOON - 12 * 3600),
    ],
)
def test_times_are_read(text: str, options: dict[str, Any], seconds: float) -> None:
    assert read(text, **options) == round(seconds * S)


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("2023-07-01T12:00:00.5+0000", {"time_format": "%Y-%m-%dT%H:%M:%S%z"}),
        ("2023-13-01", {"time_format": "%Y-%m-%d"}),
        ("today", {}),
        ("07/13/2023 12:00:00", {}),
        ("", {}),
        ("12:00", {"time_format": "%iso8601"}),
        ("2023-W05-3", {}),
        ("366 2023", {"time_format": "%j %Y"}),
        ("no", {"time_type": "mixed", "time_format_fallbacks": ["unixtime"]}),
    ],
)
def test_what_does_not_fit_is_an_invalid_time(text: str, options: dict[str, Any]) -> None:
    assert read(text, **options) == "invalid_time"


FORMATS = st.sampled_from(
    [
        "%Y-%m-%dT%H:%M:%S%z",
        "%d/%b/%Y:%H:%M:%S %z",
        "%a, %d %b %Y %H:%M:%S %z",
        "%A %d %B %Y %I:%M:%S %p %z",
        "%Y%m%d%H%M%S%z",
        "%m/%d/%y %H:%M:%S %z",
        "%j %Y %H %M %S %z",
    ]
)
MOMENTS = st.datetimes(datetime(1969, 1, 1), datetime(2068, 12, 31))
OFFSETS = st.integers(-14 * 4, 14 * 4).map(lambda quarters: timezone(timedelta(minutes=15 * quarters)))


@given(FORMATS, MOMENTS, OFFSETS)
def test_strptime_agrees_with_python(form: str, moment: datetime, offset: timezone) -> None:
    moment = moment.replace(microsecond=0, tzinfo=offset)
    assert read(moment.strftime(form), time_format=form) == int(moment.timestamp()) * S


@given(
    MOMENTS, st.sampled_from(["Europe/Berlin", "America/St_Johns", "Australia/Lord_Howe", "Asia/Kathmandu"])
)
def test_named_zones_agree_with_python(moment: datetime, zone: str) -> None:
    moment = moment.replace(microsecond=0, tzinfo=ZoneInfo(zone))
    if moment.astimezone(UTC).astimezone(moment.tzinfo).replace(fold=0) != moment:
        return  # a clock time that does not exist
    got = read(f"{moment:%Y-%m-%d %H:%M:%S}", time_format="%Y-%m-%d %H:%M:%S", timezone=zone)
    assert got == int(moment.timestamp()) * S


@given(st.text(max_size=40), st.sampled_from([None, "%iso8601", "%b %d %H:%M:%S", "%s.%N", "%Q %Z", "%+"]))
def test_any_text_is_a_time_or_not(text: str, form: str | None) -> None:
    got = read(text, time_format=form)
    assert got == "invalid_time" or isinstance(got, int)


@pytest.mark.parametrize(
    ("options", "param", "word"),
    [
        ({"time_format": "%Y-%i"}, "time_format", "%i"),
        ({"time_format": "%Y", "timezone": "PST"}, "timezone", "PST"),
        ({"timezone": "+09:00"}, "time_format", "need a time_format"),
        ({"time_type": "mixed"}, "time_type", "mixed"),
    ],
)
def test_mistakes_name_the_parameter(options: dict[str, Any], param: str, word: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        read("x", **options)
    assert word in caught.value.args[0]
    assert caught.value.args[1] == param
