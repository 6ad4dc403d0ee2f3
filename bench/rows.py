"""What each figure is and how it is taken; one function a figure."""

import statistics
import time
from dataclasses import asdict, dataclass
from typing import Any

from bench import measure
from bench.process import RunError
from bench.receivers import Receiver, Work
from bench.tools import Tools

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
        bulk_rates: the same where Elasticsearch is behind.
        repetitions: runs per figure.
        probes: steps of a search for the highest lossless rate.
        probe_seconds: of sending, per step.
        searches: for the highest lossless rate, per receiver.
    """

    seconds: float
    rate: int
    bulk_rates: tuple[int, ...]
    repetitions: int
    probes: int
    probe_seconds: float
    searches: int


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


def cpu_run(receiver: Receiver, work: Work, rate: int, plan: Plan, tools: Tools) -> dict[str, Any]:
    """CPU per event, peak memory and exact loss of one run at `rate`/s."""
    with measure.running(receiver, work, tools) as process:
        warm = int(rate * min(0.5, plan.seconds / 4))
        process.send(rate, warm)
        count = int(rate * plan.seconds)
        outcome = process.send(rate, count, first=warm)
        process.stop()
        result: dict[str, Any] = {
            "us_per_event": outcome.us_per_event,
            "rss_peak_kib": outcome.rss_peak_kib,
            "offered": outcome.sent.count,
            "offered_rate": outcome.sent.rate,
            "kernel_drops": outcome.dropped,
        }
        counts = process.counts(warm + count)
        if counts is None:
            return result | {"missing": outcome.dropped, "doubled": 0}
        if counts["records"] == 0:
            raise RunError(f"{receiver.name} delivered nothing: {process.log_tail()}")
        return result | {name: counts[name] for name in ("missing", "doubled", "unnumbered")}


def unexplained(run: dict[str, Any], every_loss: bool) -> str:
    """What is wrong with the counts of a run of forwarder, or "".

    That is a double, an event without its number, or a loss that the kernel did not count; with
    `every_loss` also one that it did, for rates that anybody takes.
    """
    wrong = {name: run.get(name, 0) for name in ("doubled", "unnumbered")}
    wrong["lost"] = run.get("missing", 0) - (0 if every_loss else run.get("kernel_drops", 0))
    return ", ".join(f"{count} {name}" for name, count in wrong.items() if count > 0)


def lossless_rate(receiver: Receiver, work: Work, plan: Plan, tools: Tools, top: int) -> dict[str, Any]:
    """The highest offered rate that came through whole and sustained, by bisection up to `top`.

    Whole: no sequence number is missing (-> file, Elasticsearch), no kernel drop (-> null). Sustained: the
    CPU time until the last event was out does not exceed the time of sending on the one core, so that it is
    not the size of the buffers that is measured.
    """
    low, high, tried = 0, top, 0
    limit: str = "receiver"
    with measure.running(receiver, work, tools) as process:
        process.send(20_000, 10_000)
        first = 10_000
        expected_missing = 0
        rate = top // 4
        while tried < plan.probes and high - low > max(2_000, low // 50):
            count = int(rate * plan.probe_seconds)
            outcome = process.send(rate, count, first=first)
            first += count
            tried += 1
            expected_missing += count - outcome.delivered
            lost = outcome.delivered < count
            if outcome.sent.rate < RATE_KEPT * rate and not lost:
                # The generator did not reach it: what it did reach counts, and is the limit.
                if outcome.cpu_seconds <= SUSTAINED * outcome.sent.seconds:
                    low = max(low, int(outcome.sent.rate))
                    limit = "load generator"
                high = min(high, rate)
            elif lost or outcome.cpu_seconds > SUSTAINED * outcome.sent.seconds:
                high = rate
            else:
                low, limit = rate, "receiver"
            # Upwards by doubling while nothing was lost, then by halves.
            rate = min(high, low * 2) if low and high == top and low * 2 < top else (low + high) // 2
        process.stop()
        counts = process.counts(first)
        lost_inside = counts["missing"] - expected_missing if counts else 0
    return {"rate": low, "limit": limit, "probes": tried, "lost_inside": lost_inside}


def idle_memory(receiver: Receiver, work: Work, tools: Tools) -> dict[str, Any]:
    """RSS of an idle receiver, and the time from exec until its socket takes datagrams."""
    with measure.running(receiver, work, tools) as process:
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
    with measure.running(receiver, work, tools) as process:
        process.send(1000, 500)
        outcome = process.send(1000, int(1000 * seconds), first=500)
        return {"core_percent": 100 * outcome.cpu_seconds / outcome.sent.seconds, "missing": outcome.dropped}


# tags -> (ports, priorities): a syslog input makes a tag of each facility and severity.
# 6 ports with 167 each are about 1,000; what six sockets cost shows in the row of 6 tags.
TAGS = {1: (1, 1), 10: (1, 10), 192: (1, 192), 6: (6, 1), 1002: (6, 167)}


def by_tags(receiver: Receiver, work: Work, plan: Plan, tools: Tools, tags: int) -> dict[str, Any]:
    """CPU per event with so many tags in the stream.

    One by one: priorities change a line's length, so that with many of them fewer lines would go together.
    """
    ports, priorities = TAGS[tags]
    with measure.running(receiver, work, tools, ports=ports) as process:
        process.send(plan.rate, plan.rate // 4, priorities=priorities, segments=False)
        count = int(plan.rate * plan.seconds)
        outcome = process.send(plan.rate, count, priorities=priorities, segments=False)
        return {"us_per_event": outcome.us_per_event, "missing": outcome.dropped}


def spreads(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Runs of one figure -> name: spread, plus the runs themselves."""
    names = [name for name, value in runs[0].items() if isinstance(value, int | float)]
    return {name: asdict(Spread.of([run[name] for run in runs])) for name in names} | {"runs": runs}
