"""The forwarder's own log."""

from __future__ import annotations

import io
import json
import re

import pytest

from forwarder.telemetry.log import Log


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_line_has_time_level_id_message_and_fields() -> None:
    out = io.StringIO()
    Log(out).of("in_udp").warning("pattern not matched", line="a b", port=5, error=ValueError("x"))
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{4} \[warn\]: #in_udp pattern not matched "
        r'line="a b" port=5 error="ValueError: x"\n',
        out.getvalue(),
    )


def test_json_lines() -> None:
    out = io.StringIO()
    Log(out, json=True).of("a").error("bad", count=3, line='q"\n')
    entry = json.loads(out.getvalue())
    assert (entry["level"], entry["plugin_id"], entry["message"]) == ("error", "a", "bad")
    assert (entry["count"], entry["line"]) == (3, 'q"\n')


def test_outside_data_cannot_forge_lines() -> None:
    out = io.StringIO()
    log = Log(out)
    log.main.warning("x\n2026-01-01 00:00:00 +0000 [info]: forged", data="y\nforged", raw=b"\xff\n")
    assert out.getvalue().count("\n") == 1
    assert "\\n2026" in out.getvalue()


def test_percent_signs_in_messages_and_fields_are_text() -> None:
    out = io.StringIO()
    log = Log(out)
    log.repeats.log(log.main, "100%s", 1, "warn", {"x": "%d"})
    assert "100%s x=%d" in out.getvalue()


@pytest.mark.parametrize(
    ("level", "shown"),
    [
        ("trace", "tdiwef"),
        ("debug", "diwef"),
        ("info", "iwef"),
        ("warn", "wef"),
        ("error", "ef"),
        ("fatal", "f"),
    ],
)
def test_levels(level: str, shown: str) -> None:
    out = io.StringIO()
    log = Log(out, level="fatal").of("x", level)
    for number in (5, 10, 20, 30, 40, 50):
        log.log(number, "m")
    assert "".join(re.findall(r"\[(\w)\w+\]", out.getvalue())) == shown


def test_repeated_lines_become_one_at_once_and_one_per_interval() -> None:
    out, clock = io.StringIO(), Clock()
    log = Log(out, repeat_seconds=10.0, clock=clock)
    for _ in range(1000):
        log.repeats.log(log.main, "bad line", 2, "warn", {"line": "x"})
    assert out.getvalue().count("\n") == 1
    clock.now += 9.9
    log.repeats.flush()
    assert out.getvalue().count("\n") == 1
    clock.now += 0.2
    log.repeats.flush()
    first, second = out.getvalue().splitlines()
    assert first.endswith("bad line line=x times=2")
    assert second.endswith("bad line line=x times=1998")
    clock.now += 100
    log.repeats.flush()
    assert out.getvalue().count("\n") == 2
    log.repeats.log(log.main, "bad line", 1, "warn", {})
    log.repeats.log(log.main, "other", 1, "warn", {})
    assert out.getvalue().count("\n") == 4
    log.repeats.log(log.main, "bad line", 5, "warn", {})
    log.repeats.close()
    assert out.getvalue().splitlines()[-1].endswith("bad line times=5")


def test_repeated_lines_below_the_level_cost_nothing() -> None:
    out = io.StringIO()
    log = Log(out, level="error")
    log.repeats.log(log.main, "x", 1, "warn", {})
    log.repeats.close()
    assert out.getvalue() == ""


def test_time_format() -> None:
    out = io.StringIO()
    Log(out, time_format="%Y|%L|%6N|%%N").main.info("x")
    assert re.match(r"\d{4}\|\d{3}\|\d{6}\|%N \[info\]: x\n", out.getvalue())


def test_equal_lines_are_left_out_for_a_while() -> None:
    def lines(**options: float) -> str:
        out, clock = io.StringIO(), Clock()
        log = Log(out, clock=clock, **options).main  # type: ignore[arg-type]
        for message in ("a", "a", "b", "a"):
            log.info(message, n=1)
        clock.now += 6
        log.info("a", n=1)
        log.info("a", n=2)
        return "".join(re.findall(r": (\w) n=", out.getvalue()))

    assert lines() == "aabaaa"
    assert lines(ignore_repeated_seconds=5.0) == "abaaa"
    assert lines(ignore_same_seconds=5.0) == "abaa"


@pytest.mark.parametrize(
    ("once", "full", "short"), [(True, 1, 1), (False, 2, 0)], ids=["suppressed", "all of them"]
)
def test_a_stack_trace_that_repeats(once: bool, full: int, short: int) -> None:
    out = io.StringIO()
    log = Log(out, traces_once=once, trace_level="warn").main
    for _ in range(2):
        try:
            raise ValueError("v")
        except ValueError as error:
            log.debug("bad", exc_info=error)
    assert out.getvalue().count("[warn]: bad") == 2
    assert out.getvalue().count("ValueError: v") == full
    assert out.getvalue().count("suppressed same stacktrace") == short


def test_stack_traces_are_logged_at_their_own_level_by_default() -> None:
    out = io.StringIO()
    Log(out).main.debug("bad", exc_info=ValueError("v"))
    assert out.getvalue() == ""
