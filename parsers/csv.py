"""The csv parser: the columns of comma-separated values become fields.

A column that is empty and not in quotes, and one that is missing, is nil; columns beyond `keys` are left
out. Of a text of several rows the first one counts.

*Delivery*: an empty text gives no event (`unmatched`), likewise one that breaks the rules of RFC 4180
(`malformed`: a quote that is not closed, or that stands within a column) and one whose time field does not
fit its format (`invalid_time`).

*Differs from Fluentd*: with `parser_engine fast`, columns beyond `keys` are left out (Fluentd gives them
the key nil).
"""

from __future__ import annotations

from forwarder import _native
from forwarder.api import CompiledParser, array, enum, string
from forwarder.api.parsing import CommonParser


class CsvParser(CommonParser):
    """One event for each row."""

    keys = array("Names of the columns, in order.", of="string")
    delimiter = string("What stands between columns.", ",")
    parser_engine = enum(
        "`normal`: by the rules of RFC 4180; `fast`: without looking for mistakes, and a missing column "
        "gives no field.",
        ("normal", "fast"),
        "normal",
        alias="parser_type",
    )

    def configure(self) -> None:
        super().configure()
        fast = self.parser_engine == "fast"
        self._compiled = self.compile(_native.csv_parser, self.keys, self.delimiter, fast, self.options())

    def compiled(self) -> CompiledParser:
        return self._compiled
