"""The books on forwarder's metrics page while events flow into Elasticsearch, compared with the sink."""

import re
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from bench import measure
from bench.process import RunError
from bench.receivers import Receiver, Work
from bench.tools import CountingSink, Tools

INTERVAL_SECONDS = 0.25
# Batches that an input has taken and no output has yet: a few times the largest batch.
MOST_IN_FLIGHT = 20_000

_SAMPLE = re.compile(r"^forwarder_ledger_(\w+?)_events(?:_total)? (\S+)$", re.MULTILINE)
_IN = ("received", "added", "recovered")
_OUT = ("delivered", "buffered", "filtered", "lost", "rejected", "in_flight")


@dataclass(frozen=True, slots=True)
class Scrape:
    """One page of metrics, and what the sink had just before and just after it."""

    books: dict[str, int]
    sink_before: int
    sink_after: int

    def wrong(self) -> str:
        """What does not add up, or ""."""
        came = sum(self.books[name] for name in _IN)
        accounted = sum(self.books[name] for name in _OUT)
        if came != accounted:
            return f"{came} came in, {accounted} are accounted for: {self.books}"
        if not 0 <= self.books["in_flight"] <= MOST_IN_FLIGHT:
            return f"{self.books['in_flight']} in flight: {self.books}"
        # An event is counted as delivered after the sink has answered, and never without.
        if self.books["delivered"] > self.sink_after:
            return f"{self.books['delivered']} delivered, the sink has {self.sink_after}"
        held = sum(self.books[name] for name in ("delivered", "buffered", "in_flight"))
        if held < self.sink_before:
            return f"{held} delivered or held, the sink had {self.sink_before} before"
        return ""


def parse(page: str) -> dict[str, int]:
    """The totals of a page by name ("received", "buffered", ...).

    Raises:
        RunError: some are not there.
    """
    books = {name: int(float(value)) for name, value in _SAMPLE.findall(page)}
    missing = [name for name in _IN + _OUT if name not in books]
    if missing:
        raise RunError(f"the metrics page has no totals of {', '.join(missing)} events")
    return books


def under_load(receiver: Receiver, work: Work, rate: int, seconds: float, tools: Tools) -> dict[str, Any]:
    """Sends at `rate`/s and reads the page four times a second; at rest, compares it with sender and sink.

    Raises:
        RunError: a page does not add up, or is not what was sent and received.
    """
    (port,) = measure.free_ports(1)
    with measure.running(receiver, replace(work, metrics_port=port), tools) as process:
        if process.sink is None:
            raise RunError("only a work with a counting sink can be compared")
        done = threading.Event()
        with ThreadPoolExecutor(1) as pool:
            reading = pool.submit(_scrape_until, done, port, process.sink)
            try:
                outcome = process.send(rate, int(rate * seconds))
            finally:
                done.set()
            scrapes = reading.result()
        last = _scrape(port, process.sink)
    for scrape in [*scrapes, last]:
        if scrape.wrong():
            raise RunError(scrape.wrong())
    moving = sum(1 for scrape in scrapes if 0 < scrape.books["received"] < outcome.sent.count)
    expected = {
        "received": outcome.sent.count, "delivered": last.sink_after, "lost": outcome.dropped,
        "buffered": 0, "in_flight": 0,
    }  # fmt: skip
    found = {name: last.books[name] for name in expected}
    if found != expected:
        raise RunError(f"at rest the page says {found}, what happened is {expected}")
    if not moving:
        raise RunError("no page was read while events flowed")
    return {"pages": len(scrapes), "while_moving": moving, "us_per_event": outcome.us_per_event, **found}


def _scrape_until(done: threading.Event, port: int, sink: CountingSink) -> list[Scrape]:
    scrapes = []
    while not done.is_set():
        scrapes.append(_scrape(port, sink))
        done.wait(INTERVAL_SECONDS)
    return scrapes


def _scrape(port: int, sink: CountingSink) -> Scrape:
    before = sink.stats()["unique"]
    return Scrape(books(port), before, sink.stats()["unique"])


def books(port: int) -> dict[str, int]:
    """The totals on the metrics page now; waits for one that does not listen yet."""
    deadline = time.monotonic() + 10
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as response:
                return parse(response.read().decode())
        except OSError as error:  # it may not listen yet
            if time.monotonic() > deadline:
                raise RunError(f"metrics page: {error}") from error
            time.sleep(0.05)
