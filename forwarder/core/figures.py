"""What a delivery tells of its buffer and of its destination (`forwarder.api.metrics`)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from threading import Thread
from typing import TYPE_CHECKING

from forwarder.api.metrics import BufferMetrics, RetryMetrics

if TYPE_CHECKING:
    from forwarder.buffer.stage import Buffer
    from forwarder.core.retry import RetryState


class Outcome:
    """How the destination did lately. The caller holds the delivery's lock."""

    __slots__ = ("_error", "_failing_since", "_gave_up")

    def __init__(self) -> None:
        self._failing_since: float | None = None
        self._gave_up = False
        self._error: str | None = None

    def failed(self, now: float, error: BaseException | str) -> None:
        """An attempt failed."""
        self._error = str(error) if isinstance(error, str) else f"{type(error).__name__}: {error}"
        if self._failing_since is None:
            self._failing_since = now

    def gave_up(self) -> None:
        """A chunk's retries are over."""
        self._gave_up = True

    def delivered(self) -> None:
        """All is well."""
        self._failing_since = self._error = None
        self._gave_up = False

    def metrics(self, retries: Collection[RetryState], now: float, wall: float) -> RetryMetrics:
        """`retries`: of the chunks that have failed. `now`: of the clock that only goes forward; `wall`: the
        same moment in seconds since the epoch."""
        ahead = wall - now
        return RetryMetrics(
            0.0 if self._failing_since is None else now - self._failing_since,
            max((retry.steps for retry in retries), default=0),
            min((retry.since + ahead for retry in retries), default=None),
            min((retry.next_time + ahead for retry in retries), default=None),
            len(retries),
            self._gave_up,
            self._error,
        )


def buffer_metrics(
    buffer: Buffer, limit_bytes: int, now: float, threads: Sequence[Thread], retry: RetryMetrics
) -> BufferMetrics:
    """What the buffer holds. The caller holds the delivery's lock."""
    chunks = list(buffer.chunks())
    oldest = min((chunk.born for chunk in chunks), default=now)
    staged = sum(chunk.size_bytes for chunk in buffer.staged.values())
    timekeys = {chunk.key.timekey for chunk in chunks if chunk.key.timekey is not None}
    return BufferMetrics(
        buffer.events, buffer.size_bytes, len(buffer.staged), buffer.queued, len(buffer.flying), now - oldest,
        staged, buffer.size_bytes - staged, limit_bytes, buffer.full or buffer.failing,
        tuple(sorted(timekeys)), sum(thread.is_alive() for thread in threads), len(threads), retry,
    )  # fmt: skip
