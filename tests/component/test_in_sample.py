"""`<source> @type sample` (and `dummy`)."""

from __future__ import annotations

import pytest

from forwarder.api.testing import run

CONFIG = """
<source>
  @type {type}
  tag s
  {extra}
</source>
<match s>
  @type test
</match>
"""


@pytest.mark.parametrize("name", ["sample", "dummy"])
def test_default(name: str) -> None:
    with run(CONFIG.format(type=name, extra="")) as driver:
        event = driver.wait_for_events(1)[0]
        assert (event.tag, event.record) == ("s", {"message": "sample"})


def test_records_in_turn_with_a_counter() -> None:
    extra = 'sample [{"a":1},{"n":"x"}]\nauto_increment_key n\nrate 100'
    with run(CONFIG.format(type="sample", extra=extra)) as driver:
        events = driver.wait_for_events(25)
        numbers = [{"a": 1, "n": i} if i % 2 == 0 else {"n": i} for i in range(25)]
        assert [event.record for event in events[:25]] == numbers


def test_size_multiplies_the_rate() -> None:
    with run(CONFIG.format(type="sample", extra='dummy {"hello":"world"}\nrate 10\nsize 7')) as driver:
        events = driver.wait_for_events(7)
        assert len(events) % 7 == 0
        assert events[0].record == {"hello": "world"}
        driver.stop()
        assert driver["in_sample"].received == driver["in_sample"].emitted == len(driver.events())


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ("sample hello", "expected JSON"),
        ("sample [1]", "0th element of sample"),
        ("sample []", "at least one record"),
        ("rate -1", "negative"),
        ("<storage>\n@type local\npath /tmp/x\n</storage>", "not kept"),
    ],
)
def test_wrong_configurations_are_refused(extra: str, words: str) -> None:
    with pytest.raises(Exception, match=words):
        run(CONFIG.format(type="sample", extra=extra), start=False)
