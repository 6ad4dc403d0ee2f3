"""`python -m bench`: measures forwarder beside rsyslog and syslog-ng on the same work and prints one table.

Receivers take turns within each repetition (A B C A B C), each on core 0 with all its threads, the load
generator on core 1. Needs Linux with two cores; root for the largest receive buffers.
"""

import argparse
import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from bench import measure, peers, receivers, report, rows
from bench.receivers import Receiver, Work

FULL = rows.Plan(seconds=4.0, rate=100_000, repetitions=3, probes=10)
QUICK = rows.Plan(seconds=1.5, rate=100_000, repetitions=1, probes=6)
SMOKE = rows.Plan(seconds=0.3, rate=10_000, repetitions=1, probes=2)
TOP_RATE = 1_200_000
RMEM_MAX = Path("/proc/sys/net/core/rmem_max")

WORKS = [Work(fields, sink) for fields in ("header", "regexp", "grok") for sink in ("null", "file")]


def main() -> int:
    options = arguments()
    plan = {"full": FULL, "quick": QUICK, "smoke": SMOKE}[options.size]
    if options.seconds:
        plan = replace(plan, seconds=options.seconds)
    if options.repetitions:
        plan = replace(plan, repetitions=options.repetitions)
    if (os.cpu_count() or 1) < 2:
        print("bench: needs two cores: one for the receiver, one for the load", file=sys.stderr)
        return 1
    try:
        tools = rows.Tools(*measure.build_tools())
        under_test = choose(options.receivers)
    except (measure.RunError, peers.UnavailableError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    with large_receive_buffers():
        return Bench(plan, tools, under_test, options.only, options.skip_lossless).run()


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench", description=__doc__.splitlines()[0] if __doc__ else ""
    )
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", dest="size", action="store_const", const="quick", help="one short run each")
    size.add_argument(
        "--smoke", dest="size", action="store_const", const="smoke", help="does it still run at all"
    )
    parser.add_argument("--only", action="append", default=[], metavar="ROW",
                        help='rows whose name contains this ("grok", "-> null", "idle", ...)')  # fmt: skip
    parser.add_argument("--receivers", default="forwarder,rsyslog,syslog-ng", help="default: %(default)s")
    parser.add_argument("--seconds", type=float, help="of sending, per run")
    parser.add_argument("--repetitions", type=int, help="runs per figure")
    parser.add_argument(
        "--skip-lossless", action="store_true", help="no search for the highest rate (it takes longest)"
    )
    parser.set_defaults(size="full")
    return parser.parse_args()


def choose(names: str) -> list[Receiver]:
    makers: dict[str, Callable[[], Receiver]] = {
        "forwarder": receivers.forwarder, "rsyslog": receivers.rsyslog, "syslog-ng": receivers.syslog_ng,
    }  # fmt: skip
    for name in names.split(","):
        if name not in makers:
            raise measure.RunError(f"unknown receiver {name!r}: one of {', '.join(makers)}")
    return [makers[name]() for name in names.split(",")]


@contextlib.contextmanager
def large_receive_buffers() -> Iterator[None]:
    """Raises `net.core.rmem_max` where that is allowed: syslog-ng cannot force its buffer's size."""
    before = RMEM_MAX.read_text() if RMEM_MAX.exists() else ""
    wanted = 32 << 20
    changed = False
    if before and int(before) < wanted:
        with contextlib.suppress(OSError):
            RMEM_MAX.write_text(str(wanted))
            changed = True
    try:
        yield
    finally:
        if changed:
            RMEM_MAX.write_text(before)


class Bench:
    """One run over all rows."""

    def __init__(
        self,
        plan: rows.Plan,
        tools: rows.Tools,
        under_test: list[Receiver],
        only: list[str],
        skip_lossless: bool,
    ) -> None:
        self.plan, self.tools, self.receivers, self.only = plan, tools, under_test, only
        self.skip_lossless = skip_lossless
        self.failed: list[str] = []
        self.results: dict[str, Any] = {
            "machine": report.machine(),
            "plan": asdict(plan),
            "receivers": [receiver.name for receiver in under_test],
            "versions": {receiver.name: receiver.version for receiver in under_test},
            "failed": self.failed,
        }

    def run(self) -> int:
        stolen = report.stolen_seconds()
        works = [work for work in WORKS if self.wanted(work.name)]
        self.results["cpu"] = {work.name: self.turns("cpu", work, self.cpu) for work in works}
        if not self.skip_lossless:
            self.results["lossless"] = {
                work.name: self.turns("lossless", work, self.lossless) for work in works
            }
        own = next((receiver for receiver in self.receivers if receiver.name == "forwarder"), None)
        if own is not None:
            self.results["forwarder"] = self.alone(own)
        self.results["stolen_seconds"] = report.stolen_seconds() - stolen
        path = report.write(self.results)
        print(report.table(self.results), flush=True)
        print(f"\nwritten to {path}")
        return 1 if self.failed else 0

    def wanted(self, name: str) -> bool:
        return not self.only or any(part in name for part in self.only)

    def cpu(self, receiver: Receiver, work: Work) -> dict[str, Any]:
        return rows.cpu_run(receiver, work, self.plan, self.tools)

    def lossless(self, receiver: Receiver, work: Work) -> dict[str, Any]:
        return rows.lossless_rate(receiver, work, self.plan, self.tools, TOP_RATE)

    def turns(
        self, figure: str, work: Work, run: Callable[[Receiver, Work], dict[str, Any]]
    ) -> dict[str, dict[str, Any]]:
        """One row: every receiver in turn, as often as the plan says."""
        runs: dict[str, list[dict[str, Any]]] = {}
        for _ in range(self.plan.repetitions):
            for receiver in self.receivers:
                done = self.attempt(f"{figure}: {work.name}: {receiver.name}", partial(run, receiver, work))
                if done is not None:
                    runs.setdefault(receiver.name, []).append(done)
        return {name: rows.spreads(each) for name, each in runs.items()}

    def attempt(self, what: str, run: Callable[[], dict[str, Any]]) -> dict[str, Any] | None:
        try:
            done = run()
        except measure.RunError as error:
            self.failed.append(f"{what}: {error}")
            print(f"{what}: FAILED: {error}", file=sys.stderr, flush=True)
            return None
        shown = {name: round(value, 3) if isinstance(value, float) else value for name, value in done.items()}
        print(f"{what}: {shown}", file=sys.stderr, flush=True)
        return done

    def alone(self, own: Receiver) -> dict[str, Any]:
        """The rows that have no peer."""
        figures: dict[str, list[float]] = {}

        def add(what: str, run: Callable[[], dict[str, Any]], names: dict[str, str]) -> None:
            for _ in range(self.plan.repetitions):
                done = self.attempt(what, run)
                for key, title in names.items():
                    if done is not None:
                        figures.setdefault(title, []).append(done[key])

        if self.wanted("idle"):
            add(
                "idle",
                partial(rows.idle_memory, own, Work("header", "stdout"), self.tools),
                {
                    "rss_kib": "idle syslog -> stdout, RSS KiB",
                    "ready_ms": "exec to ready, ms",
                    "idle_cpu_percent": "idle, % of a core",
                },
            )
        if self.wanted("trickle"):
            seconds = min(10.0, self.plan.seconds * 3)
            for sink in ("null", "file"):
                run = partial(rows.trickle, own, Work("header", sink), seconds, self.tools)
                add(f"trickle -> {sink}", run, {"core_percent": f"1,000 events/s -> {sink}, % of a core"})
        if self.wanted("tags"):
            for tags in rows.TAGS:
                run = partial(rows.by_tags, own, Work("header", "file"), self.plan, self.tools, tags)
                add(f"tags {tags}", run, {"us_per_event": f"header -> JSON file, {tags:,} tags, us an event"})
        return {title: asdict(rows.Spread.of(values)) for title, values in figures.items()}


if __name__ == "__main__":
    sys.exit(main())
