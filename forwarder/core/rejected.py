"""A chunk that the destination rejects: halved until the bad events are found, so that the good ones arrive.

Left to right, so order within the chunk holds. One bad event among n costs about 2 log2(n) writes more.
After `MOST_WRITES`, or when `HOPELESS` single events were all rejected and nothing was taken (it is not the
data then), nothing is halved any more: each part that is left is written once, and given up as a whole where
that fails.
What was written before the output raised is written again: at least once, as ever.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from forwarder._native import EventBatch, EventStream
from forwarder.api.errors import PartialWrite, UnrecoverableError

if TYPE_CHECKING:
    from forwarder.buffer.chunk import BufferChunk, Key

MOST_WRITES: Final = 100
HOPELESS: Final = 3
UNRECOVERABLE: Final = (UnrecoverableError, TypeError, AttributeError, UnicodeError)
"""Errors of the data or of the plugin's code: the same chunk would fail again."""


class Piece:
    """Some events of a chunk in a row (`forwarder.api.Chunk`)."""

    __slots__ = ("_parts", "_whole", "count", "created_at", "id", "key", "start")

    def __init__(self, whole: BufferChunk, parts: EventBatch | list[bytes], start: int) -> None:
        self._whole = whole
        self._parts = parts
        self.start = start
        """Its first event's place in the chunk."""
        self.count = len(parts)
        self.key: Key = whole.key
        self.created_at = whole.created_at
        from hashlib import blake2b  # noqa: PLC0415 - loads OpenSSL, and hardly anybody needs it

        place = f"{start}+{self.count}".encode()
        self.id = blake2b(whole.id + place, digest_size=16).digest()

    @classmethod
    def of(cls, chunk: BufferChunk, *, entries: bool) -> Piece | None:
        """All of a chunk; None: it cannot be taken apart (a text of which lines are no events)."""
        content = chunk.read()
        if entries:
            batch = EventBatch([(chunk.key.tag or "", EventStream(content))])
            return cls(chunk, batch, 0) if len(batch) == chunk.count else None
        lines = [line + b"\n" for line in content.split(b"\n")[:-1]]
        return cls(chunk, lines, 0) if len(lines) == chunk.count and content.endswith(b"\n") else None

    def halves(self) -> tuple[Piece, Piece]:
        """The first and the second half."""
        middle = self.count // 2
        if isinstance(self._parts, list):
            first: EventBatch | list[bytes] = self._parts[:middle]
            second: EventBatch | list[bytes] = self._parts[middle:]
        else:
            first, second = self._parts.slice(0, middle), self._parts.slice(middle, self.count)
        return Piece(self._whole, first, self.start), Piece(self._whole, second, self.start + middle)

    @property
    def batch(self) -> EventBatch | None:
        """The events, where they are entries."""
        return None if isinstance(self._parts, list) else self._parts

    @property
    def size_bytes(self) -> int:
        """Of the content."""
        return len(self.read())

    def blocks(self) -> Sequence[bytes]:
        """The content."""
        return [self.read()]

    def read(self) -> bytes:
        """The content as one piece."""
        return b"".join(self._parts) if isinstance(self._parts, list) else bytes(self._parts)

    def stream(self) -> EventStream:
        """The events."""
        return EventStream(self.read())


class Search:
    """Finds the bad events of a rejected chunk.

    Args:
        write: writes a piece; raises what the output raises. explained: asked after each write for the events
        of it that the output has named a reason for.
    """

    def __init__(self, write: Callable[[Piece], None], explained: Callable[[], int]) -> None:
        self._write = write
        self._explained = explained
        self.writes = 0
        self.delivered = 0
        """Events that were taken."""
        self.settled = 0
        """Events of which the output named a reason, for good."""
        self.repeated = 0
        """As `settled`, but of writes that failed: they come again."""
        self.bad: list[tuple[Piece, Exception]] = []
        self.rest: list[bytes] = []
        """What is to be tried later, in order."""
        self.rest_count = 0
        self.error: Exception | None = None
        """Why the rest is to be tried later."""

    def run(self, whole: Piece, error: Exception) -> None:
        """`error`: why the whole was rejected."""
        left = [whole]
        errors: dict[int, Exception] = {id(whole): error}
        while left:
            piece = left.pop()
            why = errors.pop(id(piece), None) or self._try(piece)
            if self.error is not None:
                left.reverse()
                for each in left:
                    self._keep(each.read(), each.count)
                return
            if why is None:
                continue
            if piece.count == 1 or self._enough():
                self.bad.append((piece, why))
                continue
            first, second = piece.halves()
            left += [second, first]

    def _enough(self) -> bool:
        alone = sum(piece.count == 1 for piece, _ in self.bad)
        return self.writes >= MOST_WRITES or (not self.delivered and alone >= HOPELESS)

    def _keep(self, rest: bytes, count: int) -> None:
        self.rest.append(rest)
        self.rest_count += count

    def _try(self, piece: Piece) -> Exception | None:
        """Why a piece is rejected; None: it is dealt with, or `error` says what is the matter."""
        self.writes += 1
        try:
            self._write(piece)
        except PartialWrite as error:
            explained = self._explained()
            self.settled += explained
            self.delivered += piece.count - error.count - explained
            self._keep(error.rest, error.count)
            self.error = error
        except UNRECOVERABLE as error:
            self.repeated += self._explained()
            return error
        except Exception as error:
            self.repeated += self._explained()
            self._keep(piece.read(), piece.count)
            self.error = error
        else:
            explained = self._explained()
            self.settled += explained
            self.delivered += piece.count - explained
        return None
