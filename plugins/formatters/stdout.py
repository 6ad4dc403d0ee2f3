"""`<format> @type stdout`: one line an event, as Fluentd prints events.

    2023-11-14 22:13:20.000000000 +0000 app.access: {"code":200}

The time is always in the machine's zone. What follows the tag is written by the formatter `output_type`,
which reads its own parameters from the same section.

*Differs from Fluentd*: `output_type` can be one of the built-in formatters below, not any plugin.
"""

from __future__ import annotations

from typing import Final

from forwarder import _native
from forwarder.api import CompiledFormatter, ConfigError, boolean, string
from forwarder.api.formatting import LineFormatter, column_delimiter

_TIME_FORMAT: Final = "%Y-%m-%d %H:%M:%S.%N %z"


class StdoutFormatter(LineFormatter):
    """Time, tag and text on one line."""

    output_type = string("Formatter of the record: json, hash, single_value or out_file.", "json")
    json_parser = string("For `output_type json`: the layout of floats.", "oj")
    message_key = string("For `output_type single_value`: the field.", "message")
    output_time = boolean("For `output_type out_file`: with the time.", True)
    output_tag = boolean("For `output_type out_file`: with the tag.", True)
    delimiter = string("For `output_type out_file`: between the columns.", "\t")
    add_newline = boolean("No effect: each event is one line.", True)

    def make(self) -> CompiledFormatter:
        return _native.stdout_formatter(self.time_format or _TIME_FORMAT, self._inner())

    def _inner(self) -> CompiledFormatter:
        match self.output_type:
            case "json":
                return _native.json_formatter("oj" if self.json_parser == "oj" else "ruby", "")
            case "hash":
                return _native.hash_formatter("")
            case "single_value":
                # with a line end, which is taken off again: a line end of the value itself stays
                return _native.single_value_formatter(self.message_key, "\n" if self.add_newline else "")
            case "out_file":
                kind = self.time_type if self.output_time else None
                delimiter = column_delimiter(self.delimiter) or "\t"
                return _native.out_file_formatter(
                    kind, self.time_format, self.zone, self.output_tag, delimiter, "\n"
                )
        raise ConfigError(
            f"output_type {self.output_type!r}: expected json, hash, single_value or out_file",
            param="output_type",
        )
