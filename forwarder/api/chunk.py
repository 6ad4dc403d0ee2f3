"""A chunk as an output sees it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from forwarder._native import EventStream


class ChunkKey(Protocol):
    """What all events of a chunk share; None where it is no chunk key."""

    @property
    def tag(self) -> str | None: ...
    @property
    def timekey(self) -> int | None:
        """Start of the chunk's time slot, seconds since the epoch."""

    @property
    def variables(self) -> tuple[tuple[str, str | None], ...]:
        """(record field as written in the chunk keys, its value as text)."""


class Chunk(Protocol):
    """Some events on their way out, with one key."""

    @property
    def id(self) -> bytes:
        """16 bytes, unique, the same over all retries."""

    @property
    def key(self) -> ChunkKey: ...
    @property
    def count(self) -> int: ...
    @property
    def size_bytes(self) -> int: ...
    @property
    def created_at(self) -> float:
        """Seconds since the epoch."""

    def blocks(self) -> Sequence[bytes]:
        """The content as it was appended, without copying: formatted bytes, or MessagePack entries."""

    def read(self) -> bytes:
        """The content as one piece."""

    def stream(self) -> EventStream:
        """The events, for an output that does not format."""
