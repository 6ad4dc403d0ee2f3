"""`<format> @type single_value`: the text of one field; an empty line where the record has no such field.

Text and binary data are written byte for byte, other values as Ruby's `to_s` prints them.
"""

from __future__ import annotations

from forwarder import _native
from forwarder.api import CompiledFormatter, boolean, string
from forwarder.api.formatting import LineFormatter


class SingleValueFormatter(LineFormatter):
    """One field of each record."""

    message_key = string("The field.", "message")
    add_newline = boolean("A line end behind each value.", True)

    def make(self) -> CompiledFormatter:
        return _native.single_value_formatter(self.message_key, self.line_end(self.add_newline))
