"""Filters that shed events: `throttle`, `sampling`, `dedup`; what they shed is in the books."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forwarder import _native
from forwarder.api import ConfigError, EventBatch, EventStream
from forwarder.api.testing import Driver, run


def driver(kind: str, parameters: str) -> Driver:
    return run(
        f"""
        <filter **>
          @type {kind}
          @id shed
          {parameters}
        </filter>
        <match **>
          @type test
        </match>
        """
    )


def batch(*records: dict[str, object]) -> EventBatch:
    return EventBatch([("t", EventStream.from_events((1, record) for record in records))])


def test_throttle_sheds_by_group_and_says_what() -> None:
    with driver("throttle", "group_key k8s.pod, $.level\ngroup_bucket_limit 3") as engine:
        loud = {"k8s": {"pod": "loud"}, "level": "info"}
        engine.emit("t", *[loud] * 5, {"k8s": {"pod": "quiet"}}, {"k8s": 1, "level": "info"}, loud)
        assert engine.records() == [loud] * 3 + [{"k8s": {"pod": "quiet"}}, {"k8s": 1, "level": "info"}]
        assert dict(engine["shed"].lost) == {"throttled": 3}
        (family,) = engine.plugin("shed").measure()
        assert [(sample.value, sample.labels["group"]) for sample in family.samples] == [(3, "loud,info")]
        assert engine.log.count("rate exceeded") == 1
    assert "shed by group" in engine.log
    assert "loud,info" in engine.log


def test_throttle_may_only_warn() -> None:
    with driver(
        "throttle", "group_key k\ngroup_bucket_limit 1\ngroup_bucket_period_s 1\ngroup_drop_logs false"
    ) as engine:
        engine.emit("t", *[{"k": 1}] * 4)
        assert len(engine.records()) == 4
        assert not engine["shed"].lost
        assert "rate exceeded" in engine.log


@pytest.mark.parametrize(
    ("parameters", "passed"),
    [
        ("interval 3", ["2", "5", "8"]),
        ("interval 1", [str(number) for number in range(10)]),
        ("interval 4\nminimum_rate_per_min 4", ["0", "1", "2", "3", "7"]),
    ],
)
def test_sampling(parameters: str, passed: list[str]) -> None:
    with driver("sampling", parameters) as engine:
        for part in (range(4), range(4, 10)):
            engine.emit("t", *[{"n": str(number)} for number in part])
        assert [record["n"] for record in engine.records()] == passed
        assert engine["shed"].lost.get("sampled", 0) == 10 - len(passed)


@pytest.mark.parametrize(("unit", "passed"), [("tag", 0), ("all", 1)])
def test_sampling_counts_by_unit(unit: str, passed: int) -> None:
    with driver("sampling_filter", f"interval 2\nsample_unit {unit}") as engine:
        engine.emit("a", {})
        engine.emit("b", {})
        assert len(engine.records()) == passed


def test_dedup_knows_the_last_keys_of_each_tag() -> None:
    with driver("dedup", "key id\ncache_per_tag 2") as engine:
        for key in ("a", "a", "b", "a", "c", "b", 1, "1"):
            engine.emit("t", {"id": key})
        engine.emit("u", {"id": "1"})
        engine.emit("u", {"x": 1})
        assert [event.record.get("id") for event in engine.events()] == [
            "a",
            "b",
            "c",
            "b",
            1,
            "1",
            "1",
            None,
        ]
        assert dict(engine["shed"].lost) == {"duplicate": 2}
        assert "without the key id" in engine.log


def test_dedup_remembers_over_a_restart(tmp_path: Path) -> None:
    parameters = f"key id\ncache_per_tag 10\nfile {tmp_path}/seen.json"
    with driver("dedup", parameters) as engine:
        engine.emit("t", {"id": "a"}, {"id": [1, "ü"]})
    with driver("dedup", parameters) as engine:
        engine.emit("t", {"id": [1, "ü"]}, {"id": "b"}, {"id": "a"})
        assert [record["id"] for record in engine.records()] == ["b"]
    (tmp_path / "seen.json").write_text("[1")
    with driver("dedup", parameters) as engine:
        engine.emit("t", {"id": "a"})
        assert len(engine.records()) == 1
        assert "cannot read the keys" in engine.log


def test_dedup_forgets_after_the_time_to_live() -> None:
    dedup = _native.Dedup("id", 10, 5.0)
    one = batch({"id": 1})
    went = [len(one) if (kept := dedup.apply(one, now)[0]) is None else len(kept) for now in (0, 4, 5, 9, 11)]
    assert went == [1, 0, 1, 0, 1]


@settings(max_examples=50, deadline=None)
@given(keys=st.lists(st.integers(0, 8), max_size=60), capacity=st.integers(1, 5))
def test_dedup_is_a_list_of_the_last_keys(keys: list[int], capacity: int) -> None:
    dedup, recent = _native.Dedup("id", capacity, 0), list[int]()
    for key in keys:
        one = batch({"id": key})
        passed = dedup.apply(one, 0)[0] is None
        assert passed == (key not in recent)
        recent = [*(other for other in recent if other != key), key][-capacity:]


@pytest.mark.parametrize(
    ("kind", "parameters", "message"),
    [
        ("throttle", "group_bucket_limit 0", "at least 1"),
        ("throttle", "group_reset_rate_s 101", "from -1 to"),
        ("throttle", "group_key $.a[", "group_key"),
        ("sampling", "interval 0", "at least 1"),
        ("dedup", "key a\ncache_ttl -1", "negative"),
        ("dedup", "cache_ttl 1", "key"),
    ],
)
def test_wrong_configuration(kind: str, parameters: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message.replace("[", r"\[")):
        driver(kind, parameters)
