"""Plugins of Fluentd that are refused for a reason, rather than unknown."""

from __future__ import annotations

from typing import Final

_RUBY: Final = "it looks into the Ruby interpreter, and there is none here"

PLUGINS: Final[dict[tuple[str, str], str]] = {
    ("input", "debug_agent"): f"{_RUBY}; use monitor_agent, or py-spy on the process",
    ("input", "elasticsearch"): "it reads the whole result of its query anew at every interval and keeps no "
    "position; `forwarder replay` brings archived events back",
    ("input", "gc_stat"): f"{_RUBY}; memory is in /metrics (@type prometheus)",
    ("input", "object_space"): f"{_RUBY}; memory is in /metrics (@type prometheus)",
    (
        "input",
        "s3",
    ): "it waits for the messages of an SQS queue, which only AWS has; `forwarder replay` reads the "
    "objects of any store, once or by a timer",
}
"""(kind, name) -> the reason, and what to use instead."""
