"""The regexp parser: named groups of a Ruby regular expression become fields.

*Delivery*: a text that the expression does not match gives no event (`unmatched`), likewise one whose
time field does not fit its format (`invalid_time`) and one on which the search was given up
(`match_limit`: a pattern that would take more than about a tenth of a second, or than `timeout` says).

*Differs from Fluentd*: a search is bounded even without `timeout`. A group may have any name.
The absent operator `(?~...)` is refused.
"""

from __future__ import annotations

from forwarder import _native
from forwarder.api import CompiledParser, boolean, expression, string
from forwarder.api.parsing import CommonParser


class RegexpParser(CommonParser):
    """One event for each text in which `expression` matches somewhere."""

    expression = expression("The regular expression, with at least one named group: `/(?<field>...)/`.")
    ignorecase = boolean("Letters match in any case.", False, deprecated="write /expression/i instead")
    multiline = boolean("The dot matches newlines too.", False, deprecated="write /expression/m instead")
    time_key = string("Field that holds the event's time.", "time")

    def configure(self) -> None:
        super().configure()
        self._compiled = self.compile(
            _native.regexp_parser, self.expression, self.ignorecase, self.multiline, self.options()
        )

    def compiled(self) -> CompiledParser:
        return self._compiled
