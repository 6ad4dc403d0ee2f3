"""The engine's books as Prometheus shows them (`docs/metrics.md` has the same names with their meaning)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final

from forwarder.api.errors import ConfigError
from forwarder.api.metrics import FLUSH_BUCKETS, Family, MemoryMetrics, Metrics, PluginMetrics, Sample

if TYPE_CHECKING:
    from collections.abc import Mapping

    from prometheus_client import CollectorRegistry
    from prometheus_client.metrics_core import Metric

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

_Figure = Callable[[PluginMetrics], float]
_ALL: Final = ("input", "filter", "output", "router")
_PASSING: Final = ("input", "filter", "output")
_OUTPUT: Final = ("output",)
_BUFFERED: Final = ("buffered",)

_COUNTERS: Final[tuple[tuple[str, tuple[str, ...], str, _Figure], ...]] = (
    ("received_events", _ALL, "Events that came in: from outside (inputs), from the plugin before (others).",
     lambda plugin: plugin.received),
    ("emitted_events", _PASSING, "Events handed on: to routes, to a label, to stores.",
     lambda plugin: plugin.emitted),
    ("delivered_events", _OUTPUT, "Events that the destination, or the outputs behind this one, took.",
     lambda plugin: plugin.delivered),
    ("secondary_delivered_events", _BUFFERED, "Part of delivered that the secondary took.",
     lambda plugin: plugin.by_secondary),
    ("added_events", _PASSING, "Events made here: more came out than went in.", lambda plugin: plugin.added),
    ("refused_events", _OUTPUT, "Events that a disk would not have; whoever handed them in keeps them.",
     lambda plugin: plugin.refused),
    ("recovered_events", _BUFFERED, "Events found in the buffer at the start.",
     lambda plugin: plugin.recovered),
    ("filtered_events", ("filter",), "Events taken out on purpose.", lambda plugin: plugin.filtered),
    ("oversized_events", _BUFFERED, "Events larger than chunk_limit_size.", lambda plugin: plugin.oversized),
    ("batches", _PASSING, "How often something came in.", lambda plugin: plugin.batches),
    ("flushes", _BUFFERED, "Chunks delivered.", lambda plugin: plugin.flushes),
    ("flush_failures", _BUFFERED, "Attempts to write a chunk that failed.", lambda plugin: plugin.failures),
    ("flush_retries", _BUFFERED, "Attempts to write a chunk after a failed one.",
     lambda plugin: plugin.retries),
    ("slow_flushes", _BUFFERED, "Attempts that took longer than slow_flush_log_threshold.",
     lambda plugin: plugin.slow_flushes),
    ("displaced_chunks", _BUFFERED, "Chunks that overflow_action drop_oldest_chunk dropped.",
     lambda plugin: plugin.dropped_chunks),
)  # fmt: skip
"""Name without `forwarder_` and `_total`; the kinds that have it, or "buffered"; help; value."""

_REASONS: Final[tuple[tuple[str, str, Callable[[PluginMetrics], Mapping[str, int]]], ...]] = (
    ("lost_events", "Events that are gone, by reason (kernel_drop, overflow, unmatched, ...).",
     lambda plugin: {reason: count for reason, count in plugin.lost.items() if reason != "filtered"}),
    ("rejected_events", "Events that the destination refused for good, by reason.",
     lambda plugin: plugin.rejected),
    ("error_label_events", "Events sent to @ERROR, by reason.", lambda plugin: plugin.error_reasons),
)  # fmt: skip

_GAUGES: Final[tuple[tuple[str, str, Callable[[Any], float]], ...]] = (
    ("buffer_events", "Events in the buffer.", lambda buffer: buffer.events),
    ("buffer_bytes", "Size of what is in the buffer.", lambda buffer: buffer.size_bytes),
    ("buffer_limit_bytes", "Size at which the buffer is full (total_limit_size).",
     lambda buffer: buffer.limit_bytes),
    ("buffer_refuses", "1: the buffer is full, or its disk takes nothing: overflow_action is at work.",
     lambda buffer: buffer.refuses),
    ("buffer_oldest_chunk_age_seconds", "Age of the oldest chunk; 0 without chunks.",
     lambda buffer: buffer.oldest_seconds),
    ("flush_threads", "Flush threads that run.", lambda buffer: buffer.flush_threads),
    ("retrying_chunks", "Chunks that have failed and will be tried again.",
     lambda buffer: buffer.retry.chunks),
    ("retry_steps", "Most retries that failed of one chunk.", lambda buffer: buffer.retry.steps),
    ("failing_seconds", "Time since the first failure with no delivery after it; 0: all is well.",
     lambda buffer: buffer.retry.failing_seconds),
    ("gave_up", "1: a chunk was given up, and none was delivered since.",
     lambda buffer: buffer.retry.gave_up),
)  # fmt: skip
"""Of an output's buffer."""


def families(metrics: Metrics) -> Iterator[Family]:
    """The books and buffers of all plugins, and the totals."""
    plugins = [plugin for plugin in metrics.plugins.values() if plugin.kind in _ALL]
    for name, kinds, text, figure in _COUNTERS:
        having = [
            plugin
            for plugin in plugins
            if plugin.kind in kinds or (kinds is _BUFFERED and plugin.buffer is not None)
        ]
        samples = [_sample(plugin, figure(plugin)) for plugin in having]
        yield Family(f"forwarder_{name}_total", "counter", text, samples)
    sizes = [(plugin, plugin.emit_bytes) for plugin in plugins if plugin.emit_bytes is not None]
    if sizes:
        text = "Size of events as MessagePack: emitted (inputs), handed in (others); enable_size_metrics."
        samples = [_sample(plugin, size) for plugin, size in sizes if plugin.kind in _PASSING]
        yield Family("forwarder_event_bytes_total", "counter", text, samples)
    for name, text, reasons in _REASONS:
        samples = [
            _sample(plugin, count, reason=reason)
            for plugin in plugins
            for reason, count in sorted(reasons(plugin).items())
        ]
        yield Family(f"forwarder_{name}_total", "counter", text, samples)
    yield Family(
        "forwarder_in_flight_events", "gauge", "Events in the plugin's hands, in no buffer.",
        [_sample(plugin, plugin.balance) for plugin in plugins if plugin.kind in _PASSING],
    )  # fmt: skip
    yield from _buffers([plugin for plugin in plugins if plugin.buffer is not None])
    yield from _totals(metrics)
    yield from _memory(metrics.memory)


def _buffers(plugins: list[PluginMetrics]) -> Iterator[Family]:
    for name, text, value in _GAUGES:
        samples = [_sample(plugin, float(value(plugin.buffer))) for plugin in plugins]
        yield Family(f"forwarder_{name}", "gauge", text, samples)
    chunks, times = [], []
    for plugin in plugins:
        buffer = plugin.buffer
        if buffer is None:
            continue
        for state in ("staged", "queued", "flying"):
            chunks.append(_sample(plugin, getattr(buffer, f"{state}_chunks"), state=state))
        below = 0
        for bound, count in zip((*FLUSH_BUCKETS, float("inf")), plugin.flush_times.counts, strict=True):
            below += count
            limit = "+Inf" if bound == float("inf") else repr(bound)
            times.append(_sample(plugin, below, "_bucket", le=limit))
        times.append(_sample(plugin, below, "_count"))
        times.append(_sample(plugin, plugin.flush_times.seconds, "_sum"))
    yield Family(
        "forwarder_buffer_chunks", "gauge", "Chunks: staged (growing), queued (waiting), flying.", chunks
    )
    yield Family(
        "forwarder_flush_duration_seconds", "histogram",
        "Time of an attempt to write a chunk; with delayed commit, until the confirmation.", times,
    )  # fmt: skip


def _totals(metrics: Metrics) -> Iterator[Family]:
    totals = metrics.totals()
    for name, text in (
        ("received", "Events received by all inputs."),
        ("added", "Events made by filters, parsers and copying."),
        ("recovered", "Events found in buffers at the start."),
        ("delivered", "Events that outputs delivered; handing on to a label or a store is not counted."),
        ("filtered", "Events taken out on purpose."),
        ("lost", "Events that are gone, all reasons."),
        ("rejected", "Events that destinations refused for good."),
    ):
        sample = Sample(getattr(totals, name), {})
        yield Family(f"forwarder_ledger_{name}_events_total", "counter", text, [sample])
    for name, text in (
        ("buffered", "Events in all buffers."),
        ("in_flight", "Events in batches between inputs and outputs."),
    ):
        sample = Sample(getattr(totals, name), {})
        yield Family(f"forwarder_ledger_{name}_events", "gauge", text, [sample])


def _memory(memory: MemoryMetrics) -> Iterator[Family]:
    yield Family(
        "forwarder_memory_limit_bytes", "gauge",
        "What may be kept in memory: buffers, unfinished messages, chunks being written; 0: no limit.",
        [Sample(memory.limit_bytes, {})],
    )  # fmt: skip
    used = [Sample(count, {"plugin_id": name}) for name, count in sorted(memory.by_plugin.items())]
    yield Family("forwarder_memory_used_bytes", "gauge", "What is kept in memory, by plugin.", used)


def _sample(plugin: PluginMetrics, value: float, suffix: str = "", /, **labels: str) -> Sample:
    return Sample(
        value, {"plugin_id": plugin.id, "category": plugin.kind, "type": plugin.type, **labels}, suffix
    )


class Page:
    """Renders families, and what the process uses, in Prometheus' text format.

    Raises:
        ConfigError: prometheus-client is not installed.
    """

    def __init__(self, collect: Callable[[], Iterable[Family]]) -> None:
        try:
            # seconds after the start rather than at it: nine megabytes that only a scrape needs
            from prometheus_client import CollectorRegistry, ProcessCollector  # noqa: PLC0415
        except ImportError as error:
            raise ConfigError(f"/metrics needs the package prometheus-client: {error}") from error
        self._collect = collect
        self._registry: CollectorRegistry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def render(self) -> bytes:
        """The page."""
        from prometheus_client.exposition import generate_latest  # noqa: PLC0415

        return generate_latest(self._registry)

    def collect(self) -> Iterable[Metric]:
        """For the registry. Families of one name become one."""
        from prometheus_client.metrics_core import Metric  # noqa: PLC0415

        found: dict[str, Metric] = {}
        numbers: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
        metrics: dict[tuple[str, tuple[tuple[str, str], ...]], Metric] = {}
        for family in self._collect():
            metric = found.get(family.name)
            if metric is None:
                kind, base = family.kind, family.name
                if kind == "counter" and base.endswith("_total"):
                    base = base.removesuffix("_total")
                elif kind == "counter":
                    kind = "unknown"  # the format knows no counter without _total
                metric = found[family.name] = Metric(base, family.help, kind)
            for sample in family.samples:
                # two plugins may count under one name; a page with a number twice is refused as a whole
                key = (family.name + sample.suffix, tuple(sorted(sample.labels.items())))
                value = sample.value
                if key in numbers and family.kind != "gauge":
                    value += numbers[key]
                numbers[key] = value
                metrics[key] = metric
        for (name, labels), value in numbers.items():
            metrics[name, labels].add_sample(name, dict(labels), value)
        return found.values()

    def describe(self) -> Iterable[Metric]:
        """For the registry, which else would collect once to learn the names."""
        return ()
