"""The multiline_grok parser: grok over texts of several lines, where the dot matches newlines too.

*Delivery*, *Differs from Fluentd*: as the grok parser.

Inputs that read lines (tail) start a new text at each line that matches `multiline_start_regexp`; other
inputs hand over whole texts anyway.
"""

from __future__ import annotations

from forwarder import _native
from forwarder.api import ConfigError, string
from forwarder.parsers.grok import GrokParser


class MultilineGrokParser(GrokParser):
    """As `grok`, for whole texts."""

    multiline_start_regexp = string("Regexp of a text's first line, between slashes.", None)

    _multiline = True

    def configure(self) -> None:
        super().configure()
        start = self.multiline_start_regexp
        if start is None:
            return
        # The plugin takes the first and the last character away, whatever they are, and ignores flags.
        try:
            _native.check_regexp(start[1:-1])
        except ValueError as error:
            raise ConfigError(str(error.args[0]), param="multiline_start_regexp") from None
