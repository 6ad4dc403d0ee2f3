"""Keeps events in a buffer (a file buffer by default) and emits them again: to the label `@label`, or to the
routes outside of labels.

*Delivery*: at least once to the outputs behind it: a chunk that they have no room for is tried again by the
retry rules of `<buffer>`.

*Differs from Fluentd*: the chunk key `tag` is required (without it Fluentd emits events without a tag).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from forwarder.api import Chunk, ConfigError, EventBatch, Output

_ROOT = "@ROOT"


class BufferOutput(Output):
    """`@type buffer`."""

    multi_workers_ready = True

    emits: ClassVar[bool] = True
    buffer_defaults: ClassVar[Mapping[str, Any]] = {
        "@type": "file",
        "chunk_keys": ["tag"],
        "flush_mode": "interval",
        "flush_interval": 10.0,
    }

    def configure(self) -> None:
        if not self._keys().tag:
            raise ConfigError("the chunk key tag is required: events are emitted with it", param="buffer")

    def write(self, chunk: Chunk) -> None:
        batch = EventBatch([(chunk.key.tag or "", chunk.stream())])
        self.context.emit_to_label(self.context.label or _ROOT, batch)
