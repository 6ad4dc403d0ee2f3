"""What an operator may ask of a running buffer: list its chunks, hasten them, drop them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from forwarder.buffer.file import FileBuffer
from forwarder.buffer.view import plain

if TYPE_CHECKING:
    from forwarder.buffer.chunk import BufferChunk
    from forwarder.core.writing import ChunkWriter


class Operator:
    """Acts on the chunks of one output."""

    def __init__(self, writer: ChunkWriter) -> None:
        self._writer = writer

    def find(self, name: str) -> list[BufferChunk]:
        """The chunks whose ids start with `name`."""
        with self._writer.work:
            return self._named(name)

    def listed(self) -> dict[str, Any]:
        """The buffer and its chunks, as JSON has them."""
        path = (
            self._writer.buffer.options.place.store if isinstance(self._writer.buffer, FileBuffer) else None
        )
        with self._writer.work:
            now, chunks = self._writer.now(), []
            for chunk in self._writer.buffer.chunks():
                retry = self._writer.retries.get(chunk.id)
                wait = None if retry is None else round(retry.next_time - now, 1)
                times = 0 if retry is None else retry.steps + 1
                chunks.append({**plain(chunk), "failed_attempts": times, "next_try_seconds": wait})
        return {"id": self._writer.context.id, "path": path, "chunks": chunks}

    def hasten(self, name: str) -> list[dict[str, Any]]:
        """Makes the chunks whose ids start with `name` due at once. Gives them."""
        with self._writer.work:
            now = self._writer.now()
            chunks = [chunk for chunk in self._named(name) if chunk.state in ("staged", "queued")]
            for chunk in chunks:
                self._writer.buffer.hasten(chunk)
                retry = self._writer.retries.get(chunk.id)
                if retry is not None:
                    retry.next_time = now
            self._writer.health = None
            self._writer.work.notify_all()
            return [plain(chunk) for chunk in chunks]

    def drop(self, name: str) -> list[dict[str, Any]]:
        """Gives up the chunks whose ids start with `name`, but for those being written. Gives them."""
        with self._writer.work:
            dropped = []
            for chunk in self._named(name):
                if chunk.state in ("staged", "queued"):
                    dropped.append(plain(chunk))
                    self._writer.buffer.discard(chunk)
                    self._writer.retries.pop(chunk.id, None)
                    self._writer.context.counters.lose(chunk.count, "operator")
            self._writer.room.notify_all()
        for each in dropped:
            self._writer.context.log.warning(
                "an operator dropped a chunk", chunk_id=each["id"], events=each["events"]
            )
        return dropped

    def _named(self, name: str) -> list[BufferChunk]:
        return [chunk for chunk in self._writer.buffer.chunks() if chunk.id.hex().startswith(name)]
