"""The none parser: takes the whole text as one field.

*Delivery*: nothing is lost; every text gives one event.

*Differs from Fluentd*: a text that is not UTF-8 keeps its bytes.
"""

from __future__ import annotations

from forwarder import _native
from forwarder.api import CompiledParser, string
from forwarder.api.parsing import CommonParser


class NoneParser(CommonParser):
    """`{"message": text}`."""

    message_key = string("Field that takes the text.", "message")

    def configure(self) -> None:
        super().configure()
        self._compiled = self.compile(_native.none_parser, self.message_key, self.options())

    def compiled(self) -> CompiledParser:
        return self._compiled
