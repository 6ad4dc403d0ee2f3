"""`<format> @type json`: the record as a JSON object, one a line.

Always valid JSON: bytes that are not UTF-8 become U+FFFD, NaN and infinities become null.

*Differs from Fluentd*: `json_parser` only chooses how floats look (`oj`: `10000000000000000.0`, `json` and
`yajl`: `1.0e+16`), there is one encoder. Records that Fluentd's encoders fail on are written as said above.
"""

from __future__ import annotations

from forwarder import _native
from forwarder.api import CompiledFormatter, boolean, string
from forwarder.api.formatting import LineFormatter


class JsonFormatter(LineFormatter):
    """Records as JSON."""

    json_parser = string("The layout of floats: `oj`, or that of Ruby's json.", "oj")
    add_newline = boolean("A line end behind each record.", True)

    def make(self) -> CompiledFormatter:
        floats = "oj" if self.json_parser == "oj" else "ruby"
        return _native.json_formatter(floats, self.line_end(self.add_newline))
