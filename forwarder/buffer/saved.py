"""Memory buffers across a stop: what could not be delivered in time waits in files for the next start.

Chunk files of Fluentd's form (`forwarder.buffer.fluentd`), one by one; not synced: a stop is no power loss,
and must not take long. Who starts takes them up, reads them when they are delivered, and removes them then. A
lock keeps a second engine away that runs beside (a reload): it leaves them to the start after it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

from forwarder.api import files
from forwarder.buffer import fluentd
from forwarder.buffer.fluentd import FluentdChunk
from forwarder.buffer.lock import FolderLock, InUseError

if TYPE_CHECKING:
    from forwarder.buffer.chunk import BufferChunk
    from forwarder.buffer.compression import Codec


class Saved:
    """The folder of one output. Made without touching it."""

    def __init__(
        self, folder: str, codec: Codec, *, fields: tuple[str, ...], entries: bool, dir_mode: int,
        file_mode: int, report: Callable[[str, Exception], None],
    ) -> None:  # fmt: skip
        """`fields`: the record fields among the chunk keys; `entries`: content is MessagePack entries, not
        text; `report`: told what goes wrong."""
        self._folder = folder
        self._codec = codec
        self._fields = fields
        self._entries = entries
        self._dir_mode = dir_mode
        self._file_mode = file_mode
        self._report = report
        self._lock: FolderLock | None = None

    def load(self, born: Callable[[float], float], numbers: Iterator[int]) -> list[FluentdChunk]:
        """The chunks that an earlier process has left, the oldest first. `born`: from seconds since the epoch
        to the clock that only goes forward."""
        if not os.path.isdir(self._folder):
            return []
        found = []
        try:
            self._lock = FolderLock(self._folder, self._file_mode)
            names = sorted(name for name in os.listdir(self._folder) if name.endswith(".log"))
        except InUseError:
            return []
        except OSError as error:
            self._report("cannot look for what the last stop has saved", error)
            return []
        for name in names:
            path = os.path.join(self._folder, name)
            try:
                chunk = fluentd.load(
                    path, single=False, fields=self._fields, codec=self._codec, entries=self._entries,
                    count=True, born=born, number=next(numbers),
                )  # fmt: skip
                found.append(chunk)
            except (OSError, fluentd.BrokenChunkError) as error:
                self._report(f"cannot take up the saved chunk {path}: it stays there", error)
        return sorted(found, key=lambda chunk: chunk.created_at)

    def save(self, chunks: Iterable[BufferChunk]) -> int:
        """Writes chunks. Gives how many events are safe."""
        events = 0
        for chunk in chunks:
            try:
                if not isinstance(chunk, FluentdChunk):
                    files.make_folders(self._folder, self._dir_mode)
                    fluentd.write(self._folder, chunk, self._codec.pack, self._file_mode, sync=False)
                events += chunk.count
            except Exception as error:  # also what cannot be decompressed any more
                self._report(f"cannot save chunk {chunk.id.hex()}", error)
        return events

    def close(self) -> None:
        """Lets the folder go; it goes where it is empty."""
        if self._lock is not None:
            self._lock.release(remove=True)
            self._lock = None
            with suppress(OSError):
                os.rmdir(self._folder)
