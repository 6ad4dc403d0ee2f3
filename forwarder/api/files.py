"""For outputs that write files: whole chunks or nothing, without copying; compression; folders and links."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import threading
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

from forwarder.api.errors import ConfigError

Blocks = Sequence[bytes]

_PART_BYTES: Final = 8 << 20
_IOV_MAX: Final = min(1024, os.sysconf("SC_IOV_MAX"))
_NO_LOCKS: Final = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)


def write_all(fd: int, blocks: Blocks) -> None:
    """Writes all of `blocks` in as few system calls as there can be, some MiB at a time: the blocks of a file
    buffer are read from the disk as they are asked for. Raises OSError."""
    part: list[bytes | memoryview] = []
    size = 0
    for block in blocks:
        if block:
            part.append(block)
            size += len(block)
            if size >= _PART_BYTES:
                _write_part(fd, part)
                part, size = [], 0
    _write_part(fd, part)


def _write_part(fd: int, rest: list[bytes | memoryview]) -> None:
    start = 0
    while start < len(rest):
        written = os.writev(fd, rest[start : start + _IOV_MAX])
        while start < len(rest) and written >= len(rest[start]):
            written -= len(rest[start])
            start += 1
        if written:
            rest[start] = memoryview(rest[start])[written:]


def append(path: str, blocks: Blocks, mode: int) -> None:
    """Appends `blocks`; where that fails part-way, the file is cut back to what it was.

    Raises:
        OSError: nothing was written.
    """
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, mode)
    try:
        # Another thread, output or worker may append to the same file: without the lock, cutting back
        # would take their lines along.
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
        state = os.fstat(fd)
        try:
            write_all(fd, blocks)
        except BaseException:
            if stat.S_ISREG(state.st_mode):
                os.ftruncate(fd, state.st_size)
            raise
    finally:
        os.close(fd)


def create(path: str, mark: str, blocks: Blocks, mode: int, *, separator: str = "_") -> str:
    """Writes `blocks` to a new file: `path` with `_0`, `_1`, ... for `mark`, the first that is free.

    Returns:
        The file's path.

    Raises:
        OSError: there is no new file.
    """
    before, found, after = path.partition(mark)
    if not found:
        raise ValueError(f"{path!r} has no place for a number")
    index = 0
    while True:
        actual = f"{before}{separator}{index}{after}"
        try:
            fd = os.open(actual, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        except FileExistsError:
            index += 1
            continue
        try:
            write_all(fd, blocks)
        except BaseException:
            os.unlink(actual)
            raise
        finally:
            os.close(fd)
        return actual


def replace_link(link: str, target: str) -> None:
    """Makes `link` a symbolic link to `target`, with no moment in which there is none. Raises OSError."""
    with suppress(OSError):
        if os.readlink(link) == target:
            return
    temporary = f"{link}.{os.getpid()}.{threading.get_ident()}.tmp"
    os.symlink(target, temporary)
    try:
        os.replace(temporary, link)
    except OSError:
        os.unlink(temporary)
        raise


def make_folders(path: str, mode: int) -> None:
    """Makes the folder `path` and those missing above it, each with exactly `mode`. Raises OSError."""
    if not path or os.path.isdir(path):
        return
    make_folders(os.path.dirname(path), mode)
    with suppress(FileExistsError):  # another thread was faster
        os.mkdir(path, mode)
        os.chmod(path, mode)  # the umask does not count, as in Fluentd


def unwritable(path: str) -> str | None:
    """Why a file at `path` could not be written, or None. Touches nothing."""
    if os.path.isdir(path):
        return "it is a folder"
    if os.path.exists(path):
        return None if os.access(path, os.W_OK) else "permission denied"
    return unwritable_folder(os.path.dirname(path))


def unwritable_folder(path: str) -> str | None:
    """Why files could not be made in the folder `path`, which need not exist yet, or None."""
    path = os.path.abspath(path or ".")
    while not os.path.exists(path):
        path = os.path.dirname(path)
    if not os.path.isdir(path):
        return f"{path} is not a folder"
    return None if os.access(path, os.W_OK | os.X_OK) else f"permission denied in {path}"


def packer(method: str) -> Callable[[Blocks], Blocks]:
    """The function that compresses a chunk's blocks by `method`: "text" (not at all), "gzip" or "zstd".

    Raises:
        ConfigError: no library for zstd is installed.
    """
    if method == "text":
        return _same
    return _gzip if method == "gzip" else _zstd()


def _same(blocks: Blocks) -> Blocks:
    return blocks


def _gzip(blocks: Blocks) -> Blocks:
    packer = zlib.compressobj(wbits=zlib.MAX_WBITS | 16)  # 16: with gzip's header and trailer
    return [*map(packer.compress, blocks), packer.flush()]


def _zstd() -> Callable[[Blocks], Blocks]:
    try:
        try:
            from compression.zstd import ZstdCompressor  # noqa: PLC0415 - only who wants it needs it
        except ImportError:
            from backports.zstd import (  # type: ignore[assignment, unused-ignore]  # noqa: PLC0415
                ZstdCompressor,
            )
    except ImportError:
        raise ConfigError(
            "compress zstd needs Python 3.14 or the package backports.zstd: pip install 'forwarder[zstd]'",
            param="compress",
        ) from None

    def pack(blocks: Blocks) -> Blocks:
        compressor = ZstdCompressor()
        return [*map(compressor.compress, blocks), compressor.flush()]

    return pack
