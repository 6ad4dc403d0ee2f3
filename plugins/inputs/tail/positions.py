r"""The position file, byte by byte as Fluentd writes it.

A line per file: `PATH\tPOSITION\tINODE\n`, both numbers as 16 hexadecimal digits; the position
ffffffffffffffff says that the file is no longer followed. The native kernel writes positions in place; here
entries are found, added and compacted.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

UNWATCHED: Final = 0xFFFFFFFFFFFFFFFF
_ENTRY: Final = re.compile(rb"([^\t]+)\t([0-9a-fA-F]+)\t([0-9a-fA-F]+)")

Key = bytes | int
"""A file's path, or with follow_inodes its inode."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What a line says.

    Attributes:
        slot: where in the file its position starts.
        new: it was not there before.
    """

    path: bytes
    position: int
    inode: int
    slot: int
    new: bool = False


class PositionFile:
    """An open position file. Not thread-safe: whoever uses it holds a lock."""

    def __init__(
        self, path: str, *, by_inode: bool, mode: int, folder_mode: int, warn: Callable[[str], None]
    ) -> None:
        """Opens it, makes it and its folder where need be. Raises OSError."""
        self._path = os.path.realpath(path)
        self._by_inode = by_inode
        self._mode = mode
        self._warn = warn
        os.makedirs(os.path.dirname(self._path), folder_mode, exist_ok=True)
        self._fd = self._open()
        self._entries: dict[Key, Entry] = {}
        self._size = 0
        self._unwritten: list[bytes] = []

    def _open(self) -> int:
        return os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, self._mode)

    @property
    def descriptor(self) -> int:
        """Of the file as it is now."""
        return self._fd

    def load(self, existing: Collection[Key]) -> list[Entry]:
        """Reads the file and writes it anew without what is unwatched or not in `existing`.

        Returns:
            The entries that were left out though they are not unwatched.
        """
        entries = self._read()
        gone = [entry for key, entry in entries.items() if key not in existing]
        self._rewrite(entry for key, entry in entries.items() if key in existing)
        return gone

    def compact(self, slots: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
        """Writes the file anew without what is unwatched. `slots`: (number of a file, slot).

        Returns:
            The same files with their slots now.
        """
        keys = {entry.slot: key for key, entry in self._read().items()}
        self._rewrite(self._read().values())
        return [(number, self._entries[keys[slot]].slot) for number, slot in slots if slot in keys]

    def _read(self) -> dict[Key, Entry]:
        content = b""
        while part := os.pread(self._fd, 1 << 20, len(content)):
            content += part
        entries: dict[Key, Entry] = {}
        start = 0
        for line in content.split(b"\n"):
            found = _ENTRY.match(line)
            if found is None:
                if line:
                    self._warn(f"unparsable line in {self._path}: {line.decode(errors='backslashreplace')}")
            else:
                path, position, inode = found.group(1), int(found.group(2), 16), int(found.group(3), 16)
                if position != UNWATCHED:
                    key: Key = inode if self._by_inode else path
                    entries[key] = Entry(path, position, inode, start + len(path) + 1)
            start += len(line) + 1
        return entries

    def _rewrite(self, entries: Iterable[Entry]) -> None:
        self._entries = {}
        lines = []
        self._size = 0
        for entry in entries:
            line = _line(entry.path, entry.position, entry.inode)
            key: Key = entry.inode if self._by_inode else entry.path
            slot = self._size + len(entry.path) + 1
            self._entries[key] = Entry(entry.path, entry.position, entry.inode, slot)
            self._size += len(line)
            lines.append(line)
        content = b"".join(lines)
        if os.fstat(self._fd).st_size == len(content) and os.pread(self._fd, len(content), 0) == content:
            return
        try:
            self._replace(content)
        except OSError:
            # a mount of the file itself, or a folder that we may not write: in place then
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, content, 0)

    def _replace(self, content: bytes) -> None:
        state = os.fstat(self._fd)
        beside = f"{self._path}.new"
        fd = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, self._mode)
        try:
            with suppress(OSError):
                os.fchown(fd, state.st_uid, state.st_gid)
            os.fchmod(fd, state.st_mode & 0o7777)
            os.pwrite(fd, content, 0)
            os.replace(beside, self._path)
        except OSError:
            os.close(fd)
            with suppress(OSError):
                os.unlink(beside)
            raise
        os.close(self._fd)
        self._fd = fd

    def entry(self, path: bytes, inode: int) -> Entry | None:
        """A file's entry, made where there is none; it is in the file after `flush`. None: a path that no
        line can hold."""
        key: Key = inode if self._by_inode else path
        found = self._entries.get(key)
        if found is not None:
            return found
        if b"\t" in path or b"\n" in path:
            return None
        line = _line(path, 0, 0)
        entry = Entry(path, 0, 0, self._size + len(path) + 1, new=True)
        self._size += len(line)
        self._unwritten.append(line)
        self._entries[key] = entry
        return entry

    def used(self, path: bytes, inode: int) -> None:
        """From now on only the native kernel knows what the entry says."""
        key: Key = inode if self._by_inode else path
        entry = self._entries.get(key)
        if entry is not None:
            self._entries[key] = Entry(entry.path, 0, inode, entry.slot)

    def flush(self) -> None:
        """Writes new entries. Raises OSError."""
        if self._unwritten:
            content = b"".join(self._unwritten)
            os.pwrite(self._fd, content, self._size - len(content))
            self._unwritten.clear()

    def forget(self, key: Key) -> None:
        """The entry was marked as unwatched."""
        self._entries.pop(key, None)

    def close(self) -> None:
        """Closes the file."""
        os.close(self._fd)


def _line(path: bytes, position: int, inode: int) -> bytes:
    return b"%b\t%016x\t%016x\n" % (path, position, inode)
