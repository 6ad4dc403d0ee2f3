"""Compression of what buffers keep: each block for itself, so that a rotten one costs no other."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from forwarder.api.errors import ConfigError, UnrecoverableError

TEXT: Final = 0
GZIP: Final = 1
ZSTD: Final = 2
_NUMBERS: Final = {"text": TEXT, "gzip": GZIP, "zstd": ZSTD}
_WITH_HEADER: Final = zlib.MAX_WBITS | 16


class Codec(NamedTuple):
    """How blocks are packed, and unpacked whatever they were packed with."""

    number: int
    """As it stands in records: 0 (not at all), 1 (gzip), 2 (zstd)."""
    pack: Callable[[bytes], bytes] | None
    limit: int
    """Largest content of a block in bytes."""

    def unpack(self, data: bytes, number: int, *, torn: bool = False) -> bytes:
        """The content of a block. `torn`: gives what there is where the data end too early.

        Raises:
            UnrecoverableError: too large, or not what `number` says.
        """
        if number == TEXT:
            return data
        try:
            return (_gunzip if number == GZIP else _unzstd)(data, self.limit, torn)
        except (zlib.error, EOFError, ValueError) as error:
            raise UnrecoverableError(
                f"a block of the buffer cannot be decompressed: {error}", whole=True
            ) from error


def codec(method: str, limit: int = 1 << 40) -> Codec:
    """The codec for a value of `compress`. Raises ConfigError: no library for zstd is installed."""
    if method == "gzip":
        return Codec(GZIP, _gzip, limit)
    if method == "zstd":
        compress = _zstd_module().compress
        return Codec(ZSTD, compress, limit)
    return Codec(_NUMBERS[method], None, limit)


def _gzip(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=_WITH_HEADER)
    return packer.compress(data) + packer.flush()


def _gunzip(data: bytes, limit: int, torn: bool) -> bytes:
    """All members of `data`."""
    return _unpacked(data, limit, torn, lambda: zlib.decompressobj(wbits=_WITH_HEADER))


def _unzstd(data: bytes, limit: int, torn: bool) -> bytes:
    """All frames of `data`."""
    module = _zstd_module()
    try:
        return _unpacked(data, limit, torn, module.ZstdDecompressor)
    except module.ZstdError as error:
        raise ValueError(str(error)) from error


def _unpacked(data: bytes, limit: int, torn: bool, make: Callable[[], Any]) -> bytes:
    """The parts of `data` one after the other, each by an unpacker of its own."""
    parts: list[bytes] = []
    left = limit
    while data:
        unpacker = make()
        part = unpacker.decompress(data, left + 1)
        left -= len(part)
        if left < 0:
            raise ValueError(f"larger than decompression_size_limit ({limit} bytes)")
        if not unpacker.eof and not torn:
            raise EOFError("the data end too early")
        parts.append(part)
        data = unpacker.unused_data if unpacker.eof else b""
    return b"".join(parts)


def _zstd_module() -> Any:  # one of two modules of the same form
    try:
        try:
            from compression import zstd  # noqa: PLC0415 - only who wants it needs it
        except ImportError:
            from backports import zstd  # noqa: PLC0415
    except ImportError:
        raise ConfigError(
            "compress zstd needs Python 3.14 or the package backports.zstd: pip install 'forwarder[zstd]'",
            param="compress",
        ) from None
    return zstd
