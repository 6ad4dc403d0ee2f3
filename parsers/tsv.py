"""The tsv parser: parts between tabs become fields.

A missing column is nil; the last key takes all the rest of the text.

*Delivery*: a text whose time field does not fit its format gives no event (`invalid_time`).
"""

from __future__ import annotations

from forwarder import _native
from forwarder.api import CompiledParser, array, string
from forwarder.api.parsing import CommonParser


class TsvParser(CommonParser):
    """One event for each text."""

    keys = array("Names of the columns, in order.", of="string")
    delimiter = string("What stands between columns; one space means any white space.", "\t")

    def configure(self) -> None:
        super().configure()
        self._compiled = self.compile(_native.tsv_parser, self.keys, self.delimiter, self.options())

    def compiled(self) -> CompiledParser:
        return self._compiled
