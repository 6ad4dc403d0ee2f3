"""The own log's file: reopened when asked, rotated as Ruby's Logger does it, shared by several processes.

By number: `log` becomes `log.0`, `log.0` becomes `log.1`, and so on, when a line finds more than `size`
bytes. By period: with the first line of a new day, week or month `log` becomes `log.YYYYMMDD`, the last day
of the old one.
"""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import suppress
from typing import Final

DEFAULT_FILES: Final = 7
DEFAULT_BYTES: Final = 1 << 20
PERIODS: Final = ("daily", "weekly", "monthly")
_DAY: Final = 86_400


class LogFile:
    """Appends text to a file.

    Raises:
        OSError: it cannot be opened.
    """

    def __init__(self, path: str, age: str | None = None, size: int | None = None) -> None:
        """`age`: a period, or how many files there may be; `size` in bytes. None of both: no rotation."""
        self._path = os.path.abspath(path)
        self._period = age if age in PERIODS else None
        self._files = int(age) if age is not None and self._period is None else DEFAULT_FILES
        self._size = DEFAULT_BYTES if size is None else size
        self._rotates = age is not None or size is not None
        if os.path.dirname(path):
            os.makedirs(os.path.dirname(path), exist_ok=True)
        self._fd = self._open()

    def write(self, text: str) -> None:
        """Appends, in one call, so that lines of several processes do not mix."""
        if self._rotates:
            with suppress(OSError):
                self._rotate_if_due()
        os.write(self._fd, text.encode("utf-8", "surrogateescape"))

    def flush(self) -> None:
        """Nothing is held back."""

    def reopen(self) -> None:
        """Goes on with what is at the path now: somebody has moved the old file. Raises OSError."""
        old, self._fd = self._fd, self._open()
        os.close(old)

    def close(self) -> None:
        """Closes the file."""
        os.close(self._fd)

    def _open(self) -> int:
        return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)

    def _due(self) -> bool:
        found = os.fstat(self._fd)
        if self._period is None:
            return self._files > 0 and found.st_size > self._size
        return found.st_size > 0 and _period_of(found.st_mtime, self._period) != _period_of(
            time.time(), self._period
        )

    def _moved(self) -> bool:
        try:
            there, ours = os.stat(self._path), os.fstat(self._fd)
        except FileNotFoundError:
            return True
        return (there.st_dev, there.st_ino) != (ours.st_dev, ours.st_ino)

    def _rotate_if_due(self) -> None:
        if not self._due():
            return
        fcntl.flock(self._fd, fcntl.LOCK_EX)  # ends when the descriptor is closed
        if not self._moved():
            self._shift()
        self.reopen()

    def _shift(self) -> None:
        if self._period is not None:
            last = os.fstat(self._fd).st_mtime
            name = f"{self._path}.{time.strftime('%Y%m%d', time.localtime(_end_of(last, self._period)))}"
            number = 0
            while os.path.exists(name if not number else f"{name}.{number}"):
                number += 1
            os.rename(self._path, name if not number else f"{name}.{number}")
            return
        for number in range(self._files - 3, -1, -1):
            if os.path.exists(f"{self._path}.{number}"):
                os.rename(f"{self._path}.{number}", f"{self._path}.{number + 1}")
        os.rename(self._path, f"{self._path}.0")


def _period_of(seconds: float, period: str) -> tuple[int, ...]:
    now = time.localtime(seconds)
    if period == "monthly":
        return now.tm_year, now.tm_mon
    if period == "weekly":  # weeks begin on Sunday
        midnight = seconds - now.tm_hour * 3600 - now.tm_min * 60 - now.tm_sec
        start = time.localtime(midnight + _DAY // 2 - (now.tm_wday + 1) % 7 * _DAY)
        return start.tm_year, start.tm_yday
    return now.tm_year, now.tm_yday


def _end_of(seconds: float, period: str) -> float:
    """A time on the last day of the period that `seconds` is in."""
    last = seconds
    for _ in range(31):
        if _period_of(last + _DAY, period) != _period_of(seconds, period):
            break
        last += _DAY
    return last
