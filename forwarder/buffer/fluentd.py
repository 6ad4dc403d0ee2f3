"""Chunks of a Fluentd that ran here before: read where they lie, and removed when they are delivered.

`file` keeps a chunk as `PREFIX.bID.SUFFIX` (staged) or `PREFIX.qID.SUFFIX` (queued) with its metadata in a
file of that name and `.meta`; `file_single` as `fsb.KEY.bID.buf`, with the tag or field value in the name.
Both are written here too: by `forwarder buffer export`, and where chunks are moved out of the way.

Order of operations: a chunk's content is unlinked only when an output has taken it, then its metadata. A
crash between leaves metadata without content, which is no chunk.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any, Final

from forwarder._native import EventStream, intact_entries
from forwarder.buffer.chunk import BufferChunk, Key
from forwarder.buffer.compression import GZIP, TEXT, ZSTD, Codec
from forwarder.buffer.place import Place

_NAME: Final = re.compile(r"\.([bq])([0-9a-f]+)\.[^/]*\Z")
_SINGLE: Final = re.compile(r"fsb\.(.*)\.([bq])([0-9a-f]+)\.buf\Z", re.DOTALL)
_HEADER: Final = b"\xc1\x00"
_MAGIC: Final = {b"\x1f\x8b": GZIP, b"\x28\xb5": ZSTD}


class BrokenChunkError(Exception):
    """A chunk of Fluentd that has no content, or metadata that cannot be read."""


class TornChunkError(Exception):
    """The content of a chunk ends inside an event."""


class FluentdChunk(BufferChunk):
    """A chunk in Fluentd's files."""

    __slots__ = ("_codec", "_entries", "intact_bytes", "meta_path", "modified_at", "path")

    def __init__(
        self, path: str, key: Key, chunk_id: bytes, created_at: float, modified_at: float, *,
        born: float, number: int, codec: Codec, entries: bool,
    ) -> None:  # fmt: skip
        super().__init__(key, created_at, born, number, chunk_id)
        self.path = path
        self.meta_path = f"{path}.meta"
        self.modified_at = modified_at
        self.intact_bytes: int | None = None
        """So much of the content are whole events; None: all of it, as far as is known."""
        self._codec = codec
        self._entries = entries

    def content(self) -> Sequence[bytes]:
        """The content. Raises TornChunkError where it ends inside an event, OSError."""
        data = self._read()
        if self.intact_bytes is not None:
            return [data[: self.intact_bytes]]
        if self._entries and intact_entries(data)[1] != len(data):
            raise TornChunkError(f"{self.path} ends inside an event")
        return [data]

    def _read(self) -> bytes:
        """All that can be decompressed."""
        with open(self.path, "rb") as file:
            data = file.read()
        number = _MAGIC.get(data[:2], TEXT) if self._codec.number != TEXT else TEXT
        return self._codec.unpack(data, number, torn=True)

    def cut(self) -> tuple[int, int]:
        """Leaves out what is no whole event. Gives the events that are left, and the bytes left out."""
        data = self._read()
        count, self.intact_bytes = intact_entries(data)
        return count, len(data) - self.intact_bytes

    def count_events(self) -> int:
        """The number of events, counted in the content."""
        data = self._read()
        return intact_entries(data)[0] if self._entries else data.count(b"\n")

    def unlink(self) -> None:
        """Removes the files. Raises OSError."""
        with suppress(FileNotFoundError):
            os.unlink(self.path)
        with suppress(FileNotFoundError):
            os.unlink(self.meta_path)


def paths(place: Place) -> Iterator[tuple[str, bool]]:
    """The chunk files of Fluentd at a place, and whether they are of `file_single`.

    Those that were put back (`forwarder buffer retry`) lie in the store as chunks of `file`.
    """
    seen: set[str] = set()
    for folder, pattern, single in (
        *((*entry, place.single) for entry in place.leftovers), (place.store, "buffer.*.log", False)
    ):  # fmt: skip
        with suppress(FileNotFoundError, NotADirectoryError):
            for entry in os.scandir(folder):
                found = (_SINGLE if single else _NAME).search(entry.name)
                if found and place.matches(pattern, entry.name) and entry.is_file():
                    path = os.path.abspath(entry.path)
                    if path not in seen:
                        seen.add(path)
                        yield entry.path, single


def load(
    path: str, *, single: bool, fields: tuple[str, ...], codec: Codec, entries: bool, count: bool,
    born: Callable[[float], float], number: int,
) -> FluentdChunk:  # fmt: skip
    """The chunk in a file.

    Args:
        fields: the record fields among the chunk keys. entries: content is MessagePack entries, not text.
        count: count the events where no metadata tell. born: from seconds since the epoch to the clock that
        only goes forward.

    Raises:
        BrokenChunkError: says why. OSError.
    """
    state = os.stat(path)
    if state.st_size == 0:
        raise BrokenChunkError("the chunk is empty")
    created, modified, events = float(int(state.st_ctime)), float(int(state.st_mtime)), None
    if single:
        found = _SINGLE.search(os.path.basename(path))
        assert found is not None  # `paths` gives no other
        from urllib.parse import unquote  # noqa: PLC0415

        value = unquote(found[1])
        key = Key(None, None, ((fields[0], value),)) if fields else Key(value, None, ())
        chunk_id = bytes.fromhex(found[3])
    else:
        named = _NAME.search(path)
        assert named is not None
        chunk_id, key = bytes.fromhex(named[2]), Key(None, None, tuple((field, None) for field in fields))
        try:
            with open(f"{path}.meta", "rb") as file:
                meta = read_meta(file.read())
        except FileNotFoundError:
            pass
        else:
            chunk_id, created, modified = meta["id"], float(meta["c"]), float(meta["m"])
            events, key = int(meta["s"]), _key(meta, fields)
    chunk = FluentdChunk(
        path,
        key,
        chunk_id,
        created,
        modified,
        born=born(created),
        number=number,
        codec=codec,
        entries=entries,
    )
    chunk.size_bytes = state.st_size
    if events is None and count:
        events = chunk.count_events()
    chunk.count = events or 0
    return chunk


def read_meta(data: bytes) -> dict[str, Any]:
    """A `.meta` file: `id`, `s` (events), `c` and `m` (created, modified), `tag`, `timekey`, `variables`.

    Raises:
        BrokenChunkError: says what is wrong.
    """
    if data[:2] == _HEADER:
        if len(data) < 6:
            raise BrokenChunkError("the metadata are torn")
        data = data[6 : 6 + int.from_bytes(data[2:6], "big")]
    try:
        ((_, meta),) = EventStream(b"\x92\x00" + data)
    except ValueError as error:
        raise BrokenChunkError(f"the metadata cannot be read: {error}") from error
    chunk_id = meta.get("id")
    if isinstance(chunk_id, str):
        chunk_id = chunk_id.encode("utf-8", "surrogatepass")
    if not isinstance(chunk_id, bytes) or not chunk_id:
        raise BrokenChunkError("the metadata have no id")
    meta["id"] = chunk_id
    for name in ("c", "m"):
        if not isinstance(meta.get(name), int | float) or meta[name] <= 0:
            raise BrokenChunkError(f"the metadata have no time {name!r}")
    if not isinstance(meta.setdefault("s", 0), int):
        meta["s"] = 0
    return meta


def _key(meta: dict[str, Any], fields: tuple[str, ...]) -> Key:
    tag, timekey, found = meta.get("tag"), meta.get("timekey"), meta.get("variables")
    variables = dict.fromkeys(fields)
    if isinstance(found, dict):
        variables.update((str(name), None if value is None else str(value)) for name, value in found.items())
    return Key(
        tag if isinstance(tag, str) else None, timekey if isinstance(timekey, int) else None,
        tuple(variables.items()),
    )  # fmt: skip


def write(
    folder: str, chunk: BufferChunk, pack: Callable[[bytes], bytes] | None, mode: int, *, sync: bool = True
) -> str:  # fmt: skip
    """Writes a chunk as a queued one of Fluentd's `file` buffer. Gives the path. Raises OSError.

    The metadata come first: content without them would lose its key.
    """
    path = os.path.join(folder, f"buffer.q{chunk.id.hex()}.log")
    created = int(chunk.created_at)
    meta: dict[str, Any] = {
        "timekey": chunk.key.timekey, "tag": chunk.key.tag,
        "variables": dict(chunk.key.variables) or None, "seq": 0, "id": chunk.id, "s": chunk.count,
        "c": max(1, created), "m": max(1, created),
    }  # fmt: skip
    # the record behind the head of the entry and its time (1 + 10 bytes)
    packed = bytes(EventStream.from_events([(0, meta)]))[11:]
    _put(f"{path}.meta", [_HEADER + len(packed).to_bytes(4, "big") + packed], mode, sync)
    blocks = chunk.blocks()
    _put(path, blocks if pack is None else (pack(block) for block in blocks), mode, sync)
    return path


def _put(path: str, blocks: Any, mode: int, sync: bool) -> None:
    temporary = f"{path}.tmp"
    try:
        with open(temporary, "wb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
            file.writelines(blocks)
            file.flush()
            if sync:
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise
