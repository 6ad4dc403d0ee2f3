"""What probes ask: whether the process makes progress, and whether it should get events now."""

from __future__ import annotations

from collections.abc import Iterator

from forwarder.api.metrics import BufferMetrics, Metrics


def dead(metrics: Metrics) -> list[str]:
    """Why the process makes no progress; empty: it does."""
    if metrics.state != "running":
        return []
    return [
        f"{name}: a flush thread has ended"
        for name, buffer in _buffers(metrics)
        if buffer.flush_threads < buffer.flush_threads_wanted
    ]


def not_ready(metrics: Metrics, failing_seconds: float) -> list[str]:
    """Why the process should get no events now; empty: it should.

    `failing_seconds`: how long an output may only have failed.
    """
    reasons = [] if metrics.state == "running" else [metrics.state]
    for name, buffer in _buffers(metrics):
        if buffer.refuses:
            reasons.append(f"{name}: the buffer is full, or its disk takes nothing")
        if buffer.retry.gave_up:
            reasons.append(f"{name}: a chunk was given up, and none was delivered since")
        elif buffer.retry.failing_seconds > failing_seconds:
            reasons.append(f"{name}: nothing was delivered for {buffer.retry.failing_seconds:.0f} s")
    return reasons


def _buffers(metrics: Metrics) -> Iterator[tuple[str, BufferMetrics]]:
    for plugin in metrics.plugins.values():
        if plugin.buffer is not None:
            yield plugin.id, plugin.buffer
