"""Output `tally`: what it has counted."""

from forwarder.api.testing import run
from forwarder.cli.templates.out_tally import TallyOutput

CONFIG = """
<match **>
  @type tally
</match>
"""


def test_events_are_counted_by_tag() -> None:
    with run(CONFIG, plugins={("output", "tally"): TallyOutput}) as driver:
        driver.emit("a", {"n": 1}, {"n": 2})
        driver.emit("b", {"n": 3})
        assert driver.plugin("out_tally").counts == {"a": 2, "b": 1}
