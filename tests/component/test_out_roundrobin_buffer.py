"""out_roundrobin and out_buffer, by configuration text."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from forwarder.api import BufferOverflow
from forwarder.api.testing import Driver, run
from forwarder.config import InvalidConfiguration


def roundrobin(*weights: str, more: str = "") -> str:
    stores = "".join(
        f"<store>\n@type test\n@id s{number}\n{weight}\n{more}\n</store>\n"
        for number, weight in enumerate(weights)
    )
    return f"<match **>\n@type roundrobin\n{stores}</match>"


def shares(driver: Driver) -> dict[str, int]:
    return {
        f"s{number}": len(driver.events(f"s{number}"))
        for number in range(3)
        if f"s{number}" in driver.metrics().plugins
    }


@pytest.mark.parametrize(
    ("weights", "turns"),
    [
        (["", ""], "0101"),
        (["weight 3", "weight 1"], "0010" * 2),
        (["weight 2", "weight 2", "weight 4"], "20122012"),
        (["weight 0", "", "weight 0"], "111"),
    ],
)
def test_batches_go_to_the_stores_by_weight(weights: list[str], turns: str) -> None:
    with run(roundrobin(*weights)) as driver:
        assert "is not used" not in driver.log
        order = ""
        before: Counter[str] = Counter()
        for number in range(len(turns)):
            driver.emit("t", {"n": number}, {"n": number})
            now = Counter(shares(driver))
            ((store, count),) = (now - before).items()
            assert count == 2
            order += store[1:]
            before = now
        assert Counter(order) == Counter(turns)
        assert driver["out_roundrobin"].delivered == 2 * len(turns)


SMALL = """<buffer>
flush_mode immediate
chunk_limit_size 1k
total_limit_size 1k
retry_wait 0.01
retry_max_interval 0.01
</buffer>"""


def fill(driver: Driver) -> int:
    """Emits until there is no room; how many were taken."""
    for number in range(100):
        try:
            driver.emit("t", {"text": "x" * 300})
        except BufferOverflow:
            return number
    raise AssertionError("there was always room")


def test_a_full_store_is_passed_over_and_all_full_is_told() -> None:
    with run(roundrobin("", "", more=SMALL)) as driver:
        for store in ("s0", "s1"):
            driver.plugin(store).fail_with = lambda _: OSError("away")
        taken = fill(driver)
        assert taken > 2
        driver.plugin("s1").fail_with = lambda _: None
        driver.wait_for(lambda: len(driver.events("s1")) > 0 and not driver["s1"].buffer.events)
        for _ in range(5):  # the other one is still full
            driver.emit("t", {"text": "x" * 300})
            driver.flush()
            driver.wait_for(lambda: not driver["s1"].buffer.events)
        assert driver.events("s0") == []
        driver.plugin("s0").fail_with = lambda _: None
        driver.wait_for(lambda: sum(shares(driver).values()) == taken + 5)


@pytest.mark.parametrize(
    ("weights", "message"),
    [(["weight 0"], "weight above 0"), (["weight -1"], "weight above 0"), (["weight x"], "weight")],
)
def test_weights_that_cannot_be(weights: list[str], message: str) -> None:
    with pytest.raises(InvalidConfiguration, match=message):
        run(roundrobin(*weights))


def buffer(folder: Path, label: str = "@label @NEXT", keys: str = "tag") -> str:
    return f"""
<match in.**>
  @type buffer
  {label}
  <buffer {keys}>
    path {folder}
    flush_interval 0.1
    retry_wait 0.01
    retry_max_interval 0.01
  </buffer>
</match>
<label @NEXT>
  <match **>
    @type test
  </match>
</label>
"""


def test_out_buffer_emits_to_its_label(tmp_path: Path) -> None:
    with run(buffer(tmp_path / "b")) as driver:
        driver.emit("in.a", {"n": 1}, {"n": 2}, time_ns=7)
        driver.emit("in.b", {"n": 3}, time_ns=8)
        events = driver.wait_for_events(3)
        assert sorted((event.tag, event.time_ns, event.record["n"]) for event in events) == [
            ("in.a", 7, 1), ("in.a", 7, 2), ("in.b", 8, 3),
        ]  # fmt: skip


def test_out_buffer_keeps_events_over_a_restart(tmp_path: Path) -> None:
    """What is behind it has no room; after the restart it has."""
    full = buffer(tmp_path / "b").replace(
        "@type test", "@type test\n<buffer>\nchunk_limit_size 100\ntotal_limit_size 100\n</buffer>"
    )
    driver = run(full)
    driver.plugin("out_test").fail_with = lambda _: OSError("away")
    driver.emit("in.a", *({"n": number, "text": "x" * 50} for number in range(20)))
    driver.wait_for(lambda: driver["out_test"].received)
    driver.emit("in.a", *({"n": number, "text": "x" * 50} for number in range(20, 40)))
    driver.wait_for(lambda: driver["out_buffer"].failures)
    driver.stop(0.1)
    assert sum(driver["out_test"].lost.values()) == 20  # its own buffer is in memory
    with run(buffer(tmp_path / "b")) as again:
        assert [event.record["n"] for event in again.wait_for_events(20)] == list(range(20, 40))
        assert again["out_buffer"].recovered == 20


def test_out_buffer_needs_the_tag(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfiguration, match="chunk key tag"):
        run(buffer(tmp_path, keys="[]"))
