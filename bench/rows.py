"""What each figure is and how it is taken; one function a figure."""

import statistics
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench import measure
from bench.receivers import Receiver, Work

# Beyond this share of one core (over the time of sending) a rate is only lossless because buffers hold it.
SUSTAINED = 1.05
# A generator that was held up tells nothing about the receiver.
RATE_KEPT = 0.97


@dataclass(frozen=True, slots=True)
class Plan:
    """How long and how often.

    Attributes:
        seconds: of sending, per run.
        rate: offered, messages per second, where CPU per event is compared.
        repetitions: runs per figure.
        probes: steps of a search for the highest lossless rate.
    """

    seconds: float
    rate: int
    repetitions: int
    probes: int


@dataclass(frozen=True, slots=True)
class Spread:
    """A figure and its noise."""

    median: float
    minimum: float
    maximum: float
    runs: int

    @staticmethod
    def of(values: list[float]) -> "Spread":
        return Spread(statistics.median(values), min(values), max(values), len(values))


@dataclass(frozen=True, slots=True)
class Tools:
    """The native programs."""

    loadgen: Path
    seqcount: Path


def cpu_run(receiver: Receiver, work: Work, plan: Plan, tools: Tools) -> dict[str, Any]:
    """CPU per event, peak memory and exact loss of one run at the plan's rate."""
    with measure.running(receiver, work, tools.loadgen) as process:
        warm = int(plan.rate * min(0.5, plan.seconds / 4))
        process.send(plan.rate, warm)
        count = int(plan.rate * plan.seconds)
        outcome = process.send(plan.rate, count, first=warm)
        process.stop()
        result: dict[str, Any] = {
            "us_per_event": outcome.us_per_event,
            "rss_peak_kib": outcome.rss_peak_kib,
            "offered": outcome.sent.count,
            "offered_rate": outcome.sent.rate,
            "kernel_drops": outcome.dropped,
        }
        if work.sink == "file":
            counts = measure.count_sequences(tools.seqcount, process.outputs(), warm + count)
            result |= {name: counts[name] for name in ("missing", "doubled", "unnumbered")}
            if counts["lines"] == 0:
                raise measure.RunError(f"{receiver.name} wrote nothing: {process.log_tail()}")
        else:
            result["missing"] = outcome.dropped
        return result


def lossless_rate(receiver: Receiver, work: Work, plan: Plan, tools: Tools, top: int) -> dict[str, Any]:
    """The highest offered rate that came through whole and sustained, by bisection up to `top`.

    Whole: no sequence number is missing (-> file), no kernel drop (-> null). Sustained: the CPU time until
    the last event was out does not exceed the time of sending on the one core, so it is not the size of the
    buffers that is measured.
    """
    low, high, tried = 0, top, 0
    limit: str = "receiver"
    with measure.running(receiver, work, tools.loadgen) as process:
        process.send(20_000, 10_000)
        first = 10_000
        expected_missing = 0
        rate = top // 4
        while tried < plan.probes and high - low > max(2_000, low // 50):
            count = int(rate * plan.seconds)
            outcome = process.send(rate, count, first=first)
            first += count
            tried += 1
            expected_missing += outcome.dropped
            if outcome.sent.rate < RATE_KEPT * rate and not outcome.dropped:
                # The generator did not reach it: what it did reach counts, and is the limit.
                if outcome.cpu_seconds <= SUSTAINED * outcome.sent.seconds:
                    low = max(low, int(outcome.sent.rate))
                    limit = "load generator"
                high = min(high, rate)
            elif outcome.dropped or outcome.cpu_seconds > SUSTAINED * outcome.sent.seconds:
                high = rate
            else:
                low, limit = rate, "receiver"
            # Upwards by doubling while nothing was lost, then by halves.
            rate = min(high, low * 2) if low and high == top and low * 2 < top else (low + high) // 2
        process.stop()
        lost_inside = 0
        if work.sink == "file":
            counts = measure.count_sequences(tools.seqcount, process.outputs(), first)
            lost_inside = counts["missing"] - expected_missing
    return {"rate": low, "limit": limit, "probes": tried, "lost_inside": lost_inside}


def idle_memory(receiver: Receiver, work: Work, tools: Tools) -> dict[str, Any]:
    """RSS of an idle receiver, and the time from exec until its socket takes datagrams."""
    with measure.running(receiver, work, tools.loadgen) as process:
        ready = process.ready_seconds
        time.sleep(2)
        before, started = process.cpu_seconds(), time.monotonic()
        time.sleep(2)
        idle_cpu = (process.cpu_seconds() - before) / (time.monotonic() - started)
        return {
            "rss_kib": process.status_kib("VmRSS"),
            "ready_ms": ready * 1e3,
            "idle_cpu_percent": idle_cpu * 100,
        }


def trickle(receiver: Receiver, work: Work, seconds: float, tools: Tools) -> dict[str, Any]:
    """Share of a core at 1,000 events/s."""
    with measure.running(receiver, work, tools.loadgen) as process:
        process.send(1000, 500)
        outcome = process.send(1000, int(1000 * seconds), first=500)
        return {"core_percent": 100 * outcome.cpu_seconds / outcome.sent.seconds, "missing": outcome.dropped}


# tags -> (ports, priorities): a syslog input makes a tag of each facility and severity.
# 6 ports with 167 each are about 1,000.
TAGS = {1: (1, 1), 10: (1, 10), 192: (1, 192), 1002: (6, 167)}


def by_tags(receiver: Receiver, work: Work, plan: Plan, tools: Tools, tags: int) -> dict[str, Any]:
    """CPU per event with so many tags in the stream."""
    ports, priorities = TAGS[tags]
    with measure.running(receiver, work, tools.loadgen, ports=ports) as process:
        process.send(plan.rate, plan.rate // 4, priorities=priorities)
        outcome = process.send(plan.rate, int(plan.rate * plan.seconds), priorities=priorities)
        return {"us_per_event": outcome.us_per_event, "missing": outcome.dropped}


def spreads(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Runs of one figure -> name: spread, plus the runs themselves."""
    names = [name for name, value in runs[0].items() if isinstance(value, int | float)]
    return {name: asdict(Spread.of([run[name] for run in runs])) for name in names} | {"runs": runs}
