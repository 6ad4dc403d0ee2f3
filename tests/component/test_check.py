"""`forwarder check` and `forwarder plugins`, driven by configuration files and command lines."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from forwarder.cli.main import main

INPUT = """
from forwarder.api import ConfigError, Input, integer, string


class Local(Input):
    '''Takes nothing.'''

    port = integer("Port.", 1)
    tag = string("Tag.")
    password = string("Password.", None, secret=True)

    def configure(self):
        if self.port == 0:
            raise ConfigError("port must not be 0", param="port")
        if self.port == 7:
            raise RuntimeError(f"bug with {self.password}")
"""
OUTPUT = """
from forwarder.api import Output


class Local(Output):
    '''Gives nothing.'''

    def process_batch(self, batch):
        pass
"""
SOUND = (
    "<source>\n  @type local\n  tag t\n  password hunter-2\n</source>\n<match **>\n  @type local\n</match>\n"
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in_local.py").write_text(INPUT)
    (tmp_path / "out_local.py").write_text(OUTPUT)
    return tmp_path


def check(folder: Path, text: str, *options: str) -> int:
    (folder / "fluent.conf").write_text(text)
    return main(["check", str(folder / "fluent.conf"), "-p", str(folder), *options])


def test_sound(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(folder, SOUND, "--dump") == 0
    out = capsys.readouterr().out
    assert out.endswith("fluent.conf: no problems\n")
    assert "password xxxxxx" in out
    assert "hunter-2" not in out


def test_all_problems_at_once(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (
        "<source>\n  @type local\n  tga t\n</source>\n<source>\n  @type locla\n</source>\n"
        "<source>\n  @type local\n  tag t\n  port 0\n</source>\n<match **>\n  @type local\n</match>\n"
        "<match a>\n  @type local\n</match>\n"
    )
    assert check(folder, text) == 1
    out = capsys.readouterr().out
    for mention in (
        "'tag' parameter is required",
        "did you mean tag?",
        "unknown input plugin 'locla'; did you mean local?",
        "port must not be 0",
        "<match a> is unreachable",
        "fluent.conf: 3 errors, 2 warnings",
        " 11 |   port 0\n    |   ^",
    ):
        assert mention in out
    assert "Traceback" not in out


@pytest.mark.parametrize(
    ("text", "mention"),
    [
        ("<match **>\n", "match"),
        ("<match **>\n  @type local\n  k {x\n</match>", "JSON"),
        ("@include fluent.conf\n", "cycle"),
        ("<\x1b[31m", "section name"),
    ],
)
def test_no_configuration(folder: Path, capsys: pytest.CaptureFixture[str], text: str, mention: str) -> None:
    assert check(folder, text) == 1
    out = capsys.readouterr().out
    assert mention in out
    assert "\x1b" not in out


def test_a_bug_in_a_plugin_is_a_finding(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(folder, SOUND.replace("tag t", "tag t\n  port 7")) == 1
    out = capsys.readouterr().out
    assert "RuntimeError: bug with xxxxxx" in out
    assert "in_local.py:" in out
    assert "hunter-2" not in out


def test_warnings_fail_with_strict_only(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = SOUND.replace("tag t", "tag t\n  prot 1")
    assert check(folder, text) == 0
    assert check(folder, text, "--strict") == 1
    assert capsys.readouterr().out.count("did you mean port?") == 2


def test_json(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(folder, SOUND.replace("tag t", "tag t\n  port 5x"), "--json") == 0
    (finding,) = json.loads(capsys.readouterr().out)
    assert (finding["severity"], finding["line"], finding["param"]) == ("warning", 4, "port")


def test_a_missing_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(tmp_path / "nosuch.conf")]) == 1
    assert "nosuch.conf" in capsys.readouterr().out


def test_plugins_list(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plugins", "-p", str(folder)]) == 0
    assert "local                Takes nothing." in capsys.readouterr().out
    assert main(["plugins", "--json", "-p", str(folder), "--kind", "output"]) == 0
    assert "local" in json.loads(capsys.readouterr().out)["output"]


@pytest.mark.parametrize("name", ["local", "in_local"])
def test_plugins_show(folder: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    assert main(["plugins", "show", name, "-p", str(folder), "--kind", "input"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("input local\n===========\n\nTakes nothing.\n")
    assert "port (integer; default: 1)\n    Port.\n" in out
    assert "tag (string; required)" in out


def test_all_unknown_plugins_are_named_at_once(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (
        "<source>\n@type htpt\n<parse>\n@type jsno\n</parse>\n</source>\n<filter **>\n@type grpe\n</filter>\n"
        "<match **>\n@type cpoy\n<store>\n@type fiel\n<format>\n@type lvst\n</format>\n</store>\n</match>\n"
        "<match x>\n@type file\npath /tmp/x\n<format>\n@type josn\n</format>\n</match>\n"
    )
    assert check(folder, text) == 1
    out = capsys.readouterr().out
    for name in ("htpt", "jsno", "grpe", "cpoy", "fiel", "lvst", "josn"):
        assert f"plugin '{name}'" in out
    assert "did you mean json?" in out
    assert "7 errors" in out


def test_plugins_show_json(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plugins", "show", "local", "-p", str(folder), "--kind", "output", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    buffer = next(section for section in found["sections"] if section["name"] == "buffer")
    assert (found["kind"], buffer["argument"]) == ("output", "chunk_keys")
    assert any(param["name"] == "flush_interval" for param in buffer["params"])


def test_plugins_show_unknown(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plugins", "show", "locla", "-p", str(folder)]) == 1
    assert "did you mean local?" in capsys.readouterr().err
    assert main(["plugins", "show"]) == 1


def test_a_command_imports_no_other(folder: Path) -> None:
    code = (
        "import sys\nfrom forwarder.cli.main import main\n"
        "try:\n    main(['--version'])\nexcept SystemExit:\n    pass\n"
        "print([name for name in sys.modules if name.startswith('forwarder.') and 'cli' not in name])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["forwarder 0.1.0", "[]"]


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    out = capsys.readouterr().out
    for command in ("run", "check", "grok", "plugins"):
        assert command in out
