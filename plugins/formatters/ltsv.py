"""`<format> @type ltsv`: all fields as labelled tab-separated values (http://ltsv.org).

Values are written as Ruby's `to_s` prints them; the delimiter within a value becomes `replacement`.
"""

from __future__ import annotations

from forwarder import _native
from forwarder.api import CompiledFormatter, boolean, string
from forwarder.api.formatting import LineFormatter


class LtsvFormatter(LineFormatter):
    """Records with a label for each value."""

    delimiter = string("What stands between fields.", "\t")
    label_delimiter = string("What stands between a field's name and its value.", ":")
    replacement = string("What a delimiter within a value becomes.", " ")
    add_newline = boolean("A line end behind each record.", True)

    def make(self) -> CompiledFormatter:
        return _native.ltsv_formatter(
            self.delimiter, self.label_delimiter, self.replacement, self.line_end(self.add_newline)
        )
