"""The memory buffer: chunks that grow (staged), wait (queued) or are being written (flying).

Not locked: whoever uses it from several threads holds one lock around every call. Two clocks are passed
in: `now`, which only goes forward (ages, retries), and `wall`, seconds since the epoch (time slots).
Another kind of buffer has the same methods (`Buffer`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from heapq import heappop, heappush
from itertools import count as counter
from typing import TYPE_CHECKING, Protocol

from forwarder.buffer.chunk import Key, MemoryChunk

if TYPE_CHECKING:
    from forwarder.buffer.limits import Limits


class Buffer(Protocol):
    """What delivery needs of a buffer."""

    events: int
    size_bytes: int

    @property
    def full(self) -> bool: ...
    def append(
        self, key: Key, block: bytes, count: int, now: float, wall: float, *, queue: bool = False
    ) -> bool: ...
    def queue_due(self, now: float, wall: float) -> None: ...
    def queue_all(self) -> None: ...
    def take(self, now: float) -> MemoryChunk | None: ...
    def give_back(self, chunk: MemoryChunk, at: float) -> None: ...
    def remove(self, chunk: MemoryChunk) -> bool: ...
    def shrink(self, chunk: MemoryChunk, rest: bytes, count: int) -> None: ...
    def oldest(self) -> MemoryChunk | None: ...


class MemoryBuffer:
    """Chunks in memory; a crash loses them."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.events = 0
        self.size_bytes = 0
        self.staged: dict[Key, MemoryChunk] = {}
        self.flying: dict[bytes, MemoryChunk] = {}
        self._ready: deque[MemoryChunk] = deque()
        self._number = counter()
        self._waiting: list[tuple[float, int, MemoryChunk]] = []  # heap of (when, tie, chunk)
        # Heaps of (when, number of the chunk, key). What names a chunk that is not staged any more is
        # skipped when it comes up; it does not hold the chunk, whose content would stay in memory.
        self._by_age: list[tuple[float, int, Key]] = []
        self._by_slot: list[tuple[float, int, Key]] = []

    @property
    def queued(self) -> int:
        """Number of queued chunks, those that wait for a retry included."""
        return len(self._ready) + len(self._waiting)

    @property
    def full(self) -> bool:
        """Whether nothing more may be appended. The limit is soft by one batch per emitting thread."""
        return self.size_bytes >= self.limits.total_bytes

    def append(
        self, key: Key, block: bytes, count: int, now: float, wall: float, *, queue: bool = False
    ) -> bool:
        """Adds a block to the staged chunk of `key`. The block itself fits a chunk, or is one event.

        Returns:
            Whether flush threads have something new to look at: a queued chunk, or a new one that
            becomes due.
        """
        limits = self.limits
        chunk = self.staged.get(key)
        news = False
        if chunk is not None and not limits.fits(chunk.size_bytes + len(block), chunk.count + count):
            self._queue(chunk)
            chunk = None
            news = True
        if chunk is None:
            chunk = self.staged[key] = MemoryChunk(key, wall, now, next(self._number))
        chunk.append(block, count)
        self.events += count
        self.size_bytes += len(block)
        if queue or limits.full(chunk.size_bytes, chunk.count):
            self._queue(chunk)
            return True
        if len(chunk.blocks()) == 1:
            news = self._plan(chunk, now, wall) or news
        return news

    def queue_due(self, now: float, wall: float) -> None:
        """Queues the staged chunks whose time has come, unless too many are queued already."""
        for heap, time in ((self._by_age, now), (self._by_slot, wall)):
            while heap:
                chunk = self._planned(heap[0])
                if chunk is not None:
                    if heap[0][0] > time:
                        break
                    if self.queued >= self.limits.queued_chunks:
                        return
                    self._queue(chunk)
                heappop(heap)

    def next_due(self, now: float, wall: float) -> float | None:
        """Seconds until `queue_due` or `take` has something to do; None: not before an append."""
        waits = [self._waiting[0][0] - now] if self._waiting else []
        if self.queued < self.limits.queued_chunks:
            for heap, time in ((self._by_age, now), (self._by_slot, wall)):
                while heap and self._planned(heap[0]) is None:
                    heappop(heap)
                if heap:
                    waits.append(heap[0][0] - time)
        return max(0.0, min(waits)) if waits else None

    def queue_all(self) -> None:
        """Queues all staged chunks."""
        for chunk in list(self.staged.values()):
            self._queue(chunk)

    def take(self, now: float) -> MemoryChunk | None:
        """The next chunk to write, which is flying then; None: none yet. Retries that are due come before
        chunks that were never tried."""
        if self._waiting and self._waiting[0][0] <= now:
            chunk = heappop(self._waiting)[2]
        elif self._ready:
            chunk = self._ready.popleft()
        else:
            return None
        chunk.state = "flying"
        self.flying[chunk.id] = chunk
        return chunk

    def give_back(self, chunk: MemoryChunk, at: float) -> None:
        """Takes a flying chunk back, to be taken again from `at` on."""
        if self.flying.pop(chunk.id, None) is not None:
            chunk.state = "queued"
            heappush(self._waiting, (at, next(self._number), chunk))

    def remove(self, chunk: MemoryChunk) -> bool:
        """Ends a flying chunk: delivered, or given up. False where it is gone already."""
        if self.flying.pop(chunk.id, None) is None:
            return False
        self._forget(chunk)
        return True

    def shrink(self, chunk: MemoryChunk, rest: bytes, count: int) -> None:
        """Leaves `rest` (`count` events) of a flying chunk; the others are dealt with."""
        if chunk.id in self.flying:
            self.events -= chunk.count - count
            self.size_bytes -= chunk.size_bytes - len(rest)
            chunk.replace(rest, count)

    def oldest(self) -> MemoryChunk | None:
        """Removes the oldest chunk that is not being written (queued ones first); None: there is none."""
        if self._ready:
            chunk = self._ready.popleft()
        elif self._waiting:
            chunk = heappop(self._waiting)[2]
        elif self.staged:
            chunk = self.staged.pop(next(iter(self.staged)))
        else:
            return None
        self._forget(chunk)
        return chunk

    def chunks(self) -> Iterator[MemoryChunk]:
        """All chunks, the flying ones first."""
        yield from self.flying.values()
        yield from (entry[2] for entry in self._waiting)
        yield from self._ready
        yield from self.staged.values()

    def _forget(self, chunk: MemoryChunk) -> None:
        chunk.state = "gone"
        self.events -= chunk.count
        self.size_bytes -= chunk.size_bytes

    def _planned(self, entry: tuple[float, int, Key]) -> MemoryChunk | None:
        chunk = self.staged.get(entry[2])
        return chunk if chunk is not None and chunk.number == entry[1] else None

    def _queue(self, chunk: MemoryChunk) -> None:
        del self.staged[chunk.key]
        chunk.state = "queued"
        self._ready.append(chunk)

    def _plan(self, chunk: MemoryChunk, now: float, wall: float) -> bool:
        limits = self.limits
        planned = False
        if limits.flush_seconds is not None:
            heappush(self._by_age, (now + limits.flush_seconds, chunk.number, chunk.key))
            planned = True
        if limits.timekey is not None and chunk.key.timekey is not None:
            due = chunk.key.timekey + limits.timekey + limits.timekey_wait
            # late events come in batches too: without a pause each would be a chunk
            due = max(due, wall + limits.late_seconds)
            heappush(self._by_slot, (due, chunk.number, chunk.key))
            planned = True
        return planned
