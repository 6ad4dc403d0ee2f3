"""Reading what the s3 output wrote: listing a bucket, and objects unpacked piece by piece."""

from __future__ import annotations

import lzma
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from forwarder.api.archive import ArchivedObject, ArchiveError
from forwarder.plugins.outputs.s3.packing import unpacked_by, zstd_module
from forwarder.plugins.outputs.s3.parquet import MAGIC as PARQUET
from forwarder.plugins.outputs.s3.parquet import read as parquet_lines

_READ_BYTES: Final = 1 << 20
_MAGIC: Final = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"\xfd7zXZ\0": "lzma2"}
_LZO: Final = b"\x89LZO\0\r\n\x1a\n"
_LONGEST: Final = 9


def listed(client: Any, bucket: str, prefix: str) -> Iterator[ArchivedObject]:
    """The bucket's objects whose keys start with `prefix`. Raises ArchiveError."""
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415 - costs megabytes

    try:
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
            for each in page.get("Contents", ()):
                yield ArchivedObject(each["Key"], each["Size"], each["LastModified"].timestamp())
    except (BotoCoreError, ClientError) as error:
        raise ArchiveError(f"cannot list s3://{bucket}/{prefix}: {error}") from error


def content(
    client: Any, bucket: str, key: str, more: Mapping[str, Any], on_bytes: Callable[[int], object]
) -> Iterator[bytes]:
    """An object's content; whether it is packed is told by its first bytes, not by its name.

    Raises:
        ArchiveError: it cannot be read, or is broken or cut off.
    """
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415 - costs megabytes
    from urllib3.exceptions import HTTPError  # noqa: PLC0415

    try:
        body = client.get_object(Bucket=bucket, Key=key, **more)["Body"]
        try:
            yield from unpacked(_counted(body.iter_chunks(_READ_BYTES), on_bytes))
        finally:
            body.close()
    except ClientError as error:
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        raise ArchiveError(f"cannot read {key}: {error}", transient=status >= 500) from error
    except (BotoCoreError, HTTPError, OSError) as error:
        raise ArchiveError(f"cannot read {key}: {error}", transient=True) from error
    except (EOFError, ValueError, zlib.error, lzma.LZMAError) as error:
        raise ArchiveError(f"{key} is broken: {error}") from error


def _counted(pieces: Iterator[bytes], on_bytes: Callable[[int], object]) -> Iterator[bytes]:
    for piece in pieces:
        on_bytes(len(piece))
        yield piece


def unpacked(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The pieces without their compression, each of a bounded size.

    Raises:
        EOFError: the data ends too early. ValueError, zlib.error, lzma.LZMAError: it is broken.
    """
    start = b""
    for piece in pieces:
        start += piece
        if len(start) >= _LONGEST:
            break
    method = next((name for magic, name in _MAGIC.items() if start.startswith(magic)), None)
    if start.startswith(PARQUET):
        yield from parquet_lines(b"".join([start, *pieces]))  # what is where stands at its end
    elif start.startswith(_LZO):
        yield unpacked_by("lzop", b"".join([start, *pieces]))
    elif method is None:
        yield start
        yield from pieces
    else:
        yield from _members(_unpacker(method), start, pieces)


def _members(make: Callable[[], Any], start: bytes, pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Any number of members, one after the other, as `cat a.gz b.gz` makes them."""
    data, worker = start, make()
    while True:
        if data:
            yield from _all(worker, data)
        if worker.eof and worker.unused_data:
            data, worker = worker.unused_data, make()
            continue
        data = next(pieces, b"")
        if not data:
            break
        if worker.eof:
            worker = make()
    if not worker.eof:
        raise EOFError("the compressed data ends too early")


def _all(worker: Any, data: bytes) -> Iterator[bytes]:
    """What `data` unpacks to: a bounded piece at a time, however well it was packed."""
    yield worker.decompress(data, _READ_BYTES)
    while not worker.eof and not worker.needs_input:
        yield worker.decompress(b"", _READ_BYTES)


class _Gzip:
    """zlib's decompressor with the manners of the others."""

    def __init__(self) -> None:
        self._worker = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
        self._full = False

    def decompress(self, data: bytes, most: int) -> bytes:
        found = self._worker.decompress(self._worker.unconsumed_tail + data, most)
        self._full = len(found) == most  # more may be ready although all input is taken
        return found

    @property
    def eof(self) -> bool:
        return self._worker.eof

    @property
    def needs_input(self) -> bool:
        return not (self._full or self._worker.unconsumed_tail)

    @property
    def unused_data(self) -> bytes:
        return self._worker.unused_data


def _unpacker(method: str) -> Callable[[], Any]:
    if method == "gzip":
        return _Gzip
    if method == "lzma2":
        return lzma.LZMADecompressor
    zstd = zstd_module()
    if zstd is None:
        raise ValueError("zstd needs Python 3.14 or backports.zstd: pip install 'forwarder[zstd]'")
    decompressor: Callable[[], Any] = zstd.ZstdDecompressor
    return decompressor
