"""What `forwarder status` tells of an instance: one cut of the books, as JSON has it."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

from forwarder import __version__
from forwarder.api.health import dead
from forwarder.core.delivery import BufferedOutput

if TYPE_CHECKING:
    from forwarder.api.metrics import BufferMetrics, PluginMetrics
    from forwarder.core.engine import Engine


def status(engine: Engine) -> dict[str, Any]:
    """The present state. In every line of `sources`, `filters` and `outputs` holds, in events::

        received + added = handed_on (sources, filters) or delivered (outputs)
                           + buffered + to_error + the sum of lost + in_flight

    `dead`: why it makes no progress, as `/healthz` says. `added` includes what was recovered from a buffer at
    the start. Raises TimeoutError: a delivery has held its lock for seconds.
    """
    metrics = engine.metrics()
    stores = {info.parent for info in engine.describe()}
    lines: dict[str, list[dict[str, Any]]] = {"input": [], "filter": [], "output": [], "router": []}
    for plugin in metrics.plugins.values():
        if plugin.kind in lines:
            lines[plugin.kind].append(_line(plugin))
    buffers = []
    for placed in engine.plugins:
        books = metrics.plugins[placed.context.id]
        if isinstance(placed.node, BufferedOutput) and books.buffer is not None:
            buffers.append(_buffer(placed.node, books.buffer))
    worker = engine.plugins[0].context.worker_id if engine.plugins else 0
    return {
        "version": __version__, "pid": os.getpid(), "worker": worker,
        "state": "source-only" if engine.collecting and metrics.state == "running" else metrics.state,
        "config": engine.process.get("config_path"), "time": time.time(),
        "dead": dead(metrics),
        "totals": metrics.totals()._asdict(),
        "memory": {**metrics.memory._asdict(), "by_plugin": dict(metrics.memory.by_plugin)},
        "sources": lines["input"],
        "filters": lines["filter"],
        "outputs": [{**line, "hands_on": line["id"] in stores} for line in lines["output"]],
        "unrouted": [line for line in lines["router"] if line["received"]],
        "buffers": buffers,
    }  # fmt: skip


def _line(plugin: PluginMetrics) -> dict[str, Any]:
    held = plugin.buffer.events if plugin.buffer else 0
    lost = {**plugin.lost}
    for reason, count in plugin.rejected.items():
        lost[reason] = lost.get(reason, 0) + count
    line: dict[str, Any] = {
        "id": plugin.id, "type": plugin.type, "received": plugin.received - plugin.refused,
        "added": plugin.added + plugin.recovered,
    }  # fmt: skip
    if plugin.kind in ("input", "filter"):
        line["handed_on"] = plugin.emitted
    else:
        # a <store> or a secondary has what was handed to it in its own books
        line["delivered"] = max(plugin.delivered, plugin.emitted - plugin.returned)
    line |= {"buffered": held, "to_error": plugin.to_error, "lost": lost, "in_flight": plugin.balance}
    if plugin.kind == "output":
        line |= {"chunks_delivered": plugin.flushes, "failures": plugin.failures, "retries": plugin.retries}
    return line


def _buffer(node: BufferedOutput, buffer: BufferMetrics) -> dict[str, Any]:
    retry = buffer.retry
    return {
        "id": node.context.id, "kind": "file" if node.buffer.persistent else "memory",
        "staged_chunks": buffer.staged_chunks, "queued_chunks": buffer.queued_chunks,
        "flying_chunks": buffer.flying_chunks, "events": buffer.events, "bytes": buffer.size_bytes,
        "limit_bytes": buffer.limit_bytes, "oldest_seconds": round(buffer.oldest_seconds, 1),
        "refuses": buffer.refuses,
        "retry": {
            "failing_seconds": round(retry.failing_seconds, 1), "chunks": retry.chunks, "times": retry.steps,
            "next_at": retry.next_at, "gave_up": retry.gave_up, "last_error": retry.last_error,
        },
    }  # fmt: skip
