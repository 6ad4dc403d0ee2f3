"""The ledger: what each plugin received, handed on, delivered and lost, and why.

The engine books; plugins only name reasons. For every filter and output, at rest::

    received + added + recovered = emitted or delivered + buffered + to_error + lost + rejected

What a snapshot looks like, and the equation of the whole: `forwarder.api.metrics`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from threading import Lock, local
from typing import NamedTuple

from forwarder.api.metrics import FLUSH_BUCKETS, BufferMetrics, FlushTimes, Metrics, PluginMetrics

__all__ = ["Account", "BufferMetrics", "Counters", "Metrics", "PluginMetrics", "cut"]


class Frame(local):
    """Per thread."""

    explained = 0
    """Events of the batch or chunk at hand that the plugin has named a reason for."""
    flying: Counters | None = None
    """In a flush thread: the books of the output whose buffer still holds them."""
    unsettled = 0
    """Events of the chunk at hand that are explained and still in the buffer."""


class Counters:
    """One plugin's counters. Every method may be called from any thread."""

    __slots__ = (
        "_gone",
        "_lock",
        "_offered",
        "_taken",
        "added",
        "batches",
        "by_secondary",
        "delivered",
        "dropped_chunks",
        "emit_bytes",
        "emitted",
        "errors",
        "failures",
        "flush_counts",
        "flush_seconds",
        "flushes",
        "frame",
        "id",
        "kind",
        "lost",
        "oversized",
        "parent",
        "received",
        "recovered",
        "refused",
        "rejected",
        "retries",
        "returned",
        "rollbacks",
        "secondary_flushes",
        "settling",
        "sized",
        "slow_flushes",
        "to_error",
        "type",
    )  # fmt: skip

    def __init__(self, plugin_id: str, kind: str, type_name: str, *, sized: bool = False) -> None:
        """`sized`: count bytes too (`enable_size_metrics`)."""
        self.sized = sized
        self.emit_bytes = 0
        self.id = plugin_id
        self.kind = kind
        self.type = type_name
        self._lock = Lock()
        self.frame = Frame()
        self.received = self.emitted = self.delivered = self.added = self.to_error = 0
        self.flushes = self.failures = self.retries = self.slow_flushes = 0
        self.by_secondary = self.oversized = self.batches = self.recovered = self.dropped_chunks = 0
        self.rollbacks = self.secondary_flushes = self.refused = self.returned = 0
        self.lost: dict[str, int] = {}
        self.rejected: dict[str, int] = {}
        self.errors: dict[str, int] = {}
        self.flush_counts = [0] * (len(FLUSH_BUCKETS) + 1)
        self.flush_seconds = 0.0
        self.parent: Counters | None = None
        """Of the output that this one is a `<store>` or the `<secondary>` of."""
        self.settling = 0
        """Events in the buffer that are booked otherwise already: of chunks being written."""
        self._offered = 0  # being emitted
        self._gone = 0  # lost, rejected and to_error together
        self._taken = 0  # what an input must have received, where it does not say so itself

    def take(self, count: int) -> None:
        """Books events that came in."""
        if self.parent is not None:
            self.parent.hand(count)
        with self._lock:
            self.received += count
            self.batches += 1

    def weigh(self, size_bytes: int) -> None:
        """Books the size of events: what an input emitted, what others were given."""
        with self._lock:
            self.emit_bytes += size_bytes

    def refuse(self, count: int) -> None:
        """Books events that came in and went back: a disk would not have them, and the sender keeps them."""
        with self._lock:
            self.refused += count
            self._balance()
        if self.parent is not None:
            with self.parent._lock:
                self.parent.returned += count

    def explain(self, count: int) -> None:
        """Notes that the plugin is about to name a reason for events of the batch or chunk at hand."""
        self.frame.explained += count
        holder = self.frame.flying
        if holder is not None:
            with holder._lock:
                holder.settling += count
            holder.frame.unsettled += count

    def _settled(self) -> None:
        """The chunk at hand is booked: what was explained of it counts no longer as in the buffer twice.
        The caller holds the lock."""
        if self.frame.unsettled:
            self.settling -= self.frame.unsettled
            self.frame.unsettled = 0

    def recover(self, count: int) -> None:
        """Books events that were in the buffer at the start."""
        with self._lock:
            self.recovered += count

    def offer(self, count: int) -> None:
        """Books events that are about to be emitted; `emit` or `withdraw` follows.

        Before anything behind them is booked, so that at no instant more has come out than went in.
        """
        with self._lock:
            self._offered += count
            if self.kind == "filter":
                self.added += count  # what came in is booked when the filter returns: this is none of it
            else:
                self._balance()

    def withdraw(self, count: int, taken: int) -> None:
        """Books offered events as not taken. `taken`: those that were, for all that: they may come twice."""
        with self._lock:
            self._offered -= count
            self.emitted += taken
            if self.kind == "filter":
                self.added -= count - taken
            elif self.received or self.kind != "input":
                self.added += taken

    def emit(self, count: int) -> None:
        """Books offered events that routes took."""
        with self._lock:
            self._offered -= count
            self.emitted += count

    def hand(self, count: int) -> None:
        """Books events that are handed to a `<store>`."""
        with self._lock:
            self.emitted += count
            self._balance()

    def _balance(self) -> None:
        """Books what was made here: a line that gives several events, a copy. The caller holds the lock."""
        out = self.emitted - self.returned + self._offered + self._gone
        if self.received or self.kind != "input":
            self.added = max(self.added, out - self.received + self.refused - self.recovered)
        else:
            self._taken = max(self._taken, out)

    def deliver(self, count: int) -> None:
        """Books events that a direct output delivered."""
        with self._lock:
            self.delivered += count

    def flush(self, count: int, *, by_secondary: bool) -> None:
        """Books a delivered chunk: its last events."""
        with self._lock:
            self.flushes += 1
            self.secondary_flushes += by_secondary
        self.settle(count, by_secondary=by_secondary)

    def settle(self, count: int, *, by_secondary: bool) -> None:
        """Books events of a chunk as delivered."""
        with self._lock:
            self._settled()
            self.delivered += count
            if by_secondary:
                self.by_secondary += count

    def fail(self) -> None:
        """Books a failed attempt to write."""
        with self._lock:
            self.failures += 1

    def retry(self) -> None:
        """Books an attempt that follows a failed one."""
        with self._lock:
            self.retries += 1

    def slow(self) -> None:
        """Books a slow flush."""
        with self._lock:
            self.slow_flushes += 1

    def add(self, count: int) -> None:
        """Books events that came out twice: a chunk is tried again of which some are explained already."""
        with self._lock:
            self._settled()
            self.added += count

    def oversize(self, count: int) -> None:
        """Books events larger than a chunk."""
        with self._lock:
            self.oversized += count

    def roll_back(self) -> None:
        """Books a chunk that went back into the buffer."""
        with self._lock:
            self.rollbacks += 1

    def displace(self) -> None:
        """Books a chunk that made room for newer ones; its events are booked as lost besides."""
        with self._lock:
            self.dropped_chunks += 1

    def time_flush(self, seconds: float) -> None:
        """Books how long an attempt to write took."""
        bucket = bisect_left(FLUSH_BUCKETS, seconds)
        with self._lock:
            self.flush_counts[bucket] += 1
            self.flush_seconds += seconds

    def error(self, count: int, reason: str) -> None:
        """Books events that `@ERROR` took."""
        with self._lock:
            self.to_error += count
            self._gone += count
            self.errors[reason] = self.errors.get(reason, 0) + count

    def lose(self, count: int, reason: str) -> None:
        """Books events that are gone."""
        if count:
            with self._lock:
                self._gone += count
                self.lost[reason] = self.lost.get(reason, 0) + count
                if self.emitted and self.kind == "output":
                    self._balance()  # one store took the batch before another one failed

    def reject(self, count: int, reason: str) -> None:
        """Books events that the destination refuses for good."""
        with self._lock:
            self._settled()
            if count:
                self._gone += count
                self.rejected[reason] = self.rejected.get(reason, 0) + count

    def filtered(self, came: int, went: int, explained: int) -> None:
        """Books what a filter did to a batch."""
        gap = came - went - explained
        with self._lock:
            self.received += came
            self.emitted += went
            if gap > 0:
                self.lost["filtered"] = self.lost.get("filtered", 0) + gap
            elif gap < 0:
                self.added -= gap

    def snapshot(self, buffer: BufferMetrics | None = None) -> PluginMetrics:
        """The present values. The caller holds the lock: `cut` does."""
        received = self.received
        if self.kind == "input" and not received:
            received = max(self._taken, self.emitted + self._gone)
        return PluginMetrics(
            self.id, self.kind, self.type, received, self.emitted, self.delivered, self.added, self.to_error,
            dict(self.lost), dict(self.rejected), buffer, self.flushes, self.failures, self.retries,
            self.slow_flushes, self.by_secondary, self.oversized, self.batches, self.recovered,
            self.dropped_chunks, self.rollbacks, self.secondary_flushes, self.refused, self.returned,
            dict(self.errors),
            FlushTimes(tuple(self.flush_counts), self.flush_seconds),
            self.emit_bytes if self.sized else None,
        )  # fmt: skip


class Account(NamedTuple):
    """One plugin's books, and what its buffer holds besides."""

    counters: Counters
    buffer: BufferMetrics | None
    buffered: Callable[[], int] | None
    """The events in the buffer at this instant; asks for no lock."""


def cut(accounts: Sequence[Account]) -> dict[str, PluginMetrics]:
    """All books at one instant, by plugin id.

    Every booking holds the lock of one plugin's books, so all of them at once stand still here, for some
    microseconds and only when somebody asks. Buffers are read without their own locks, which may be held
    while a disk works: a delivery takes a chunk out of the buffer before it books it and adds one after it
    is booked, so what is on its way counts as in flight, and never twice.
    """
    locks = [account.counters._lock for account in accounts]
    for lock in locks:
        lock.acquire()
    try:
        found = {}
        for counters, buffer, buffered in accounts:
            held = None
            if buffer is not None and buffered is not None:
                held = buffer._replace(events=buffered() - counters.settling)
            found[counters.id] = counters.snapshot(held)
        return found
    finally:
        for lock in locks:
            lock.release()
