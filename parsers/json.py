"""Parser `json`: a JSON object is an event; an array of objects is several.

*Delivery*: a text that is no JSON, or whose value is neither object nor array, gives no event
(`unmatched`); so does a time that does not fit `time_type` (`invalid_time`). Elements of an array that are
no objects are counted as unmatched and do not harm their neighbours. Nesting deeper than 256 levels gives
no event (`limit`).

*Differs from Fluentd*: one engine whatever `json_parser` says. A number that 64 bits cannot hold becomes a
string of its digits (Fluentd fails when it writes the event), one beyond a double's range likewise. Bytes
that are not UTF-8 are kept. As by Oj, comments within the text, `NaN`, `Infinity`, raw control characters and
unknown escapes are accepted; a byte order mark and half a surrogate pair (`\\ud800`) are not.
"""

from __future__ import annotations

from typing import Any

from forwarder import _native
from forwarder.api import CompiledParser, enum, integer, string
from forwarder.api.parsing import TIME_TYPES, CommonParser


class JsonParser(CommonParser):
    """JSON objects."""

    json_parser = enum(
        "Fluentd's choice of a library; every value means the one engine here.", ("oj", "yajl", "json"), "oj"
    )
    stream_buffer_size = integer(
        "How many bytes Fluentd reads at a time from a stream of JSON values. Has no effect: texts are "
        "parsed where they lie.",
        8192,
    )
    time_key = string("Field that holds the event's time.", "time")
    time_type = enum(
        "How the time is written: as seconds with a fraction, as whole seconds, or by `time_format` "
        "(`string`, the default where `time_format` is given).",
        TIME_TYPES,
        "float",
    )

    def configure(self) -> None:
        """Compiles the parser. Raises ConfigError."""
        super().configure()
        self._compiled = self.compile(_native.json_parser, self.json_parser, self.options())

    def options(self) -> dict[str, Any]:
        """As CommonParser's; `time_format` alone implies `time_type string`."""
        options = super().options()
        if self.time_format is not None and "time_type" not in self.given:
            options["time_type"] = "string"
        return options

    def compiled(self) -> CompiledParser:
        """The native form."""
        return self._compiled
