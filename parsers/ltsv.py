"""The ltsv parser: labelled tab-separated values (http://ltsv.org): `host:127.0.0.1<TAB>status:200`.

A part without a label delimiter is left out; a label that comes again keeps its place and gets the later
value.

*Delivery*: a text whose time field does not fit its format gives no event (`invalid_time`); any other gives
one, even if it has no field.

*Differs from Fluentd*: what a group of `delimiter_pattern` matches does not become a part.
"""

from __future__ import annotations

from forwarder import _native
from forwarder.api import CompiledParser, expression, string
from forwarder.api.parsing import CommonParser


class LtsvParser(CommonParser):
    """One event for each text."""

    delimiter = string("What stands between fields; one space means any white space.", "\t")
    delimiter_pattern = expression("A regexp for what stands between fields, in place of `delimiter`.", None)
    label_delimiter = string("What stands between a field's name and its value.", ":")
    time_key = string("Field that holds the event's time.", "time")

    def configure(self) -> None:
        super().configure()
        self._compiled = self.compile(
            _native.ltsv_parser, self.delimiter, self.delimiter_pattern, self.label_delimiter, self.options()
        )

    def compiled(self) -> CompiledParser:
        return self._compiled
