"""Chunks: what all kinds have in common, and those in memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import NamedTuple

from forwarder._native import EventStream


class Key(NamedTuple):
    """What all events of a chunk share (`forwarder.api.ChunkKey`)."""

    tag: str | None
    timekey: int | None
    variables: tuple[tuple[str, str | None], ...]


class BufferChunk:
    """A chunk of any buffer (`forwarder.api.Chunk`)."""

    __slots__ = (
        "_rest", "born", "count", "created_at", "id", "in_memory", "key", "number", "size_bytes", "state",
    )  # fmt: skip

    def __init__(
        self, key: Key, created_at: float, born: float, number: int, chunk_id: bytes | None = None
    ) -> None:
        self.id = chunk_id or os.urandom(16)
        self.number = number
        """Unique within the buffer."""
        self.key = key
        self.count = 0
        self.size_bytes = 0
        """As the buffer keeps it: compressed, where it compresses."""
        self.in_memory = 0
        """Part of it that a persistent buffer keeps in memory too."""
        self.created_at = created_at
        self.born = born
        """As `created_at`, on the clock that only goes forward."""
        self.state = "new"
        """"new" -> "staged" -> "queued" -> "flying" -> back to "queued", or "gone"."""

        self._rest: bytes | None = None

    def content(self) -> Sequence[bytes]:
        """What was appended, as `blocks` gives it. For kinds of chunks."""
        raise NotImplementedError

    def blocks(self) -> Sequence[bytes]:
        """The content as it was appended, or what is left of it."""
        return self.content() if self._rest is None else [self._rest]

    def replace(self, rest: bytes, count: int) -> None:
        """Puts `rest` in place of the content, in memory: what a crash undoes comes twice. The caller holds
        the buffer's lock."""
        self._rest = rest
        self.count = count
        self.size_bytes = len(rest)

    def read(self) -> bytes:
        """The content as one piece."""
        return b"".join(self.blocks())

    def stream(self) -> EventStream:
        """The events, for an output that does not format."""
        return EventStream(self.read())

    def __repr__(self) -> str:
        return f"<chunk {self.id.hex()}: {self.state}, {self.count} events, {self.size_bytes} bytes>"


class MemoryChunk(BufferChunk):
    """Formatted blocks, kept as they came, or compressed."""

    __slots__ = ("_blocks", "_unpack")

    def __init__(
        self, key: Key, created_at: float, born: float, number: int,
        unpack: Callable[[bytes], bytes] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(key, created_at, born, number)
        self._blocks: list[bytes] = []
        self._unpack = unpack

    def append(self, block: bytes) -> None:
        """Adds a block; the caller holds the buffer's lock."""
        self._blocks.append(block)

    def replace(self, rest: bytes, count: int) -> None:
        """Puts `rest` in place of the content."""
        super().replace(rest, count)
        self._blocks.clear()

    def content(self) -> Sequence[bytes]:
        """What was appended."""
        return self._blocks if self._unpack is None else [self._unpack(block) for block in self._blocks]
