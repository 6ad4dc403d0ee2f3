"""Chunks that grow (staged), wait (queued) or are being written (flying), wherever their content is kept.

Not locked: whoever uses it from several threads holds one lock around every call. Two clocks are passed
in: `now`, which only goes forward (ages, retries), and `wall`, seconds since the epoch (time slots).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from heapq import heapify, heappop, heappush
from itertools import count as counter
from typing import TYPE_CHECKING, NamedTuple

from forwarder.buffer.chunk import BufferChunk, Key

if TYPE_CHECKING:
    from forwarder._native import MemoryLoan
    from forwarder.buffer.file import Recovery
    from forwarder.buffer.limits import Limits

    Block = tuple[Key, bytes, int]
    """(chunk key, data, number of events)."""

_PASSED_OVER = 16
"""So many chunks that wait for a retry keep none from being queued, where the limit is the default."""


class Step(NamedTuple):
    """Where one block goes."""

    before: BufferChunk | None
    """Has no room for it: is queued first."""
    chunk: BufferChunk
    data: bytes
    events: int
    full: bool
    """The chunk is queued behind it."""


class Buffer:
    """What delivery needs of a buffer; how content is kept is left to `make` and `store`."""

    persistent = False
    """Whether what it holds outlives the process."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.events = 0
        self.size_bytes = 0
        self.staged: dict[Key, BufferChunk] = {}
        self.flying: dict[bytes, BufferChunk] = {}
        self._ready: deque[BufferChunk] = deque()
        self._loan: MemoryLoan | None = None
        self._number = counter()
        self._retried = False
        """The chunk that was taken last had been tried before."""
        self._waiting: list[tuple[float, int, BufferChunk]] = []  # heap of (when, tie, chunk)
        # Heaps of (when, number of the chunk, key). What names a chunk that is not staged any more is
        # skipped when it comes up; it does not hold the chunk, whose content would stay in memory.
        self._by_age: list[tuple[float, int, Key]] = []
        self._by_slot: list[tuple[float, int, Key]] = []

    # ------------------------------------------------------------ for kinds of buffers

    def make(self, key: Key, now: float, wall: float) -> BufferChunk:
        """A new chunk."""
        raise NotImplementedError

    def store(self, steps: list[Step]) -> None:
        """Keeps the content of all blocks. Raises OSError: of none."""
        raise NotImplementedError

    def closed(self, chunk: BufferChunk) -> None:
        """A chunk is queued: it does not grow any more."""

    def ended(self, chunk: BufferChunk) -> None:
        """A chunk is gone: delivered or given up."""

    def lend(self, loan: MemoryLoan) -> None:
        """What the buffer keeps in memory is borrowed from here on."""

    def open(self, now: float, wall: float) -> Recovery | None:
        """Before the first use. Raises OSError."""
        return None

    def close(self) -> None:
        """After the last use."""

    def repair(self, chunk: BufferChunk) -> int:
        """Takes out of a flying chunk what cannot be read any more. Gives the events lost. Raises OSError."""
        return 0

    @property
    def failing(self) -> bool:
        """Whether nothing can be kept at the moment, whatever room there is."""
        return False

    def confirm(self, chunk: BufferChunk) -> None:
        """Before a flying chunk is written: makes it as safe as the configuration asks for."""

    def settle(self) -> None:
        """Makes what was appended as safe as the configuration asks for; called without the lock.

        Raises:
            OSError: it is not.
        """

    # ------------------------------------------------------------ use

    @property
    def queued(self) -> int:
        """Number of queued chunks, those that wait for a retry included."""
        return len(self._ready) + len(self._waiting)

    @property
    def _queues(self) -> bool:
        """Whether a chunk is queued for its age or its time slot."""
        waiting = len(self._waiting) - (0 if self.limits.waiting_count else _PASSED_OVER)
        return len(self._ready) + max(0, waiting) < self.limits.queued_chunks

    @property
    def full(self) -> bool:
        """Whether nothing more may be appended. The limit is soft by one batch per emitting thread."""
        return self.size_bytes >= self.limits.total_bytes or self.short

    @property
    def short(self) -> bool:
        """Whether the process has no more memory to lend to this buffer."""
        return self._loan is not None and self._loan.full

    def pack(self, blocks: list[Block]) -> list[Block]:
        """The blocks as `append_all` takes them (compressed); needs no lock."""
        return blocks

    def append(
        self, key: Key, block: bytes, count: int, now: float, wall: float, *, queue: bool = False
    ) -> bool:
        """`append_all` of one block."""
        return self.append_all(((key, block, count),), now, wall, queue=queue)

    def append_all(self, blocks: Iterable[Block], now: float, wall: float, *, queue: bool = False) -> bool:
        """Adds blocks to the staged chunks of their keys, all or none. Each fits a chunk, or is one event.

        Returns:
            Whether flush threads have something new to look at: a queued chunk, or a new one that
            becomes due.

        Raises:
            OSError: they cannot be kept; nothing has changed.
        """
        steps = self._steps(blocks, now, wall, queue=queue)
        self.store(steps)
        news = False
        grown = 0
        for before, chunk, data, count, full in steps:
            if before is not None:
                self._queue(before)
                news = True
            fresh = chunk.state == "new"
            if fresh:
                chunk.state = "staged"
                self.staged[chunk.key] = chunk
            size = len(data)
            chunk.count += count
            chunk.size_bytes += size
            self.events += count
            grown += size
            if full:
                self._queue(chunk)
                news = True
            elif fresh:
                news = self._plan(chunk, now, wall) or news
        self._grow(grown)
        return news

    def _steps(self, blocks: Iterable[Block], now: float, wall: float, *, queue: bool) -> list[Step]:
        """Decides where blocks go; changes nothing."""
        limits = self.limits
        steps: list[Step] = []
        growing: dict[Key, tuple[BufferChunk, int, int] | None] = {}
        for key, data, count in blocks:
            if key in growing:
                state = growing[key]
            else:
                found = self.staged.get(key)
                state = None if found is None else (found, found.size_bytes, found.count)
            before = None
            if state is not None and not limits.fits(state[1] + len(data), state[2] + count):
                before, state = state[0], None
            if state is None:
                state = (self.make(key, now, wall), 0, 0)
            chunk, size, events = state[0], state[1] + len(data), state[2] + count
            full = queue or limits.full(size, events)
            growing[key] = None if full else (chunk, size, events)
            steps.append(Step(before, chunk, data, count, full))
        return steps

    def queue_due(self, now: float, wall: float) -> None:
        """Queues the staged chunks whose time has come, unless too many are queued already."""
        for heap, time in ((self._by_age, now), (self._by_slot, wall)):
            while heap:
                chunk = self._planned(heap[0])
                if chunk is not None:
                    if heap[0][0] > time:
                        break
                    if not self._queues:
                        return
                    self._queue(chunk)
                heappop(heap)

    def next_due(self, now: float, wall: float) -> float | None:
        """Seconds until `queue_due` or `take` has something to do; None: not before an append."""
        waits = [self._waiting[0][0] - now] if self._waiting else []
        if self._queues:
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

    def take(self, now: float) -> BufferChunk | None:
        """The next chunk to write, which is flying then; None: none yet. Retries that are due and chunks
        that were never tried take turns: no chunk can hold up the others, however often it fails."""
        due = bool(self._waiting) and self._waiting[0][0] <= now
        if due and not (self._ready and self._retried):
            chunk = heappop(self._waiting)[2]
            self._retried = True
        elif self._ready:
            chunk = self._ready.popleft()
            self._retried = False
        else:
            return None
        chunk.state = "flying"
        self.flying[chunk.id] = chunk
        return chunk

    def give_back(self, chunk: BufferChunk, at: float) -> None:
        """Takes a flying chunk back, to be taken again from `at` on."""
        if self.flying.pop(chunk.id, None) is not None:
            chunk.state = "queued"
            heappush(self._waiting, (at, next(self._number), chunk))

    def remove(self, chunk: BufferChunk) -> bool:
        """Ends a flying chunk: delivered, or given up. False where it is gone already."""
        if self.flying.pop(chunk.id, None) is None:
            return False
        self._forget(chunk)
        return True

    def shrink(self, chunk: BufferChunk, rest: bytes, count: int) -> None:
        """Leaves `rest` (`count` events) of a flying chunk; the others are dealt with."""
        if chunk.id in self.flying:
            self.events -= chunk.count - count
            self._grow(len(rest) - chunk.size_bytes)
            chunk.replace(rest, count)

    def queue(self, chunk: BufferChunk) -> None:
        """Queues a staged chunk."""
        self._queue(chunk)

    def discard(self, chunk: BufferChunk) -> None:
        """Removes a chunk that is staged or queued."""
        if chunk.state == "staged":
            del self.staged[chunk.key]
        elif chunk in self._ready:
            self._ready.remove(chunk)
        else:
            self._unwait(chunk)
        self._forget(chunk)

    def hasten(self, chunk: BufferChunk) -> None:
        """Makes a staged or queued chunk due at once."""
        if chunk.state == "staged":
            self._queue(chunk)
        elif self._unwait(chunk):
            self._ready.appendleft(chunk)

    def oldest(self) -> BufferChunk | None:
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

    def chunks(self) -> Iterator[BufferChunk]:
        """All chunks, the flying ones first."""
        yield from self.flying.values()
        yield from (entry[2] for entry in self._waiting)
        yield from self._ready
        yield from self.staged.values()

    # ------------------------------------------------------------ inside

    def _unwait(self, chunk: BufferChunk) -> bool:
        """Takes a chunk out of those that wait for a retry; False: it is none of them."""
        left = [entry for entry in self._waiting if entry[2] is not chunk]
        found = len(left) < len(self._waiting)
        if found:
            heapify(left)
            self._waiting = left
        return found

    def _forget(self, chunk: BufferChunk) -> None:
        chunk.state = "gone"
        self.events -= chunk.count
        self._grow(-chunk.size_bytes)
        self.ended(chunk)

    def _grow(self, size: int) -> None:
        self.size_bytes += size
        if self._loan is not None:
            self._loan.add(size)

    def _planned(self, entry: tuple[float, int, Key]) -> BufferChunk | None:
        chunk = self.staged.get(entry[2])
        return chunk if chunk is not None and chunk.number == entry[1] else None

    def _queue(self, chunk: BufferChunk) -> None:
        del self.staged[chunk.key]
        chunk.state = "queued"
        self._ready.append(chunk)
        self.closed(chunk)

    def _plan(self, chunk: BufferChunk, now: float, wall: float) -> bool:
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
