"""A chunk as `forwarder buffer` and the control socket show it: plain values, as JSON has them."""

from __future__ import annotations

import time
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from forwarder._native import EventStream
from forwarder.buffer.fluentd import FluentdChunk

if TYPE_CHECKING:
    from forwarder.buffer.chunk import BufferChunk

_SHOWN: Final = 5
_TEXT_BYTES: Final = 1000


def plain(chunk: BufferChunk) -> dict[str, Any]:
    """What is known of a chunk without reading it."""
    created = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(chunk.created_at))
    return {
        "id": chunk.id.hex(), "state": chunk.state, "events": chunk.count, "bytes": chunk.size_bytes,
        "created": created, "from_fluentd": isinstance(chunk, FluentdChunk),
        "key": {"tag": chunk.key.tag, "timekey": chunk.key.timekey, "variables": dict(chunk.key.variables)},
    }  # fmt: skip


def shown(chunk: BufferChunk) -> dict[str, Any]:
    """As `plain`, with `content`: the first events, or the beginning of a text. Raises what reading does."""
    found = plain(chunk)
    content = chunk.read()
    try:
        found["content"] = [
            {"time_ns": time_ns, "record": record} for time_ns, record in islice(EventStream(content), _SHOWN)
        ]
    except ValueError:  # formatted text
        found["content"] = content[:_TEXT_BYTES].decode("utf-8", "replace")
    return found
