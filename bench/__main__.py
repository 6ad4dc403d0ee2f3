"""`python -m bench`: measures forwarder beside rsyslog and syslog-ng on the same work and prints one table.

Receivers take turns within each repetition (A B C A B C), each on core 0 with all its threads, the load
generator on core 1. Needs Linux with two cores; root for the largest receive buffers.
"""

import argparse
import contextlib
import os
import resource
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from bench import buffers, peers, receivers, relays, report, rows, scrape, search, tailing
from bench import tools as native
from bench.process import RunError
from bench.receivers import Receiver, Work

FULL = rows.Plan(
    seconds=3.0, rate=100_000, bulk_rates=(50_000, 100_000), repetitions=3, probes=9, probe_seconds=2.0,
    searches=1,
)  # fmt: skip
QUICK = rows.Plan(
    seconds=1.5, rate=100_000, bulk_rates=(50_000,), repetitions=1, probes=6, probe_seconds=1.0,
    searches=1,
)  # fmt: skip
SMOKE = rows.Plan(
    seconds=0.3, rate=10_000, bulk_rates=(10_000,), repetitions=1, probes=2, probe_seconds=0.3,
    searches=1,
)  # fmt: skip
TOP_RATE = 1_200_000
RMEM_MAX = Path("/proc/sys/net/core/rmem_max")

WORKS = [Work(fields, sink) for fields in ("header", "regexp", "grok") for sink in ("null", "file")]
# Where receiving alone takes its turn: once for each kind of line, and wherever the rate is another one.
FLOORS = {("header", "null"), ("regexp", "null"), ("header", "bulk"), ("regexp", "bulk")}
BULK_WORKS = [Work(fields, "bulk") for fields in ("header", "regexp")]


def main() -> int:
    options = arguments()
    plan = {"full": FULL, "quick": QUICK, "smoke": SMOKE}[options.size]
    if options.seconds:
        plan = replace(plan, seconds=options.seconds)
    if options.repetitions:
        plan = replace(plan, repetitions=options.repetitions, searches=options.repetitions)
    if (os.cpu_count() or 1) < 2:
        print("bench: needs two cores: one for the receiver, one for the load", file=sys.stderr)
        return 1
    try:
        tools = native.build()
        under_test = choose(options.receivers, tools)
    except (RunError, peers.UnavailableError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    # Programs under test inherit it: the row of 5,000 connections needs a descriptor for each.
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with large_receive_buffers():
        return Bench(plan, tools, under_test, options).run()


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench", description=__doc__.splitlines()[0] if __doc__ else ""
    )
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", dest="size", action="store_const", const="quick", help="one short run each")
    size.add_argument(
        "--smoke", dest="size", action="store_const", const="smoke", help="does it still run at all"
    )
    row = (
        'rows whose name contains this ("grok", "Elasticsearch", "forward ->", "buffers", "tail", "filters", '
        '"idle", ...)'
    )
    parser.add_argument("--only", action="append", default=[], metavar="ROW", help=row)
    parser.add_argument(
        "--receivers", default="floor,forwarder,rsyslog,syslog-ng", help="default: %(default)s"
    )
    parser.add_argument("--seconds", type=float, help="of sending, per run")
    parser.add_argument("--repetitions", type=int, help="runs per figure")
    parser.add_argument(
        "--skip-lossless", action="store_true", help="no search for the highest rate (it takes longest)"
    )
    disk = "where file buffers are measured (default: %(default)s)"
    parser.add_argument("--disk", type=Path, metavar="DIR", default=report.OUT / "disk", help=disk)
    parser.set_defaults(size="full")
    return parser.parse_args()


def choose(names: str, tools: native.Tools) -> list[Receiver]:
    makers: dict[str, Callable[[], Receiver]] = {
        "floor": partial(receivers.floor, tools), "forwarder": receivers.forwarder,
        "rsyslog": receivers.rsyslog, "syslog-ng": receivers.syslog_ng,
    }  # fmt: skip
    for name in names.split(","):
        if name not in makers:
            raise RunError(f"unknown receiver {name!r}: one of {', '.join(makers)}")
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
        self, plan: rows.Plan, tools: native.Tools, under_test: list[Receiver], options: argparse.Namespace
    ) -> None:
        self.plan, self.tools, self.receivers = plan, tools, under_test
        self.only: list[str] = options.only
        self.skip_lossless: bool = options.skip_lossless
        self.disk: Path = options.disk
        self.size = {"full": buffers.FULL, "quick": buffers.QUICK, "smoke": buffers.SMOKE}[options.size]
        # What is offered in a smoke run anybody takes: there every loss is a failure.
        self.every_loss = options.size == "smoke"
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
        self.results["cpu"] = {
            name: self.turns("cpu", name, partial(self.cpu, work, rate), self.plan.repetitions, work)
            for name, work, rate in self.cpu_rows()
        }
        if not self.skip_lossless:
            self.results["lossless"] = {
                work.name: self.turns("lossless", work.name, partial(self.lossless, work), self.plan.searches)
                for work in [*WORKS, *BULK_WORKS]
                if self.wanted(work.name)
            }
        self.results["relay"] = self.relay_rows()
        own = next((receiver for receiver in self.receivers if receiver.name == "forwarder"), None)
        if own is not None:
            self.results["buffers"] = self.buffer_rows()
            self.results["tail"] = self.tail_rows()
            self.results["search"] = self.search_rows()
            self.results["forwarder"] = self.alone(own)
            self.results["metrics"] = self.metrics(own)
        self.results["stolen_seconds"] = report.stolen_seconds() - stolen
        path = report.write(self.results)
        print(report.table(self.results), flush=True)
        print(f"\nwritten to {path}")
        return 1 if self.failed else 0

    def wanted(self, name: str) -> bool:
        return not self.only or any(part in name for part in self.only)

    def cpu_rows(self) -> list[tuple[str, Work, int]]:
        """Name, work, rate of the rows where CPU per event is compared."""
        found = [(work.name, work, self.plan.rate) for work in WORKS]
        for work in BULK_WORKS:
            found += [(f"{work.name}, {rate:,}/s", work, rate) for rate in self.plan.bulk_rates]
        return [row for row in found if self.wanted(row[0])]

    def cpu(self, work: Work, rate: int, receiver: Receiver) -> dict[str, Any]:
        if receiver.floor:
            return rows.cpu_run(receiver, replace(work, sink="null"), rate, self.plan, self.tools)
        done = rows.cpu_run(receiver, work, rate, self.plan, self.tools)
        if receiver.name == "forwarder" and (wrong := rows.unexplained(done, self.every_loss)):
            self.failed.append(f"{work.name}: the sink counts {wrong}")
        return done

    def lossless(self, work: Work, receiver: Receiver) -> dict[str, Any]:
        return rows.lossless_rate(receiver, work, self.plan, self.tools, TOP_RATE)

    def turns(
        self,
        figure: str,
        row: str,
        run: Callable[[Receiver], dict[str, Any]],
        times: int,
        floor_of: Work | None = None,
    ) -> dict[str, dict[str, Any]]:
        """One row: every receiver in turn, `times` over."""
        floor = floor_of is not None and (floor_of.fields, floor_of.sink) in FLOORS
        runs = {
            receiver.name: partial(run, receiver)
            for receiver in self.receivers
            if floor or not receiver.floor
        }
        return self.in_turn(f"{figure}: {row}", runs, times)

    def in_turn(
        self, what: str, runs: Mapping[str, Callable[[], dict[str, Any]]], times: int
    ) -> dict[str, dict[str, Any]]:
        done: dict[str, list[dict[str, Any]]] = {}
        for _ in range(times):
            for name, run in runs.items():
                one = self.attempt(f"{what}: {name}", run)
                if one is not None:
                    done.setdefault(name, []).append(one)
        return {name: rows.spreads(each) for name, each in done.items()}

    def relay_rows(self) -> dict[str, dict[str, Any]]:
        """The rows of the forward protocol."""
        names = {"floor" if receiver.floor else receiver.name for receiver in self.receivers}
        return {
            row.name: self.in_turn(
                row.name,
                {each.name: partial(self.relay, row, each) for each in row.contenders},
                self.plan.repetitions,
            )
            for row in relays.relay_rows(self.tools, names)
            if self.wanted(row.name)
        }

    def tail_rows(self) -> dict[str, dict[str, Any]]:
        """The rows of in_tail."""
        return {
            name: self.in_turn(name, {"forwarder": partial(self.tail, name, sink)}, self.plan.repetitions)
            for sink, title in tailing.SINKS.items()
            if self.wanted(name := f"tail, Apache (regexp) -> {title}")
        }

    def tail(self, name: str, sink: str) -> dict[str, Any]:
        done = tailing.tail(sink, self.plan.seconds, self.tools)
        if wrong := rows.unexplained(done, every_loss=True):
            self.failed.append(f"{name}: the sink counts {wrong}")
        return done

    def relay(self, row: relays.Relay, contender: relays.Contender) -> dict[str, Any]:
        done = relays.run(row, contender, self.plan.seconds, self.tools)
        if contender.name == "forwarder" and (wrong := rows.unexplained(done, every_loss=True)):
            self.failed.append(f"{row.name}: the sink counts {wrong}")
        return done

    def buffer_rows(self) -> dict[str, dict[str, Any]]:
        """The same work through each kind of buffer."""
        return {
            row.name: self.in_turn(
                row.name,
                {kind: partial(self.buffer, row, kind) for kind in buffers.KINDS},
                self.plan.repetitions,
            )
            for row in buffers.ROWS
            if self.wanted(row.name)
        }

    def search_rows(self) -> dict[str, Any]:
        """A real Elasticsearch behind, by number of flush threads."""
        wanted = {
            search.name(threads): threads for threads in search.THREADS if self.wanted(search.name(threads))
        }
        if not wanted:
            return {}
        try:
            with search.node() as node:
                runs = {name: partial(self.search, name, node, threads) for name, threads in wanted.items()}
                self.attempt("search: not counted, the node warms up", next(iter(runs.values())))
                return self.in_turn("search", runs, self.plan.repetitions)
        except RunError as error:
            print(f"no real Elasticsearch: {error}", file=sys.stderr, flush=True)
            return {}

    def search(self, name: str, node: Any, threads: int) -> dict[str, Any]:
        done = search.run(node, threads, int(self.plan.seconds * 100_000), self.tools)
        if wrong := rows.unexplained(done, every_loss=True):
            self.failed.append(f"{name}: the node counts {wrong}")
        return done

    def buffer(self, row: buffers.Row, kind: str) -> dict[str, Any]:
        return self.checked(
            f"{row.name}: {kind}", buffers.through(row, kind, self.plan.seconds, self.tools, self.disk)
        )

    def checked(self, what: str, done: dict[str, Any]) -> dict[str, Any]:
        if wrong := buffers.unexpected(done):
            self.failed.append(f"{what}: the sink counts {wrong}")
        return done

    def metrics(self, own: Receiver) -> dict[str, Any] | None:
        """The books on the metrics page under load."""
        work = Work("regexp", "bulk")
        name = f"metrics page during {work.name}"
        if not self.wanted(name):
            return None
        run = partial(scrape.under_load, own, work, self.plan.bulk_rates[-1], self.plan.seconds, self.tools)
        return self.attempt(name, run)

    def attempt(self, what: str, run: Callable[[], dict[str, Any]]) -> dict[str, Any] | None:
        try:
            done = run()
        except RunError as error:
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
        if self.wanted("idle elasticsearch"):
            add(
                "idle elasticsearch",
                partial(rows.idle_memory, own, Work("header", "bulk"), self.tools),
                {"rss_kib": "idle syslog -> Elasticsearch, RSS KiB"},
            )
        if self.wanted("idle connections, forward"):
            add(
                "idle connections, forward",
                partial(relays.idle_connections, self.tools),
                {
                    "kib_per_connection": "5,000 idle forward connections, KiB each",
                    "core_percent": "5,000 idle forward connections, % of a core",
                },
            )
        if self.wanted(what := "buffers: backlog"):
            mib = self.size.backlog_bytes >> 20
            run = partial(buffers.backlog, self.size, self.tools, self.disk)
            add(
                what,
                lambda: self.checked(what, run()),
                {
                    "ready_seconds": f"start with a backlog of {mib:,} MiB, s",
                    "rss_peak_kib": f"peak memory while {mib:,} MiB drain, KiB",
                    "drain_mb_per_second": f"drain of {mib:,} MiB, MB/s",
                    "fill_mb_per_second": f"fill of {mib:,} MiB, MB/s",
                    "fill_rss_peak_kib": f"peak memory while {mib:,} MiB fill, KiB",
                },
            )
        if self.wanted(what := "buffers: many chunks"):
            chunks = f"{self.size.chunks:,} chunks"
            add(
                what,
                partial(buffers.many_chunks, self.size, self.tools, self.disk),
                {
                    "ready_seconds": f"start with {chunks}, s",
                    "rss_peak_kib": f"peak memory with {chunks}, KiB",
                    "descriptors": f"descriptors with {chunks}",
                },
            )
        if self.wanted("trickle"):
            seconds = min(10.0, self.plan.seconds * 3)
            for sink in ("null", "file"):
                run = partial(rows.trickle, own, Work("header", sink), seconds, self.tools)
                add(f"trickle -> {sink}", run, {"core_percent": f"1,000 events/s -> {sink}, % of a core"})
        if self.wanted("tail, many files"):
            run = partial(tailing.many_files, self.plan.seconds * 3, self.tools)
            add(
                "tail, many files", run, {"core_percent": "tail, 1,000 files with 1 line/s each, % of a core"}
            )
        if self.wanted("tail, glob"):
            names = {
                "seconds": "tail, refresh of a glob over 100,000 files, s",
                "rss_kib": "tail, 100,000 files, RSS KiB",
            }
            add("tail, glob", partial(tailing.glob_refresh, self.tools), names)
        if self.wanted("filters"):
            names = {
                "base_ns": "10 fields, forward -> null, ns an event",
                "grep_ns": "10 fields, grep adds, ns an event",
                "transform_ns": "10 fields, record_transformer adds, ns an event",
            }
            add("filters", partial(tailing.filters, self.plan.seconds, self.tools), names)
        if self.wanted("tags"):
            for tags in rows.TAGS:
                run = partial(rows.by_tags, own, Work("header", "file"), self.plan, self.tools, tags)
                add(f"tags {tags}", run, {"us_per_event": f"header -> JSON file, {tags:,} tags, us an event"})
        return {title: asdict(rows.Spread.of(values)) for title, values in figures.items()}


if __name__ == "__main__":
    sys.exit(main())
