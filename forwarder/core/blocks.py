"""From a batch to what goes into a buffer: split by chunk keys, formatted, cut to the size of chunks."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from forwarder._native import Partitioner, integer_times
from forwarder.api.errors import ConfigError
from forwarder.buffer.chunk import Key
from forwarder.core.implements import overrides

if TYPE_CHECKING:
    from forwarder._native import EventBatch
    from forwarder.api.plugin import Output
    from forwarder.buffer.limits import Limits
    from forwarder.core.context import PluginContext

    Part = tuple[str | None, int | None, tuple[str | None, ...], EventBatch]
    Block = tuple[Key, bytes, int]
    """(chunk key, data, number of events)."""

_PLAIN: Final = Key(None, None, ())


class Blocks:
    """What one buffered output makes of its batches."""

    def __init__(self, plugin: Output, context: PluginContext, limits: Limits) -> None:
        """Raises ConfigError for chunk keys that do not work."""
        keys = plugin.buffer.keys()
        self._context = context
        self._limits = limits
        self._fields = keys.fields
        self._partition: Callable[[EventBatch], list[Part]] | None = None
        if keys.tag or keys.timekey is not None or keys.fields:
            try:
                partitioner = Partitioner(keys.tag, keys.timekey, keys.zone, keys.fields)
            except ValueError as error:
                raise ConfigError(str(error), param="buffer") from error
            self._partition = partitioner.partition
        self._format: Callable[[EventBatch], bytes | None] | None = None
        if overrides(plugin, "format_batch"):
            self._format = plugin.format_batch
        elif plugin.time_as_integer:
            self._format = integer_times

    def of(self, batch: EventBatch) -> list[Block]:
        """The blocks of `batch`. What the plugin's formatter raises passes through."""
        blocks: list[Block] = []
        if self._partition is None:
            self._add(_PLAIN, batch, blocks)
            return blocks
        for tag, timekey, values, part in self._partition(batch):
            variables = tuple(zip(self._fields, values, strict=True))
            self._add(Key(tag, timekey, variables), part, blocks)
        return blocks

    def _add(self, key: Key, batch: EventBatch, blocks: list[Block]) -> None:
        """Adds `batch` as blocks that fit into a chunk each."""
        explained = self._context.counters.frame.explained
        data = bytes(batch) if self._format is None else self._format(batch)
        if data is None:
            data = bytes(batch)
        # what a formatter drops it explains; the rest is in the block
        count = len(batch) - (self._context.counters.frame.explained - explained)
        if self._limits.fits(len(data), count) or len(batch) <= 1:
            if count and not self._limits.fits(len(data), count):
                self._context.counters.oversize(count)
                self._context.log_repeated(
                    "event is larger than chunk_limit_size: it gets a chunk of its own", bytes=len(data)
                )
            if count:
                blocks.append((key, data, count))
            return
        if self._context.counters.frame.explained != explained:
            raise ValueError(
                "a batch larger than a chunk cannot be formatted twice: the formatter drops events"
            )
        pieces = max(2, -(-len(data) // self._limits.chunk_bytes))
        if self._limits.chunk_events is not None:
            pieces = max(pieces, -(-len(batch) // self._limits.chunk_events))
        step = max(1, len(batch) // pieces)
        for start in range(0, len(batch), step):
            self._add(key, batch.slice(start, min(start + step, len(batch))), blocks)
