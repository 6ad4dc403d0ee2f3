"""The ledger: what each plugin received, handed on, delivered and lost, and why.

The engine books; plugins only name reasons. For every filter and output, at rest::

    received + added = emitted or delivered + buffered + to_error + lost + rejected
"""

from __future__ import annotations

from threading import Lock, local
from typing import NamedTuple


class BufferMetrics(NamedTuple):
    """What an output's buffer holds at the moment."""

    events: int
    size_bytes: int
    staged_chunks: int
    """Chunks that still grow."""
    queued_chunks: int
    """Chunks that wait to be written, those that wait for a retry included."""
    flying_chunks: int
    """Chunks being written, or written and not confirmed yet."""
    oldest_seconds: float
    """Age of the oldest chunk; 0 without chunks."""


class PluginMetrics(NamedTuple):
    """The counters of one plugin at one moment, in events where not said otherwise."""

    id: str
    kind: str
    type: str
    received: int
    """Inputs: taken from outside (lines, datagrams); the others: handed in."""
    emitted: int
    """Handed on to routes."""
    delivered: int
    """Outputs: taken by the destination."""
    added: int
    """Made by the plugin: more came out than went in."""
    to_error: int
    """Sent to `@ERROR`."""
    lost: dict[str, int]
    """By reason."""
    rejected: dict[str, int]
    """Refused for good by the destination, by reason."""
    buffer: BufferMetrics | None
    flushes: int
    """Outputs: chunks delivered."""
    failures: int
    """Outputs: attempts to write that failed."""
    retries: int
    """Outputs: attempts after a failed one."""
    slow_flushes: int
    by_secondary: int
    """Part of `delivered` that `<secondary>` took."""
    oversized: int
    """Events larger than chunk_limit_size, each in a chunk of its own."""

    @property
    def balance(self) -> int:
        """Events that are not accounted for: 0 for a filter or an output at rest."""
        out = self.emitted if self.kind in ("input", "filter") else self.delivered
        held = self.buffer.events if self.buffer else 0
        gone = sum(self.lost.values()) + sum(self.rejected.values())
        return self.received + self.added - out - held - self.to_error - gone


class Metrics(NamedTuple):
    """A snapshot of all plugins, by id. Routers stand in it under their label's name (`@ROOT`)."""

    plugins: dict[str, PluginMetrics]

    def __getitem__(self, plugin_id: str) -> PluginMetrics:  # type: ignore[override]
        return self.plugins[plugin_id]

    def lost(self) -> dict[tuple[str, str], int]:
        """Everything that did not come out, by (plugin id, reason); rejected ones included."""
        return {
            (plugin.id, reason): count
            for plugin in self.plugins.values()
            for reasons in (plugin.lost, plugin.rejected)
            for reason, count in reasons.items()
        }

    def unbalanced(self) -> dict[str, int]:
        """The plugins whose books do not balance; empty at rest."""
        return {
            plugin.id: plugin.balance
            for plugin in self.plugins.values()
            if plugin.kind != "input" and plugin.balance
        }


class Frame(local):
    """Per thread: how many events of the batch at hand the plugin has named a reason for."""

    explained = 0


class Counters:
    """One plugin's counters. Every method may be called from any thread."""

    __slots__ = (
        "_lock", "added", "by_secondary", "delivered", "emitted", "failures", "flushes", "frame", "id",
        "kind", "lost", "oversized", "received", "rejected", "retries", "slow_flushes", "to_error", "type",
    )  # fmt: skip

    def __init__(self, plugin_id: str, kind: str, type_name: str) -> None:
        self.id = plugin_id
        self.kind = kind
        self.type = type_name
        self._lock = Lock()
        self.frame = Frame()
        self.received = self.emitted = self.delivered = self.added = self.to_error = 0
        self.flushes = self.failures = self.retries = self.slow_flushes = 0
        self.by_secondary = self.oversized = 0
        self.lost: dict[str, int] = {}
        self.rejected: dict[str, int] = {}

    def take(self, count: int) -> None:
        """Books events that came in."""
        with self._lock:
            self.received += count

    def emit(self, count: int) -> None:
        """Books events that routes took."""
        with self._lock:
            self.emitted += count

    def deliver(self, count: int) -> None:
        """Books events that a direct output delivered."""
        with self._lock:
            self.delivered += count

    def flush(self, count: int, *, by_secondary: bool) -> None:
        """Books a delivered chunk: its last events."""
        with self._lock:
            self.flushes += 1
        self.settle(count, by_secondary=by_secondary)

    def settle(self, count: int, *, by_secondary: bool) -> None:
        """Books events of a chunk as delivered."""
        with self._lock:
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
        if count:
            with self._lock:
                self.added += count

    def oversize(self, count: int) -> None:
        """Books events larger than a chunk."""
        with self._lock:
            self.oversized += count

    def error(self, count: int) -> None:
        """Books events that `@ERROR` took."""
        with self._lock:
            self.to_error += count

    def lose(self, count: int, reason: str) -> None:
        """Books events that are gone."""
        if count:
            with self._lock:
                self.lost[reason] = self.lost.get(reason, 0) + count

    def reject(self, count: int, reason: str) -> None:
        """Books events that the destination refuses for good."""
        if count:
            with self._lock:
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
        """The present values."""
        with self._lock:
            received, added = self.received, self.added
            if self.kind == "input":
                # an input may leave `received` alone, and a line may give several events
                out = self.emitted + self.to_error + sum(self.lost.values())
                if not received:
                    received = out
                added = max(0, out - received)
            return PluginMetrics(
                self.id, self.kind, self.type, received, self.emitted, self.delivered, added, self.to_error,
                dict(self.lost), dict(self.rejected), buffer, self.flushes, self.failures, self.retries,
                self.slow_flushes, self.by_secondary, self.oversized,
            )  # fmt: skip
