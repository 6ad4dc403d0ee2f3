"""Rows of buffers: the same work through memory and through files, a long backlog, very many chunks.

The files lie on a disk (`--disk`), not in memory: what a sync costs is a property of the disk.
"""

import contextlib
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.process import RunError, scratch
from bench.receivers import APACHE_REGEXP, fill
from bench.relays import Listening, launch, send, states
from bench.tools import CountingSink, Tools

BATCH = 1000
WARM_SECONDS = 0.3
PATIENCE_SECONDS = 300.0
EVENT_BYTES = 240
"""About; of an event of the load generator in mode "packed"."""
KINDS = {
    "memory": "@type memory",
    "file": "@type file\n    path {path}",
    "file, fsync interval": "@type file\n    path {path}\n    fsync interval",
    "file, fsync chunk": "@type file\n    path {path}\n    fsync chunk",
    "file, fsync append": "@type file\n    path {path}\n    fsync append",
}
"""What stands in `<buffer>`; the first one is what the others are compared with."""
BUDGETS = {"file": 70, "file, fsync chunk": 60}
"""Least percent of the memory buffer's events/s."""

_ONE_EVENT = b"\x91\x92\xce\x65\x53\xf1\x00\x81\xa7message\xbaan event in its own chunk."
"""`[[1700000000, {"message": ...}]]` as MessagePack, what follows the tag in Forward mode."""

_PARSE = f"""<filter bench.**>
  @type parser
  key_name message
  reserve_data true
  remove_key_name_field true
  <parse>
    @type regexp
    expression {APACHE_REGEXP}
  </parse>
</filter>"""


@dataclass(frozen=True, slots=True)
class Row:
    """The same work through each kind of buffer.

    Attributes:
        mode: the load generator's. filter: what stands between input and output.
    """

    name: str
    mode: str
    filter: str


ROWS = (
    Row("buffers: relay", "packed", ""),
    Row("buffers: parse and relay", "apache", _PARSE),
)


@dataclass(frozen=True, slots=True)
class Size:
    """How much of everything.

    Attributes:
        backlog_bytes: events that wait at a start. chunks: that many tags wait, an event each.
    """

    backlog_bytes: int
    chunks: int


FULL = Size(10 << 30, 100_000)
QUICK = Size(2 << 30, 20_000)
SMOKE = Size(64 << 20, 2_000)


@contextlib.contextmanager
def disk_folder(where: Path) -> Iterator[Path]:
    """A new folder on the disk that is measured."""
    where.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="buffer-", dir=where))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def through(row: Row, kind: str, seconds: float, tools: Tools, disk: Path) -> dict[str, Any]:
    """One unpaced run: events per second until the sink has all of them, and CPU per event.

    The input waits when more than 512 MiB are buffered, whatever the kind.
    """
    with contextlib.ExitStack() as stack:
        path = stack.enter_context(disk_folder(disk)) / "buffer"
        sink = stack.enter_context(CountingSink(tools, "forwardsink"))
        buffer = KINDS[kind].format(path=path) + "\n    total_limit_size 512m"
        process = stack.enter_context(_started(sink.port, buffer, row.filter))
        warm = send(tools, process, row.mode, ack=False, seconds=WARM_SECONDS, first=0)
        _wait_for(process, sink, warm["sent"])
        cpu, started = process.cpu_seconds(), time.monotonic()
        said = send(tools, process, row.mode, ack=False, seconds=seconds, first=warm["sent"])
        total = warm["sent"] + said["sent"]
        _wait_for(process, sink, total)
        took, used = time.monotonic() - started, process.cpu_seconds() - cpu
        peak = process.status_kib("VmHWM")
        process.stop()
        counts = sink.stats(total)
        return {
            "rate": said["sent"] / took,
            "us_per_event": used * 1e6 / said["sent"],
            "megabytes_per_second": said["bytes"] / took / 1e6,
            "core_percent": 100 * used / took,
            "rss_peak_kib": peak,
            "offered": said["sent"],
        } | {name: counts[name] for name in ("missing", "doubled", "unnumbered")}


def backlog(size: Size, tools: Tools, disk: Path) -> dict[str, Any]:
    """Fills a buffer while the destination is down, stops, starts with a cold page cache, and drains.

    Raises:
        RunError: there is no room for it on the disk.
    """
    wanted = size.backlog_bytes
    disk.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(disk).free
    if free < wanted * 5 // 4 + (1 << 30):
        raise RunError(f"no room for a backlog of {wanted >> 20} MiB at {disk}: {free >> 20} MiB are free")
    with contextlib.ExitStack() as stack:
        path = stack.enter_context(disk_folder(disk)) / "buffer"
        sink = stack.enter_context(CountingSink(tools, "forwardsink"))
        closed = _free_port()
        buffer = KINDS["file"].format(path=path) + "\n    total_limit_size 1t"
        with _started(closed, buffer, "") as process:
            said = send(tools, process, "packed", ack=False, count=wanted // EVENT_BYTES)
            process.wait_idle(lambda: False)
            filling = process.status_kib("VmHWM")
            process.stop()
        held = sum(each.stat().st_size for each in path.glob("segment-*"))
        _forget(path)
        with _started(sink.port, buffer, "") as process:
            started, ready = time.monotonic(), process.ready_seconds
            _wait_for(process, sink, said["sent"])
            took, peak = time.monotonic() - started, process.status_kib("VmHWM")
            process.stop()
        counts = sink.stats(said["sent"])
        return {
            "backlog_mib": held / (1 << 20),
            "fill_mb_per_second": said["bytes"] / said["seconds"] / 1e6,
            "fill_rss_peak_kib": filling,
            "ready_seconds": ready,
            "rss_peak_kib": peak,
            "drain_mb_per_second": held / took / 1e6,
        } | {name: counts[name] for name in ("missing", "doubled", "unnumbered")}


def many_chunks(size: Size, tools: Tools, disk: Path) -> dict[str, Any]:
    """As `backlog`, with a chunk for each of very many tags."""
    with contextlib.ExitStack() as stack:
        path = stack.enter_context(disk_folder(disk)) / "buffer"
        closed = _free_port()
        buffer = KINDS["file"].format(path=path) + "\n    total_limit_size 1t"
        with _started(closed, buffer, "", interval="1h") as process:
            with socket.create_connection(("127.0.0.1", process.port)) as sender:
                for number in range(size.chunks):
                    tag = b"bench.%d" % number
                    sender.sendall(b"\x92" + bytes([0xA0 + len(tag)]) + tag + _ONE_EVENT)
            process.wait_idle(lambda: False)
            descriptors = len(list(Path(f"/proc/{process.processes()[0]}/fd").iterdir()))
            process.stop()
        _forget(path)
        with _started(closed, buffer, "", interval="1h") as process:
            ready, peak = process.ready_seconds, process.status_kib("VmHWM")
            log = (process.folder / "log").read_text(errors="replace")
            if f"chunks={size.chunks} " not in log:
                raise RunError(f"not all of {size.chunks} chunks are there: {process.log_tail()}")
        return {"ready_seconds": ready, "rss_peak_kib": peak, "descriptors": descriptors}


def unexpected(done: dict[str, Any]) -> str:
    """What is wrong with the counts of a run, or ""."""
    return ", ".join(
        f"{done[name]} {name}" for name in ("missing", "doubled", "unnumbered") if done.get(name, 0)
    )


def table(rows: dict[str, Any]) -> list[str]:
    """The rows of `through` as lines: median (min..max), and what of the memory buffer's figure is left.

    By CPU: what it would be if the core were the only limit, which neighbours of the machine disturb less.
    """
    lines = []
    for name, kinds in rows.items():
        lines += ["", f"{name}, events/s until all had arrived"]
        memory = kinds.get("memory")
        for kind, figures in kinds.items():
            rate, cost, core = (figures[key] for key in ("rate", "us_per_event", "core_percent"))
            share = ""
            if memory:
                whole = 100 * rate["median"] / memory["rate"]["median"]
                by_cpu = 100 * memory["us_per_event"]["median"] / cost["median"]
                share = f"{whole:4.0f}% of memory, {by_cpu:.0f}% by CPU"
            if kind in BUDGETS:
                share += f" (budget {BUDGETS[kind]}%)"
            lines.append(
                f"  {kind:<22}{rate['median']:>12,.0f} ({rate['minimum']:,.0f}..{rate['maximum']:,.0f})"
                f"  {cost['median']:.3f} us each, {core['median']:.0f}% of a core  {share}"
            )
    return lines


@contextlib.contextmanager
def _started(sink: int, buffer: str, filter_: str, *, interval: str = "0.2") -> Iterator[Listening]:
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(scratch("buffer"))
        port = _free_port()
        conf = fill(
            "forwarder-buffer.conf", folder, "forwarder.conf", PORT=str(port), SINK=str(sink),
            BUFFER=buffer, FILTER=filter_, INTERVAL=interval,
        )  # fmt: skip
        process = Listening("forwarder", launch(conf, port), folder)
        stack.callback(process.stop)
        process.wait_ready(lambda: states(port).count("0A") > 0)
        yield process


def _free_port() -> int:
    # any: other programs of this machine may look for one at the same time
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for(process: Listening, sink: CountingSink, count: int) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while sink.stats()["unique"] < count:
        if not process.alive() or time.monotonic() > deadline:
            raise RunError(f"{sink.stats()['unique']} of {count} events arrived: {process.log_tail()}")
        time.sleep(0.01)


def _forget(folder: Path) -> None:
    """Has the disk take all files of a folder, and the page cache forget them."""
    for path in folder.iterdir():
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
