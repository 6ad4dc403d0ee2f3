"""A chunk in memory."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from forwarder._native import EventStream

if TYPE_CHECKING:
    from collections.abc import Sequence


class Key(NamedTuple):
    """What all events of a chunk share (`forwarder.api.ChunkKey`)."""

    tag: str | None
    timekey: int | None
    variables: tuple[tuple[str, str | None], ...]


class MemoryChunk:
    """Formatted blocks, kept as they came (`forwarder.api.Chunk`)."""

    __slots__ = ("_blocks", "born", "count", "created_at", "id", "key", "number", "size_bytes", "state")

    def __init__(self, key: Key, created_at: float, born: float, number: int) -> None:
        self.id = os.urandom(16)
        self.number = number
        """Unique within the buffer."""
        self.key = key
        self.count = 0
        self.size_bytes = 0
        self.created_at = created_at
        self.born = born
        """As `created_at`, on the clock that only goes forward."""
        self.state = "staged"
        """"staged" -> "queued" -> "flying" -> back to "queued", or "gone"."""
        self._blocks: list[bytes] = []

    def append(self, block: bytes, count: int) -> None:
        """Adds a block; the caller holds the buffer's lock."""
        self._blocks.append(block)
        self.count += count
        self.size_bytes += len(block)

    def replace(self, block: bytes, count: int) -> None:
        """Puts `block` in place of the content; the caller holds the buffer's lock."""
        self._blocks = [block]
        self.count = count
        self.size_bytes = len(block)

    def blocks(self) -> Sequence[bytes]:
        """The content as it was appended."""
        return self._blocks

    def read(self) -> bytes:
        """The content as one piece."""
        return b"".join(self._blocks)

    def stream(self) -> EventStream:
        """The events, for an output that does not format."""
        return EventStream(self.read())

    def __repr__(self) -> str:
        return f"<chunk {self.id.hex()}: {self.state}, {self.count} events, {self.size_bytes} bytes>"
