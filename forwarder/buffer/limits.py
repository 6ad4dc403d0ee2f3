"""How large chunks and buffers may grow, and when chunks are due."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from forwarder.api.buffering import BufferSection


class Limits(NamedTuple):
    """The limits of `<buffer>` that the chunks themselves obey."""

    chunk_bytes: int = 8 * 1024 * 1024
    chunk_events: int | None = None
    full_share: float = 0.95
    total_bytes: int = 512 * 1024 * 1024
    queued_chunks: int = 1
    """While so many are queued, none is queued for its age: it grows instead."""
    flush_seconds: float | None = 60.0
    """Age at which a chunk is due; None: not by age."""
    timekey: int | None = None
    timekey_wait: float = 600.0
    late_seconds: float = 0.0
    """Least age of a chunk whose time slot is over when its first event comes."""
    waiting_count: bool = True
    """Whether the first chunks that wait for a retry count as queued. Not where the limit is the default: one
    chunk that fails again and again would keep all others from being tried."""

    @classmethod
    def of(cls, buffer: BufferSection) -> Limits:
        """From a bound `<buffer>`."""
        mode = buffer.flush_mode
        timekey = buffer.keys().timekey
        if mode == "default":
            mode = "interval" if timekey is None else "lazy"
        total = buffer.total_limit_size
        if buffer.queue_limit_length is not None:
            total = buffer.chunk_limit_size * buffer.queue_limit_length
        return cls(
            buffer.chunk_limit_size, buffer.chunk_limit_records, buffer.chunk_full_threshold, total,
            buffer.queued_chunks_limit_size or buffer.flush_thread_count,
            buffer.flush_interval if mode == "interval" else None, timekey, buffer.timekey_wait,
            buffer.flush_thread_interval, buffer.queued_chunks_limit_size is not None,
        )  # fmt: skip

    def fits(self, size_bytes: int, count: int) -> bool:
        """Whether a chunk may have this size."""
        return size_bytes <= self.chunk_bytes and (self.chunk_events is None or count <= self.chunk_events)

    def full(self, size_bytes: int, count: int) -> bool:
        """Whether a chunk of this size is to be queued."""
        return size_bytes >= self.chunk_bytes * self.full_share or (
            self.chunk_events is not None and count >= self.chunk_events * self.full_share
        )
