"""`<format> @type tsv`: chosen fields with tabs between them, as Ruby's `to_s` prints them.

What is in a value stays as it is, tabs and line ends too. A missing field and nil are an empty column.
"""

from __future__ import annotations

from forwarder import _native
from forwarder.api import CompiledFormatter, array, boolean, string
from forwarder.api.formatting import LineFormatter


class TsvFormatter(LineFormatter):
    """Records as rows."""

    keys = array("The fields, in order.", of="string")
    delimiter = string("What stands between columns.", "\t")
    add_newline = boolean("A line end behind each row.", True)

    def make(self) -> CompiledFormatter:
        return _native.tsv_formatter(self.keys, self.delimiter, self.line_end(self.add_newline))
