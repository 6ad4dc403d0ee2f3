"""`<format> @type msgpack`: the record as a MessagePack map, with nothing between records."""

from __future__ import annotations

from forwarder import _native
from forwarder.api import CompiledFormatter
from forwarder.api.formatting import CommonFormatter


class MsgpackFormatter(CommonFormatter):
    """Records as MessagePack."""

    def make(self) -> CompiledFormatter:
        return _native.msgpack_formatter()
