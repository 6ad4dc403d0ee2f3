"""A chunk as an output sees it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from forwarder._native import EventStream


class ChunkKey(Protocol):
    """What all events of a chunk share; None where it is no chunk key."""

    tag: str | None
    timekey: int | None
    """Start of the chunk's time slot, seconds since the epoch."""
    variables: tuple[tuple[str, str | None], ...]
    """(record field as written in the chunk keys, its value as text)."""


class Chunk(Protocol):
    """Some events on their way out, with one key."""

    id: bytes
    """16 bytes, unique, the same over all retries."""
    key: ChunkKey
    count: int
    size_bytes: int
    created_at: float
    """Seconds since the epoch."""

    def blocks(self) -> Sequence[bytes]:
        """The content as it was appended, without copying: formatted bytes, or MessagePack entries."""

    def read(self) -> bytes:
        """The content as one piece."""

    def stream(self) -> EventStream:
        """The events, for an output that does not format."""
