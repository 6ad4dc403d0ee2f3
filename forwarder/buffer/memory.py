"""The memory buffer: a crash loses what it holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from forwarder.buffer.chunk import Key, MemoryChunk
from forwarder.buffer.compression import Codec, codec
from forwarder.buffer.stage import Buffer, Step

if TYPE_CHECKING:
    from forwarder._native import MemoryLoan
    from forwarder.buffer.limits import Limits
    from forwarder.buffer.stage import Block


class MemoryBuffer(Buffer):
    """Chunks in memory."""

    def __init__(self, limits: Limits, packing: Codec | None = None) -> None:
        super().__init__(limits)
        self._codec = packing or codec("text")
        number = self._codec.number
        unpack = self._codec.unpack
        self._unpack = (lambda data: unpack(data, number)) if self._codec.pack is not None else None

    def lend(self, loan: MemoryLoan) -> None:
        """All that the buffer holds is borrowed."""
        loan.set(self.size_bytes)
        self._loan = loan

    def make(self, key: Key, now: float, wall: float) -> MemoryChunk:
        """A new chunk."""
        return MemoryChunk(key, wall, now, next(self._number), self._unpack)

    def pack(self, blocks: list[Block]) -> list[Block]:
        """Compressed, where that is asked for."""
        pack = self._codec.pack
        return blocks if pack is None else [(key, pack(data), count) for key, data, count in blocks]

    def store(self, steps: list[Step]) -> None:
        """Keeps the blocks."""
        for step in steps:
            chunk = step.chunk
            assert isinstance(chunk, MemoryChunk)
            chunk.append(step.data)
