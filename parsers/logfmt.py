"""The logfmt parser: `level=info msg="it works" cached duration=12ms`, as Go programs and Heroku write it.

A name without `=` is a flag: its field is `true`. A value in double quotes has Go's escapes (`\\"`, `\\n`,
`\\u00e9`). Values are texts; `types` makes numbers of them. A name that comes again keeps its place and
gets the later value.

*Delivery*: a text without any field gives no event (`unmatched`), neither does one with a quote that is not
closed (`malformed`) or whose time field does not fit its format (`invalid_time`).

*Differs from Fluentd* (fluent-plugin-parser-logfmt): what looks like a number stays text without `types`,
so that an id such as `007` stays what it is. A value without quotes goes up to the next white space:
`url=/a?b=c` is one field.
"""

from __future__ import annotations

from forwarder import _native
from forwarder.api import CompiledParser, string
from forwarder.api.parsing import CommonParser


class LogfmtParser(CommonParser):
    """One event for each text."""

    time_key = string("Field that holds the event's time.", "time")

    def configure(self) -> None:
        super().configure()
        self._compiled = self.compile(_native.logfmt_parser, self.options())

    def compiled(self) -> CompiledParser:
        return self._compiled
