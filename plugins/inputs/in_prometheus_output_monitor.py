"""in_prometheus_output_monitor: buffers, flushes and retries of outputs on the page of `@type prometheus`,
under the names of fluent-plugin-prometheus (`fluentd_output_status_...`), so that boards made for Fluentd
work.

*Delivery*: no events.

*Differs from Fluentd* (fluent-plugin-prometheus): as in_prometheus_monitor. With `gauge_all false` the
counters have type "untyped" on the page: the format asks for names that end in `_total`, which these do not.
`retry_wait` is the time from the first failure of the oldest retried chunk to the next retry.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from forwarder.api import Input, boolean, duration, free_section
from forwarder.api.metrics import Family
from forwarder.api.monitor import Info, plugin_infos
from forwarder.plugins.inputs.in_prometheus_monitor import base_labels, family

_GAUGES: Final = (
    ("buffer_total_queued_size", "buffer_total_bytes", "Current total size of stage and queue buffers."),
    ("buffer_stage_length", "buffer_stage_length", "Current length of stage buffers."),
    ("buffer_stage_byte_size", "buffer_stage_byte_size", "Current total size of stage buffers."),
    ("buffer_queue_length", "buffer_queue_length", "Current length of queue buffers."),
    ("buffer_queue_byte_size", "buffer_queue_byte_size", "Current total size of queue buffers."),
    ("buffer_available_buffer_space_ratios", "buffer_available_space_ratio",
     "Ratio of available space in buffer."),
    ("buffer_newest_timekey", "buffer_newest_timekey", "Newest timekey in buffer."),
    ("buffer_oldest_timekey", "buffer_oldest_timekey", "Oldest timekey in buffer."),
    ("rollback_count", "rollback_count", "Current rollback counts."),
)  # fmt: skip
_COUNTERS: Final = (
    ("retry_count", "retry_count", "Current retry counts."),
    ("retry_count", "num_errors", "Current number of errors."),
    ("emit_count", "emit_count", "Current emit counts."),
    ("emit_records", "emit_records", "Current emit records."),
    ("write_count", "write_count", "Current write counts."),
    ("flush_time_count", "flush_time_count", "Total flush time."),
    ("slow_flush_count", "slow_flush_count", "Current slow flush counts."),
)
"""Key of Fluentd's monitor, name without `fluentd_output_status_`, help. With `gauge_all`: gauges too."""


class PrometheusOutputMonitorInput(Input):
    """Shows the outputs under Fluentd's names."""

    multi_workers_ready = True

    interval = duration("Has no effect: the numbers are read when they are asked for.", 5.0)
    gauge_all = boolean("All numbers are gauges, the counts too.", True)
    labels = free_section("Labels for all numbers; may hold `${hostname}` and `${worker_id}`.")

    def configure(self) -> None:
        self._labels = base_labels(self, self.labels)

    def measure(self) -> Iterator[Family]:
        infos = [
            info
            for info in plugin_infos(self.context, retry_waits=True)
            if info["plugin_category"] == "output"
        ]
        counter = "gauge" if self.gauge_all else "counter"
        for kind, rows in (("gauge", _GAUGES), (counter, _COUNTERS)):
            for key, name, text in rows:
                samples = [(self._labels_of(info), info[key]) for info in infos if info.get(key) is not None]
                yield family(f"fluentd_output_status_{name}", kind, text, samples)
        waits = [(self._labels_of(info), info["retry_wait"]) for info in infos if "retry_wait" in info]
        yield family("fluentd_output_status_retry_wait", "gauge", "Current retry wait", waits)

    def _labels_of(self, info: Info) -> dict[str, str]:
        return {**self._labels, "plugin_id": str(info["plugin_id"]), "type": str(info["type"])}
