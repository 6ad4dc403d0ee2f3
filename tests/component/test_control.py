"""The control socket: `forwarder status`, and `forwarder buffer` on a running instance."""

from __future__ import annotations

import json
import os
import socket
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from forwarder.api.errors import ForwarderError
from forwarder.api.testing import Capture, Driver, run
from forwarder.cli.main import main
from forwarder.runtime import control_path
from forwarder.runtime.control import Control
from forwarder.runtime.control_client import ask
from forwarder.telemetry.log import Log

CONFIG = """
<match file.**>
  @type test
  @id files
  <buffer tag>
    @type file
    path {folder}/buffer
    flush_mode lazy
    flush_at_shutdown false
    retry_wait 1h
  </buffer>
</match>
<match memory.**>
  @type test
  @id memory
  <buffer tag>
    flush_mode lazy
    retry_wait 1h
  </buffer>
</match>
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where control sockets are, of this test alone."""
    monkeypatch.setattr(control_path, "folders", lambda uid: [str(tmp_path / "run")])
    return tmp_path


@pytest.fixture
def driver(home: Path) -> Iterator[Driver]:
    with run(CONFIG.format(folder=home)) as found:
        control = Control(lambda: found.engine, Log().main)
        control.start()
        yield found
        control.close()
        assert control.path is not None
        assert not os.path.exists(control.path)


def status(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    capsys.readouterr()
    assert main(["status", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    return dict(found)


def chunks(folder: Path, capsys: pytest.CaptureFixture[str], plugin_id: str) -> list[dict[str, Any]]:
    capsys.readouterr()
    assert main(["buffer", "list", "--json", "--socket", control_path.sockets()[0], "--id", plugin_id]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    return list(found["chunks"])


def test_status_tells_what_is_where(driver: Driver, capsys: pytest.CaptureFixture[str]) -> None:
    driver.emit("memory.a", {"i": 1}, {"i": 2})
    driver.emit("file.a", {"i": 1})
    driver.emit("nowhere", {"i": 1})
    capture = driver.plugin("memory")
    assert isinstance(capture, Capture)
    capture.fail_with = lambda _: OSError("it is down")
    driver.flush()
    driver.wait_for(lambda: driver["memory"].failures)
    driver.wait_for(lambda: driver["files"].delivered)
    found = status(capsys)
    for line in (*found["sources"], *found["outputs"], *found["unrouted"]):
        out = line.get("handed_on", line.get("delivered")) + line["buffered"] + line["to_error"]
        assert line["received"] + line["added"] == out + sum(line["lost"].values()) + line["in_flight"]
    assert found["totals"]["lost"] == 1
    assert [line["lost"] for line in found["unrouted"]] == [{"no_match": 1}]
    files, memory = found["buffers"]
    assert (files["kind"], files["events"], memory["kind"], memory["events"]) == ("file", 0, "memory", 2)
    assert memory["retry"]["last_error"] == "OSError: it is down"
    assert memory["retry"]["next_at"] > found["time"] + 1000
    assert main(["status"]) == 0
    table = capsys.readouterr().out
    for text in ("OSError: it is down", "no_match", "RETRIES", "memory", "files"):
        assert text in table


@pytest.mark.parametrize("name", ["memory", "file"])
def test_a_chunk_is_retried_at_once(
    driver: Driver, home: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    plugin_id = {"memory": "memory", "file": "files"}[name]
    capture = driver.plugin(plugin_id)
    capture.fail_with = lambda _: OSError("down") if capture.attempts == 1 else None
    driver.emit(f"{name}.a", {"i": 1})
    driver.flush()
    driver.wait_for(lambda: driver[plugin_id].rollbacks)
    (chunk,) = chunks(home, capsys, plugin_id)
    assert (chunk["state"], chunk["failed_attempts"]) == ("queued", 1)
    if name == "file":  # finds the process by the lock
        assert main(["buffer", "retry", chunk["id"][:8], "--path", f"{home}/buffer"]) == 0
    else:
        assert main(["buffer", "retry", chunk["id"][:8], "--socket", control_path.sockets()[0]]) == 0
    assert "1 events are tried now" in capsys.readouterr().out
    driver.wait_for(lambda: driver[plugin_id].delivered == 1)


def test_a_dropped_chunk_is_counted(driver: Driver, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    driver.emit("file.a", {"i": 1}, {"i": 2})
    driver.emit("file.b", {"i": 3})
    first, _ = chunks(home, capsys, "files")
    assert main(["buffer", "drop", first["id"], "--path", f"{home}/buffer"]) == 0
    assert driver["files"].lost == {"operator": 2}
    assert driver["files"].buffer is not None
    assert driver["files"].buffer.events == 1
    assert main(["buffer", "drop", "ffffffffff", "--path", f"{home}/buffer"]) == 1


def test_show_and_export(driver: Driver, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    driver.emit("memory.a", {"i": 1}, {"i": 2})
    driver.emit("memory.a", {"i": 3})
    (chunk,) = chunks(home, capsys, "memory")
    path = control_path.sockets()[0]
    assert main(["buffer", "show", chunk["id"], "--json", "--socket", path]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert [event["record"]["i"] for event in shown["content"]] == [1, 2, 3]
    assert main(["buffer", "export", "--all", "--socket", path, "--to", str(home / "out")]) == 0
    driver.flush()
    driver.wait_for_events(3)
    assert (home / "out" / f"{chunk['id']}.bin").read_bytes() == driver.plugin("memory").chunks[0].read()


def test_only_its_owner_may_ask(driver: Driver) -> None:
    (path,) = control_path.sockets()
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert stat.S_IMODE(os.stat(os.path.dirname(path)).st_mode) == 0o700


@pytest.mark.parametrize(
    "line", [b"{}", b"[]", b"nonsense", b'{"do": "dance"}', b'{"do": "show", "chunk": "ff"}', b"x" * 70_000]
)
def test_bad_requests_are_answered_and_harm_nobody(driver: Driver, line: bytes) -> None:
    (path,) = control_path.sockets()
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
        client.sendall(line + b"\n")
        with client.makefile("rb") as lines:
            assert json.loads(lines.readline())["ok"] is False
    (answer,) = ask(path, {"do": "status"})
    assert answer["ok"]


def test_what_a_killed_instance_left_is_replaced_and_a_living_one_is_not(home: Path) -> None:
    path = str(home / ("deep" * 30) / "control.sock")  # too long for an address
    os.makedirs(os.path.dirname(path))
    with run(CONFIG.format(folder=home)) as driver:
        with control_path.short(path) as near, socket.socket(socket.AF_UNIX) as left:
            left.bind(near)
        first = Control(lambda: driver.engine, Log().main, path)
        first.start()
        second = Control(lambda: driver.engine, Log().main, path)
        second.start()
        assert second.path is None
        (answer,) = ask(path, {"do": "status"})
        assert answer["status"]["pid"] == os.getpid()
        second.close()
        first.close()
        with pytest.raises(ForwarderError, match="no instance"):
            list(ask(path, {"do": "status"}))


def test_check_says_in_a_line_whether_it_works(
    driver: Driver, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["status", "--check"]) == 0
    assert capsys.readouterr().out == f"process {os.getpid()}: running\n"
    node = next(placed.node for placed in driver.engine.plugins if placed.context.id == "memory")
    node._threads.append(threading.Thread())
    assert main(["status", "--check"]) == 1
    assert capsys.readouterr().out == f"process {os.getpid()}: memory: a flush thread has ended\n"
    node._threads.pop()
    monkeypatch.setattr("forwarder.core.delivery._LOCK_SECONDS", 0.05)
    with node._work:
        assert main(["status", "--check"]) == 1
    assert "memory: the delivery has held its lock" in capsys.readouterr().err


def test_without_a_running_instance_status_says_so(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status"]) == 1
    assert "no running instance" in capsys.readouterr().err
