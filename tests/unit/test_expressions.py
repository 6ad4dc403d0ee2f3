"""Expressions of `record_transformer`: as Ruby evaluates them (recorded), and as Python does."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forwarder import _native
from forwarder._native import EventBatch, EventStream

RECORDED: dict[str, Any] = json.loads(Path(__file__).with_name("ruby_expressions.json").read_text())


class RaisedError(Exception):
    """What an expression raises."""


def evaluate(expression: str, record: dict[str, Any], tag: str = "t", time_ns: int = 0) -> Any:
    transformer, unknown = _native.RecordTransformer.compile(
        {"k": "${" + expression + "}"}, remove_keys=[], keep_keys=[], renew_time_key=None,
        auto_typecast=True, ruby=True, hostname="h",
    )  # fmt: skip
    assert not unknown, unknown
    stream = EventStream.from_events([(time_ns, record)])
    good, failed, raised, why, _ = transformer.apply(EventBatch([(tag, stream)]))
    assert not failed
    if raised:
        assert not good
        raise RaisedError(why)
    [(_, out)] = list(good.streams()[0][1])
    return out["k"]


def test_as_ruby_evaluates_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    monkeypatch.delenv("NO_SUCH_VAR", raising=False)
    wrong = []
    for expression, expected in RECORDED["expressions"]:
        try:
            value = evaluate(expression, RECORDED["record"], RECORDED["tag"], RECORDED["time_ns"])
        except RaisedError as error:
            found: dict[str, Any] = {"raises": str(error).partition(": ")[0]}
        else:
            odd = isinstance(value, float) and not math.isfinite(value)
            found = {"float": {math.inf: "Infinity", -math.inf: "-Infinity"}.get(value, "NaN")} if odd else {}
            found = found or {"value": value}
        if json.dumps(found) != json.dumps(expected):
            wrong.append((expression, expected, found))
    assert len(RECORDED["expressions"]) > 400
    assert not wrong


TEXTS = st.text(max_size=12)
NUMBERS = st.integers(-1000, 1000)
# what Python's slices cannot say: counted from the end, beyond it
PLACES = st.integers(-20, 20)


@settings(max_examples=200, deadline=None)
@given(TEXTS, TEXTS, PLACES, PLACES)
def test_texts(text: str, other: str, at: int, length: int) -> None:
    record = {"a": text, "b": other, "at": at, "n": length}
    size = len(text)
    assert evaluate('record["a"].length', record) == size
    assert evaluate('record["a"].bytesize', record) == len(text.encode())
    assert evaluate('record["a"].reverse', record) == text[::-1]
    assert evaluate('record["a"] + record["b"]', record) == text + other
    assert evaluate('"<#{record["a"]}>"', record) == f"<{text}>"
    assert evaluate('record["a"].include?(record["b"])', record) == (other in text)
    start = at + size if at < 0 else at
    inside = 0 <= start <= size and length >= 0
    assert evaluate('record["a"][record["at"], record["n"]]', record) == (
        text[start : start + length] if inside else None
    )
    assert evaluate('record["a"][record["at"]]', record) == (text[start] if 0 <= start < size else None)
    if other:
        assert evaluate('record["a"].gsub("x", "y")', record) == text.replace("x", "y")
        assert evaluate('record["a"].delete_prefix(record["b"])', record) == text.removeprefix(other)
        if text and other != " ":
            assert evaluate('record["a"].split(record["b"], -1)', record) == text.split(other)
    assert json.loads(evaluate('record["a"].to_json', record)) == text
    assert json.loads(evaluate("record.to_json", record)) == record


@settings(max_examples=200, deadline=None)
@given(NUMBERS, NUMBERS)
def test_whole_numbers(left: int, right: int) -> None:
    record = {"a": left, "b": right}
    assert evaluate('record["a"] + record["b"] * 2 - 1', record) == left + right * 2 - 1
    assert evaluate('record["a"] >= record["b"] ? "x" : "y"', record) == ("x" if left >= right else "y")
    assert evaluate('format("%05d", record["a"])', record) == f"{left:05d}"
    if right:
        assert evaluate('record["a"] / record["b"]', record) == left // right
        assert evaluate('record["a"] % record["b"]', record) == left % right
    else:
        with pytest.raises(RaisedError, match="ZeroDivisionError: divided by 0"):
            evaluate('record["a"] / record["b"]', record)


@settings(max_examples=100, deadline=None)
@given(st.lists(TEXTS, max_size=5), PLACES)
def test_arrays(texts: list[str], at: int) -> None:
    record = {"l": texts, "at": at}
    assert evaluate('record["l"].join("-")', record) == "-".join(texts)
    assert evaluate('record["l"].reverse.first', record) == (texts[-1] if texts else None)
    assert evaluate('record["l"].uniq', record) == list(dict.fromkeys(texts))
    inside = -len(texts) <= at < len(texts)
    assert evaluate('record["l"][record["at"]]', record) == (texts[at] if inside else None)


def test_texts_that_are_no_utf_8_stay_bytes() -> None:
    record = {"a": b"x\xff o"}
    assert evaluate('record["a"].upcase', record) == b"X\xff O"
    assert evaluate('record["a"].gsub(/o/, "0")', record) == b"x\xff 0"
    assert evaluate('record["a"].scrub("?")', record) == "x? o"
    assert evaluate('record["a"].length', record) == 4


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ('record["l"].sort.first(3)', [1, 2, 3]),
        ('record["l"].uniq.length', 600_000),
        ('record["pairs"].to_h.length', 600_000),
        ('record["pairs"].to_h.merge(record["pairs"].to_h).length', 600_000),
        ('record["t"].chars.length', 600_000),
    ],
)
def test_large_values_take_no_longer_than_their_size(expression: str, expected: Any) -> None:
    """By comparing each with each these would not end before the test's time is over."""
    numbers = list(range(600_000, 0, -1))
    record = {"l": numbers, "pairs": [[str(each), each] for each in numbers], "t": "ä" * 600_000}
    assert evaluate(expression, record) == expected


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("[1, 1.0, 1].uniq", [1, 1.0]),
        ('[["a", 1], ["b", 2], ["a", 3]].to_h', {"a": 3, "b": 2}),
        ("[2.5, 1, 2, 9007199254740993, 9007199254740992.0].sort.first(3)", [1, 2, 2.5]),
        ("(1..-9).to_a", []),
    ],
)
def test_keys_and_order(expression: str, expected: Any) -> None:
    assert evaluate(expression, {}) == expected
