"""Sends events to another label: `@label @NAME` says which.

Delivery: as the label's own outputs; a full buffer there is reported to the input.

Differs from Fluentd: nothing.
"""

from __future__ import annotations

from forwarder.api import ConfigError, EventBatch, Output


class RelabelOutput(Output):
    """`@type relabel`."""

    multi_workers_ready = True

    def configure(self) -> None:
        label = self.context.label
        if label is None:
            raise ConfigError("missing @label: the label that the events go to", param="@label")
        self._label = label

    def admit(self, batch: EventBatch) -> None:
        self.context.admit_to_label(self._label, batch)

    def process_batch(self, batch: EventBatch) -> None:
        self.context.emit_to_label(self._label, batch)
