"""in_prometheus_monitor: buffers and retries of all plugins on the page of `@type prometheus`, under the
names of fluent-plugin-prometheus (`fluentd_status_...`), so that boards made for Fluentd work.

*Delivery*: no events.

*Differs from Fluentd* (fluent-plugin-prometheus): the numbers are read when the page is, so `interval` has no
effect. A further worker's numbers carry no label `worker_id` of their own accord: write
`worker_id ${worker_id}` in `<labels>`. The board of this project (`docker/grafana/`) uses the forwarder's own
metrics, which say more.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from forwarder.api import ConfigError, Input, duration, free_section
from forwarder.api.metrics import Family, Sample
from forwarder.api.monitor import Info, plugin_infos

_NAME: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_PLACEHOLDER: Final = re.compile(r"\$\{[^}]*\}")

_GAUGES: Final = (
    ("buffer_queue_length", "buffer_queue_length", "Current buffer queue length."),
    ("buffer_total_queued_size", "buffer_total_bytes", "Current total size of queued buffers."),
    ("retry_count", "retry_count", "Current retry counts."),
    ("buffer_newest_timekey", "buffer_newest_timekey", "Newest timekey in buffer."),
    ("buffer_oldest_timekey", "buffer_oldest_timekey", "Oldest timekey in buffer."),
)
"""Key of Fluentd's monitor, name without `fluentd_status_`, help."""


def base_labels(plugin: Input, written: Mapping[str, Any]) -> dict[str, str]:
    """`<labels>`, with `${hostname}` and `${worker_id}` filled in. Raises ConfigError."""
    known = {"${hostname}": plugin.context.hostname, "${worker_id}": str(plugin.context.worker_id)}
    labels = {}
    for name, value in written.items():
        text = "" if value is None else str(value)
        if _NAME.fullmatch(name) is None or name.startswith("__"):
            raise ConfigError(f"{name!r} cannot be the name of a label", param="labels")
        if text.startswith(("$.", "$[")):
            raise ConfigError(
                f"label {name}: {text!r} is a field of a record, and here are none",
                param="labels",
            )
        for placeholder in _PLACEHOLDER.findall(text):
            if placeholder not in known:
                plugin.log.warning(f"unknown placeholder {placeholder} in label {name}")
        labels[name] = _PLACEHOLDER.sub(lambda found: known.get(found[0], found[0]), text)
    return labels


def family(name: str, kind: str, text: str, samples: list[tuple[dict[str, str], Any]]) -> Family:
    """A family of the numbers that there are."""
    return Family(name, kind, text, [Sample(float(value), labels) for labels, value in samples])


class PrometheusMonitorInput(Input):
    """Shows buffers and retries under Fluentd's names."""

    multi_workers_ready = True

    interval = duration("Has no effect: the numbers are read when they are asked for.", 5.0)
    labels = free_section("Labels for all numbers; may hold `${hostname}` and `${worker_id}`.")

    def configure(self) -> None:
        self._labels = base_labels(self, self.labels)

    def measure(self) -> Iterator[Family]:
        infos = plugin_infos(self.context)
        for key, name, text in _GAUGES:
            samples = [(self._labels_of(info), info[key]) for info in infos if info.get(key) is not None]
            yield family(f"fluentd_status_{name}", "gauge", text, samples)

    def _labels_of(self, info: Info) -> dict[str, str]:
        own = {name: str(info[name]) for name in ("plugin_id", "plugin_category", "type")}
        return {**self._labels, **own}
