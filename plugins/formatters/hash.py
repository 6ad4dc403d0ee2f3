"""`<format> @type hash`: the record as Ruby 3.1 prints a Hash: `{"a"=>1, "b"=>nil}`.

*Differs from Fluentd*: characters that Unicode has not assigned yet are printed, not escaped.
"""

from __future__ import annotations

from forwarder import _native
from forwarder.api import CompiledFormatter, boolean
from forwarder.api.formatting import LineFormatter


class HashFormatter(LineFormatter):
    """Records in Ruby's notation."""

    add_newline = boolean("A line end behind each record.", True)

    def make(self) -> CompiledFormatter:
        return _native.hash_formatter(self.line_end(self.add_newline))
