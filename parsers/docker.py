"""The docker parser: lines of Docker's json-file driver, `{"log":"...\\n","stream":"stdout","time":"..."}`.

The newline at the end of `log` is taken off, and `time` becomes the event's time. Docker cuts lines longer
than 16 KiB into parts: `in_tail` puts them together again, per stream; the event has the first part's time.

*Delivery*, *Differs from Fluentd*: as the json parser; Fluentd has no parser of this name.
"""

from __future__ import annotations

from forwarder import _native
from forwarder.api import CompiledParser, string
from forwarder.api.parsing import CommonParser


class DockerParser(CommonParser):
    """One event for each line."""

    time_key = string("Field that holds the event's time.", "time")
    time_format = string("How the time is written.", "%iso8601")

    def configure(self) -> None:
        super().configure()
        self._compiled = self.compile(_native.docker_parser, self.options())

    def compiled(self) -> CompiledParser:
        return self._compiled
