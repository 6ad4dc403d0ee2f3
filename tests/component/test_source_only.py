"""Source-only mode: the sources run, events wait in files, SIGWINCH starts the rest."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from forwarder_process import ForwarderProcess, free_port
from test_supervisor import numbers, send

from forwarder.api import EventBatch, EventStream, Input, Record, RecordFilter
from forwarder.api.errors import ConfigError
from forwarder.api.testing import Driver, run

CONFIG = """
<system>
  with_source_only {mode}
  <source_only_buffer>
    path {folder}/waiting
    flush_interval 0.05
  </source_only_buffer>
</system>
<source>
  @type hand
  @id plain
</source>
<source>
  @type hand
  @id labelled
  @label @L
</source>
<filter **>
  @type marks
</filter>
<match **>
  @type test
  @id out
  <buffer tag>
    @type file
    path {folder}/out
    flush_mode immediate
  </buffer>
</match>
<label @L>
  <match **>
    @type test
    @id in_label
  </match>
</label>
<label @ERROR>
  <match **>
    @type test
    @id errors
  </match>
</label>
"""


class HandInput(Input):
    """Emits what the test says."""

    def give(self, tag: str, *records: Record) -> None:
        self.context.received(len(records))
        self.emit(tag, EventStream.from_events([(1, record) for record in records]))


class MarksFilter(RecordFilter):
    """Fails before it is started."""

    started = False

    def start(self) -> None:
        self.started = True

    def filter_record(self, tag: str, time_ns: int, record: Record) -> Record:
        assert self.started
        return {**record, "filtered": True}


PLUGINS = {("input", "hand"): HandInput, ("filter", "marks"): MarksFilter}


def driver(folder: Path, *, mode: bool = True) -> Driver:
    return run(CONFIG.format(folder=folder, mode=str(mode).lower()), plugins=PLUGINS)


def give(driver: Driver, *numbers: int) -> None:
    driver.plugin("plain").give("a", *({"i": number} for number in numbers))
    driver.plugin("labelled").give("b", *({"i": number} for number in numbers))


def arrived(driver: Driver, plugin_id: str) -> list[int]:
    return sorted(event.record["i"] for event in driver.events(plugin_id))


def test_what_has_waited_goes_where_it_would_have_gone(tmp_path: Path) -> None:
    with driver(tmp_path) as running:
        give(running, 1, 2)
        plain = running.plugin("plain")
        batch = EventBatch([("a", EventStream.from_events([(1, {"i": 9})]))])
        plain.context.emit_error(batch, "bad", "not good")
        assert running.engine.collecting
        assert running.events() == []
        assert running.metrics().totals().buffered == 5
        assert running.engine.shift() == 5
        assert running.engine.shift() is None
        give(running, 3)
        running.wait_for_events(6 + 1)
        assert arrived(running, "out") == arrived(running, "in_label") == [1, 2, 3]
        assert arrived(running, "errors") == [9]
        assert all(event.record["filtered"] for event in running.events("out"))
        assert not running.engine.collecting
        running.wait_for(lambda: not running.metrics().totals().buffered)
    assert not list((tmp_path / "waiting").rglob("segment-*"))


@pytest.mark.parametrize("mode", [True, False])
def test_what_an_earlier_process_has_left_is_delivered(tmp_path: Path, mode: bool) -> None:
    with driver(tmp_path) as running:
        give(running, 1, 2)
    with driver(tmp_path, mode=mode) as running:
        give(running, 3)
        if mode:
            assert running.metrics().totals().buffered == 6
            running.engine.shift()
        running.wait_for_events(6)
        assert arrived(running, "out") == arrived(running, "in_label") == [1, 2, 3]
    with driver(tmp_path, mode=False) as running:
        assert all(not placed.context.id.startswith("source_only") for placed in running.engine.plugins)


def test_without_source_it_makes_no_sense(tmp_path: Path) -> None:
    text = CONFIG.format(folder=tmp_path, mode="true\nwithout_source true")
    with pytest.raises(ConfigError, match="with_source_only and without_source exclude each other"):
        run(text, plugins=PLUGINS)


PROCESS = """
<system>
  root_dir {folder}
</system>
<source>
  @type udp
  bind 127.0.0.1
  port {port}
  tag t
  <parse>
    @type none
  </parse>
</source>
<match **>
  @type stdout
</match>
"""


@pytest.fixture(params=[(), ("--no-supervisor",)])
def process(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ForwarderProcess]:
    port = free_port()
    options = ("--with-source-only", *request.param)
    made = ForwarderProcess(tmp_path, PROCESS.format(folder=tmp_path, port=port), options=options)
    made.port = port  # type: ignore[attr-defined]
    with made.start():
        yield made


def test_sigwinch_starts_the_rest_and_a_reload_does_not_end_it(process: ForwarderProcess) -> None:
    port = process.port  # type: ignore[attr-defined]
    segments = process.folder / "source-only-buffer"
    assert "source-only mode: only the sources run" in process.log
    send(port, "n1")
    process.wait(lambda: any(each.stat().st_size > 100 for each in segments.rglob("segment-*")))
    process.reload()  # which changes nothing: the new one is in the same mode, and takes over the files
    send(port, "n2", "n3")
    process.wait(lambda: "buffer recovered chunks=1 events=1" in process.log)
    assert numbers(process) == []
    process.send(signal.SIGWINCH)
    process.wait(lambda: sorted(numbers(process)) == [1, 2, 3])
    process.wait(lambda: "all of the configuration runs" in process.log)
    process.reload()
    send(port, "n4")
    process.wait(lambda: sorted(numbers(process)) == [1, 2, 3, 4])
    for worker in process.workers:  # the one that follows is not in this mode either
        os.kill(worker, signal.SIGKILL)
    send(port, "n5")
    process.wait(lambda: sorted(numbers(process)) == [1, 2, 3, 4, 5])
    assert process.stop() == 0
    assert "Traceback" not in process.log


def test_killed_in_this_mode(process: ForwarderProcess) -> None:
    port = process.port  # type: ignore[attr-defined]
    segments = process.folder / "source-only-buffer"
    send(port, "n1")
    process.wait(lambda: any(each.stat().st_size > 100 for each in segments.rglob("segment-*")))
    assert process.process is not None
    process.process.kill()
    process.process.wait()
    with ForwarderProcess(process.folder, options=("--no-supervisor",)).start() as following:
        following.wait(lambda: numbers(following) == [1])
        assert following.stop() == 0
