"""The journal of a file buffer: which chunks are closed, and which are gone.

Format: entries of 64 bytes, so that a rotten one costs no other. Each: CRC32 of the rest (4 bytes), kind (1),
zero (3), chunk id (16), records (4), zero (4), events (8), bytes (8), seconds since the epoch (8, a double),
zero (8); little endian. Kinds: `H` (first entry: the format's version in `records`), `Q` (the chunk is
closed, with its totals), `G` (the chunk is gone: delivered or given up).

Invariants: the journal can only take chunks away or close them. Without it every event is still there: closed
chunks would grow again and chunks that are gone would be delivered again. So it is never synced, and what
cannot be written (a full disk) is written later, and what cannot be read at the start counts as rotten.

Order: `Q` after the chunk's last record. `G` after the output has taken the chunk and before segments are
unlinked. A new journal replaces the old one by `rename`, when more entries are dead than alive.
"""

from __future__ import annotations

import errno
import os
import struct
import zlib
from collections.abc import Iterable
from contextlib import suppress
from typing import Final, NamedTuple

_BODY: Final = struct.Struct("<c3x16sI4xQQd8x")
ENTRY: Final = 4 + _BODY.size
_VERSION: Final = 1
_NONE: Final = bytes(16)
NAME: Final = "journal"
_PAGE: Final = 4096
_PART: Final = 256 * _PAGE


class Totals(NamedTuple):
    """What a closed chunk holds."""

    records: int
    events: int
    size_bytes: int
    closed_at: float
    """Seconds since the epoch."""


class Journal:
    """An open journal. Not locked."""

    def __init__(self, path: str, mode: int) -> None:
        self._path = path
        self._mode = mode
        self._fd = -1
        self._size = 0
        self._pending: list[bytes] = []
        self._paused = False
        self._resumes = False
        self.entries = 0
        """Entries in the file."""

    def rewrite(self, closed: dict[bytes, Totals], gone: Iterable[bytes], wall: float) -> None:
        """Replaces the file by one with these entries only. Raises OSError: the old one is still there."""
        entries = [_entry(b"H", _NONE, Totals(_VERSION, 0, 0, wall))]
        entries += [_entry(b"Q", chunk_id, totals) for chunk_id, totals in closed.items()]
        entries += [_entry(b"G", chunk_id, Totals(0, 0, 0, wall)) for chunk_id in gone]
        temporary = f"{self._path}.tmp"
        fd = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, self._mode)
        try:
            os.fchmod(fd, self._mode)
            _write(fd, b"".join(entries), 0)
            os.fsync(fd)
            os.replace(temporary, self._path)
        except BaseException:
            os.close(fd)
            with suppress(OSError):
                os.unlink(temporary)
            raise
        self.close()
        self._fd = fd
        self._size = len(entries) * ENTRY
        self.entries = len(entries)
        self._pending.clear()

    def resume(self) -> None:
        """Goes on with the file that is there, once the disk allows, where `rewrite` fails at the start."""
        self._resumes = True
        with suppress(OSError):
            self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, self._mode)
            # what was torn off an entry is written over
            self.entries = os.fstat(self._fd).st_size // ENTRY
            self._size = self.entries * ENTRY

    def pause(self) -> None:
        """From here on nothing is noted: the buffer is only looked at."""
        self._paused = True

    def closed(self, chunk_id: bytes, totals: Totals) -> None:
        """A chunk does not grow any more."""
        self._append(_entry(b"Q", chunk_id, totals))

    def gone(self, chunk_id: bytes, wall: float) -> None:
        """A chunk was delivered or given up."""
        self._append(_entry(b"G", chunk_id, Totals(0, 0, 0, wall)))

    @property
    def behind(self) -> int:
        """Entries that could not be written yet."""
        return len(self._pending)

    def close(self) -> None:
        """Closes the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _append(self, entry: bytes) -> None:
        if self._paused:
            return
        self._pending.append(entry)
        if self._fd < 0 and self._resumes:
            self.resume()
        if self._fd < 0:
            return
        data = b"".join(self._pending)
        with suppress(OSError):  # at the same place again, with the next one
            _write(self._fd, data, self._size)
            self._size += len(data)
            self.entries += len(self._pending)
            self._pending.clear()


def read(path: str) -> tuple[dict[bytes, Totals], set[bytes], int]:
    """Closed chunks in the order in which they were closed, chunks that are gone, and the number of rotten
    entries: what the disk does not give any more is as if it had rotted. Raises OSError where there is a
    journal that cannot be opened."""
    closed: dict[bytes, Totals] = {}
    gone: set[bytes] = set()
    rotten = 0
    try:
        with open(path, "rb") as file:
            data = _readable(file.fileno())
    except FileNotFoundError:
        return closed, gone, rotten
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        return closed, gone, 1
    for start in range(0, len(data), ENTRY):
        entry = data[start : start + ENTRY]
        if len(entry) < ENTRY or int.from_bytes(entry[:4], "little") != zlib.crc32(entry[4:]):
            rotten += 1
            continue
        kind, chunk_id, records, events, size, wall = _BODY.unpack_from(entry, 4)
        if kind == b"Q":
            closed[chunk_id] = Totals(records, events, size, wall)
        elif kind == b"G":
            gone.add(chunk_id)
    for chunk_id in gone:
        closed.pop(chunk_id, None)
    return closed, gone, rotten


def _readable(fd: int) -> bytes:
    """All bytes, zeros where the disk gives none."""
    parts = []
    size = os.fstat(fd).st_size
    offset = 0
    while offset < size:
        try:
            part = os.pread(fd, _PART, offset)
        except OSError:
            part = b"".join(_page(fd, start) for start in range(offset, min(size, offset + _PART), _PAGE))
        if not part:
            break
        parts.append(part)
        offset += len(part)
    return b"".join(parts)[:size]


def _page(fd: int, offset: int) -> bytes:
    try:
        return os.pread(fd, _PAGE, offset).ljust(_PAGE, b"\0")
    except OSError:
        return bytes(_PAGE)


def _entry(kind: bytes, chunk_id: bytes, totals: Totals) -> bytes:
    body = _BODY.pack(kind, chunk_id, *totals)
    return zlib.crc32(body).to_bytes(4, "little") + body


def _write(fd: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, offset)
        view = view[written:]
        offset += written
