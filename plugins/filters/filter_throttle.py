"""Filter `throttle`: events of a group go on up to a limit per period; what is above is shed, and said.

The first event over the limit ends the group's credit for the period. In a new period it starts again once
its rate is below `group_reset_rate_s`. What was shed is the reason `throttled` of this filter's losses, and
by group: in the warning `rate exceeded` (`shed`: events since the group's last line), in one line at the
stop, and as `forwarder_throttle_shed_events_total{plugin_id,group}` on the page of `@type prometheus`.

*Delivery*: events over the limit are lost on purpose, counted as `throttled`. With `group_drop_logs false`
all go on.

*Differs from Fluentd* (fluent-plugin-throttle): the events of a batch count as having come at once. A key
may be a record accessor (`$.a.b`) too. Beyond `group_max_count` groups, further ones share one limit.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any

from forwarder import _native
from forwarder.api import ConfigError, EventBatch, Filter, array, boolean, integer
from forwarder.api.metrics import Family, Sample

_LINES = 20
"""Log lines a batch at most."""
_SHOWN = 100
"""Groups shown by name in metrics and at the stop: those that shed most."""


class ThrottleFilter(Filter):
    """Sheds what a group has over its limit."""

    group_key = array("Fields that make a group; `a.b` is b within a.", ["kubernetes.container_name"])
    group_bucket_period_s = integer("Seconds of a period.", 60)
    group_bucket_limit = integer("Events of a group in a period.", 6000)
    group_drop_logs = boolean("Whether events over the limit are dropped, or only warned of.", True)
    group_reset_rate_s = integer(
        "Events a second below which a group starts again; -1: at the next period. Not set: its limit.",
        None,
    )
    group_warning_delay_s = integer("Seconds between two warnings for a group.", 10)
    group_max_count = integer("Not in Fluentd: groups that are told apart.", 100_000)

    def configure(self) -> None:
        """Raises ConfigError for limits that fit not."""
        super().configure()
        for name in (
            "group_bucket_period_s",
            "group_bucket_limit",
            "group_warning_delay_s",
            "group_max_count",
        ):
            if getattr(self, name) < 1:
                raise ConfigError("must be at least 1", param=name)
        self._limit_rate = self.group_bucket_limit // self.group_bucket_period_s
        if self.group_reset_rate_s is None:
            self.group_reset_rate_s = self._limit_rate
        if not -1 <= self.group_reset_rate_s <= self._limit_rate:
            raise ConfigError(
                f"must be from -1 to group_bucket_limit / group_bucket_period_s, which is {self._limit_rate}",
                param="group_reset_rate_s",
            )
        try:
            self._native = _native.Throttle(
                self.group_key, self.group_bucket_period_s, self.group_bucket_limit, self.group_reset_rate_s,
                self.group_warning_delay_s, self.group_drop_logs, self.group_max_count,
            )  # fmt: skip
        except ValueError as error:
            raise ConfigError(str(error), param="group_key") from None

    def filter_batch(self, batch: EventBatch) -> EventBatch:
        """The events within their groups' limits."""
        kept, reports = self._native.apply(batch, time.time())
        if reports:
            self._say(reports)
        if kept is None:
            return batch
        self.context.drop(len(batch) - len(kept), "throttled")
        return kept

    def close(self) -> None:
        """Says what was shed."""
        groups, others = self._native.over(_SHOWN)
        if groups or others:
            shed = {_name(values): count for values, count in groups}
            self.log.info(f"{self._word} by group", groups=shed, others=others)

    def measure(self) -> Iterable[Family]:
        """Events over the limit, by group."""
        groups, others = self._native.over(_SHOWN)
        samples = [
            Sample(count, {"plugin_id": self.context.id, "group": _name(values)}) for values, count in groups
        ]
        if others:
            samples.append(Sample(others, {"plugin_id": self.context.id, "group": "(others)"}))
        if self.group_drop_logs:
            return [
                Family("forwarder_throttle_shed_events_total", "counter", "Events shed, by group.", samples)
            ]
        return [
            Family(
                "forwarder_throttle_over_events_total", "counter", "Events over the limit, by group.", samples
            )
        ]

    @property
    def _word(self) -> str:
        return "shed" if self.group_drop_logs else "over"

    def _say(self, reports: list[_native.ThrottleReport]) -> None:
        for report in reports[:_LINES]:
            fields: dict[str, Any] = {
                "group_key": _name(report.group),
                "rate_s": report.rate,
                "period_s": self.group_bucket_period_s,
                "limit": self.group_bucket_limit,
                "rate_limit_s": self._limit_rate,
                "reset_rate_s": self.group_reset_rate_s,
                self._word: report.over,
            }
            if report.exceeded:
                self.log.warning("rate exceeded", **fields)
            else:
                self.log.info("rate back down", **fields)
        if further := reports[_LINES:]:
            fields = {"count": len(further), self._word: sum(report.over for report in further)}
            self.log.warning("rate exceeded or back down in further groups", **fields)


def _name(values: Sequence[str | None]) -> str:
    if not values:
        return "(others)"
    return ",".join("(none)" if value is None else value for value in values)
