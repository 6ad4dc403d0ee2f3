"""Where control sockets are.

Without `--control-socket` an instance makes `PID.sock` in the first of these folders that it can use: for
root `/run/forwarder`; `$XDG_RUNTIME_DIR/forwarder`; `/tmp/forwarder-UID` (`$TMPDIR`). The folder has mode
0700, the socket 0600.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

SUFFIX: Final = ".sock"


def folders(uid: int) -> list[str]:
    """The folders that a user's instances use, best first."""
    found = ["/run/forwarder"] if uid == 0 else []
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime:
        found.append(os.path.join(runtime, "forwarder"))
    found.append(os.path.join(os.environ.get("TMPDIR") or "/tmp", f"forwarder-{uid}"))
    return found


def usable_folder() -> str | None:
    """The first of the folders that can be had, made where it is missing; None: there is none."""
    uid = os.geteuid()
    for folder in folders(uid):
        with suppress(FileExistsError, OSError):
            os.mkdir(folder, 0o700)
        with suppress(OSError):
            state = os.lstat(folder)
            # /tmp is everybody's: a folder that somebody else has put there is not used
            if stat.S_ISDIR(state.st_mode) and state.st_uid == uid and os.access(folder, os.W_OK | os.X_OK):
                return folder
    return None


def sockets() -> list[str]:
    """The sockets in the folders of this user; the instances behind them may be gone."""
    found = []
    for folder in folders(os.geteuid()):
        with suppress(OSError):
            found += [os.path.join(folder, name) for name in os.listdir(folder) if name.endswith(SUFFIX)]
    return sorted(found)


def of_worker(path: str, number: int) -> str:
    """The socket of a worker where `path` is configured: worker 0 has that, worker 1 `NAME.1.sock`."""
    if number == 0:
        return path
    base, suffix = os.path.splitext(path)
    return f"{base}.{number}{suffix}"


def of_process(pid: str) -> str | None:
    """The socket of a process that uses the default place."""
    return next((path for path in sockets() if os.path.basename(path) == f"{pid}{SUFFIX}"), None)


@contextmanager
def short(path: str) -> Iterator[str]:
    """The same path, short enough for a socket's address (107 bytes). Raises OSError: no such folder."""
    if len(os.fsencode(path)) < 100:
        yield path
        return
    fd = os.open(os.path.dirname(path) or ".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{fd}/{os.path.basename(path)}"
    finally:
        os.close(fd)
