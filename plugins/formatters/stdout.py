"""`<format> @type stdout`: one line an event, as Fluentd prints events.

    2023-11-14 22:13:20.000000000 +0000 app.access: {"code":200}

The time is always in the machine's zone. What follows the tag is written by the formatter `output_type`,
which reads its own parameters from the same section.

*Differs from Fluentd*: `output_type` can be one of the built-in formatters, not any plugin.
"""

from __future__ import annotations

from typing import Final

from forwarder import _native
from forwarder.api import CompiledFormatter, ConfigError, array, boolean, string
from forwarder.api.formatting import CommonFormatter, LineFormatter, column_delimiter
from forwarder.api.parameters import Param, declarations
from forwarder.plugins.formatters.csv import CsvFormatter
from forwarder.plugins.formatters.ltsv import LtsvFormatter
from forwarder.plugins.formatters.msgpack import MsgpackFormatter
from forwarder.plugins.formatters.tsv import TsvFormatter

_TIME_FORMAT: Final = "%Y-%m-%d %H:%M:%S.%N %z"
_COLUMNS: Final[dict[str, type[CommonFormatter]]] = {
    "csv": CsvFormatter, "tsv": TsvFormatter, "ltsv": LtsvFormatter, "msgpack": MsgpackFormatter,
}  # fmt: skip


class StdoutFormatter(LineFormatter):
    """Time, tag and text on one line."""

    output_type = string(
        "Formatter of the record: json, hash, single_value, out_file, csv, tsv, ltsv or msgpack.", "json"
    )
    json_parser = string("For `output_type json`: the layout of floats.", "oj")
    message_key = string("For `output_type single_value`: the field.", "message")
    output_time = boolean("For `output_type out_file`: with the time.", True)
    output_tag = boolean("For `output_type out_file`: with the tag.", True)
    delimiter = string("For the formatters that have columns or fields: what stands between them.", None)
    fields = array("For `output_type csv`: the fields, in order.", [], of="string")
    force_quotes = boolean("For `output_type csv`: quotes around every column.", True)
    keys = array("For `output_type tsv`: the fields, in order.", [], of="string")
    label_delimiter = string("For `output_type ltsv`: what stands between name and value.", ":")
    replacement = string("For `output_type ltsv`: what a delimiter within a value becomes.", " ")
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
                delimiter = column_delimiter(self.delimiter or "\t") or "\t"
                return _native.out_file_formatter(
                    kind, self.time_format, self.zone, self.output_tag, delimiter, "\n"
                )
        return self._columns()

    def _columns(self) -> CompiledFormatter:
        if self.output_type not in _COLUMNS:
            known = ", ".join(["json, hash, single_value, out_file", *_COLUMNS])
            raise ConfigError(
                f"output_type {self.output_type!r}: expected one of {known}", param="output_type"
            )
        formatter = _COLUMNS[self.output_type]()
        ours = declarations(type(self))
        for name, param in declarations(type(formatter)).items():
            value = getattr(self, name, None)
            own = ours.get(name)
            if isinstance(own, Param) and value != own.default:
                setattr(formatter, name, value)
            elif isinstance(param, Param) and param.required:
                raise ConfigError(f"output_type {self.output_type} needs {name}", param=name)
        compiled = formatter.make()
        assert compiled is not None
        return compiled
