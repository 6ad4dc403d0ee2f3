"""One process per buffer folder."""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from typing import Final

NAME: Final = "lock"


class InUseError(OSError):
    """Another process has the buffer open."""

    def __init__(self, folder: str, owner: str) -> None:
        who = f"process {owner}" if owner else "another process"
        super().__init__(f"buffer path {folder!r} is in use by {who}")
        self.owner = owner


class FolderLock:
    """A lock on a folder: a file in it with the process's number, locked as long as the process lives."""

    def __init__(self, folder: str, mode: int) -> None:
        """Raises InUseError, or OSError."""
        self._path = os.path.join(folder, NAME)
        while True:
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, mode)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                owner = os.pread(fd, 32, 0).decode("ascii", "replace").strip()
                os.close(fd)
                raise InUseError(folder, owner) from None
            except BaseException:
                os.close(fd)
                raise
            # who had it before may have removed the file between our open and our lock
            with suppress(FileNotFoundError):
                if os.path.samestat(os.stat(self._path), os.fstat(fd)):
                    break
            os.close(fd)
        self._fd = fd
        with suppress(OSError):  # a full disk: the number is for messages only
            os.ftruncate(fd, 0)
            os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)

    def release(self, *, remove: bool = False) -> None:
        """Lets go; `remove`: takes the file away."""
        if self._fd >= 0:
            if remove:
                with suppress(OSError):
                    os.unlink(self._path)
            os.close(self._fd)
            self._fd = -1


def owner(folder: str) -> str | None:
    """Number of the process that has a folder's buffer open, "" where unknown; None: nobody has."""
    try:
        fd = os.open(os.path.join(folder, NAME), os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return os.pread(fd, 32, 0).decode("ascii", "replace").strip()
    finally:
        os.close(fd)
    return None
