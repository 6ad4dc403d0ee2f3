"""What becomes of a chunk that is written: delivered, in part, again later, rejected, given up.

`forwarder.core.delivery` decides when a chunk is written, and in which thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Condition, Lock
from traceback import clear_frames
from typing import TYPE_CHECKING, Final, cast

from forwarder.api.errors import PartialWrite, UnrecoverableError
from forwarder.core import backup
from forwarder.core.backup import BROKEN
from forwarder.core.figures import Outcome
from forwarder.core.implements import delays, overrides
from forwarder.core.rejected import UNRECOVERABLE, Piece, Search
from forwarder.core.retry import RetryPolicy, RetryState

if TYPE_CHECKING:
    from forwarder.api.plugin import Output
    from forwarder.buffer.chunk import BufferChunk
    from forwarder.buffer.stage import Buffer
    from forwarder.core.context import PluginContext

DISK_PATIENCE: Final = 0.5
"""Seconds until a disk that took nothing is tried again; 60 times that for a backup."""
_NEVER: Final = float("inf")


class ChunkWriter:
    """Writes chunks of one buffer, from several threads."""

    def __init__(
        self, plugin: Output, context: PluginContext, *, secondary: Output | None, buffer: Buffer,
        pack: Callable[[bytes], bytes] | None, now: Callable[[], float], wall: Callable[[], float],
    ) -> None:  # fmt: skip
        self.plugin = plugin
        self.context = context
        self.secondary = secondary
        self.buffer = buffer
        self.now = now
        self._wall = wall
        self._pack = pack
        self._entries = not overrides(plugin, "format_batch")
        self._keeps = buffer.persistent
        self.policy = RetryPolicy.of(plugin.buffer, secondary=secondary is not None)
        self._commit_seconds = plugin.buffer.delayed_commit_timeout
        self._backs_up = not plugin.buffer.disable_chunk_backup
        lock = Lock()
        self.work = Condition(lock)
        """Of the lock around the buffer and all that is below: there may be something to write."""
        self.room = Condition(lock)
        """Of the same lock: there may be room."""
        self.retries: dict[bytes, RetryState] = {}
        """By chunk id."""
        self.unconfirmed: dict[bytes, tuple[BufferChunk, float, bool]] = {}
        """By chunk id: the chunk, until when it is waited for, whether the secondary has it."""
        self.last_failed: bytes | None = None
        self.outcome = Outcome()
        self.health: RetryState | None = None
        """Of the destination, where several chunks in a row have failed."""
        self.draining = False
        """Stopping: every chunk gets one attempt more."""

    def write(self, chunk: BufferChunk) -> None:
        """Has the output write a flying chunk, and does what follows."""
        retry = self.retries.get(chunk.id)
        by_secondary = retry is not None and self.secondary is not None and retry.secondary(self.now())
        output = self.secondary if by_secondary and self.secondary is not None else self.plugin
        if retry is not None:
            self.context.counters.retry()
        started = self.now()
        cast("PluginContext", output.context).counters.frame.explained = 0
        try:
            self.buffer.confirm(chunk)
            self._hand(output, chunk, by_secondary=by_secondary)
        except PartialWrite as error:
            self._settle(chunk, error, self._explained(output), by_secondary=by_secondary)
            self.failed(chunk, error, by_secondary=by_secondary)
            clear_frames(error.__traceback__)
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
                    self.failed(chunk, error, by_secondary=by_secondary)
            # a plugin that has kept the error in a variable would keep the chunk's content with it
            clear_frames(error.__traceback__)
        elapsed = self.now() - started
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
            with self.work:
                self.unconfirmed[chunk.id] = (chunk, self.now() + self._commit_seconds, by_secondary)
            try:
                output.try_write(chunk)
            except BaseException:
                with self.work:
                    self.unconfirmed.pop(chunk.id, None)
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
        with self.work:
            entry = self.unconfirmed.pop(chunk_id, None)
        if entry is not None:
            self.context.counters.time_flush(self.now() - entry[1] + self._commit_seconds)
            self._done(entry[0], by_secondary=entry[2])

    def _settle(
        self, chunk: BufferChunk, partial: PartialWrite, explained: int, *, by_secondary: bool
    ) -> None:
        """Books the part of a chunk that is dealt with and leaves the rest in the buffer."""
        with self.work:
            if chunk.id not in self.buffer.flying:
                return
            delivered = chunk.count - partial.count - explained
            self._shrink(chunk, partial.rest, partial.count)
            self.context.counters.settle(delivered, by_secondary=by_secondary)
            self.room.notify_all()

    def _shrink(self, chunk: BufferChunk, rest: bytes, count: int) -> None:
        """Leaves the rest of a chunk; its retries go on. The caller holds the lock."""
        retry = self.retries.pop(chunk.id, None)
        failed_last = self.last_failed == chunk.id
        self.buffer.shrink(chunk, rest, count)  # which may give it another id
        if retry is not None:
            self.retries[chunk.id] = retry
        if failed_last:
            self.last_failed = chunk.id

    def rollback(self, chunk_id: bytes, error: Exception) -> None:
        """A chunk of `try_write` has not arrived. It alone is retried: the others did arrive, or say so."""
        with self.work:
            entry = self.unconfirmed.pop(chunk_id, None)
        if entry is not None:
            self.failed(entry[0], error, by_secondary=entry[2], alone=True)

    def _done(self, chunk: BufferChunk, *, by_secondary: bool, explained: int = 0) -> None:
        with self.work:
            if not self.buffer.remove(chunk):
                return
            retried = self.retries.pop(chunk.id, None)
            self.last_failed = self.health = None
            self.outcome.delivered()
            self.context.counters.flush(chunk.count - explained, by_secondary=by_secondary)
            self.room.notify_all()
            self.work.notify_all()
        if retried is not None:
            self.context.log.warning(
                "retry succeeded by secondary" if by_secondary else "retry succeeded", chunk_id=chunk.id.hex()
            )

    def roll_back(self, now: float) -> None:
        """Takes back what was not confirmed in time; the caller holds the lock."""
        for chunk_id, (chunk, end, _) in list(self.unconfirmed.items()):
            if end <= now:
                del self.unconfirmed[chunk_id]
                self._take_back(chunk, now, "not confirmed in time")
                self.context.log.warning("chunk was not confirmed in time", chunk_id=chunk_id.hex())

    def _take_back(
        self, chunk: BufferChunk, now: float, error: Exception | str, *, alone: bool = False
    ) -> RetryState:
        """Books a failure and gives the chunk back or up; `alone`: it says nothing about the destination.
        The caller holds the lock."""
        self.context.counters.fail()
        self.outcome.failed(now, error)
        retry = self.retries.get(chunk.id)
        if retry is None:
            retry = self.retries[chunk.id] = RetryState(self.policy, now)
        else:
            retry.fail(now)
        if not alone:
            if self.health is not None:
                self.health.fail(now)
            elif self.last_failed not in (None, chunk.id):
                self.health = RetryState(self.policy._replace(forever=True), now)
            self.last_failed = chunk.id
        if retry.exhausted and self._let_go(chunk):
            self.retries.pop(chunk.id, None)
            self.outcome.gave_up()
            if self.buffer.remove(chunk):
                self.context.counters.lose(chunk.count, "retry_limit")
            self.room.notify_all()
        elif retry.exhausted:
            self.buffer.give_back(chunk, _NEVER if self.draining else now + 60 * DISK_PATIENCE)
        else:
            # the attempt during the stop is the last one
            self.buffer.give_back(chunk, _NEVER if self.draining else retry.next_time)
            self.context.counters.roll_back()
        self.work.notify_all()
        return retry

    def _let_go(self, chunk: BufferChunk) -> bool:
        """Puts a chunk of a persistent buffer aside. False where it must stay."""
        return not self._keeps or backup.evacuated(chunk, self.context, self._pack)

    def _repair(self, chunk: BufferChunk, error: Exception) -> None:
        """Takes out what is rotten and tries the rest at once."""
        old = chunk.id
        try:
            with self.work:
                if old not in self.buffer.flying:
                    return
                lost = self.buffer.repair(chunk)
                self.context.counters.lose(lost, "corrupt")
                retry = self.retries.pop(old, None)
                if not chunk.count:
                    self.buffer.remove(chunk)
                else:
                    if retry is not None:
                        self.retries[chunk.id] = retry
                    self.buffer.give_back(chunk, self.now())
                self.room.notify_all()
                self.work.notify_all()
        except OSError as second:
            self.failed(chunk, second, by_secondary=False)
            return
        self.context.log.error(
            "a chunk is broken: the broken part is moved to quarantine", chunk_id=old.hex(), events=lost,
            events_left=chunk.count, error=error,
        )  # fmt: skip

    def failed(
        self, chunk: BufferChunk, error: Exception, *, by_secondary: bool, alone: bool = False
    ) -> None:
        with self.work:
            if chunk.id not in self.buffer.flying:
                return
            now = self.now()
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
        with self.work:
            if chunk.id not in self.buffer.flying:
                return True
            if search.error is not None:
                self._shrink(chunk, b"".join(search.rest), search.rest_count)
            else:
                self.retries.pop(chunk.id, None)
                self.buffer.remove(chunk)
            counters.add(search.repeated)
            if secondary:
                counters.flush(secondary, by_secondary=True)
            if search.delivered and search.error is None:
                counters.flush(search.delivered, by_secondary=False)
                self.last_failed = self.health = None
                self.outcome.delivered()
            else:
                counters.settle(search.delivered, by_secondary=False)
            counters.reject(rejected, "unrecoverable")
            self.room.notify_all()
            self.work.notify_all()
        if search.error is not None:
            self.failed(chunk, search.error, by_secondary=False)
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
            self.failed(chunk, kept, by_secondary=by_secondary)
            return
        with self.work:
            self.retries.pop(chunk.id, None)
            if self.buffer.remove(chunk):
                self.context.counters.reject(chunk.count - explained, "unrecoverable")
            self.room.notify_all()
            self.work.notify_all()
        self.context.log.error(
            "unrecoverable error: chunk is given up", chunk_id=chunk.id.hex(), events=chunk.count, error=error
        )
        self.context.log.debug("the error", exc_info=error)
