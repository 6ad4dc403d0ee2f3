"""Where plugin classes come from."""

from __future__ import annotations

from pathlib import Path

import pytest

from forwarder.api import ConfigError, Input, Output, Parser
from forwarder.core.registry import Registry

PARSER = "from forwarder.api import Parser\n\n\nclass {name}(Parser):\n    {body}\n"


def distribution(folder: Path, name: str, points: str) -> None:
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "entry_points.txt").write_text(points)


def test_own_entry_points_then_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "reg_mine.py").write_text(PARSER.format(name="Mine", body="pass"))
    (tmp_path / "reg_theirs.py").write_text(PARSER.format(name="Theirs", body="pass"))
    distribution(
        tmp_path, "forwarder", "[console_scripts]\nx = y:z\n\n[forwarder.parsers]\nmine = reg_mine:Mine\n"
    )
    distribution(
        tmp_path,
        "a_plugin",
        "[forwarder.parsers]\nmine = reg_theirs:Theirs\ntheirs = reg_theirs:Theirs [extra]\n",
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    registry = Registry([str(tmp_path), str(tmp_path / "nosuch")])
    assert registry.load("parser", "mine").__name__ == "Mine"
    assert registry.load("parser", "theirs").__name__ == "Theirs"
    assert registry.names("parser") == ["mine", "theirs"]
    assert registry.origin("parser", "mine") == "reg_mine:Mine"


def test_unknown_names_are_answered_with_the_nearest(tmp_path: Path) -> None:
    registry = Registry([str(tmp_path)])
    registry.register("parser", "syslog", Parser)
    registry.register("input", "tcp", Input)
    with pytest.raises(ConfigError, match="unknown parser plugin 'sysolg'; did you mean syslog"):
        registry.load("parser", "sysolg")
    with pytest.raises(ConfigError, match="it is a input"):
        registry.load("parser", "tcp")
    with pytest.raises(ConfigError, match="no kind"):
        registry.load("gizmo", "x")


@pytest.mark.parametrize(
    ("target", "mention"),
    [
        ("reg_missing_module:X", "cannot be loaded"),
        ("json:nope", "cannot be loaded"),
        ("json:loads", "subclass"),
    ],
)
def test_broken_entry_points(tmp_path: Path, target: str, mention: str) -> None:
    distribution(tmp_path, "a_plugin", f"[forwarder.outputs]\nx = {target}\n")
    with pytest.raises(ConfigError, match=mention):
        Registry([str(tmp_path)]).load("output", "x")


def test_a_folder_of_plugins(tmp_path: Path) -> None:
    (tmp_path / "parser_one.py").write_text(PARSER.format(name="One", body="pass"))
    (tmp_path / "parser_two.py").write_text(
        PARSER.format(name="Base", body="pass") + "\n\nclass Two(Base):\n    plugin_name = 'two'\n"
    )
    (tmp_path / "parser_none.py").write_text("x = 1\n")
    (tmp_path / "in_broken.py").write_text("raise RuntimeError('broken on purpose')\n")
    (tmp_path / "helper.py").write_text("raise RuntimeError('never imported')\n")
    registry = Registry([])
    registry.add_directory(str(tmp_path))
    assert registry.load("parser", "one").__name__ == "One"
    assert registry.load("parser", "one") is registry.load("parser", "one")
    assert registry.load("parser", "two").__name__ == "Two"
    assert registry.names("input") == ["broken"]
    assert registry.origin("parser", "one").endswith("parser_one.py")
    with pytest.raises(ConfigError, match="one subclass of Parser"):
        registry.load("parser", "none")
    with pytest.raises(ConfigError, match="broken on purpose"):
        registry.load("input", "broken")
    with pytest.raises(ConfigError, match="nosuch"):
        registry.add_directory(str(tmp_path / "nosuch"))


def test_a_folder_hides_an_installed_plugin(tmp_path: Path) -> None:
    registry = Registry([])
    (tmp_path / "out_x.py").write_text(
        "from forwarder.api import Output\n\n\nclass Local(Output):\n    pass\n"
    )
    registry.add_directory(str(tmp_path))
    assert issubclass(registry.load("output", "x"), Output)
