"""Writing to the process's standard output, which all plugins share."""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Iterable
from typing import Final

_FD: Final = 1
# Standard output is one per process, and so is its lock: a write to a pipe that is longer than PIPE_BUF can
# be cut in two by another thread's.
_LOCK: Final = threading.Lock()


def write_stdout(blocks: Iterable[bytes]) -> None:
    """Writes all of `blocks`, never mixed with another thread's; waits where nobody reads.

    Raises:
        OSError: standard output is closed, or its reader is gone.
    """
    with _LOCK:
        for block in blocks:
            rest = memoryview(block)
            while rest:
                try:
                    rest = rest[os.write(_FD, rest) :]
                except BlockingIOError:
                    # somebody who shares the terminal or pipe made it non-blocking
                    poll = select.poll()
                    poll.register(_FD, select.POLLOUT)
                    poll.poll()
