"""`<metric>` of the filter and the output `prometheus`: metrics made from records."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from typing import Any, Final

from forwarder import _native
from forwarder._native import EventBatch
from forwarder.api.errors import ConfigError
from forwarder.api.metrics import Family, Sample
from forwarder.api.parameters import (
    Section,
    array,
    boolean,
    duration,
    enum,
    free_section,
    free_sections,
    integer,
    sections,
    string,
)
from forwarder.api.plugin import Plugin

_NAME: Final = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_LABEL: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_PLACEHOLDER: Final = re.compile(r"\$\{([^}]*)\}")
_TAG: Final = re.compile(r"(tag_parts|tag_prefix|tag_suffix)\[(-?\d+)\]")
_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

_Parts = list[tuple[str, str, int]]


class MetricSection(Section):
    """One metric."""

    name = string("Its name.")
    type = enum("Its kind.", ("counter", "gauge", "summary", "histogram"))
    desc = string("What it is, as the page says.")
    key = string("The field with its value: a name or a record accessor. Only a counter needs none.", None)
    buckets = array("Upper bounds of a histogram's buckets, ascending.", [])
    initialized = boolean("Whether it is there before any event, with the labels of `<initlabels>`.", False)
    retention = duration("Series without an event for so long are forgotten; not set: none is.", None)
    retention_check_interval = duration("Has no effect: old series go when the page is read.", 60.0)
    max_series_per_metric = integer("As for all metrics, for this one.", None)
    labels = free_section("Label -> text, record accessor or text with placeholders.")
    initlabels = free_sections("Values of the labels that depend on events.", name="initlabels")


class RecordMetrics(Plugin):
    """What the filter and the output have in common."""

    max_series_per_metric = integer("Label sets of a metric; further ones are not counted; 0: no limit.", 0)
    ignore_error_log_interval = duration("Has no effect: what repeats is logged once per interval.", 3600.0)
    labels = free_section("Labels of all metrics.")
    metrics = sections(MetricSection, "The metrics.", name="metric")

    def configure(self) -> None:
        """Compiles the metrics. Raises ConfigError."""
        super().configure()
        self._metrics = [_Metric(self, given) for given in self.metrics]

    def count(self, batch: EventBatch) -> None:
        """Counts the events of a batch."""
        now = time.monotonic()
        for metric in self._metrics:
            wrong, over = metric.native.apply(batch, now)
            if wrong:
                self.log_repeated(f"metric {metric.given.name}: the value is no number", count=wrong)
            if over:
                metric.over += over
                self.log_repeated(
                    f"metric {metric.given.name}: not counted, it has max_series_per_metric label sets",
                    count=over,
                )

    def measure(self) -> Iterator[Family]:
        """The metrics."""
        over = []
        for metric in self._metrics:
            yield metric.family()
            if metric.over:
                over.append(Sample(metric.over, {"name": metric.given.name}))
        if over:
            text = "The total number of records dropped because the metric reached max_series_per_metric."
            yield Family("fluentd_prometheus_dropped_label_sets_total", "counter", text, over)


class _Metric:
    """A metric that is ready to count."""

    def __init__(self, plugin: RecordMetrics, given: MetricSection) -> None:
        self.given = given
        self.over = 0
        if _NAME.fullmatch(given.name) is None:
            raise ConfigError(f"{given.name!r} cannot be the name of a metric", param="metric")
        if given.key is None and given.type != "counter":
            raise ConfigError(f"metric {given.name}: a {given.type} needs key", param="metric")
        known = {"hostname": plugin.context.hostname, "worker_id": str(plugin.context.worker_id)}
        written = {**plugin.labels, **given.labels}
        for name in written:
            if _LABEL.fullmatch(name) is None or name.startswith("__"):
                raise ConfigError(f"{name!r} cannot be the name of a label", param="labels")
        parts = {name: _parts("" if value is None else str(value), known) for name, value in written.items()}
        self.names = list(parts)
        limit = given.max_series_per_metric
        try:
            bounds = [float(text) for text in given.buckets] or list(_BUCKETS)
            if sorted(set(bounds)) != bounds:
                raise ValueError("buckets must ascend")
            self.bounds = bounds if given.type == "histogram" else []
            self.native = _native.RecordMetric(
                given.type, given.key, list(parts.values()), self.bounds,
                max(0, plugin.max_series_per_metric if limit is None else limit),
            )  # fmt: skip
        except ValueError as error:
            raise ConfigError(f"metric {given.name}: {error}", param="metric") from None
        if given.initialized:
            for values in _initial(given, parts):
                self.native.init(values, float("inf"))

    def family(self) -> Family:
        """Its numbers now."""
        retention = self.given.retention
        oldest = float("-inf") if retention is None else time.monotonic() - retention
        samples: list[Sample] = []
        for values, value, count, buckets in self.native.samples(oldest):
            labels = dict(zip(self.names, values, strict=True))
            if self.given.type in ("counter", "gauge"):
                samples.append(Sample(value, labels))
                continue
            below = 0
            for bound, some in zip([*self.bounds, float("inf")], buckets, strict=True):
                below += some
                if self.bounds:
                    text = "+Inf" if bound == float("inf") else str(bound)
                    samples.append(Sample(below, {**labels, "le": text}, "_bucket"))
            samples += [Sample(value, labels, "_sum"), Sample(count, labels, "_count")]
        return Family(self.given.name, self.given.type, self.given.desc, samples)


def _parts(text: str, known: Mapping[str, str]) -> _Parts:
    """A label's value in pieces."""
    if text.startswith(("$.", "$[")):
        return [("accessor", text, 0)]
    parts: _Parts = []
    at = 0
    for found in _PLACEHOLDER.finditer(text):
        parts.append(("text", text[at : found.start()], 0))
        at = found.end()
        name = found[1].strip()
        if name in known:
            parts.append(("text", known[name], 0))
        elif name == "tag":
            parts.append(("tag", "", 0))
        elif of_tag := _TAG.fullmatch(name):
            parts.append((of_tag[1], "", int(of_tag[2])))
        else:
            parts.append(("field", name, 0))
    parts.append(("text", text[at:], 0))
    return [part for part in parts if part[:2] != ("text", "")]


def _initial(given: MetricSection, labels: Mapping[str, _Parts]) -> Iterator[list[str]]:
    """Values of all labels, for each `<initlabels>`."""
    fixed = {
        name: "".join(text for _, text, _ in parts)
        for name, parts in labels.items()
        if all(kind == "text" for kind, _, _ in parts)
    }
    blocks: list[dict[str, Any]] = given.initlabels or [{}]
    for block in blocks:
        for name, value in block.items():
            if name not in labels:
                raise ConfigError(f"metric {given.name}: {name} is not in <labels>", param="initlabels")
            if name in fixed:
                raise ConfigError(
                    f"metric {given.name}: label {name} is the same for all", param="initlabels"
                )
            if str(value).startswith(("$.", "$[", "${")):
                raise ConfigError(f"metric {given.name}: {value} depends on events", param="initlabels")
        missing = [name for name in labels if name not in fixed and name not in block]
        if missing:
            raise ConfigError(f"metric {given.name}: {', '.join(missing)} has no value", param="initlabels")
        yield [fixed[name] if name in fixed else str(block[name]) for name in labels]
