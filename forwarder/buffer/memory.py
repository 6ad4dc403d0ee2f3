"""The memory buffer: a crash loses what it holds; a stop saves what is left where there is a place for it."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from forwarder.buffer.chunk import Key, MemoryChunk
from forwarder.buffer.compression import Codec, codec
from forwarder.buffer.file import Recovery
from forwarder.buffer.fluentd import FluentdChunk
from forwarder.buffer.stage import Buffer, Step

if TYPE_CHECKING:
    from forwarder._native import MemoryLoan
    from forwarder.buffer.chunk import BufferChunk
    from forwarder.buffer.limits import Limits
    from forwarder.buffer.saved import Saved
    from forwarder.buffer.stage import Block


class MemoryBuffer(Buffer):
    """Chunks in memory."""

    def __init__(self, limits: Limits, packing: Codec | None = None, saved: Saved | None = None) -> None:
        super().__init__(limits)
        self.saved = saved
        self._codec = packing or codec("text")
        number = self._codec.number
        unpack = self._codec.unpack
        self._unpack = (lambda data: unpack(data, number)) if self._codec.pack is not None else None

    def lend(self, loan: MemoryLoan) -> None:
        """All that the buffer holds is borrowed."""
        loan.set(self.size_bytes)
        self._loan = loan

    def open(self, now: float, wall: float) -> Recovery | None:
        """Queues what an earlier process has saved."""
        if self.saved is None:
            return None
        chunks = self.saved.load(lambda created: now - max(0.0, wall - created), self._number)
        for chunk in chunks:
            chunk.state = "queued"
            self._ready.append(chunk)
            self.events += chunk.count
            self._grow(chunk.size_bytes)
        return Recovery(len(chunks), self.events, self.size_bytes, 0, {}, 0, 0, 0, 0) if chunks else None

    def ended(self, chunk: BufferChunk) -> None:
        """Removes the files of one that was saved."""
        if isinstance(chunk, FluentdChunk):
            with suppress(OSError):  # it comes again then
                chunk.unlink()

    def repair(self, chunk: BufferChunk) -> int:
        """Leaves out what cannot be read of one that was saved."""
        before = chunk.count
        if isinstance(chunk, FluentdChunk):
            chunk.count, _ = chunk.cut()
        self.events -= before - chunk.count
        return before - chunk.count

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
