"""Filter `sampling`, also `sampling_filter`: every `interval`-th event goes on.

With `minimum_rate_per_min` the first events of each minute go on whatever the interval is, so that rare
tags stay visible.

*Delivery*: the other events are lost on purpose, counted as `sampled`.

*Differs from Fluentd* (fluent-plugin-sampling-filter): in nothing known.
"""

from __future__ import annotations

import time

from forwarder import _native
from forwarder.api import ConfigError, EventBatch, Filter, enum, integer


class SamplingFilter(Filter):
    """Lets every n-th event pass."""

    interval = integer("One event of so many goes on.")
    sample_unit = enum(
        "What is counted: each tag's events by themselves, or all together.", ("tag", "all"), "tag"
    )
    minimum_rate_per_min = integer("So many events a minute go on first; counting starts anew then.", None)

    def configure(self) -> None:
        """Raises ConfigError."""
        super().configure()
        if self.interval < 1:
            raise ConfigError("must be at least 1", param="interval")
        if self.minimum_rate_per_min is not None and self.minimum_rate_per_min < 0:
            raise ConfigError("must not be negative", param="minimum_rate_per_min")
        self._native = _native.Sampling(self.interval, self.sample_unit == "tag", self.minimum_rate_per_min)

    def filter_batch(self, batch: EventBatch) -> EventBatch:
        """The sample."""
        kept = self._native.apply(batch, time.monotonic())
        if kept is None:
            return batch
        self.context.drop(len(batch) - len(kept), "sampled")
        return kept
