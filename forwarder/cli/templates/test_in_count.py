"""Input `count`: what it emits."""

import pytest

from forwarder.api import ConfigError
from forwarder.api.testing import Driver, run
from forwarder.cli.templates.in_count import CountInput

CONFIG = """
<source>
  @type count
  {options}
</source>
<match t>
  @type test
</match>
"""


def drive(options: str) -> Driver:
    return run(CONFIG.format(options=options), plugins={("input", "count"): CountInput})


def test_events_come_in_order() -> None:
    with drive("tag t\n  upto 3") as driver:
        driver.wait_for_events(3)
        assert driver.records() == [{"number": 1}, {"number": 2}, {"number": 3}]


def test_it_stops_at_once() -> None:
    with drive("tag t\n  interval 1h") as driver:
        driver.wait_for_events(1)
    assert driver.records() == [{"number": 1}]


def test_the_tag_is_required() -> None:
    with pytest.raises(ConfigError, match="'tag' parameter is required"):
        drive("")
