"""Waiting for something to become true. The one place where tests poll."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable

PATIENCE = 60.0
"""Seconds. Ends a test that hangs; says nothing about how long anything may take."""


def wait_for(
    condition: Callable[[], object], what: str | Callable[[], str] = "", seconds: float = PATIENCE, *,
    process: subprocess.Popen[bytes] | None = None,
) -> None:  # fmt: skip
    """Returns when `condition()` is true.

    Args:
        what: said when it does not become true; a function (such as one that reads a log) is asked then.
        seconds: how long to wait at most.
        process: whose end ends the waiting.

    Raises:
        AssertionError: not in time, or the process has ended.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        dead = process is not None and process.poll() is not None
        if dead or time.monotonic() > deadline:
            said = what if isinstance(what, str) else what()
            raise AssertionError(f"{'it died' if dead else f'not within {seconds} s'}: {said}")
        time.sleep(0.005)
