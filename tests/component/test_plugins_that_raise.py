"""A Python plugin that raises: its events go to @ERROR, its neighbours go on, the log has one stack trace."""

from __future__ import annotations

import pytest

from forwarder.api import EventBatch, Filter, Output, Plugin, Record, RecordFilter
from forwarder.api.testing import run

CONFIG = """
<filter t>
  @type {filter}
</filter>
<match t>
  @type {output}
  @id out
</match>
<label @ERROR>
  <match **>
    @type test
    @id error
  </match>
</label>
"""


class HalfBroken(RecordFilter):
    """Raises for some records, after it has changed them."""

    def filter_record(self, tag: str, time_ns: int, record: Record) -> Record | None:
        record["seen"] = True
        if record["n"] % 3 == 0:
            raise LookupError("no such thing")
        return record


class Broken(Filter):
    """Raises for every batch."""

    def filter_batch(self, batch: EventBatch) -> EventBatch:
        raise LookupError("no such thing")


class BrokenOutput(Output):
    """Raises for every batch."""

    def process_batch(self, batch: EventBatch) -> None:
        raise LookupError("no such thing")


PLUGINS: dict[tuple[str, str], type[Plugin]] = {
    ("filter", "half_broken"): HalfBroken,
    ("filter", "broken"): Broken,
    ("output", "broken"): BrokenOutput,
}


def test_one_record_costs_only_itself() -> None:
    with run(CONFIG.format(filter="half_broken", output="test"), plugins=PLUGINS) as driver:
        driver.emit("t", *({"n": number} for number in range(9)))
        assert [record["n"] for record in driver.records("out")] == [1, 2, 4, 5, 7, 8]
        assert driver.records("error") == [{"n": 0}, {"n": 3}, {"n": 6}]
        assert driver["filter_half_broken"].error_reasons == {"filter_error": 3}


@pytest.mark.parametrize(
    ("filter_", "output", "name"), [("broken", "test", "broken"), ("stdout", "broken", "broken")]
)
def test_a_batch_goes_to_error(filter_: str, output: str, name: str) -> None:
    with run(CONFIG.format(filter=filter_, output=output), plugins=PLUGINS) as driver:
        driver.emit("t", {"n": 1}, {"n": 2})
        assert driver.records("error") == [{"n": 1}, {"n": 2}]
        assert f"plugin={name}" in driver.log


def test_one_stack_trace_then_a_count() -> None:
    with run(CONFIG.format(filter="half_broken", output="test"), plugins=PLUGINS, log_level="info") as driver:
        for _ in range(50):
            driver.emit("t", {"n": 0})
        assert driver.log.count("Traceback (most recent call last)") == 1
        assert driver.log.count("filter raised") == 1
        assert "filter_record" in driver.log
        driver.stop()
        assert driver.log.count("Traceback (most recent call last)") == 1
        assert driver.log.count("filter raised") == 2
        assert "times=49" in driver.log
