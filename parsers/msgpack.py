"""The msgpack parser: a MessagePack map is an event; an array of maps is several, and so are values behind
each other.

For inputs and filters whose texts are bytes: `exec`, `http`, `udp`, the parser filter. Inputs that read
lines cut it at bytes that look like line ends.

*Delivery*: bytes that are not MessagePack, or that end within a value, give no event (`malformed`); nesting
deeper than 512 levels neither (`limit`). Values that are no maps are counted as unmatched and do not harm
their neighbours. A time field that does not fit costs its event (`invalid_time` where it is the only one).

*Differs from Fluentd*: a text is complete; Fluentd waits for the rest of a value with the next text. A text
that is not UTF-8 keeps its bytes.
"""

from __future__ import annotations

from forwarder import _native
from forwarder.api import CompiledParser
from forwarder.api.parsing import CommonParser


class MsgpackParser(CommonParser):
    """MessagePack maps."""

    def configure(self) -> None:
        super().configure()
        self._compiled = self.compile(_native.msgpack_parser, self.options())

    def compiled(self) -> CompiledParser:
        return self._compiled
