"""The kv parser: fields such as `user=bob action=login`, with what stands between them by parameter.

A part without `kv_char` is a field that is null; empty parts are none. A name that comes again keeps its
place and gets the later value.

*Delivery*: a text whose time field does not fit its format gives no event (`invalid_time`); any other gives
one, even if it has no field.

*Differs from Fluentd* (fluent-plugin-kv-parser): white space at the start does not make a field without a
name.
"""

from __future__ import annotations

from forwarder import _native
from forwarder.api import CompiledParser, string
from forwarder.api.parsing import CommonParser


class KvParser(CommonParser):
    """One event for each text."""

    kv_delimiter = string(
        "What stands between fields: a text, or a regexp between slashes. One space means any white space.",
        r"/\s+/",
    )
    kv_char = string("What stands between a field's name and its value.", "=")
    time_key = string("Field that holds the event's time.", "time")

    def configure(self) -> None:
        super().configure()
        self._compiled = self.compile(_native.kv_parser, self.kv_delimiter, self.kv_char, self.options())

    def compiled(self) -> CompiledParser:
        return self._compiled
