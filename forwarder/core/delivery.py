"""Buffered delivery of one output: append on one side, flush threads on the other.

A flush thread sleeps until something is due: a queued chunk, the age or time slot of a staged one, a retry,
a confirmation that did not come. So nothing wakes up at rest, and no timer is needed besides.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Condition, Lock, Thread
from typing import TYPE_CHECKING, Any, Final, cast

from forwarder.api.errors import BufferOverflow, PartialWrite, UnrecoverableError
from forwarder.buffer.file import FileBuffer
from forwarder.buffer.limits import Limits
from forwarder.buffer.memory import MemoryBuffer
from forwarder.buffer.view import plain
from forwarder.core import backup
from forwarder.core.backup import BROKEN
from forwarder.core.blocks import Blocks
from forwarder.core.buffers import recovered
from forwarder.core.figures import Outcome, buffer_metrics
from forwarder.core.implements import delays, overrides
from forwarder.core.pipeline import OutputNode
from forwarder.core.rejected import UNRECOVERABLE, Piece, Search
from forwarder.core.retry import RetryPolicy, RetryState

if TYPE_CHECKING:
    from forwarder._native import EventBatch, MemoryLoan
    from forwarder.api.metrics import BufferMetrics
    from forwarder.api.plugin import Output
    from forwarder.buffer.chunk import BufferChunk
    from forwarder.buffer.stage import Buffer
    from forwarder.core.context import PluginContext

_NEVER: Final = float("inf")
_ANY_TIME: Final = 1e18
_LOCK_SECONDS: Final = 5.0
_DISK_PATIENCE: Final = 0.5
"""Seconds until a disk that took nothing is tried again; 60 times that for a backup."""
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
        self.buffer: Buffer = MemoryBuffer(Limits.of(section)) if buffer is None else buffer
        self.limits = self.buffer.limits
        self._blocks = Blocks(plugin, context, self.limits)
        self._pack = pack
        self._entries = not overrides(plugin, "format_batch")
        self._keeps = self.buffer.persistent
        self.policy = RetryPolicy.of(section, secondary=secondary is not None)
        self._immediate = section.flush_mode == "immediate"
        self._overflow = section.overflow_action
        self._throws = self._overflow == "throw_exception"
        self._burst = section.flush_thread_burst_interval or 0.0
        self._commit_seconds = section.delayed_commit_timeout
        flush = section.flush_at_shutdown
        self._flush_at_shutdown = not self._keeps if flush is None else flush
        self._backs_up = not section.disable_chunk_backup
        lock = Lock()
        self._work = Condition(lock)
        self._room = Condition(lock)
        self._threads: list[Thread] = []
        self._loan: MemoryLoan | None = None
        self._reading = 0
        """Chunks of a persistent buffer that flush threads have at hand."""
        self._retries: dict[bytes, RetryState] = {}
        self._unconfirmed: dict[bytes, tuple[BufferChunk, float, bool]] = {}
        self._last_failed: bytes | None = None
        self._outcome = Outcome()
        self._health: RetryState | None = None
        self._draining = False
        self._leaves = False
        """Stopping, and what is buffered stays there for the next start."""
        self._closed = False
        vars(plugin).update(
            admit=self.admit, deliver=self.deliver, commit=self.commit, rollback=self.rollback
        )
        if secondary is not None:
            vars(secondary).update(commit=self.commit, rollback=self.rollback)

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
                while (self._full() or self.buffer.failing) and not self._closed and not self._draining:
                    # others may give memory back, who do not notify
                    alone = not self.buffer.failing and not self.buffer.short
                    self._room.wait(None if alone else _DISK_PATIENCE)
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

    def start(self) -> None:
        """Opens the buffer and starts the flush threads. Raises OSError: the buffer cannot be opened."""
        self._loan = self.context.borrow()
        self.buffer.lend(self._loan)
        recovery = self.buffer.open(self._now(), self._wall())
        if recovery is not None:
            recovered(recovery, self.context)
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
                self._write(chunk)
            except Exception as error:  # ours, not the plugin's
                self.context.log.error("flush thread failed", exc_info=error)
                self._failed(chunk, error, by_secondary=False)
            finally:
                self._let_go_of_memory(held)
            del chunk  # or its content stays in memory while this thread waits for the next
            if self._burst and not self._draining:
                with self._work:
                    self._work.wait_for(lambda: self._draining, self._burst)

    def _hold_in_memory(self, chunk: BufferChunk) -> int:
        """Borrows for the content of a chunk that an output reads from disk."""
        loan = self._loan
        if not self._keeps or loan is None:
            return 0
        held = chunk.size_bytes
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
                self._roll_back(now)
                self.buffer.queue_due(now, wall)
                paused = self._paused(now)
                short = self._short()
                if not paused and not short and not self._leaves:
                    chunk = self.buffer.take(_ANY_TIME if self._draining else now)
                    if chunk is not None:
                        self._reading += self._keeps
                        return chunk
                if self._draining and not self._unconfirmed and not short:
                    return None
                self._work.wait(self._patience(now, wall, max(paused, _DISK_PATIENCE * short)))
            return None

    def _paused(self, now: float) -> float:
        """Seconds for which nothing is tried, because several chunks in a row have failed."""
        if self._health is None or self._draining or self.secondary is not None:
            return 0.0
        return max(0.0, self._health.next_time - now)

    def _patience(self, now: float, wall: float, paused: float) -> float | None:
        waits = [end - now for _, end, _ in self._unconfirmed.values()]
        due = self.buffer.next_due(now, wall)
        if due is not None:
            waits.append(min(max(due, paused), _LONGEST_WAIT))
        elif paused:
            waits.append(paused)
        return max(0.001, min(waits)) if waits else None

    def _write(self, chunk: BufferChunk) -> None:
        retry = self._retries.get(chunk.id)
        by_secondary = retry is not None and self.secondary is not None and retry.secondary(self._now())
        output = self.secondary if by_secondary and self.secondary is not None else self.plugin
        if retry is not None:
            self.context.counters.retry()
        started = self._now()
        cast("PluginContext", output.context).counters.frame.explained = 0
        try:
            self.buffer.settle()
            self._hand(output, chunk, by_secondary=by_secondary)
        except PartialWrite as error:
            self._settle(chunk, error, self._explained(output), by_secondary=by_secondary)
            self._failed(chunk, error, by_secondary=by_secondary)
        except Exception as error:
            explained, broken = self._explained(output, fails=True), backup.rot(error)
            if broken is None and isinstance(error, UNRECOVERABLE):
                if by_secondary or not self._searched(chunk, error, explained):
                    self._hopeless(chunk, error, explained, by_secondary=by_secondary)
            else:
                self.context.counters.add(explained)  # all of the chunk is tried again
                if broken is not None:
                    self._repair(chunk, broken)
                else:
                    self._failed(chunk, error, by_secondary=by_secondary)
        elapsed = self._now() - started
        if not delays(output):
            self.context.counters.time_flush(elapsed)
        if elapsed > self.plugin.slow_flush_log_threshold:
            self.context.counters.slow()
            self.context.log.warning(
                "flush took longer than slow_flush_log_threshold",
                seconds=round(elapsed, 3), slow_flush_log_threshold=self.plugin.slow_flush_log_threshold,
            )  # fmt: skip

    def _hand(self, output: Output, chunk: BufferChunk, *, by_secondary: bool) -> None:
        if delays(output):
            with self._work:
                self._unconfirmed[chunk.id] = (chunk, self._now() + self._commit_seconds, by_secondary)
            try:
                output.try_write(chunk)
            except BaseException:
                with self._work:
                    self._unconfirmed.pop(chunk.id, None)
                raise
        else:
            output.write(chunk)
            self._done(chunk, by_secondary=by_secondary, explained=self._explained(output))

    def _explained(self, output: Output, *, fails: bool = False) -> int:
        """How many of the chunk's events the plugin has named a reason for. A secondary has books of its
        own: here its events are delivered, there they came in."""
        counters = cast("PluginContext", output.context).counters
        count, counters.frame.explained = counters.frame.explained, 0
        if output is self.plugin:
            return count
        if count and fails:
            counters.add(count)  # the chunk stays with the primary: these have come out besides
        elif count:
            counters.take(count)
        return 0

    def commit(self, chunk_id: bytes) -> None:
        """A chunk of `try_write` has arrived; unknown ids (late confirmations) are ignored."""
        with self._work:
            entry = self._unconfirmed.pop(chunk_id, None)
        if entry is not None:
            self.context.counters.time_flush(self._now() - entry[1] + self._commit_seconds)
            self._done(entry[0], by_secondary=entry[2])

    def _settle(
        self, chunk: BufferChunk, partial: PartialWrite, explained: int, *, by_secondary: bool
    ) -> None:
        """Books the part of a chunk that is dealt with and leaves the rest in the buffer."""
        with self._work:
            if chunk.id not in self.buffer.flying:
                return
            delivered = chunk.count - partial.count - explained
            self._shrink(chunk, partial.rest, partial.count)
            self.context.counters.settle(delivered, by_secondary=by_secondary)
            self._room.notify_all()

    def _shrink(self, chunk: BufferChunk, rest: bytes, count: int) -> None:
        """Leaves the rest of a chunk; its retries go on. The caller holds the lock."""
        retry = self._retries.pop(chunk.id, None)
        failed_last = self._last_failed == chunk.id
        self.buffer.shrink(chunk, rest, count)  # which may give it another id
        if retry is not None:
            self._retries[chunk.id] = retry
        if failed_last:
            self._last_failed = chunk.id

    def rollback(self, chunk_id: bytes, error: Exception) -> None:
        """A chunk of `try_write` has not arrived. It alone is retried: the others did arrive, or say so."""
        with self._work:
            entry = self._unconfirmed.pop(chunk_id, None)
        if entry is not None:
            self._failed(entry[0], error, by_secondary=entry[2], alone=True)

    def _done(self, chunk: BufferChunk, *, by_secondary: bool, explained: int = 0) -> None:
        with self._work:
            if not self.buffer.remove(chunk):
                return
            retried = self._retries.pop(chunk.id, None)
            self._last_failed = self._health = None
            self._outcome.delivered()
            self.context.counters.flush(chunk.count - explained, by_secondary=by_secondary)
            self._room.notify_all()
            self._work.notify_all()
        if retried is not None:
            self.context.log.warning(
                "retry succeeded by secondary" if by_secondary else "retry succeeded", chunk_id=chunk.id.hex()
            )

    def _roll_back(self, now: float) -> None:
        """Takes back what was not confirmed in time; the caller holds the lock."""
        for chunk_id, (chunk, end, _) in list(self._unconfirmed.items()):
            if end <= now:
                del self._unconfirmed[chunk_id]
                self._take_back(chunk, now, "not confirmed in time")
                self.context.log.warning("chunk was not confirmed in time", chunk_id=chunk_id.hex())

    def _take_back(
        self, chunk: BufferChunk, now: float, error: Exception | str, *, alone: bool = False
    ) -> RetryState:
        """Books a failure and gives the chunk back or up; `alone`: it says nothing about the destination.
        The caller holds the lock."""
        self.context.counters.fail()
        self._outcome.failed(now, error)
        retry = self._retries.get(chunk.id)
        if retry is None:
            retry = self._retries[chunk.id] = RetryState(self.policy, now)
        else:
            retry.fail(now)
        if not alone:
            if self._health is not None:
                self._health.fail(now)
            elif self._last_failed not in (None, chunk.id):
                self._health = RetryState(self.policy._replace(forever=True), now)
            self._last_failed = chunk.id
        if retry.exhausted and self._let_go(chunk):
            self._retries.pop(chunk.id, None)
            self._outcome.gave_up()
            if self.buffer.remove(chunk):
                self.context.counters.lose(chunk.count, "retry_limit")
            self._room.notify_all()
        elif retry.exhausted:
            self.buffer.give_back(chunk, _NEVER if self._draining else now + 60 * _DISK_PATIENCE)
        else:
            # the attempt during the stop is the last one
            self.buffer.give_back(chunk, _NEVER if self._draining else retry.next_time)
            self.context.counters.roll_back()
        self._work.notify_all()
        return retry

    def _let_go(self, chunk: BufferChunk) -> bool:
        """Puts a chunk of a persistent buffer aside. False where it must stay."""
        return not self._keeps or backup.evacuated(chunk, self.context, self._pack)

    def _repair(self, chunk: BufferChunk, error: Exception) -> None:
        """Takes out what is rotten and tries the rest at once."""
        old = chunk.id
        try:
            with self._work:
                if old not in self.buffer.flying:
                    return
                lost = self.buffer.repair(chunk)
                self.context.counters.lose(lost, "corrupt")
                retry = self._retries.pop(old, None)
                if not chunk.count:
                    self.buffer.remove(chunk)
                else:
                    if retry is not None:
                        self._retries[chunk.id] = retry
                    self.buffer.give_back(chunk, self._now())
                self._room.notify_all()
                self._work.notify_all()
        except OSError as second:
            self._failed(chunk, second, by_secondary=False)
            return
        self.context.log.error(
            "a chunk is broken: the broken part is moved to quarantine", chunk_id=old.hex(), events=lost,
            events_left=chunk.count, error=error,
        )  # fmt: skip

    def _failed(
        self, chunk: BufferChunk, error: Exception, *, by_secondary: bool, alone: bool = False
    ) -> None:
        with self._work:
            if chunk.id not in self.buffer.flying:
                return
            now = self._now()
            retry = self._take_back(chunk, now, error, alone=alone)
        if retry.exhausted:
            self.context.log.error(
                "hit limit for retries: chunk is given up", chunk_id=chunk.id.hex(), events=chunk.count,
                retry_times=retry.steps, error=error,
            )  # fmt: skip
            return
        at = time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(self._wall() + retry.next_time - now))
        self.context.log.warning(
            "failed to flush a chunk with the secondary" if by_secondary else "failed to flush a chunk",
            retry_times=retry.steps, next_retry_time=at, chunk_id=chunk.id.hex(), error=error,
        )  # fmt: skip
        self.context.log.debug("the error", exc_info=error)

    def _searched(self, chunk: BufferChunk, error: Exception, explained: int) -> bool:
        """Delivers the good events of a rejected chunk, and puts the bad ones aside. False: nothing was done,
        because it cannot be taken apart."""
        if delays(self.plugin) or getattr(error, "whole", False):
            return False
        whole = Piece.of(chunk, entries=self._entries)
        if whole is None or (whole.count == 1 and not self._error_label(whole)):
            return False
        counters = self.context.counters
        counters.fail()
        search = Search(self.plugin.write, lambda: self._explained(self.plugin))
        search.run(whole, error)
        search.repeated += explained
        secondary = 0
        rejected = 0
        for piece, why in search.bad:
            self.context.log.error(
                "events are rejected",
                chunk_id=chunk.id.hex(),
                events=piece.count,
                first=piece.start,
                error=why,
            )
            if self._to_secondary(piece):
                secondary += piece.count
            elif self._error_label(piece) and piece.batch is not None:
                self.context.emit_error(piece.batch, "unrecoverable", str(why))
                search.settled += self._explained(self.plugin)
            elif (
                isinstance(kept := backup.kept(piece, self.context, copy=self._backs_up), OSError)
                and self._keeps
            ):
                search.rest.append(piece.read())
                search.rest_count += piece.count
                search.error = search.error or kept
            else:
                rejected += piece.count
        with self._work:
            if chunk.id not in self.buffer.flying:
                return True
            if search.error is not None:
                self._shrink(chunk, b"".join(search.rest), search.rest_count)
            else:
                self._retries.pop(chunk.id, None)
                self.buffer.remove(chunk)
            counters.add(search.repeated)
            if secondary:
                counters.flush(secondary, by_secondary=True)
            if search.delivered and search.error is None:
                counters.flush(search.delivered, by_secondary=False)
                self._last_failed = self._health = None
                self._outcome.delivered()
            else:
                counters.settle(search.delivered, by_secondary=False)
            counters.reject(rejected, "unrecoverable")
            self._room.notify_all()
            self._work.notify_all()
        if search.error is not None:
            self._failed(chunk, search.error, by_secondary=False)
        return True

    def _error_label(self, piece: Piece) -> bool:
        return piece.batch is not None and self.context.has_error_label

    def _to_secondary(self, piece: Piece) -> bool:
        """Has the secondary, where there is a different one, take rejected events."""
        secondary = self.secondary
        if secondary is None or type(secondary) is type(self.plugin) or delays(secondary):
            return False
        cast("PluginContext", secondary.context).counters.frame.explained = 0
        try:
            secondary.write(piece)
        except Exception as error:
            self._explained(secondary, fails=True)
            self.context.log.error("the secondary failed too", error=error)
            return False
        self._explained(secondary)
        return True

    def _hopeless(self, chunk: BufferChunk, error: Exception, explained: int, *, by_secondary: bool) -> None:
        """An error that a retry cannot help: to the secondary where there is a different one."""
        secondary = self.secondary
        self.context.counters.fail()
        if secondary is not None and not by_secondary and type(secondary) is not type(self.plugin):
            self.context.log.warning("unrecoverable error: chunk goes to the secondary", error=error)
            try:
                if delays(secondary):
                    raise UnrecoverableError("the secondary confirms later, which is no help here")
                cast("PluginContext", secondary.context).counters.frame.explained = 0
                secondary.write(chunk)
            except Exception as second:
                self._explained(secondary, fails=True)
                self.context.counters.add(0)
                self.context.log.error("the secondary failed too", error=second)
            else:
                self._explained(secondary)
                self.context.counters.add(explained)
                self._done(chunk, by_secondary=True)
                return
        kept = backup.kept(chunk, self.context, copy=self._backs_up)
        if isinstance(kept, BROKEN):
            self.context.counters.add(explained)
            self._repair(chunk, kept)
            return
        if self._keeps and isinstance(kept, OSError):
            self.context.counters.add(explained)
            self._failed(chunk, kept, by_secondary=by_secondary)
            return
        with self._work:
            self._retries.pop(chunk.id, None)
            if self.buffer.remove(chunk):
                self.context.counters.reject(chunk.count - explained, "unrecoverable")
            self._room.notify_all()
            self._work.notify_all()
        self.context.log.error(
            "unrecoverable error: chunk is given up", chunk_id=chunk.id.hex(), events=chunk.count, error=error
        )
        self.context.log.debug("the error", exc_info=error)

    # ------------------------------------------------------------ an operator

    def find(self, name: str) -> list[BufferChunk]:
        """The chunks whose ids start with `name`."""
        with self._work:
            return self._named(name)

    def listed(self) -> dict[str, Any]:
        """The buffer and its chunks, as JSON has them."""
        path = self.buffer.options.place.store if isinstance(self.buffer, FileBuffer) else None
        with self._work:
            now, chunks = self._now(), []
            for chunk in self.buffer.chunks():
                retry = self._retries.get(chunk.id)
                wait = None if retry is None else round(retry.next_time - now, 1)
                times = 0 if retry is None else retry.steps + 1
                chunks.append({**plain(chunk), "failed_attempts": times, "next_try_seconds": wait})
        return {"id": self.context.id, "path": path, "chunks": chunks}

    def hasten(self, name: str) -> list[dict[str, Any]]:
        """Makes the chunks whose ids start with `name` due at once. Gives them."""
        with self._work:
            now = self._now()
            chunks = [chunk for chunk in self._named(name) if chunk.state in ("staged", "queued")]
            for chunk in chunks:
                self.buffer.hasten(chunk)
                retry = self._retries.get(chunk.id)
                if retry is not None:
                    retry.next_time = now
            self._health = None
            self._work.notify_all()
            return [plain(chunk) for chunk in chunks]

    def drop(self, name: str) -> list[dict[str, Any]]:
        """Gives up the chunks whose ids start with `name`, but for those being written. Gives them."""
        with self._work:
            dropped = []
            for chunk in self._named(name):
                if chunk.state in ("staged", "queued"):
                    dropped.append(plain(chunk))
                    self.buffer.discard(chunk)
                    self._retries.pop(chunk.id, None)
                    self.context.counters.lose(chunk.count, "operator")
            self._room.notify_all()
        for each in dropped:
            self.context.log.warning(
                "an operator dropped a chunk", chunk_id=each["id"], events=each["events"]
            )
        return dropped

    def _named(self, name: str) -> list[BufferChunk]:
        return [chunk for chunk in self.buffer.chunks() if chunk.id.hex().startswith(name)]

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
            self._draining = True
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
            chunks = list(self.buffer.chunks())
            events, size = self.buffer.events, self.buffer.size_bytes
            if self._keeps:
                self.buffer.close()
            else:
                self.buffer = MemoryBuffer(self.limits)
                self.context.counters.lose(events, "shutdown")
            self._loan = None
            self._unconfirmed.clear()
            self._work.notify_all()
            self._room.notify_all()
        if events and self._keeps:
            self.context.log.info(
                "events stay in the buffer for the next start", events=events, bytes=size, chunks=len(chunks)
            )
        elif events:
            self.context.log.error(
                "events left in the memory buffer at shutdown are lost",
                events=events, bytes=size, chunks=len(chunks),
            )  # fmt: skip

    def buffered(self) -> int:
        """The events in the buffer now; without the lock."""
        return self.buffer.events

    def metrics(self) -> BufferMetrics:
        """What the buffer holds, and how the destination does. Raises TimeoutError: the lock is stuck."""
        if not self._work.acquire(timeout=_LOCK_SECONDS):
            raise TimeoutError(f"{self.context.id}: the delivery has held its lock for {_LOCK_SECONDS} s")
        try:
            now = self._now()
            retry = self._outcome.metrics(self._retries.values(), now, self._wall())
            return buffer_metrics(self.buffer, self.limits.total_bytes, now, self._threads, retry)
        finally:
            self._work.release()
