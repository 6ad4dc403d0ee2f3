"""Buffered delivery of one output: append on one side, flush threads on the other.

A flush thread sleeps until something is due: a queued chunk, the age or time slot of a staged one, a retry,
a confirmation that did not come. So nothing wakes up at rest, and no timer is needed besides.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Thread
from typing import TYPE_CHECKING, Final, cast

from forwarder.api.errors import BufferOverflow
from forwarder.buffer.limits import Limits
from forwarder.buffer.memory import MemoryBuffer
from forwarder.core.blocks import Blocks
from forwarder.core.buffers import recovered
from forwarder.core.figures import buffer_metrics
from forwarder.core.implements import delays
from forwarder.core.operator import Operator
from forwarder.core.pipeline import OutputNode
from forwarder.core.writing import DISK_PATIENCE, ChunkWriter

if TYPE_CHECKING:
    from forwarder._native import EventBatch, MemoryLoan
    from forwarder.api.metrics import BufferMetrics
    from forwarder.api.plugin import Output
    from forwarder.buffer.chunk import BufferChunk
    from forwarder.buffer.stage import Buffer
    from forwarder.core.context import PluginContext

_ANY_TIME: Final = 1e18
_LOCK_SECONDS: Final = 5.0
_LONGEST_WAIT: Final = 60.0
"""The wall clock may be set while a time slot is waited for."""


class BufferedOutput(OutputNode):
    """An output behind a buffer."""

    def __init__(
        self, plugin: Output, context: PluginContext, *, secondary: Output | None = None,
        buffer: Buffer | None = None, pack: Callable[[bytes], bytes] | None = None,
        now: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        self.plugin = plugin
        self.context = context
        self.secondary = secondary
        self._now = now
        self._wall = wall
        section = plugin.buffer
        kept: Buffer = MemoryBuffer(Limits.of(section)) if buffer is None else buffer
        self.limits = kept.limits
        self._blocks = Blocks(plugin, context, self.limits)
        self._keeps = kept.persistent
        self._immediate = section.flush_mode == "immediate"
        self._overflow = section.overflow_action
        self._throws = self._overflow == "throw_exception"
        self._burst = section.flush_thread_burst_interval or 0.0
        flush = section.flush_at_shutdown
        self._flush_at_shutdown = not self._keeps if flush is None else flush
        self.writer = writer = ChunkWriter(
            plugin, context, secondary=secondary, buffer=kept, pack=pack, now=now, wall=wall
        )
        self.operator = Operator(writer)
        self._work, self._room = writer.work, writer.room
        self._retries, self._unconfirmed = writer.retries, writer.unconfirmed
        self._threads: list[Thread] = []
        self._loan: MemoryLoan | None = None
        self._reading = 0
        """Chunks of a persistent buffer that flush threads have at hand."""
        self._leaves = False
        """Stopping, and what is buffered stays there for the next start."""
        self._closed = False
        self._saved = 0
        """Events that were left in memory at the end."""
        vars(plugin).update(
            admit=self.admit, deliver=self.deliver, commit=writer.commit, rollback=writer.rollback
        )
        if secondary is not None:
            vars(secondary).update(commit=writer.commit, rollback=writer.rollback)

    @property
    def buffer(self) -> Buffer:
        """Where chunks are kept."""
        return self.writer.buffer

    # ------------------------------------------------------------ the emitting threads

    def admit(self, batch: EventBatch) -> None:
        """Makes room as `overflow_action` says, or raises BufferOverflow.

        With `throw_exception` and a label `@ERROR` that has room the batch may come: it goes there.
        """
        # one comparison; a race costs at most one batch above the soft limit
        if not self._full() and not self.buffer.failing:
            return
        if self._throws and not self.buffer.failing and self.context.error_admits(batch):
            return
        with self._work:
            if self._overflow == "drop_oldest_chunk":
                while self._full():
                    reason = "memory" if self.buffer.short else "overflow"
                    chunk = self.buffer.oldest()
                    if chunk is None:
                        break
                    self._retries.pop(chunk.id, None)
                    self.context.counters.displace()
                    self.context.counters.lose(chunk.count, reason)
                    self.context.log_repeated("buffer is full: oldest chunk dropped", events=chunk.count)
            elif self._overflow == "block":
                if self._full() and not self._closed:
                    self.context.log_repeated("buffer is full: input waits")
                while (self._full() or self.buffer.failing) and not self._closed and not self.writer.draining:
                    # others may give memory back, who do not notify
                    alone = not self.buffer.failing and not self.buffer.short
                    self._room.wait(None if alone else DISK_PATIENCE)
            if not self._full() and not self.buffer.failing and not self._closed:
                return
        if self.buffer.failing:
            raise BufferOverflow(f"{self.context.id}: the buffer's disk takes nothing at the moment")
        self.context.log_repeated("buffer is full", count=1, bytes=self.buffer.size_bytes)
        raise self._overflowed()

    def _overflowed(self) -> BufferOverflow:
        if not self.buffer.short:
            return BufferOverflow(f"{self.context.id}: buffer is full ({self.buffer.size_bytes} bytes)")
        error = BufferOverflow(
            f"{self.context.id}: no memory is left (memory_limit_size); this buffer has "
            f"{self.buffer.size_bytes} bytes"
        )
        error.reason = "memory"
        return error

    def _full(self) -> bool:
        return self.buffer.full

    def deliver(self, batch: EventBatch, *, to_error: bool = True) -> bool:
        """Formats and appends."""
        counters = self.context.counters
        count = len(batch)
        counters.take(count)
        if counters.sized:
            counters.weigh(batch.nbytes)
        if to_error and self._throws and self._full() and self.context.has_error_label:
            error = self._overflowed()
            self.context.fail(batch, error.reason, error)
            return False
        counters.frame.explained = 0
        try:
            blocks = self._blocks.of(batch)
        except Exception as error:
            self.context.log_raised("format raised", error, count=count)
            left = count - counters.frame.explained
            if to_error and left == count:
                self.context.fail(batch, "format_error", error)
            else:
                counters.lose(max(0, left), "format_error")
            return False
        blocks = self.buffer.pack(blocks)
        try:
            with self._work:
                if self._closed:
                    counters.lose(sum(block[2] for block in blocks), "shutdown")
                    return False
                if self.buffer.append_all(blocks, self._now(), self._wall(), queue=self._immediate):
                    self._work.notify()
        except OSError as error:
            # nothing is in the buffer: the input keeps the batch, or counts it
            refusal = self._refused(error)
            refusal.refused = count - counters.frame.explained
            counters.refuse(refusal.refused)
            raise refusal from error
        try:
            self.buffer.settle()
        except OSError as error:
            raise self._refused(error) from error  # it is in the buffer, and may come again
        return True

    def _refused(self, error: OSError) -> BufferOverflow:
        self.context.log_repeated(
            "cannot write to the buffer: events are refused", level="error", error=error
        )
        return BufferOverflow(f"{self.context.id}: cannot write to the buffer: {error}")

    # ------------------------------------------------------------ the flush threads

    def start(self, *, idle: bool = False) -> None:
        """Opens the buffer and starts the flush threads; `idle`: they follow at `begin`.

        Raises:
            OSError: the buffer cannot be opened.
        """
        self._loan = self.context.borrow()
        self.buffer.lend(self._loan)
        recovery = self.buffer.open(self._now(), self._wall())
        if recovery is not None:
            recovered(recovery, self.context)
        if not idle:
            self.begin()

    def begin(self) -> None:
        """Starts the flush threads."""
        for number in range(self.plugin.buffer.flush_thread_count):
            thread = Thread(target=self._run, name=f"{self.context.id}-flush-{number}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def flush(self) -> None:
        """Queues everything now (SIGUSR1)."""
        with self._work:
            self.buffer.queue_all()
            self._work.notify_all()

    def _run(self) -> None:
        for output in (self.plugin, self.secondary):
            if output is not None and not delays(output):
                cast("PluginContext", output.context).counters.frame.flying = self.context.counters
        while True:
            chunk = self._next()
            if chunk is None:
                return
            held = self._hold_in_memory(chunk)
            try:
                self.writer.write(chunk)
            except Exception as error:  # ours, not the plugin's
                self.context.log.error("flush thread failed", exc_info=error)
                self.writer.failed(chunk, error, by_secondary=False)
            finally:
                self._let_go_of_memory(held)
            del chunk  # or its content stays in memory while this thread waits for the next
            if self._burst and not self.writer.draining:
                with self._work:
                    self._work.wait_for(lambda: self.writer.draining, self._burst)

    def _hold_in_memory(self, chunk: BufferChunk) -> int:
        """Borrows for the content of a chunk that an output reads from disk."""
        loan = self._loan
        if not self._keeps or loan is None:
            return 0
        held = chunk.size_bytes - chunk.in_memory
        loan.add(held)
        return held

    def _let_go_of_memory(self, held: int) -> None:
        if not self._keeps:
            return
        with self._work:
            if self._loan is not None:
                self._loan.add(-held)
            self._reading -= 1
            self._work.notify_all()

    def _short(self) -> bool:
        """Whether no further chunk is read from disk, because there is no memory for it. One always is."""
        return self._keeps and self._reading > 0 and self._loan is not None and self._loan.full

    def _next(self) -> BufferChunk | None:
        """Waits for the next chunk; None: stop."""
        with self._work:
            while not self._closed:
                now, wall = self._now(), self._wall()
                self.writer.roll_back(now)
                self.buffer.queue_due(now, wall)
                paused = self._paused(now)
                short = self._short()
                if not paused and not short and not self._leaves:
                    chunk = self.buffer.take(_ANY_TIME if self.writer.draining else now)
                    if chunk is not None:
                        self._reading += self._keeps
                        return chunk
                if self.writer.draining and not self._unconfirmed and not short:
                    return None
                self._work.wait(self._patience(now, wall, max(paused, DISK_PATIENCE * short)))
            return None

    def _paused(self, now: float) -> float:
        """Seconds for which nothing is tried, because several chunks in a row have failed."""
        if self.writer.health is None or self.writer.draining or self.secondary is not None:
            return 0.0
        return max(0.0, self.writer.health.next_time - now)

    def _patience(self, now: float, wall: float, paused: float) -> float | None:
        waits = [end - now for _, end, _ in self._unconfirmed.values()]
        due = self.buffer.next_due(now, wall)
        if due is not None:
            waits.append(min(max(due, paused), _LONGEST_WAIT))
        elif paused:
            waits.append(paused)
        return max(0.001, min(waits)) if waits else None

    # ------------------------------------------------------------ the end

    @property
    def persistent(self) -> bool:
        """Whether the buffer outlives the process."""
        return self._keeps

    def hold(self, deadline: float) -> None:
        """Starts no further attempt and waits for those under way, until `deadline`: a stop after it is
        quick. The buffer takes what comes meanwhile."""
        with self._work:
            self._leaves = True
            while self.buffer.flying and not self._closed and self._now() < deadline:
                self._work.wait(max(0.001, deadline - self._now()))

    def drain(self, *, leave: bool = False) -> None:
        """Lets blocked inputs go and flushes: every chunk gets one attempt more, at once. What a persistent
        buffer holds stays there without `flush_at_shutdown`, and with `leave`."""
        with self._work:
            self.writer.draining = True
            if self._flush_at_shutdown and not leave:
                self.buffer.queue_all()
            else:
                self._leaves = self._keeps
            self._work.notify_all()
            self._room.notify_all()

    def join(self, deadline: float) -> None:
        """Waits for the flush threads until `deadline` (of the clock that only goes forward), then
        counts and names what is left."""
        for thread in self._threads:
            thread.join(max(0.0, deadline - self._now()))
        with self._work:
            self._closed = True
            kept = self.buffer
            chunks = list(kept.chunks())
            events, size = self.buffer.events, self.buffer.size_bytes
            if self._keeps:
                self.buffer.close()
            else:
                self.writer.buffer = MemoryBuffer(self.limits)
                self._saved += events
            self._loan = None
            self._unconfirmed.clear()
            self._work.notify_all()
            self._room.notify_all()
        if events and self._keeps:
            self.context.log.info(
                "events stay in the buffer for the next start", events=events, bytes=size, chunks=len(chunks)
            )
        elif isinstance(kept, MemoryBuffer):
            self._save(kept, chunks)

    def _save(self, buffer: MemoryBuffer, chunks: list[BufferChunk]) -> None:
        """Saves what is left in memory, or counts and names it."""
        events = sum(chunk.count for chunk in chunks)
        size = sum(chunk.size_bytes for chunk in chunks)
        safe = 0
        if buffer.saved is not None:
            safe = buffer.saved.save(chunks)
            buffer.saved.close()
        if safe:
            self.context.log.warning(
                "events left in the memory buffer are saved for the next start", events=safe, bytes=size
            )
        if events > safe:
            self._saved -= events - safe
            self.context.counters.lose(events - safe, "shutdown")
            self.context.log.error(
                "events left in the memory buffer at shutdown are lost",
                events=events - safe, bytes=size, chunks=len(chunks),
            )  # fmt: skip

    def buffered(self) -> int:
        """The events in the buffer now; without the lock."""
        return self.buffer.events + self._saved

    def metrics(self) -> BufferMetrics:
        """What the buffer holds, and how the destination does. Raises TimeoutError: the lock is stuck."""
        if not self._work.acquire(timeout=_LOCK_SECONDS):
            raise TimeoutError(f"{self.context.id}: the delivery has held its lock for {_LOCK_SECONDS} s")
        try:
            now = self._now()
            retry = self.writer.outcome.metrics(self._retries.values(), now, self._wall())
            return buffer_metrics(self.buffer, self.limits.total_bytes, now, self._threads, retry)
        finally:
            self._work.release()
