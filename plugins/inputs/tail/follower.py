"""What in_tail decides: which files are followed, from where on, and what a rotation means.

Runs per refresh and per rotation, not per line. Files are known by their path, with `follow_inodes` by their
inode.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from threading import RLock
from typing import Final

from forwarder._native import Tailer
from forwarder.api.plugin import Plugin
from forwarder.plugins.inputs.tail.positions import Entry, Key, PositionFile

_LOOK: Final = 10_000
"""Files that are looked at per second, besides those that inotify cannot watch."""

Target = tuple[bytes, int]
"""Path and inode."""


@dataclass(slots=True)
class _Followed:
    path: bytes
    inode: int
    key: Key
    unwatched: bool = False


class Follower:
    """Keeps the native kernel's files what the configuration says. For any thread."""

    def __init__(
        self, plugin: Plugin, tailer: Tailer, find: Callable[[], list[Target]], *,
        tag: Callable[[bytes], str], group: Callable[[str], int | None], from_head: bool, by_inode: bool,
        rotate_wait: float,
    ) -> None:  # fmt: skip
        self._plugin = plugin
        self._tailer = tailer
        self._find = find
        self._tag = tag
        self._group = group
        self._from_head = from_head
        self._by_inode = by_inode
        self._rotate_wait = rotate_wait
        self._positions: PositionFile | None = None
        self._lock = RLock()
        self._starting = True
        self._files: dict[int, _Followed] = {}
        self._now: dict[Key, int] = {}
        self._leaving: dict[Key, int] = {}
        self._missing: set[Key] = set()

    def start(self, positions: PositionFile | None, *, refresh: bool) -> None:
        """Takes the position file in, and with `refresh` starts to follow files. Raises OSError."""
        with self._lock:
            targets = self._find()
            if positions is not None:
                self._positions = positions
                gone = positions.load({self._key(path, inode) for path, inode in targets})
                self._tailer.relocate(positions.descriptor, [])
                if refresh and not self._by_inode:
                    inodes = {inode for _, inode in targets}
                    for entry in gone:
                        if not os.path.lexists(entry.path):
                            self._read_rest(entry, None, inodes)
            if refresh:
                self._refresh(targets)

    def refresh(self) -> None:
        """Looks for files that have come or gone."""
        targets = self._find()
        with self._lock:
            self._refresh(targets)

    def look(self) -> None:
        """Compares the files with what the system says."""
        self._tailer.look(_LOOK)
        if self._tailer.changed:
            self.changed()

    def changed(self) -> None:
        """Answers what the kernel reports."""
        with self._lock:
            self._adopt()
            for number, inode in self._tailer.changes():
                if inode is None:
                    self._closed(number)
                else:
                    self._rotated(number)
            self._flush()

    def commit(self) -> None:
        """The last batch is safe."""
        with self._lock:  # a compaction must not move entries meanwhile
            try:
                self._tailer.commit()
            except OSError as error:
                self._plugin.log_repeated("position file cannot be written", level="error", error=str(error))

    def compact(self) -> None:
        """Takes what is unwatched out of the position file. Raises OSError."""
        with self._lock:
            if self._positions is not None:
                slots = self._positions.compact(self._tailer.slots())
                self._tailer.relocate(self._positions.descriptor, slots)

    def close(self) -> None:
        """Closes the position file."""
        with self._lock:
            if self._positions is not None:
                self._positions.close()

    def _key(self, path: bytes, inode: int) -> Key:
        return inode if self._by_inode else path

    def _refresh(self, targets: list[Target]) -> None:
        wanted = {self._key(path, inode): (path, inode) for path, inode in targets}
        gone = [key for key in self._now if key not in wanted]
        # a path may have no file for a moment, while it is rotated
        before, self._missing = self._missing, {key for key in gone if not self._exists(self._now[key])}
        inodes = {inode for _, inode in targets}
        for key, (path, inode) in wanted.items():
            number = self._now.get(key, 0)
            if not number:
                self._follow(path, inodes)
            elif self._by_inode:
                self._renamed(number, path)
            elif self._files[number].inode != inode:
                self._rotated(number)
        # after the others, so that a path of theirs stays watched all the time
        for key in gone:
            if key in self._missing and key not in before:
                continue
            number = self._now.pop(key)
            self._files[number].unwatched = True
            self._leaving[key] = number
            self._tailer.retire(number, unwatch=True)
        self._starting = False
        self._flush()

    def _is_there(self, number: int) -> bool:
        file = self._files[number]
        try:
            return os.stat(file.path).st_ino == file.inode
        except OSError:
            return False

    def _exists(self, number: int) -> bool:
        return os.path.lexists(self._files[number].path)

    def _flush(self) -> None:
        if self._positions is not None:
            self._positions.flush()

    def _renamed(self, number: int, path: bytes) -> None:
        file = self._files[number]
        if file.path != path:
            file.path = path
            self._tailer.moved(number, path, self._tag(path))

    def _open(self, path: bytes) -> tuple[int, int, int] | None:
        shown = os.fsdecode(path)
        try:
            return self._tailer.open(path, self._tag(path), self._group(shown))
        except FileNotFoundError:
            return None  # rotated or removed meanwhile
        except OSError as error:
            self._plugin.log_repeated("file cannot be opened", path=shown, error=str(error))
            return None

    def _follow(self, path: bytes, inodes: set[int]) -> None:
        opened = self._open(path)
        if opened is None:
            return
        number, inode, size = opened
        key = self._key(path, inode)
        leaving = self._leaving.get(key)
        if key in self._now:  # by another path
            self._tailer.cancel(number)
            return
        if leaving is not None and self._files[leaving].inode == inode:
            if self._tailer.moved(leaving, path, self._tag(path)):
                self._tailer.cancel(number)
                del self._leaving[key]
                self._files[leaving].unwatched = False
                self._files[leaving].path = path
                self._now[key] = leaving
                return
            leaving = None
        self._files[number] = _Followed(path, inode, key)
        self._now[key] = number
        self._plugin.log.info(f"following tail of {os.fsdecode(path)}")
        if leaving is not None:
            del self._leaving[key]
            self._files[leaving].unwatched = False
            if self._tailer.inherit(leaving, number):
                self._begin(number, 0, None)
                return
            self._forget_entry(key)
        self._begin_by_entry(number, path, inode, size, inodes)

    def _begin_by_entry(self, number: int, path: bytes, inode: int, size: int, inodes: set[int]) -> None:
        entry = None if self._positions is None else self._positions.entry(path, inode)
        if entry is None or entry.new or entry.inode == 0:
            position = 0 if self._from_head or not self._starting else size
        elif entry.inode == inode:
            position = entry.position if entry.position <= size else 0
        else:
            # rotated while nobody looked
            position = 0
            if self._starting and self._read_rest(entry, number, inodes):
                self._begin(number, 0, None)
                return
        self._begin(number, position, entry)

    def _begin(self, number: int, position: int, entry: Entry | None) -> None:
        file = self._files[number]
        if entry is not None and self._positions is not None:
            self._positions.flush()
            self._positions.used(file.path, file.inode)
        try:
            watched = self._tailer.begin(number, position, None if entry is None else entry.slot)
        except OSError as error:
            self._plugin.log_repeated("position file cannot be written", level="error", error=str(error))
            return
        if not watched and self._tailer.notified:
            self._plugin.log_repeated(
                "inotify takes no more watches (sysctl fs.inotify.max_user_watches): files are polled"
            )

    def _read_rest(self, entry: Entry, heir: int | None, inodes: set[int]) -> bool:
        """Looks in the same folder for a file that was rotated away, and reads its rest."""
        if entry.inode == 0 or entry.inode in inodes:
            return False
        folder = os.path.dirname(entry.path) or b"."
        try:
            with os.scandir(folder) as names:
                path = next((name.path for name in names if name.inode() == entry.inode), None)
        except OSError:
            return False
        if path is None:
            return False
        try:
            number, inode, size = self._tailer.open(
                path, self._tag(entry.path), self._group(os.fsdecode(entry.path))
            )
        except OSError:
            return False
        if inode != entry.inode or entry.position >= size:
            self._tailer.cancel(number)
            return False
        self._files[number] = _Followed(entry.path, inode, self._key(entry.path, inode))
        self._plugin.log.info(
            f"reading the rest of {os.fsdecode(entry.path)}, which is {os.fsdecode(path)} now"
        )
        self._tailer.begin(number, entry.position, entry.slot if heir is not None else None)
        self._tailer.retire(number, heir=heir, wait=0.0)
        return True

    def _rotated(self, number: int) -> None:
        """The path is another file's now."""
        file = self._files.get(number)
        if file is None or self._now.get(file.key) != number:
            return
        opened = self._open(file.path)
        if opened is None:
            return
        new, inode, size = opened
        if inode == file.inode:
            self._tailer.cancel(new)
            return
        if self._by_inode:
            self._plugin.log.info(f"detected rotation of {os.fsdecode(file.path)}")
            self._tailer.detach(number)
            if inode in self._now:
                self._tailer.cancel(new)
                return
            self._files[new] = _Followed(file.path, inode, inode)
            self._now[inode] = new
            self._begin_by_entry(new, file.path, inode, size, set())
            return
        self._plugin.log.info(
            f"detected rotation of {os.fsdecode(file.path)}; waiting {self._rotate_wait:g} seconds"
        )
        self._adopt(new)  # others may have had the path before it, and after it
        if new not in self._files:
            self._succeed(self._now[file.key], new, inode)

    def _succeed(self, number: int, new: int, inode: int) -> None:
        """The old file is read first, and keeps the entry until all of it is safe."""
        old = self._files[number]
        self._files[new] = _Followed(old.path, inode, old.key)
        self._now[old.key] = new
        self._tailer.retire(number, heir=new)
        self._begin(new, 0, None)

    def _adopt(self, opened: int | None = None) -> None:
        """Reads files that had a path which is followed, and were renamed before they were begun: `opened`,
        and those that never were open."""
        departed = self._tailer.departed()
        if not departed:
            return
        targets = self._find()
        inodes = {inode for _, inode in targets}
        for owner, number, inode, path in departed:
            file = self._files.get(owner)
            if number in self._files:
                continue
            if file is None or (number != opened and inode in inodes):
                self._tailer.cancel(number)  # the path that it has now is followed, or will be
                continue
            self._plugin.log_repeated(
                "reading a file that had a path for a moment only", level="info",
                path=os.fsdecode(file.path), now=os.fsdecode(path),
            )  # fmt: skip
            current = None if self._by_inode else self._now.get(file.key)
            if current is not None and not self._is_there(current):
                self._succeed(current, number, inode)
                continue
            # the file that has the path came after it
            key = self._key(file.path, inode)
            self._files[number] = _Followed(file.path, inode, key)
            entry = self._positions.entry(file.path, inode) if self._by_inode and self._positions else None
            self._begin(number, 0, entry)
            self._tailer.retire(number, unwatch=entry is not None)

    def _closed(self, number: int) -> None:
        file = self._files.pop(number, None)
        if file is None:
            return
        if self._leaving.get(file.key) == number:
            del self._leaving[file.key]
            if file.unwatched:
                self._forget_entry(file.key)

    def _forget_entry(self, key: Key) -> None:
        if self._positions is not None:
            self._positions.forget(key)
