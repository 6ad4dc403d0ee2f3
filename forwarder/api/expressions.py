"""Expressions outside of events: docs/expressions.md without what an event gives."""

from __future__ import annotations

import re
import socket
from typing import Final

from forwarder import _native
from forwarder._native import EventBatch, EventStream

_QUOTED: Final = re.compile(r""""(?:[^"\\#]|\\.|#(?!\{))*"|'(?:[^'\\]|\\.)*'""")
_OF_EVENTS: Final = re.compile(r"(?<![.\w])(?:record|tag|tag_parts|tag_prefix|tag_suffix|time)\b")


def evaluate(source: str) -> str:
    """What an expression gives, as text.

    Raises:
        ValueError: it is not understood, asks for an event, or raises.
    """
    if _OF_EVENTS.search(_QUOTED.sub("''", source)):
        raise ValueError("there is no event here")
    transformer, unknown = _native.RecordTransformer.compile(
        {"value": "${" + source + "}"}, remove_keys=[], keep_keys=None, renew_time_key=None,
        auto_typecast=False, ruby=True, hostname=socket.gethostname(),
    )  # fmt: skip
    if unknown:
        raise ValueError(unknown[0][2])
    good, _, raised, why, _ = transformer.apply(EventBatch([("", EventStream.from_events([(0, {})]))]))
    if raised:
        raise ValueError(why)
    ((_, stream),) = good.streams()
    ((_, record),) = stream
    return str(record["value"])
