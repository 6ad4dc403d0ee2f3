"""Filter `prometheus`: metrics made from the records that pass, on the page of `@type prometheus`.

*Delivery*: every event goes on.

*Differs from Fluentd* (fluent-plugin-prometheus): an event whose value is no number is logged and not
counted, and does not go to `@ERROR` besides going on. Several workers: write `worker_id ${worker_id}` in
`<labels>`.
"""

from __future__ import annotations

from forwarder.api import EventBatch, Filter
from forwarder.api.record_metrics import RecordMetrics


class PrometheusFilter(RecordMetrics, Filter):
    """Counts what passes."""

    def filter_batch(self, batch: EventBatch) -> EventBatch:
        """The same events."""
        self.count(batch)
        return batch
