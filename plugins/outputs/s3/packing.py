"""How an object's content is compressed."""

from __future__ import annotations

import lzma
import zlib
from collections.abc import Callable, Sequence
from typing import Any, Final

from forwarder.api import ConfigError

KINDS: Final = {
    "gzip": ("gz", "application/x-gzip"),
    "gzip_command": ("gz", "application/x-gzip"),
    "zstd": ("zst", "application/x-zst"),
    "lzma2": ("xz", "application/x-xz"),
    "json": ("json", "application/json"),
    "text": ("txt", "text/plain"),
}
"""By `store_as`: the end of the object's name, and its content type."""


def packer(method: str, level: int) -> Callable[[Sequence[bytes]], list[bytes]]:
    """What makes an object's content of a chunk's blocks. Raises ConfigError."""
    if method in ("json", "text"):
        return list
    if method == "lzma2":
        return lambda blocks: [lzma.compress(b"".join(blocks), preset=0)]
    if method != "zstd":

        def gzip(blocks: Sequence[bytes]) -> list[bytes]:
            packer = zlib.compressobj(wbits=zlib.MAX_WBITS | 16)  # 16: with gzip's header and trailer
            return [*map(packer.compress, blocks), packer.flush()]

        return gzip
    zstd = zstd_module()
    if zstd is None:
        raise ConfigError(
            "store_as zstd needs Python 3.14 or the package backports.zstd: pip install 'forwarder[zstd]'",
            param="store_as",
        )
    return lambda blocks: [zstd.compress(b"".join(blocks), level)]


def zstd_module() -> Any:
    """Python's zstd; None: it is not there."""
    try:
        try:
            from compression import zstd  # noqa: PLC0415 - only who wants it needs it
        except ImportError:
            from backports import zstd  # noqa: PLC0415
    except ImportError:
        return None
    return zstd
