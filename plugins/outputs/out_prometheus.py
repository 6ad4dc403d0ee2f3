"""out_prometheus: metrics made from records, on the page of `@type prometheus`. The events end here.

*Delivery*: events are delivered by being counted.

*Differs from Fluentd* (fluent-plugin-prometheus): an event whose value is no number is logged and not
counted, and does not go to `@ERROR`. Several workers: write `worker_id ${worker_id}` in `<labels>`.
"""

from __future__ import annotations

from forwarder.api import EventBatch, Output
from forwarder.api.record_metrics import RecordMetrics


class PrometheusOutput(RecordMetrics, Output):
    """Counts what comes."""

    multi_workers_ready = True

    def process_batch(self, batch: EventBatch) -> None:
        """Counts."""
        self.count(batch)
