"""What was appended to a file buffer a moment ago, kept in memory as well.

At high rates a chunk is full and delivered within a second: then nothing is read back. Chunks that are older,
or for which there is no room or no memory, are read from the disk, block by block; and all of them while the
destination fails, when they only wait.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from forwarder._native import MemoryLoan
    from forwarder.buffer.file import FileChunk

YOUNG_SECONDS: Final = 1.0
RECENT_BYTES: Final = 24 << 20


class Recent:
    """The blocks of young chunks of one buffer. The caller holds the buffer's lock."""

    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes
        self._held = 0
        self._chunks: set[FileChunk] = set()
        self._failing = False
        self._loan: MemoryLoan | None = None

    def lend(self, loan: MemoryLoan) -> None:
        """What is kept is borrowed from here on."""
        self._loan = loan

    def note(self, chunk: FileChunk, data: bytes, now: float) -> None:
        """A block stands at the end of a chunk now."""
        blocks = chunk.recent
        if blocks is None or not chunk.all_recent:
            return
        if self._failing or now - chunk.born > YOUNG_SECONDS:
            self.forget(chunk)
        elif self._held + len(data) <= self._most and not (self._loan is not None and self._loan.full):
            blocks.append(data)
            chunk.in_memory += len(data)
            self._chunks.add(chunk)
            self._hold(len(data))
        else:
            chunk.all_recent = False

    def forget(self, chunk: FileChunk) -> None:
        """From here on all of the chunk is read from the disk."""
        self._hold(-chunk.in_memory)
        chunk.in_memory = 0
        chunk.recent = None
        self._chunks.discard(chunk)

    def failed(self) -> None:
        """The destination does not take a chunk: nothing is kept until it takes one."""
        self._failing = True
        for chunk in list(self._chunks):
            self.forget(chunk)

    def delivered(self) -> None:
        """It has taken one."""
        self._failing = False

    def _hold(self, size: int) -> None:
        self._held += size
        if self._loan is not None:
            self._loan.add(size)
