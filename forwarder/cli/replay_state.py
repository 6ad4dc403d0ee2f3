"""How far a replay is: the state file, the counts, the progress line."""

from __future__ import annotations

import fcntl
import json
import os
import sys
import time
from pathlib import Path
from typing import Any, Final

from forwarder._native import ArchiveReader
from forwarder.api.archive import ArchivedObject
from forwarder.api.errors import ForwarderError
from forwarder.cli.bar import Bar

_REDRAW_SECONDS: Final = 0.2


class Counts:
    """Events and lines."""

    def __init__(self) -> None:
        self.events = 0
        """Brought back: within the times and patterns of the reader."""
        self.skipped = 0
        """Outside of them."""
        self.matched = 0
        self.whole_seconds = 0
        self.failures: dict[str, tuple[int, int, bytes]] = {}
        """By reason: how many lines, and the first one's number and start."""

    @property
    def unreadable(self) -> int:
        return sum(count for count, _, _ in self.failures.values())

    @property
    def read(self) -> int:
        """All events that the lines held."""
        return self.events + self.skipped

    def add_failures(self, reader: ArchiveReader) -> None:
        """What a reader did not bring back."""
        self.skipped += reader.outside + reader.unmatched
        for reason, count, line, sample in reader.failures:
            known, first, start = self.failures.get(reason, (0, line, sample))
            self.failures[reason] = (known + count, first, start)

    def add(self, other: Counts) -> None:
        """Those of an object."""
        self.events += other.events
        self.skipped += other.skipped
        self.matched += other.matched
        for reason, (count, line, sample) in other.failures.items():
            known, first, start = self.failures.get(reason, (0, line, sample))
            self.failures[reason] = (known + count, first, start)


class State:
    """The place from which a later run goes on: the last object that is done, and lines of the next one.

    What is noted becomes true with `save`, which the caller calls once the target has everything.
    """

    def __init__(self, path: str | None, asked: list[Any]) -> None:
        """`asked`: what must be the same the next time.

        Raises:
            ForwarderError: the file cannot be used, is of another replay, or another process uses it.
        """
        self._path = None if path is None else Path(path)
        self._asked = asked
        self._lock: int | None = None
        self.done_key: str | None = None
        self._key: str | None = None
        self._lines = 0
        self._finished = False
        if self._path is not None:
            try:
                self._open(self._path)
            except BaseException:
                self.__exit__()
                raise

    def _open(self, path: Path) -> None:
        try:
            self._lock = os.open(f"{path}.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            text = path.read_text() if path.exists() else None
        except BlockingIOError:
            raise ForwarderError(f"{path}: another replay uses it") from None
        except OSError as error:
            raise ForwarderError(f"{path}: {error.strerror}") from error
        if text is None:
            return
        try:
            known = json.loads(text)
            asked, self.done_key = known["asked"], known["done"]
            self._key, self._lines = known["object"], int(known["lines"])
            finished = known["finished"]
        except (ValueError, KeyError, TypeError):
            raise ForwarderError(f"{path} is not the state of a replay") from None
        if asked != self._asked:
            raise ForwarderError(f"{path} is the state of another replay: {asked}")
        if finished:
            raise ForwarderError(f"{path}: that replay is finished; remove the file to start anew")

    def lines_of(self, key: str) -> int:
        """Lines of this object that an earlier run has brought back."""
        return self._lines if self._key == key else 0

    def lines_done(self, key: str, lines: int) -> None:
        """So many lines of an object were handed on."""
        self._key, self._lines = key, max(lines, self.lines_of(key))

    def object_done(self, key: str) -> None:
        """All of it was."""
        self.done_key, self._key, self._lines = key, None, 0

    def finish(self) -> None:
        """There is nothing left. Raises ForwarderError."""
        self._finished = True
        self.save()

    def save(self) -> None:
        """Writes it, replacing the file as a whole. Raises ForwarderError."""
        if self._path is None:
            return
        known = {"asked": self._asked, "done": self.done_key, "object": self._key, "lines": self._lines}
        new = self._path.with_name(f"{self._path.name}.new")
        try:
            with new.open("w") as file:
                json.dump(known | {"finished": self._finished}, file)
                file.flush()
                os.fsync(file.fileno())
            new.replace(self._path)
        except OSError as error:
            raise ForwarderError(f"{self._path}: {error.strerror}") from error

    def __enter__(self) -> State:
        return self

    def __exit__(self, *_: object) -> None:
        lock, self._lock = self._lock, None
        if lock is not None:
            os.close(lock)


class Progress:
    """A line on the standard error stream that is written anew, and messages above it."""

    def __init__(self, objects: list[ArchivedObject], *, show: bool) -> None:
        self._total_bytes = sum(each.size_bytes for each in objects)
        self._objects = len(objects)
        self._done = self._done_bytes = self._read_bytes = 0
        self._bar = Bar(show=show)
        self._started = time.monotonic()
        self._next = 0.0
        self._said: set[str] = set()

    def events(self, matched: int, each: ArchivedObject, lines: int) -> None:
        """Events so far."""
        now = time.monotonic()
        if not self._bar.show or now < self._next:
            return
        self._next = now + _REDRAW_SECONDS
        read = self._done_bytes + self._read_bytes
        share = read / self._total_bytes if self._total_bytes else 1.0
        rate = matched / max(1e-9, now - self._started)
        self._bar.draw(
            share,
            f"object {self._done + 1} of {self._objects}, line {lines:,}  {matched:,} events, {rate:,.0f}/s",
        )

    def begin(self) -> None:
        """An object is read from its start on."""
        self._read_bytes = 0

    def read(self, count: int) -> None:
        """So many bytes more of it."""
        self._read_bytes += count

    def end(self, each: ArchivedObject) -> None:
        """An object is done."""
        self._read_bytes = 0
        self._done += 1
        self._done_bytes += each.size_bytes

    def say(self, text: str, *, once: bool = False) -> None:
        """A message; `once`: of this kind (what follows the object's name) only the first one."""
        kind = text.rpartition(": ")[0].rpartition(": ")[2]
        if once and kind in self._said:
            return
        self._said.add(kind)
        self.close()
        print(text, file=sys.stderr, flush=True)

    def close(self) -> None:
        """Takes the line away."""
        self._bar.close()
