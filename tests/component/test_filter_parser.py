"""Filter `parser` through configuration text."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from forwarder.api import EventBatch, EventStream, Parser
from forwarder.api.plugin import Record
from forwarder.api.testing import Driver, run

REGEXP = r"""
    <parse>
      @type regexp
      expression /^(?<a>\w+) (?<n>\d+)$/
      types n:integer
    </parse>
"""
JSON = """
    <parse>
      @type json
    </parse>
"""


class WordsParser(Parser):
    """Written in Python: one event per word; refuses digits; fails on an exclamation mark."""

    def parse(self, text: bytes) -> Iterable[tuple[int | None, Record]]:
        for word in text.decode().split():
            if "!" in word:
                raise RuntimeError("too loud")
            if not word.isdigit():
                yield 5_000_000_000, {"word": word}


def driver(parameters: str, parse: str = REGEXP, key: str = "log") -> Driver:
    return run(
        f"""
        <filter t a b c>
          @type parser
          key_name {key}
          {parameters}
          {parse}
        </filter>
        <match t a b c>
          @type test
          @id good
        </match>
        <label @ERROR>
          <match t a b c>
            @type test
            @id bad
          </match>
        </label>
        """,
        plugins={("parser", "words"): WordsParser},
    )


@pytest.mark.parametrize(
    ("parameters", "record", "expected"),
    [
        ("", {"log": "x 5", "o": 1}, {"a": "x", "n": 5}),
        (
            "reserve_data true",
            {"log": "x 5", "o": 1, "a": 0, "p": 2},
            {"log": "x 5", "o": 1, "a": "x", "p": 2, "n": 5},
        ),
        (
            "reserve_data true\nremove_key_name_field true",
            {"a": 0, "log": "x 5", "o": 1},
            {"a": "x", "o": 1, "n": 5},
        ),
        ("remove_key_name_field true", {"log": "x 5", "o": 1}, {"a": "x", "n": 5}),
        ("inject_key_prefix p.", {"log": "x 5"}, {"p.a": "x", "p.n": 5}),
        (
            "inject_key_prefix p.\nreserve_data true",
            {"log": "x 5", "p.n": 0, "n": 1},
            {"log": "x 5", "p.n": 5, "n": 1, "p.a": "x"},
        ),
        ("hash_value_field h", {"log": "x 5", "o": 1}, {"h": {"a": "x", "n": 5}}),
        (
            "hash_value_field log\nreserve_data true\ninject_key_prefix _",
            {"o": 1, "log": "x 5"},
            {"o": 1, "log": {"_a": "x", "_n": 5}},
        ),
        (
            "hash_value_field h\nreserve_data true\nremove_key_name_field true",
            {"o": 1, "log": "x 5"},
            {"o": 1, "h": {"a": "x", "n": 5}},
        ),
    ],
)
def test_a_match_becomes_the_record(parameters: str, record: Record, expected: Record) -> None:
    with driver(parameters) as engine:
        engine.emit("t", record)
        [found] = engine.records("good")
        assert found == expected
        assert list(found) == list(expected)
        assert not engine.events("bad")


@pytest.mark.parametrize(
    ("record", "reserved"),
    [
        ({"log": "nothing of the kind", "o": 1}, True),
        ({"o": 1}, True),
        ({"log": None}, True),
        ({"log": 5}, False),
        ({"log": ["x 5"]}, False),
        ({"log": True}, False),
    ],
)
@pytest.mark.parametrize("to_error", [True, False])
@pytest.mark.parametrize("reserve", ["", "reserve_data true", "reserve_data true\nhash_value_field h"])
def test_a_failed_event(record: Record, reserved: bool, to_error: bool, reserve: str) -> None:
    with driver(f"{reserve}\nemit_invalid_record_to_error {str(to_error).lower()}") as engine:
        engine.emit("t", {"log": "x 1"}, record, {"log": "y 2"})
        first, *kept, last = engine.events("good")
        for event, letter in ((first, "x"), (last, "y")):
            assert event.record.get("h", event.record)["a"] == letter
        if reserve and reserved:
            assert [event.record for event in kept] == [{**record, "h": {}} if "hash" in reserve else record]
            assert [event.time_ns for event in kept] == [1_700_000_000_000_000_000]
        else:
            assert not kept
        assert engine.records("bad") == ([record] if to_error else [])
        assert [event.tag for event in engine.events("bad")] == (["t"] if to_error else [])


def test_time_is_the_parsed_one_else_the_present_else_the_events() -> None:
    parsed = '{"time": 1600000000.5, "a": 1}'
    with driver("", JSON) as engine:
        engine.emit("t", {"log": parsed}, {"log": "{}"}, time_ns=7_000_000_000)
        times = [event.time_ns for event in engine.events("good")]
    assert times[0] == 1_600_000_000_500_000_000
    assert times[1] > 1_700_000_000_000_000_000  # now
    for parameters, parse in (
        ("reserve_time true", JSON),
        ("", JSON.replace("json", "json\nestimate_current_event false")),
    ):
        with driver(parameters, parse) as engine:
            engine.emit("t", {"log": "{}"}, {"log": parsed}, time_ns=7_000_000_000)
            times = [event.time_ns for event in engine.events("good")]
        assert times[0] == 7_000_000_000
        assert times[1] == (7_000_000_000 if parameters else 1_600_000_000_500_000_000)


def test_a_time_that_does_not_fit_takes_the_event_out_even_where_data_is_reserved() -> None:
    with driver("reserve_data true", JSON.replace("json", "json\ntime_format %Y")) as engine:
        record = {"log": '{"time": "x"}'}
        engine.emit("t", record)
        assert not engine.events("good")
        assert engine.records("bad") == [record]


def test_an_array_makes_several_events() -> None:
    with driver("reserve_data true\nremove_key_name_field true", JSON) as engine:
        log = '[{"a": 1}, 2, {"a": 3}]'
        engine.emit("t", {"log": log, "o": 1}, {"log": "[]"})
        assert engine.records("good") == [{"o": 1, "a": 1}, {"o": 1, "a": 3}, {"log": log, "o": 1}]
        assert engine.records("bad") == [{"log": log, "o": 1}]


@pytest.mark.parametrize(
    ("key", "record", "expected"),
    [
        ("$.k.log", {"k": {"log": "x 5", "z": 2}}, {"k": {"z": 2}, "a": "x", "n": 5}),
        ("$['k']['l.g']", {"k": {"l.g": "x 5"}}, {"k": {}, "a": "x", "n": 5}),
        ("$.k[1]", {"k": ["y", "x 5"]}, {"k": ["y"], "a": "x", "n": 5}),
        ("k.log", {"k.log": "x 5"}, {"a": "x", "n": 5}),
    ],
)
def test_the_field_may_be_nested(key: str, record: Record, expected: Record) -> None:
    with driver("reserve_data true\nremove_key_name_field true", key=f'"{key}"') as engine:
        engine.emit("t", record)
        assert engine.records("good") == [expected]


def test_a_key_that_is_no_accessor_is_a_configuration_error() -> None:
    with pytest.raises(Exception, match="key_name"):
        driver("", key="$.a[b]")


def test_text_that_is_not_utf8() -> None:
    parse = REGEXP.replace(r"(?<a>\w+) (?<n>\d+)", "(?<m>.*)").replace("types n:integer", "")
    raw = b"a\xff\xc3b\xe2\x82"
    for parameters, expected in (("", raw), ("replace_invalid_sequence true", "a??b?")):
        with driver(parameters, parse) as engine:
            engine.emit("t", {"log": raw})
            assert engine.records("good") == [{"m": expected}]


def test_a_parser_written_in_python() -> None:
    parse = "<parse>\n@type words\n</parse>"
    with driver("reserve_data true", parse) as engine:
        engine.emit("t", {"log": "one 2 three"}, {"log": "4"}, {"log": "five !"})
        assert engine.records("good") == [
            {"log": "one 2 three", "word": "one"},
            {"log": "one 2 three", "word": "three"},
            {"log": "4"},
        ]
        assert engine.records("bad") == [{"log": "4"}, {"log": "five !"}]
        assert "too loud" in engine.log


def test_tags_and_order_stay() -> None:
    streams = [
        (tag, EventStream.from_events([(1, {"log": log})]))
        for tag, log in (("a", "x 1"), ("b", "bad"), ("a", "y 2"), ("c", "z 3"), ("b", "w 4"))
    ]
    with driver("") as engine:
        engine.emit_batch(EventBatch(streams))
        found = [(event.tag, event.record["n"]) for event in engine.events("good")]
        assert found == [("a", 1), ("a", 2), ("c", 3), ("b", 4)]
        assert [event.tag for event in engine.events("bad")] == ["b"]


def test_many_fields_are_merged() -> None:
    text = "{" + ",".join(f'"k{number}": {number}' for number in range(200)) + "}"
    old: dict[str, Any] = {f"k{number}": "old" for number in range(0, 400, 2)}
    with driver("reserve_data true", JSON) as engine:
        engine.emit("t", {"log": text, **old})
        [found] = engine.records("good")
        new = {f"k{number}": number for number in range(200)}
        assert found == {"log": text, **old, **new}
        assert list(found) == list({"log": text, **old, **new})


@pytest.mark.parametrize(
    ("parse", "reserve", "value", "good", "bad"),
    [
        (JSON, "", 5, [], 1),
        (JSON, "reserve_data true", {"k": 1}, [{"log": {"k": 1}}], 1),
        (REGEXP, "reserve_data true", 5, [], 1),
        ("<parse>\n@type none\n</parse>", "", [1, "x"], [{"message": [1, "x"]}], 0),
        (
            "<parse>\n@type none\nmessage_key m\n</parse>",
            "reserve_data true",
            1.5,
            [{"log": 1.5, "m": 1.5}],
            0,
        ),
    ],
)
def test_a_field_that_is_no_text(parse: str, reserve: str, value: Any, good: list[Record], bad: int) -> None:
    with driver(reserve, parse) as engine:
        engine.emit("t", {"log": value})
        assert engine.records("good") == good
        assert engine.records("bad") == [{"log": value}] * bad
