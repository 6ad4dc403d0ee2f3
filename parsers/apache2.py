"""The apache2 parser: Apache's common and combined access logs with typed fields.

Fields, always all of them: host, user, method, path, code, size, referer, agent. `code` and `size` are
integers; `-` is nil, a code of 0 too. Requests, referers and agents may hold escaped quotes.

*Delivery*: a line that does not fit gives no event (`unmatched`), likewise one with a time that does not
(`invalid_time`).
"""

from __future__ import annotations

from forwarder import _native
from forwarder.api import CompiledParser
from forwarder.api.parsing import CommonParser


class Apache2Parser(CommonParser):
    """One event for each line of the log. Of the common parameters only `keep_time_key` has a meaning."""

    def configure(self) -> None:
        super().configure()
        self._compiled = self.compile(_native.apache2_parser, self.options())

    def compiled(self) -> CompiledParser:
        return self._compiled
