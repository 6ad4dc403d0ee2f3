"""What the engine knows of every plugin at one moment: `context.metrics()`.

The books are one consistent cut: what came in is counted before what went on, and all counters are read at
the same instant. So, at any time and for the whole of the configuration (`Metrics.totals`)::

    received + added + recovered = delivered + buffered + filtered + lost + rejected + in_flight

A plugin adds numbers of its own to the `prometheus` input's page by overriding `Plugin.measure`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

FLUSH_BUCKETS: Final = (
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0,
)  # fmt: skip
"""Upper bounds of the flush times' histogram, in seconds; one more bucket is without bound."""

_NO_REASONS: Final[Mapping[str, int]] = {}


class FlushTimes(NamedTuple):
    """How long attempts to write took; with delayed commit, until the confirmation."""

    counts: tuple[int, ...] = (0,) * (len(FLUSH_BUCKETS) + 1)
    """Attempts by bucket, not cumulated."""
    seconds: float = 0.0
    """Of all attempts together."""

    @property
    def attempts(self) -> int:
        """In all buckets."""
        return sum(self.counts)


class RetryMetrics(NamedTuple):
    """An output's failures since it last delivered a chunk."""

    failing_seconds: float = 0.0
    """Time since the first attempt that failed with no delivery after it; 0: all is well."""
    steps: int = 0
    """Most retries that failed of one chunk."""
    started_at: float | None = None
    """Seconds since the epoch: the first failure of the chunks that are still retried; None: none is."""
    next_at: float | None = None
    """Seconds since the epoch: the next retry; None: none is planned."""
    chunks: int = 0
    """Chunks that have failed and will be tried again."""
    gave_up: bool = False
    """A chunk was given up, and none was delivered since."""
    last_error: str | None = None
    """Of the last attempt that failed; None: none has, or one succeeded since."""


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
    staged_bytes: int = 0
    queued_bytes: int = 0
    limit_bytes: int = 0
    """`total_limit_size`."""
    refuses: bool = False
    """Full, or its disk takes nothing: what comes is refused, waits, or displaces the oldest chunk, as
    `overflow_action` says."""
    timekeys: tuple[int, ...] = ()
    """Time slots of the chunks, in ascending order."""
    flush_threads: int = 0
    """Flush threads that run."""
    flush_threads_wanted: int = 0
    """`flush_thread_count`."""
    retry: RetryMetrics = RetryMetrics()


class PluginMetrics(NamedTuple):
    """The counters of one plugin at one moment, in events where not said otherwise."""

    id: str
    kind: str
    """"input", "filter", "output", "parser", "formatter"; "router": what no `<match>` took."""
    type: str
    received: int
    """Inputs: taken from outside (lines, datagrams); the others: handed in."""
    emitted: int
    """Handed on: to routes, to a label, to `<store>`s."""
    delivered: int
    """Outputs: taken by the destination, or by the outputs behind this one."""
    added: int
    """More came out than went in: made by the plugin, or copied."""
    to_error: int
    """Sent to `@ERROR`."""
    lost: Mapping[str, int]
    """By reason; what filters take out on purpose is `filtered`."""
    rejected: Mapping[str, int]
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
    batches: int = 0
    """How often something came in."""
    recovered: int = 0
    """Outputs: found in the buffer at the start."""
    dropped_chunks: int = 0
    """Outputs: chunks displaced by `overflow_action drop_oldest_chunk`."""
    rollbacks: int = 0
    """Outputs: attempts after which the chunk went back into the buffer."""
    secondary_flushes: int = 0
    """Outputs: chunks delivered by `<secondary>`."""
    refused: int = 0
    """Outputs: part of `received` that went back, because a disk would not have it; the sender keeps it."""
    returned: int = 0
    """Outputs: part of `emitted` that a `<store>` refused."""
    error_reasons: Mapping[str, int] = _NO_REASONS
    """`to_error` by reason."""
    flush_times: FlushTimes = FlushTimes()
    emit_bytes: int | None = None
    """Size of the events as MessagePack entries: inputs: of those emitted; filters and outputs: of those
    handed in. None: not counted (`enable_size_metrics`)."""

    @property
    def balance(self) -> int:
        """Events in the plugin's hands, or not accounted for: 0 for a filter or an output at rest."""
        emitted = self.emitted - self.returned
        out = emitted if self.kind in ("input", "filter") else max(self.delivered, emitted)
        held = self.buffer.events if self.buffer else 0
        gone = sum(self.lost.values()) + sum(self.rejected.values())
        came = self.received - self.refused + self.added + self.recovered
        return came - out - held - self.to_error - gone

    @property
    def filtered(self) -> int:
        """Taken out on purpose."""
        return self.lost.get("filtered", 0)


class Totals(NamedTuple):
    """The books of the whole configuration, in events; see the equation at the head of this file."""

    received: int
    """By all inputs."""
    added: int
    """By filters, by parsers that make several events of a line, and by copying."""
    recovered: int
    delivered: int
    """By outputs that take events out; handing on to a label or a `<store>` is not counted."""
    buffered: int
    filtered: int
    lost: int
    """Without the filtered ones."""
    rejected: int
    in_flight: int
    """Between two places: in a batch that an input has taken and the outputs have not yet."""


class MemoryMetrics(NamedTuple):
    """What the process keeps in memory beyond the batches at hand, in bytes."""

    limit_bytes: int
    """0: none."""
    used_bytes: int
    by_plugin: Mapping[str, int]


class Metrics(NamedTuple):
    """A snapshot of all plugins, by id. Routers stand in it under their label's name (`@ROOT`)."""

    plugins: dict[str, PluginMetrics]
    state: str = "running"
    """"starting", "running" or "stopping"."""
    memory: MemoryMetrics = MemoryMetrics(0, 0, {})

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

    def totals(self) -> Totals:
        """The books of the whole configuration."""
        received = added = recovered = delivered = buffered = filtered = lost = rejected = 0
        for plugin in self.plugins.values():
            if plugin.kind == "input":
                received += plugin.received
            added += plugin.added
            recovered += plugin.recovered
            if plugin.kind == "output":
                # what was emitted too has only changed hands: relabel, copy
                delivered += max(0, plugin.delivered - plugin.emitted + plugin.returned)
            buffered += plugin.buffer.events if plugin.buffer else 0
            filtered += plugin.filtered
            lost += sum(plugin.lost.values()) - plugin.filtered
            rejected += sum(plugin.rejected.values())
        out = delivered + buffered + filtered + lost + rejected
        in_flight = received + added + recovered - out
        return Totals(received, added, recovered, delivered, buffered, filtered, lost, rejected, in_flight)


class PluginInfo(NamedTuple):
    """A plugin as the configuration has it."""

    id: str
    kind: str
    type: str
    parent: str | None
    """The id of the output that it is a `<store>` of."""
    label: str
    """The label in which it stands; `@ROOT` outside of labels."""
    config: Mapping[str, str | None]
    """Its parameters as written, secrets masked."""
    statistics: Callable[[], Mapping[str, int]]
    """`Plugin.statistics`."""
    number: Callable[[str], int | None]
    """What a parameter is, its default included, where it is an integer or a boolean."""


class Sample(NamedTuple):
    """One number of a family."""

    value: float
    labels: Mapping[str, str]
    suffix: str = ""
    """For histograms and summaries: `_bucket`, `_sum`, `_count`."""


class Family(NamedTuple):
    """Numbers of one name, as Prometheus has them."""

    name: str
    """Ends in its unit (`_bytes`, `_seconds`), a counter's in `_total`."""
    kind: str
    """"counter", "gauge", "histogram", "summary" or "unknown"."""
    help: str
    samples: Sequence[Sample]
