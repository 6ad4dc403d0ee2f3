"""`<source> @type sample` (and `dummy`)."""

from __future__ import annotations

import json
from pathlib import Path

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
        ("auto_increment_key n\n<storage>\n@type local\npath /dev/null/x.json\n</storage>", "storage"),
        ("auto_increment_key n\n<storage>\n@type local\npersistent true\n</storage>", "persistent"),
        ("<storage>\n@type local\nmode rw\n</storage>", "octal"),
    ],
)
def test_wrong_configurations_are_refused(extra: str, words: str) -> None:
    with pytest.raises(Exception, match=words):
        run(CONFIG.format(type="sample", extra=extra), start=False)


@pytest.mark.parametrize(
    ("where", "file"),
    [("path {folder}/counter.json", "counter.json"), ("path {folder}", "worker0/storage.json")],
)
def test_the_counter_goes_on_after_a_restart(tmp_path: Path, where: str, file: str) -> None:
    storage = f"<storage>\n@type local\n{where.format(folder=tmp_path)}\n</storage>"
    extra = f"auto_increment_key n\nrate 50\n{storage}"
    counts = []
    for _ in range(2):
        with run(CONFIG.format(type="sample", extra=extra)) as driver:
            driver.wait_for_events(7)
            driver.stop()
            counts += [record["n"] for record in driver.records()]
        assert json.loads((tmp_path / file).read_text()) == {"auto_increment_value": counts[-1]}
    assert counts == list(range(len(counts)))
    (tmp_path / file).write_text("[]")
    with pytest.raises(Exception, match="no JSON object"):
        run(CONFIG.format(type="sample", extra=extra))


def test_the_counter_is_below_root_dir_where_there_is_an_id(tmp_path: Path) -> None:
    storage = "<storage>\n@type local\npersistent true\npretty_print true\n</storage>"
    extra = f"@id numbers\nauto_increment_key n\nrate 50\n{storage}"
    system = f"<system>\nroot_dir {tmp_path}\n</system>"
    with run(system + CONFIG.format(type="sample", extra=extra)) as driver:
        driver.wait_for_events(1)
        saved = tmp_path / "worker0" / "numbers" / "storage.json"
        driver.wait_for(saved.exists)
