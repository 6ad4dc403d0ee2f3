"""The engine's books under the names of Fluentd's monitor (`in_monitor_agent`), for what reads those."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from forwarder.api.metrics import PluginInfo, PluginMetrics
from forwarder.api.plugin import Context

Info = dict[str, Any]
"""What Fluentd tells of a plugin; values as JSON has them."""


def plugin_infos(
    context: Context, *, with_config: bool = False, with_retry: bool = False, debug: bool = False,
    variables: Sequence[str] | None = None, retry_waits: bool = False,
) -> list[Info]:  # fmt: skip
    """All inputs, outputs and filters in Fluentd's order.

    Args:
        debug: with `instance_variables`: the parameters as written, and the counters. variables: the
        names of those that are wanted. retry_waits: with `retry_wait`, the seconds between the first
        failure and the next retry.

    Raises:
        TimeoutError: as `Context.metrics`.
    """
    metrics = context.metrics()
    plugins = context.plugins()
    parents = {plugin.parent for plugin in plugins}
    infos = []
    for plugin in plugins:
        books = metrics.plugins[plugin.id]
        info = _common(plugin, with_config=with_config)
        if plugin.kind == "output":
            has_stores = plugin.id in parents
            info |= _output(books, has_stores=has_stores)
            if retry_waits and not has_stores:
                info["retry_wait"] = _retry_wait(books)
        else:
            # an input's are those it emitted, a filter's those it was given
            count = books.emitted if plugin.kind == "input" else books.received
            info |= {"output_plugin": False, "retry_count": None, "emit_records": count}
            info["emit_size"] = books.emit_bytes or 0
        info |= plugin.statistics()
        if with_retry and info["output_plugin"]:
            info["retry"] = _retry(books)
        if debug or variables is not None:
            info["instance_variables"] = _variables(plugin, info, None if debug else variables)
        infos.append(info)
    return infos


def info_by_tag(context: Context, tag: str, infos: Sequence[Info]) -> list[Info]:
    """The first output for the tag at top level that has none in it, or nothing."""
    found = context.output_for(tag)
    return [info for info in infos if info["plugin_id"] == found]


def _common(plugin: PluginInfo, *, with_config: bool) -> Info:
    info: Info = {"plugin_id": plugin.id, "plugin_category": plugin.kind, "type": plugin.type}
    if with_config:
        info["config"] = dict(plugin.config)
    return info


def _output(books: PluginMetrics, *, has_stores: bool) -> Info:
    if has_stores:
        return {"output_plugin": False, "retry_count": 0}
    info: Info = {"output_plugin": True}
    buffer = books.buffer
    if buffer is not None:
        info["buffer_queue_length"] = buffer.queued_chunks
        info["buffer_timekeys"] = list(buffer.timekeys)
        info["buffer_total_queued_size"] = buffer.size_bytes
    info |= {
        "retry_count": books.failures,
        "emit_records": books.received,
        "emit_size": books.emit_bytes or 0,
        "emit_count": books.batches,
        "write_count": books.flushes,
        "write_secondary_count": books.secondary_flushes,
        "rollback_count": books.rollbacks,
        "slow_flush_count": books.slow_flushes,
        "flush_time_count": int(books.flush_times.seconds * 1000),
        "drop_oldest_chunk_count": books.dropped_chunks,
    }
    if buffer is not None:
        free = 1.0 - buffer.size_bytes / buffer.limit_bytes if buffer.limit_bytes else 0.0
        info |= {
            "buffer_stage_length": buffer.staged_chunks,
            "buffer_stage_byte_size": buffer.staged_bytes,
            "buffer_queue_byte_size": buffer.queued_bytes,
            "buffer_available_buffer_space_ratios": round(free * 100, 1),
        }
        if buffer.timekeys:
            info["buffer_oldest_timekey"] = buffer.timekeys[0]
            info["buffer_newest_timekey"] = buffer.timekeys[-1]
    return info


def _retry_wait(books: PluginMetrics) -> float:
    state = None if books.buffer is None else books.buffer.retry
    if state is None or state.started_at is None or state.next_at is None:
        return 0.0
    return state.next_at - state.started_at


def _retry(books: PluginMetrics) -> Info:
    state = None if books.buffer is None else books.buffer.retry
    if state is None or state.started_at is None:
        return {}
    return {"start": _time(state.started_at), "steps": state.steps, "next_time": _time(state.next_at)}


def _time(seconds: float | None) -> str | None:
    return None if seconds is None else time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(seconds))


def _variables(plugin: PluginInfo, info: Mapping[str, Any], names: Sequence[str] | None) -> Info:
    own = ("plugin_id", "plugin_category", "type", "config", "output_plugin", "retry")
    found: Info = {"id": plugin.id}
    found |= {name.lstrip("@"): value for name, value in plugin.config.items()}
    found |= {name: value for name, value in info.items() if name not in own and value is not None}
    if "retry_count" in found:
        found["num_errors"] = found["retry_count"]
    for name in [*found] if names is None else names:
        if (number := plugin.number(name)) is not None:
            found[name] = number
    return found if names is None else {name: found[name] for name in names if name in found}
