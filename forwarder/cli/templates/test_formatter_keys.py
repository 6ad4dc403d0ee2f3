"""Formatter `keys`, driven by an output that writes a file."""

from pathlib import Path

import pytest

from forwarder.api.testing import run
from forwarder.cli.templates.formatter_keys import KeysFormatter

CONFIG = """
<match t>
  @type file
  path {folder}/out
  append true
  <format>
    @type keys
    {options}
  </format>
  <buffer time>
    @type memory
    timekey 1h
  </buffer>
</match>
"""


@pytest.mark.parametrize(("options", "line"), [("", "t: a,b\n"), ("separator |", "t: a|b\n")])
def test_an_event_is_a_line(tmp_path: Path, options: str, line: str) -> None:
    config = CONFIG.format(folder=tmp_path, options=options)
    with run(config, plugins={("formatter", "keys"): KeysFormatter}) as driver:
        driver.emit("t", {"a": 1, "b": 2})
    (written,) = tmp_path.glob("out*.log")  # the end of the block has flushed the buffer
    assert written.read_text() == line
