"""Rows of in_tail: a file that grows, a thousand files, a glob of very many; and what a filter adds.

The lines are those of the UDP rows without their syslog header, appended on core 1 as fast as that core can
(or at a rate), so that what is measured is the program that follows.
"""

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import relays, scrape
from bench.measure import free_ports
from bench.process import LOAD_CORE, Process, RunError, scratch
from bench.receivers import APACHE_REGEXP
from bench.tools import CountingSink, Tools, count_sequences

SINKS = {"null": "null", "file": "JSON file", "bulk": "Elasticsearch"}
LINES_PER_SECOND = 800_000
"""How many lines are appended for each second of the plan."""
WARM_LINES = 100_000
MANY_FILES = 1_000
GLOB_FILES = 100_000
REFRESH_SECONDS = 3

_TAIL = """<source>
  @type tail
  path {path}
  pos_file {folder}/pos
  tag bench
  {more}
  <parse>
    @type regexp
    expression {expression}
    time_key timestamp
    time_format %d/%b/%Y:%H:%M:%S %z
    keep_time_key true
  </parse>
</source>
<source>
  @type prometheus
  bind 127.0.0.1
  port {metrics}
</source>
{match}
"""
_MATCH = {
    "null": "<match bench>\n  @type null\n</match>",
    "file": """<match bench>
  @type file
  path {folder}/out
  append true
  <format>
    @type json
  </format>
  <buffer []>
    @type memory
    flush_mode interval
    flush_interval 1s
    overflow_action block
  </buffer>
</match>""",
    "bulk": """<match bench>
  @type elasticsearch
  host 127.0.0.1
  port {sink}
  index_name bench
  include_timestamp true
  suppress_type_name true
  <buffer>
    flush_mode interval
    flush_interval 1s
    overflow_action block
  </buffer>
</match>""",
}

# Of ten fields, one is looked at by grep; a twelfth of the events (the path /healthz) is dropped.
GREP = """<filter bench.**>
  @type grep
  <exclude>
    key message
    pattern /\\/healthz/
  </exclude>
</filter>"""
TRANSFORM = """<filter bench.**>
  @type record_transformer
  remove_keys container_id
  <record>
    node ${hostname}
    service ${tag_parts[1]}
    source ${record["host"]}/${record["ident"]}
  </record>
</filter>"""
FILTERS = {"no filter": "", "grep": GREP, "record_transformer": TRANSFORM}


@dataclass(frozen=True, slots=True)
class Wanted:
    """What in_tail does: which files below its folder it follows, and where the events go."""

    sink: str
    path: str
    more: str = ""


class Following(Process):
    """A started forwarder that follows files."""

    def __init__(self, wanted: Wanted, folder: Path, port: int) -> None:
        (self.metrics,) = free_ports(1)
        conf = folder / "forwarder.conf"
        conf.write_text(
            _TAIL.format(
                path=folder / wanted.path, folder=folder, more=wanted.more, expression=APACHE_REGEXP,
                metrics=self.metrics, match=_MATCH[wanted.sink].format(folder=folder, sink=port),
            )
        )  # fmt: skip
        program = Path(sys.executable).parent / "forwarder"
        super().__init__("forwarder", [str(program), "run", "--no-supervisor", "-c", str(conf)], folder)

    def entries(self) -> int:
        """Files that have an entry in the position file."""
        with contextlib.suppress(FileNotFoundError):
            return (self.folder / "pos").read_bytes().count(b"\n")
        return 0


@contextlib.contextmanager
def _following(wanted: Wanted, files: int, tools: Tools, sink: CountingSink | None) -> Iterator[Following]:
    """A started forwarder that follows `files` files, empty ones."""
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(scratch("tail"))
        (folder / "in").mkdir()
        if files > MANY_FILES:
            for number in range(files):
                (folder / "in" / f"access.log.{number}").touch()
        else:
            _append(tools, folder, count=0, files=files)
        process = Following(wanted, folder, sink.port if sink else 0)
        stack.callback(process.stop)
        process.wait_ready(lambda: process.entries() == files)
        yield process


def _append(
    tools: Tools, folder: Path, *, count: int, first: int = 0, files: int = 1, rate: int = 0
) -> dict[str, Any]:
    done = subprocess.run(
        [tools["linegen"], "--path", str(folder / "in" / "access.log"), "--count", str(count), "--first",
         str(first), "--files", str(files), "--rate", str(rate), "--core", str(LOAD_CORE)],
        check=False, capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode:
        raise RunError(done.stderr.strip())
    said: dict[str, Any] = json.loads(done.stdout)
    return said


def tail(sink: str, seconds: float, tools: Tools) -> dict[str, Any]:
    """One file that grows faster than it can be read: CPU per line, lines per second, exact counts.

    The rate is lines / max(time of writing, CPU time until all was out).
    """
    with contextlib.ExitStack() as stack:
        counting = stack.enter_context(CountingSink(tools, "bulksink")) if sink == "bulk" else None
        process = stack.enter_context(_following(Wanted(sink, "in/access.log"), 1, tools, counting))
        _append(tools, process.folder, count=WARM_LINES)
        process.wait_idle(lambda: False)
        cpu, count = process.cpu_seconds(), int(LINES_PER_SECOND * seconds)
        said = _append(tools, process.folder, count=count, first=WARM_LINES)
        used = process.wait_idle(lambda: False) - cpu
        peak, total = process.status_kib("VmHWM"), WARM_LINES + count
        books = scrape.books(process.metrics)
        process.stop()
        if counting is not None:
            counts = counting.stats(total)
        elif sink == "file":
            found = [path for path in process.folder.glob("out*") if path.is_file()]
            counts = count_sequences(tools, found, total)
        else:  # nothing else counts what null takes
            counts = {"missing": total - books["delivered"], "doubled": 0, "unnumbered": books["lost"]}
        if books["received"] != total or books["lost"]:
            raise RunError(f"{total} lines were written, the books say {books}: {process.log_tail()}")
        return {
            "us_per_event": used * 1e6 / count,
            "rate": count / max(said["seconds"], used),
            "megabytes_per_second": said["bytes"] / max(said["seconds"], used) / 1e6,
            "rss_peak_kib": peak,
            "offered": count,
        } | {name: counts[name] for name in ("missing", "doubled", "unnumbered")}


def many_files(seconds: float, tools: Tools) -> dict[str, Any]:
    """1,000 files with a line a second each."""
    wanted = Wanted("null", "in/access.log.*")
    with _following(wanted, MANY_FILES, tools, None) as process:
        _append(tools, process.folder, count=MANY_FILES, files=MANY_FILES, rate=2 * MANY_FILES)
        process.wait_idle(lambda: False)
        cpu, count = process.cpu_seconds(), int(MANY_FILES * seconds)
        said = _append(tools, process.folder, count=count, files=MANY_FILES, rate=MANY_FILES)
        used = process.cpu_seconds() - cpu
        process.wait_idle(lambda: False)
        books = scrape.books(process.metrics)
        if books["delivered"] != MANY_FILES + count:
            raise RunError(f"{MANY_FILES + count} lines were written, the books say {books}")
        return {"core_percent": 100 * used / said["seconds"]}


def glob_refresh(tools: Tools) -> dict[str, Any]:
    """A refresh of a glob that matches 100,000 files, all of them followed: CPU seconds of one.

    Only refreshes cost something then: inotify tells the rest.
    """
    more = f"refresh_interval {REFRESH_SECONDS}s\n  enable_watch_timer false"
    with _following(Wanted("null", "in/*", more), GLOB_FILES, tools, None) as process:
        process.wait_idle(lambda: False, seconds=0.5)
        cpu, times = process.cpu_seconds(), 4
        time.sleep(times * REFRESH_SECONDS)
        used = process.cpu_seconds() - cpu
        return {"seconds": used / times, "rss_kib": process.status_kib("VmRSS")}


def filters(seconds: float, tools: Tools) -> dict[str, Any]:
    """What grep and record_transformer add to receiving events of 10 fields: nanoseconds of CPU an event.

    Runs without a filter and with one take turns; the least of each is compared.
    """
    costs: dict[str, list[float]] = {name: [] for name in FILTERS}
    for _ in range(3):
        for name, text in FILTERS.items():
            costs[name].append(relays.receiving(text, 10, seconds, tools)["us_per_event"])
    least = {name: min(values) for name, values in costs.items()}
    return {
        "base_ns": 1000 * least["no filter"],
        "grep_ns": 1000 * (least["grep"] - least["no filter"]),
        "transform_ns": 1000 * (least["record_transformer"] - least["no filter"]),
    }
