"""Splitting a batch by chunk keys."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forwarder._native import EventBatch, EventStream, Partitioner

SECOND = 1_000_000_000


def batch_of(*events: tuple[str, int, dict[str, Any]]) -> EventBatch:
    return EventBatch(
        [(tag, EventStream.from_events([(seconds * SECOND, record)])) for tag, seconds, record in events]
    )


def ids(batch: EventBatch) -> list[Any]:
    return [record["i"] for _, stream in batch.streams() for _, record in stream]


def test_a_batch_with_one_key_is_passed_on_uncopied() -> None:
    batch = batch_of(("a", 10, {"h": "x", "i": 1}), ("a", 20, {"h": "x", "i": 2}))
    for partitioner, key in [
        (Partitioner(False, None, None, []), (None, None, ())),
        (Partitioner(True, None, None, []), ("a", None, ())),
        (Partitioner(True, 60, "UTC", ["h"]), ("a", 0, ("x",))),
    ]:
        ((*found, part),) = partitioner.partition(batch)
        assert tuple(found) == key
        assert part is batch


def test_an_empty_batch_has_no_parts() -> None:
    assert Partitioner(True, 60, None, ["x"]).partition(EventBatch([])) == []


def test_parts_come_in_order_of_appearance_and_keep_their_order() -> None:
    batch = batch_of(
        ("a", 10, {"h": "x", "i": 1}),
        ("b", 70, {"h": "x", "i": 2}),
        ("a", 70, {"h": "y", "i": 3}),
        ("a", 11, {"h": "x", "i": 4}),
        ("b", 71, {"h": "x", "i": 5}),
    )
    parts = Partitioner(True, 60, "UTC", ["h"]).partition(batch)
    assert [(tag, slot, values, ids(part)) for tag, slot, values, part in parts] == [
        ("a", 0, ("x",), [1, 4]),
        ("b", 60, ("x",), [2, 5]),
        ("a", 60, ("y",), [3]),
    ]
    assert [part.tags for *_, part in parts] == [("a",), ("b",), ("a",)]


def test_without_the_key_tag_a_part_keeps_its_tags() -> None:
    batch = batch_of(("a", 1, {"h": "x", "i": 1}), ("b", 1, {"h": "x", "i": 2}), ("b", 1, {"h": "y", "i": 3}))
    first, second = (part for *_, part in Partitioner(False, None, None, ["h"]).partition(batch))
    assert (first.tags, second.tags) == (("a", "b"), ("b",))
    assert [(tag, [r["i"] for _, r in stream]) for tag, stream in first.streams()] == [("a", [1]), ("b", [2])]


@pytest.mark.parametrize(
    ("value", "text"),
    [("x", "x"), ("", ""), (None, None), (12, "12"), (-3, "-3"), (True, "true"), (1.5, "1.5"),
     ([1, "a"], '[1, "a"]'), ({"k": None}, '{"k"=>nil}'), (b"\xff", "\ufffd")],
)  # fmt: skip
def test_field_values_become_text(value: object, text: str | None) -> None:
    ((_, _, values, _),) = Partitioner(False, None, None, ["f"]).partition(batch_of(("t", 0, {"f": value})))
    assert values == (text,)


def test_nested_fields_and_missing_ones() -> None:
    batch = batch_of(("t", 0, {"a": {"b": ["x", "y"]}}))
    partitioner = Partitioner(False, None, None, ["$.a.b[1]", "$.a.c", "zzz"])
    assert partitioner.partition(batch)[0][2] == ("y", None, None)


@pytest.mark.parametrize("zone", ["Nowhere/City", "+9", "99:00"])
def test_an_unknown_zone_is_refused(zone: str) -> None:
    with pytest.raises(ValueError, match="zone"):
        Partitioner(False, 60, zone, [])


@pytest.mark.parametrize(
    ("zone", "time", "slot"),
    [
        ("UTC", 1_700_000_000, 1_699_920_000),
        ("+09:00", 1_700_000_000, 1_699_974_000),
        # New York, 2023-11-05: the day has 25 hours, at its end midnight is 05:00 UTC
        ("America/New_York", 1_699_158_000, 1_699_156_800),
        ("America/New_York", 1_699_290_000, 1_699_246_800),
    ],
)
def test_days_start_at_the_zones_midnight(zone: str, time: int, slot: int) -> None:
    assert Partitioner(False, 86400, zone, []).partition(batch_of(("t", time, {"i": 1})))[0][1] == slot


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["a", "b", "c"]), st.integers(0, 300), st.sampled_from(["x", "y", None])
        ),
        max_size=40,
    ),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)  # fmt: skip
def test_every_event_is_in_exactly_the_part_of_its_key(
    events: list[tuple[str, int, str | None]], by_tag: bool, by_time: bool, by_field: bool
) -> None:
    batch = batch_of(*((tag, time, {"f": field, "i": i}) for i, (tag, time, field) in enumerate(events)))
    parts = Partitioner(by_tag, 60 if by_time else None, "UTC", ["f"] if by_field else []).partition(batch)
    expected: dict[Any, list[int]] = {}
    for i, (tag, time, field) in enumerate(events):
        key = (tag if by_tag else None, time // 60 * 60 if by_time else None, (field,) if by_field else ())
        expected.setdefault(key, []).append(i)
    assert {(tag, slot, values): ids(part) for tag, slot, values, part in parts} == expected
    for *_, part in parts:
        assert len(part) == len(ids(part))
