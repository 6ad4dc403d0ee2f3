"""What a memory buffer still holds at a stop waits in files for the next start."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from forwarder_process import ForwarderProcess, free_port
from test_supervisor import UDP, numbers, send

from forwarder.api.testing import Capture, Driver, run

CONFIG = """
<system>
  root_dir {folder}
</system>
<match **>
  @type test
  {id}
  <buffer {keys}>
    flush_mode immediate
    retry_wait 1000
    {more}
  </buffer>
</match>
"""


def driver(folder: Path, *, plugin_id: str = "@id out", more: str = "", start: bool = True) -> Driver:
    return run(CONFIG.format(folder=folder, id=plugin_id, keys="tag, host", more=more), start=start)


def fail(running: Driver, plugin_id: str = "out") -> None:
    output = running.plugin(plugin_id)
    assert isinstance(output, Capture)
    output.fail_with = lambda _: OSError("down")


@pytest.mark.parametrize("more", ["", "compress gzip", "flush_at_shutdown false"])
def test_what_is_left_comes_after_the_next_start(tmp_path: Path, more: str) -> None:
    with driver(tmp_path, more=more) as running:
        fail(running)
        for number in range(3):
            running.emit(f"t{number}", {"i": number, "host": "h"})
        running.wait_for(lambda: running["out"].failures >= 2)
        ids = {chunk.id for chunk in running.engine.plugins[0].node.buffer.chunks()}  # type: ignore[union-attr]
    assert running["out"].lost == {}
    totals = running.metrics().totals()
    assert (totals.buffered, totals.in_flight) == (3, 0)
    assert "saved for the next start" in running.log
    with driver(tmp_path, more=more) as running:
        found = running.wait_for_events(3)
        assert sorted((event.tag, event.record["i"]) for event in found) == [("t0", 0), ("t1", 1), ("t2", 2)]
        chunks = running.plugin("out").chunks
        assert {chunk.id for chunk in chunks} == ids
        assert {chunk.key.variables for chunk in chunks} == {(("host", "h"),)}
        assert running["out"].recovered == 3
    assert not (tmp_path / "worker0/out/saved").exists()


def test_what_fails_again_stays_and_a_killed_process_has_it_still(tmp_path: Path) -> None:
    with driver(tmp_path) as running:
        fail(running)
        running.emit("a", {"i": 1})
    with driver(tmp_path, start=False) as running:
        fail(running)
        running.engine.start()
        running.emit("a", {"i": 2})
        running.wait_for(lambda: running["out"].failures >= 2)
        assert len(list((tmp_path / "worker0/out/saved").glob("*.log"))) == 1  # as if killed here
    with driver(tmp_path) as running:
        assert sorted(event.record["i"] for event in running.wait_for_events(2)) == [1, 2]


def test_a_second_engine_beside_it_leaves_them_alone(tmp_path: Path) -> None:
    with driver(tmp_path) as running:
        fail(running)
        running.emit("a", {"i": 1})
    with driver(tmp_path) as first, driver(tmp_path) as second:
        first.wait_for_events(1)
        assert second["out"].recovered == 0


@pytest.mark.parametrize("reason", ["no id", "no folder"])
def test_without_a_place_it_is_lost_and_counted(tmp_path: Path, reason: str) -> None:
    if reason == "no folder":
        (tmp_path / "worker0").touch()
    running = driver(tmp_path, plugin_id="@id out" if reason == "no folder" else "")
    name = "out" if reason == "no folder" else "out_test"
    with running:
        fail(running, name)
        running.emit("a", {"i": 1})
    assert running[name].lost == {"shutdown": 1}
    assert "at shutdown are lost" in running.log


def test_a_saved_chunk_that_has_rotted_gives_its_whole_events(tmp_path: Path) -> None:
    with driver(tmp_path) as running:
        fail(running)
        running.emit("a", {"i": 1}, {"i": 2})
    (path,) = (tmp_path / "worker0/out/saved").glob("*.log")
    path.write_bytes(path.read_bytes()[:-1])
    with driver(tmp_path) as running:
        (event,) = running.wait_for_events(1)
        running.wait_for(lambda: running["out"].delivered == 1)
        assert (event.record["i"], running["out"].lost) == (1, {"corrupt": 1})
    assert not (tmp_path / "worker0/out/saved").exists()


OUTPUT = '''
import os

from forwarder.api import Chunk, Output


class GatedOutput(Output):
    """Writes only where a file says so."""

    multi_workers_ready = True

    def write(self, chunk: Chunk) -> None:
        if not os.path.exists(os.environ["GATE"]):
            raise OSError("closed")
        for _, record in chunk.stream():
            print(record["message"], flush=True)
'''


def test_a_terminated_process(tmp_path: Path) -> None:
    (tmp_path / "out_gated.py").write_text(OUTPUT)
    port = free_port()
    config = (
        f"<system>\nroot_dir {tmp_path}/root\n</system>\n" + UDP.format(port=port)
        + "<match t>\n@type gated\n@id gated\n<buffer>\nflush_mode immediate\nretry_wait 0.1\n</buffer>\n"
        + "</match>\n<match **>\n@type null\n</match>\n"
    )  # fmt: skip
    env = {"GATE": str(tmp_path / "open")}
    process = ForwarderProcess(tmp_path, config, options=("-p", str(tmp_path)), env=env)
    with process.start():
        send(port, "n1", "n2")
        process.wait(lambda: "failed to flush a chunk" in process.log)
        assert process.stop() == 0
        assert "buffered=2" in process.log
        (tmp_path / "open").touch()
        process.start()
        process.wait(lambda: sorted(numbers(process)) == [1, 2])
        assert process.stop() == 0
    assert os.listdir(tmp_path / "root/worker0/gated") == []
