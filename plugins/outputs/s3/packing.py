"""How an object's content is compressed."""

from __future__ import annotations

import lzma
import shlex
import shutil
import subprocess
import zlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from forwarder.api import ConfigError, ForwarderError
from forwarder.plugins.outputs.s3.parquet import packer as parquet_packer

if TYPE_CHECKING:
    from forwarder.plugins.outputs.s3.parameters import Compress

Packer = Callable[[Sequence[bytes]], list[bytes]]
"""Makes an object's content of a chunk's blocks. Raises ForwarderError."""

KINDS: Final = {
    "gzip": ("gz", "application/x-gzip"),
    "gzip_command": ("gz", "application/x-gzip"),
    "zstd": ("zst", "application/x-zst"),
    "lzma2": ("xz", "application/x-xz"),
    "lzo": ("lzo", "application/x-lzop"),
    "parquet": ("parquet", "application/octet-stream"),
    "json": ("json", "application/json"),
    "text": ("txt", "text/plain"),
}
"""By `store_as`: the end of the object's name, and its content type."""


_COMMANDS: Final = {"gzip_command": ("gzip", ""), "lzma2": ("xz", "-qf0"), "lzo": ("lzop", "-qf1")}
"""By `store_as`: the program, and its options in fluent-plugin-s3."""


def packer(method: str, options: Compress, command: str | None) -> Packer:
    """What packs objects; `command`: options for the program of a method that has one. Raises ConfigError."""
    if method in ("json", "text"):
        return list
    if method == "parquet":
        return parquet_packer(options)
    if method in _COMMANDS and (command is not None or method == "lzo"):
        name, usual = _COMMANDS[method]
        return _program(name, shlex.split(usual if command is None else command))
    if command is not None:
        raise ConfigError(f"store_as {method} has no command_parameter", param="command_parameter")
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
    return lambda blocks: [zstd.compress(b"".join(blocks), options.level)]


def _program(name: str, arguments: Sequence[str]) -> Packer:
    path = shutil.which(name)
    if path is None:
        raise ConfigError(f"the program {name} is not installed", param="store_as")

    def pack(blocks: Sequence[bytes]) -> list[bytes]:
        done = subprocess.run(
            [path, *arguments, "-c"], input=b"".join(blocks), capture_output=True, check=False
        )
        if done.returncode:
            raise ForwarderError(f"{name} failed: {done.stderr.decode(errors='replace').strip()}")
        return [done.stdout]

    return pack


def unpacked_by(name: str, data: bytes) -> bytes:
    """What a program unpacks `data` to. Raises ValueError: it cannot."""
    path = shutil.which(name)
    if path is None:
        raise ValueError(f"the program {name} is not installed")
    done = subprocess.run([path, "-dcq"], input=data, capture_output=True, check=False)
    if done.returncode:
        raise ValueError(done.stderr.decode(errors="replace").strip())
    return done.stdout


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
