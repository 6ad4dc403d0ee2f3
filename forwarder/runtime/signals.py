"""Signals as bytes to read: a handler only notes one, the interpreter writes its number into a pipe."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable
from typing import Any


class Signals:
    """The signals of a process, while it lives."""

    def __init__(self, numbers: Iterable[int], second: Callable[[int], None] | None = None) -> None:
        """`second`: called in the handler, with the signal, once `stopping` is set: the main thread may be
        busy with the stop."""
        self._reader, self._writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self.stopping = False
        self._second = second
        for number in numbers:
            signal.signal(number, self._note)
        signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)

    def fileno(self) -> int:
        """To poll."""
        return self._reader

    def read(self) -> list[int]:
        """The signals since the last call."""
        try:
            return list(os.read(self._reader, 64))
        except BlockingIOError:
            return []

    def close(self) -> None:
        """In a forked child: gives up what it has from its parent."""
        signal.set_wakeup_fd(-1)
        os.close(self._reader)
        os.close(self._writer)

    def _note(self, number: int, _frame: Any) -> None:
        if self.stopping and self._second is not None:
            self._second(number)
