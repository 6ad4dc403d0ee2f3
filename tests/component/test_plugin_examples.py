"""The plugins of docs/plugin-guide.md, found in a folder as a user's are, and driven from configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from forwarder.api import EventStream, Plugin
from forwarder.api.testing import run
from forwarder.core.registry import Registry

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "docs" / "examples"
GUIDE = (ROOT / "docs" / "plugin-guide.md").read_text()
NAMES = {
    ("parser", "pairs"): "parser_pairs.py",
    ("filter", "mask"): "filter_mask.py",
    ("formatter", "keys"): "formatter_keys.py",
    ("input", "count"): "in_count.py",
    ("output", "tally"): "out_tally.py",
    ("output", "folder"): "out_folder.py",
}


def plugins() -> dict[tuple[str, str], type[Plugin]]:
    registry = Registry()
    registry.add_directory(str(EXAMPLES))
    return {key: registry.load(*key) for key in NAMES}


def drive(config: str) -> Any:
    return run(config, plugins=plugins())


def test_every_example_is_in_the_guide_as_it_is() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == set(NAMES.values())
    for name in NAMES.values():
        assert (EXAMPLES / name).read_text().strip() in GUIDE, name


def test_parser() -> None:
    config = """
      <filter t>
        @type parser
        key_name message
        <parse>
          @type pairs
        </parse>
      </filter>
      <match t>
        @type test
      </match>
      <label @ERROR>
        <match **>
          @type test
          @id error
        </match>
      </label>
    """
    with drive(config) as driver:
        driver.emit("t", {"message": "a=1;b=2"}, {"message": "nothing"})
        assert driver.records("out_test") == [{"a": "1", "b": "2"}]
        assert driver.records("error") == [{"message": "nothing"}]


def test_parser_with_a_wrong_parameter() -> None:
    config = "<filter t>\n@type parser\nkey_name m\n<parse>\n@type pairs\nseparator =\n</parse>\n</filter>\n"
    with pytest.raises(Exception, match="must differ from equals"):
        drive(config + "<match t>\n@type test\n</match>\n")


def test_filter() -> None:
    config = "<filter t>\n@type mask\nfields password\n</filter>\n<match t>\n@type test\n</match>\n"
    with drive(config) as driver:
        driver.emit("t", {"user": "a", "password": "b"})
        assert driver.records() == [{"user": "a", "password": "***"}]


def test_formatter(tmp_path: Path) -> None:
    config = f"""
      <match t>
        @type file
        path {tmp_path}/out
        append true
        <format>
          @type keys
        </format>
        <buffer time>
          @type memory
          timekey 1h
        </buffer>
      </match>
    """
    with drive(config) as driver:
        driver.emit("t", {"a": 1, "b": 2})
    (written,) = tmp_path.glob("out*.log")
    assert written.read_text() == "t: a,b\n"


def test_input() -> None:
    with drive(
        "<source>\n@type count\ntag t\nupto 3\n</source>\n<match t>\n@type test\n</match>\n"
    ) as driver:
        driver.wait_for_events(3)
        assert driver.records() == [{"number": 1}, {"number": 2}, {"number": 3}]


def test_output() -> None:
    with drive("<match **>\n@type tally\n</match>\n") as driver:
        driver.emit("a", {"n": 1}, {"n": 2})
        driver.emit("b", {"n": 3})
        assert driver.plugin("out_tally").counts == {"a": 2, "b": 1}


def test_buffered_output(tmp_path: Path) -> None:
    config = f"<match **>\n@type folder\npath {tmp_path}\n<buffer tag>\n</buffer>\n</match>\n"
    with drive(config) as driver:
        driver.emit("a", {"n": 1}, {"n": 2})
    (written,) = tmp_path.glob("a.*.msgpack")
    assert [record for _, record in EventStream(written.read_bytes())] == [{"n": 1}, {"n": 2}]
