"""Filters in a row and the output behind them; here the books are kept.

Wherever a batch passes from one plugin to the next the engine compares counts. A plugin that raises costs
its own batch, which goes to `@ERROR` or is counted as lost; the neighbours go on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from forwarder._native import EventBatch
from forwarder.api.errors import BufferOverflow

if TYPE_CHECKING:
    from forwarder.api.plugin import Filter, Output
    from forwarder.core.context import PluginContext

_EMPTY: Final = EventBatch([])


class FilterNode:
    """A filter in its place."""

    __slots__ = ("_counters", "_filter", "context", "plugin")

    def __init__(self, plugin: Filter, context: PluginContext) -> None:
        self.plugin = plugin
        self.context = context
        self._counters = context.counters
        self._filter = plugin.filter_batch

    def apply(self, batch: EventBatch) -> EventBatch:
        """The batch that goes on."""
        counters = self._counters
        frame = counters.frame
        came = len(batch)
        frame.explained = 0
        if counters.sized:
            counters.weigh(batch.nbytes)
        try:
            out = self._filter(batch)
            went = len(out)
        except Exception as error:
            # what the filter has explained before it raised is in the books already
            left = came - frame.explained
            counters.take(came)
            self.context.log_raised("filter raised", error, count=came)
            if left == came:
                self.context.fail(batch, "filter_error", error)
            else:
                counters.lose(max(0, left), "filter_error")
            return _EMPTY
        counters.filtered(came, went, frame.explained)
        return out


class OutputNode:
    """Where a pipeline ends."""

    context: PluginContext

    def admit(self, batch: EventBatch) -> None:
        """Raises BufferOverflow where there is no room for `batch` now; takes nothing. May wait."""
        raise NotImplementedError

    def deliver(self, batch: EventBatch, *, to_error: bool = True) -> bool:
        """Takes an admitted batch. False where it was not delivered (and is in the books as such)."""
        raise NotImplementedError


class DirectOutput(OutputNode):
    """An output that works in the emitting thread."""

    def __init__(self, plugin: Output, context: PluginContext) -> None:
        self.plugin = plugin
        self.context = context
        vars(plugin)["deliver"] = self.deliver

    def admit(self, batch: EventBatch) -> None:
        """Asks the plugin, which may hand on to others."""
        self.plugin.admit(batch)

    def deliver(self, batch: EventBatch, *, to_error: bool = True) -> bool:
        """Has the plugin process the batch."""
        counters = self.context.counters
        frame = counters.frame
        count = len(batch)
        counters.take(count)
        if counters.sized:
            counters.weigh(batch.nbytes)
        frame.explained = 0
        try:
            self.plugin.process_batch(batch)
        except BufferOverflow as error:
            # behind it there is no room after all (a disk just got full): whoever waits tries again
            error.refused = count - frame.explained
            counters.refuse(error.refused)
            raise
        except Exception as error:
            self.context.log_raised("output raised", error, count=count)
            if to_error and not frame.explained:
                self.context.fail(batch, "emit_error", error)
            else:
                counters.lose(max(0, count - frame.explained), "emit_error")
            return False
        counters.deliver(count - frame.explained)
        return True


class Pipeline:
    """What the events of a tag go through."""

    __slots__ = ("filters", "output")

    def __init__(self, filters: tuple[FilterNode, ...], output: OutputNode) -> None:
        self.filters = filters
        self.output = output

    def run(self, batch: EventBatch) -> None:
        """Filters, then hands to the output, which has admitted the batch."""
        for node in self.filters:
            batch = node.apply(batch)
            if not batch:
                return
        self.output.deliver(batch)
