"""`forwarder buffer`: what is in file buffers, beside a running forwarder and without one."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from forwarder._native import EventStream
from forwarder.api.errors import ForwarderError
from forwarder.api.testing import Driver, run
from forwarder.cli import buffer as command
from forwarder.cli.main import main

CONFIG = """
<match a>
  @type null
  @id out_a
  <buffer tag, host>
    @type file
    path {folder}/a
    flush_mode lazy
    flush_at_shutdown false
  </buffer>
</match>
<match b>
  @type null
  @id out_b
  <buffer []>
    @type file
    path {folder}/b
    compress gzip
    flush_mode lazy
    flush_at_shutdown false
  </buffer>
</match>
<match **>
  @type stdout
  <buffer []>
  </buffer>
</match>
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "fluent.conf"
    path.write_text(CONFIG.format(folder=tmp_path))
    return path


@pytest.fixture
def filled(config: Path) -> Path:
    """Two chunks in one buffer, one in the other."""
    with run(config.read_text()) as driver:
        fill(driver)
    return config


def fill(driver: Driver) -> None:
    driver.emit("a", {"i": 1, "host": "x"}, {"i": 2, "host": "y"}, {"i": 3, "host": "x"})
    driver.emit("b", {"i": 4})


def listed(capsys: pytest.CaptureFixture[str], *words: str) -> list[dict[str, Any]]:
    capsys.readouterr()
    assert main(["buffer", "list", "--json", *words]) == 0
    found: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    return found


def test_list(filled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = listed(capsys, "-c", str(filled))
    assert (first["path"], first["used_by"], first["quarantine"]) == (f"{tmp_path}/a", None, [])
    found = [(chunk["events"], chunk["state"], chunk["key"]["variables"]) for chunk in first["chunks"]]
    assert sorted(found, key=str) == [(1, "staged", {"host": "y"}), (2, "staged", {"host": "x"})]
    assert [chunk["events"] for chunk in second["chunks"]] == [1]
    assert listed(capsys, "-c", str(filled), "--id", "out_b") == [second]
    assert listed(capsys, "--path", f"{tmp_path}/b") == [second]
    assert main(["buffer", "list", "-c", str(filled)]) == 0
    text = capsys.readouterr().out
    assert f"{tmp_path}/a: 2 chunks, not in use" in text
    assert "2 events" in text
    assert "host=x" in text


def test_show_and_export_also_while_it_runs(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with run(config.read_text()) as driver:
        fill(driver)
        (first, second) = listed(capsys, "-c", str(config))
        assert first["used_by"] is not None
        chunk = next(chunk for chunk in first["chunks"] if chunk["events"] == 2)
        assert main(["buffer", "show", chunk["id"][:8], "-c", str(config), "--json"]) == 0
        shown = json.loads(capsys.readouterr().out)
        assert [event["record"]["i"] for event in shown["content"]] == [1, 3]
        assert main(["buffer", "show", second["chunks"][0]["id"], "-c", str(config)]) == 0
        assert '"i": 4' in capsys.readouterr().out
        out = tmp_path / "out"
        assert (
            main(["buffer", "export", "-c", str(config), "--all", "--to", str(out), "--format", "raw"]) == 0
        )
        events = [record["i"] for path in out.iterdir() for _, record in EventStream(path.read_bytes())]
        assert sorted(events) == [1, 2, 3, 4]
        for action in ("drop", "retry"):
            assert main(["buffer", action, "-c", str(config), "--all"]) == 1
            assert "is in use by process" in capsys.readouterr().err
        driver.flush()
        driver.wait_for(lambda: driver["out_a"].delivered + driver["out_b"].delivered == 4)


def test_a_socket_that_a_killed_process_left_is_none(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("forwarder.runtime.control_path.folders", lambda uid: [str(tmp_path)])
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / f"{os.getpid()}.sock"))  # and does not listen
    with run(config.read_text()) as driver:
        fill(driver)
        assert main(["buffer", "drop", "-c", str(config), "--all"]) == 1
        assert "is in use by process" in capsys.readouterr().err


def test_what_is_exported_for_fluentd_can_be_taken_over(
    filled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in "ab":
        words = ["--id", f"out_{name}", "-c", str(filled), "--all", "--to", f"{tmp_path}/x{name}"]
        assert main(["buffer", "export", *words]) == 0
    assert main(["buffer", "drop", "-c", str(filled), "--all"]) == 0
    assert [found["chunks"] for found in listed(capsys, "-c", str(filled))] == [[], []]
    for name in "ab":
        for path in (tmp_path / f"x{name}").iterdir():
            path.rename(tmp_path / name / path.name)
    found = listed(capsys, "-c", str(filled))
    assert sorted(chunk["events"] for buffer in found for chunk in buffer["chunks"]) == [1, 1, 2]
    assert all(chunk["from_fluentd"] for buffer in found for chunk in buffer["chunks"])
    with run(filled.read_text()) as driver:
        driver.wait_for(lambda: driver["out_a"].delivered + driver["out_b"].delivered == 4)


def test_retry_queues_and_drop_drops(
    filled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (first, _) = listed(capsys, "-c", str(filled))
    keep, away = (chunk["id"] for chunk in first["chunks"])
    assert main(["buffer", "drop", away, "-c", str(filled)]) == 0
    assert main(["buffer", "retry", keep, "-c", str(filled)]) == 0
    (first, _) = listed(capsys, "-c", str(filled))
    assert [(chunk["id"], chunk["state"]) for chunk in first["chunks"]] == [(keep, "queued")]
    assert main(["buffer", "show", "0000", "-c", str(filled)]) == 1
    assert "no chunk 0000" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["list"], "which buffer"),
        (["list", "--path", "/nowhere"], "no file buffer is there"),
        (["show", "-c", "@"], "which chunk"),
        (["list", "-c", "@", "--id", "other"], "no output has a file buffer and @id other"),
        (["retry", "-c", "@", "--from", "/nowhere"], "into which buffer"),
    ],
)
def test_what_is_not_clear_is_asked(words: list[str], message: str, config: Path) -> None:
    import argparse  # noqa: PLC0415

    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    with pytest.raises(ForwarderError, match=message):
        command.run(parser.parse_args([str(config) if word == "@" else word for word in words]))
