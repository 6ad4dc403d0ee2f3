"""The file buffer: chunks in segment files that all of them share.

A folder holds `segment-*.seg` (the events; format in `native/src/segment.rs`), `segment-*.spare` (files that
next segments are written over), `journal` (which chunks are closed and which are gone; format in
`forwarder/buffer/journal.py`), `lock`, and `quarantine/`. A segment takes up to 64 MiB; no file belongs to
one chunk, so that a million chunk keys need as many descriptors as one: the segment that grows, the journal,
the lock, and up to 4 segments being read.

Invariants:

- What `append_all` returned for is in the file; by `fsync` it is on the disk when `settle` returned.
- An append is whole or not at all: what a full disk cut short is taken away again.
- Only closed chunks are handed to outputs. A chunk keeps its id and its order over restarts. Where a rotten
  record is missing it gets another id, because the events behind it have moved up.
- Losing the journal doubles events; nothing but a rotten segment loses any.
- A segment goes (becomes a spare file, or is unlinked) when no chunk has a record in it. Where all segments
  take more than twice what lives in them (and four segments more), the one with the least life, if that is
  less than a quarter, is copied to the end and goes; so one old chunk does not hold the room of thousands
  that are gone.

Order of operations: records, then `Q` in the journal, then the output, then `G`, then the segment goes. The
process may stop between any two of them. What is left of a chunk that was delivered in part becomes a chunk
of its own: its record, its `Q`, then `G` of the old one; who stops in between delivers the part twice.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple, overload

from forwarder._native import ChunkRecords, Segments
from forwarder.buffer import fluentd, journal
from forwarder.buffer.chunk import BufferChunk, Key
from forwarder.buffer.fluentd import FluentdChunk
from forwarder.buffer.lock import FolderLock
from forwarder.buffer.quarantine import Quarantine
from forwarder.buffer.recent import RECENT_BYTES, Recent
from forwarder.buffer.stage import Buffer, Step
from forwarder.buffer.syncing import Syncing

if TYPE_CHECKING:
    from forwarder._native import MemoryLoan
    from forwarder.buffer.compression import Codec
    from forwarder.buffer.limits import Limits
    from forwarder.buffer.place import Place
    from forwarder.buffer.stage import Block

SEGMENT_BYTES: Final = 64 << 20
VERIFY_BYTES: Final = 256 << 20
"""Up to this size all data are compared with their checksums at the start; beyond it when they are read."""
_REFUSE_SECONDS: Final = 0.5
"""Pause before a disk that refused an append is tried again."""
_JOURNAL_LEAST: Final = 4096
_COMPACT_EVERY: Final = 64
_COMPACT_MOST: Final = 8


class FileOptions(NamedTuple):
    """What `<buffer>` says about files."""

    place: Place
    codec: Codec
    file_mode: int = 0o644
    dir_mode: int = 0o755
    fsync: str = "never"
    """"never", "chunk" (when a chunk is closed), "interval", "append"."""
    fsync_seconds: float = 1.0
    segment_bytes: int = SEGMENT_BYTES
    fields: tuple[str, ...] = ()
    """The record fields among the chunk keys."""
    entries: bool = True
    """Content is MessagePack entries, not text."""
    count_events: bool = True
    """Count the events of Fluentd's chunks that do not say how many they hold."""
    recent_bytes: int = RECENT_BYTES
    """How much of young chunks is kept in memory too."""


class Recovery(NamedTuple):
    """What was found at the start."""

    chunks: int
    events: int
    size_bytes: int
    imported: int
    """Chunks of them that are Fluentd's."""
    lost: dict[str, int]
    """Events that are broken, by reason."""
    bad_bytes: int
    """Bytes that went to quarantine."""
    bad_ranges: int
    unknown_ranges: int
    """Of those, the ones of which it is not known how many events they held."""
    journal_entries: int
    """Rotten entries of the journal."""


class RottenRecordError(Exception):
    """A part of a chunk is not what was written. `FileBuffer.repair` takes it out."""


class FileChunk(BufferChunk):
    """A chunk in segments."""

    __slots__ = ("_buffer", "all_recent", "closed_at", "end", "recent", "records")

    def __init__(
        self, buffer: FileBuffer, key: Key, created_at: float, born: float, *, number: int,
        records: ChunkRecords | None = None, chunk_id: bytes | None = None,
    ) -> None:  # fmt: skip
        super().__init__(key, created_at, born, number, chunk_id)
        self._buffer = buffer
        self.closed_at = 0.0
        self.end = 0
        """How much this process had appended to the buffer when the chunk was closed."""
        self.recent: list[bytes] | None = [] if records is None else None
        """The first blocks, as they are in the file; see `forwarder.buffer.recent`."""
        self.all_recent = True
        """Whether that are all."""
        self.records = records or ChunkRecords(self.id, int(created_at * 1e9), _pack_key(key))

    def become(self, records: ChunkRecords, count: int, size_bytes: int) -> None:
        """Has other content, and its id. The caller holds the buffer's lock."""
        self.id = records.id
        self.records = records
        self.count = count
        self.size_bytes = size_bytes
        self._rest = None

    def content(self) -> Sequence[bytes]:
        """What was appended, read block by block. Reading raises RottenRecordError, OSError."""
        return _Blocks(self._buffer, self.records, self.recent or ())


class _Blocks(Sequence[bytes]):
    """A chunk's blocks, each read when it is asked for."""

    def __init__(self, buffer: FileBuffer, records: ChunkRecords, recent: Sequence[bytes]) -> None:
        self._buffer = buffer
        self._records = records
        self._recent = recent

    def __len__(self) -> int:
        return len(self._records)

    @overload
    def __getitem__(self, index: int) -> bytes: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[bytes]: ...
    def __getitem__(self, index: int | slice) -> bytes | Sequence[bytes]:
        if isinstance(index, slice):
            return [self[at] for at in range(*index.indices(len(self)))]
        if 0 <= index < len(self._recent):
            codec = self._buffer.options.codec
            return codec.unpack(self._recent[index], codec.number)
        return self._buffer.read(self._records, index + len(self) if index < 0 else index)

    def __iter__(self) -> Iterator[bytes]:
        for index in range(len(self)):
            yield self[index]


class FileBuffer(Buffer):
    """Chunks in a folder. Made without touching it; `open` before all else."""

    persistent = True

    def __init__(
        self, limits: Limits, options: FileOptions, report: Callable[[str, OSError], None] | None = None
    ) -> None:  # fmt: skip
        """`report`: told what goes wrong and is no loss (a log line)."""
        super().__init__(limits)
        self.options = options
        self._report = report or (lambda message, error: None)
        self._segments = Segments(
            options.place.store, options.segment_bytes, options.file_mode, options.fsync != "never"
        )
        self._journal = journal.Journal(os.path.join(options.place.store, journal.NAME), options.file_mode)
        self.quarantine = Quarantine(options.place.store, options.dir_mode, options.file_mode)
        self._lock: FolderLock | None = None
        self._recovered = False
        self._syncing = Syncing(self._segments, options.fsync, options.fsync_seconds, self._report)
        self._refuse_until = 0.0
        self._recent = Recent(options.recent_bytes)
        self._now = 0.0
        """Of the append at hand."""
        self._gone: dict[int, list[bytes]] = {}
        self._ended = 0

    # ------------------------------------------------------------ start and end

    def open(self, now: float, wall: float) -> Recovery:
        """Takes the folder and what is in it.

        Raises:
            InUseError: another process has it. OSError: the folder cannot be made or read.
        """
        place, options = self.options.place, self.options
        _make_folders(place.store, options.dir_mode)
        self._lock = FolderLock(place.store, options.file_mode)
        try:
            recovery = self._recover(now, wall)
            self._recovered = True
        except BaseException:
            self.close()
            raise
        self._syncing.start()
        return recovery

    def peek(self, now: float, wall: float) -> Recovery:
        """As `open`, but only to look and to read: no lock, and no file is changed. Raises OSError."""
        return self._recover(now, wall, read_only=True)

    def close(self) -> None:
        """Closes all files; an empty buffer takes them away. Nothing can be read or removed any more."""
        self._syncing.stop()
        empty = self._recovered and not any(True for _ in self.chunks())
        if empty:
            self._segments.sweep()
        self._segments.close()
        self._journal.close()
        if self._lock is not None:
            if empty and not self._segments.numbers():
                with suppress(OSError):
                    os.unlink(os.path.join(self.options.place.store, journal.NAME))
            self._lock.release(remove=empty)
            self._lock = None

    # ------------------------------------------------------------ what Buffer asks for

    def lend(self, loan: MemoryLoan) -> None:
        """What is kept of young chunks is borrowed from here on."""
        self._recent.lend(loan)

    def append_all(self, blocks: Iterable[Block], now: float, wall: float, *, queue: bool = False) -> bool:
        """As `Buffer.append_all`."""
        self._now = now
        return super().append_all(blocks, now, wall, queue=queue)

    def give_back(self, chunk: BufferChunk, at: float) -> None:
        """As `Buffer.give_back`; what waits is on the disk alone from here on."""
        self._recent.failed()
        super().give_back(chunk, at)

    def make(self, key: Key, now: float, wall: float) -> FileChunk:
        """A new chunk."""
        return FileChunk(self, key, wall, now, number=next(self._number))

    def pack(self, blocks: list[Block]) -> list[Block]:
        """Compressed, where that is asked for."""
        pack = self.options.codec.pack
        return blocks if pack is None else [(key, pack(data), count) for key, data, count in blocks]

    def store(self, steps: list[Step]) -> None:
        """Writes all blocks at once."""
        number = self.options.codec.number
        items = []
        for step in steps:
            assert isinstance(step.chunk, FileChunk)
            items.append((step.chunk.records, step.data, step.events, number))
        try:
            self._segments.append(items)
        except OSError:
            self._refuse_until = time.monotonic() + _REFUSE_SECONDS
            raise
        self._refuse_until = 0.0
        for step in steps:
            assert isinstance(step.chunk, FileChunk)
            self._recent.note(step.chunk, step.data, self._now)

    def closed(self, chunk: BufferChunk) -> None:
        """Notes in the journal that the chunk does not grow any more."""
        assert isinstance(chunk, FileChunk)
        chunk.closed_at = time.time()
        chunk.end = self._segments.written
        self._journal.closed(chunk.records.id, self._totals(chunk))
        self._syncing.closed()

    def ended(self, chunk: BufferChunk) -> None:
        """Notes that the chunk is gone, and makes room."""
        if isinstance(chunk, FluentdChunk):
            try:
                chunk.unlink()
            except OSError as error:
                self._report("cannot remove a chunk of Fluentd: it will be delivered again", error)
            return
        assert isinstance(chunk, FileChunk)
        self._recent.forget(chunk)
        if self._lock is not None:
            self._bury(chunk.records)

    def _bury(self, records: ChunkRecords) -> None:
        self._journal.gone(records.id, time.time())
        places = records.segments()
        self._segments.remove(records)
        left = set(self._segments.numbers())
        for number in places:
            if number in left:
                self._gone.setdefault(number, []).append(records.id)
        self._ended += 1
        if self._ended % _COMPACT_EVERY == 0:
            self._compact()
        if self._journal.entries > _JOURNAL_LEAST:
            self._shorten_journal(left)

    def shrink(self, chunk: BufferChunk, rest: bytes, count: int) -> None:
        """As `Buffer.shrink`; the rest is written, and the chunk has another id then. Where the disk does not
        take it (and for chunks of Fluentd) it is kept in memory: after a crash the whole chunk comes again.
        """
        if chunk.id not in self.flying:
            return
        if not isinstance(chunk, FileChunk) or self._lock is None or not count:
            super().shrink(chunk, rest, count)
            return
        codec = self.options.codec
        data = rest if codec.pack is None else codec.pack(rest)
        records = ChunkRecords(os.urandom(16), int(chunk.created_at * 1e9), _pack_key(chunk.key))
        try:
            self._segments.append([(records, data, count, codec.number)])
            if self._syncing.ever:
                self._syncing.sync(raises=True)  # before the journal may say that the old one is gone
        except OSError as error:
            self._segments.remove(records)
            self._report("cannot write the rest of a chunk: after a crash all of it comes again", error)
            super().shrink(chunk, rest, count)
            return
        old = chunk.records
        self._recent.forget(chunk)
        self.events -= chunk.count - count
        self._grow(len(data) - chunk.size_bytes)
        del self.flying[chunk.id]
        chunk.become(records, count, len(data))
        self.flying[chunk.id] = chunk
        self._journal.closed(records.id, self._totals(chunk))
        self._bury(old)

    def remove(self, chunk: BufferChunk) -> bool:
        """As `Buffer.remove`; after `close` nothing is removed."""
        self._recent.delivered()
        return self._lock is not None and super().remove(chunk)

    # ------------------------------------------------------------ reading

    def read(self, records: ChunkRecords, index: int) -> bytes:
        """A block. Raises RottenRecordError, OSError."""
        found = self._segments.read(records, index)
        if found is None:
            raise RottenRecordError(f"record {index} of chunk {records.id.hex()} is not what was written")
        return self.options.codec.unpack(found[0], found[2])

    def repair(self, chunk: BufferChunk) -> int:
        """Takes what is rotten out of a flying chunk, and into quarantine. Gives the events lost.

        The chunk has another id then. Raises OSError.
        """
        before = chunk.count
        if isinstance(chunk, FluentdChunk):
            chunk.count, cut = chunk.cut()
            if cut:
                size = os.path.getsize(chunk.path)
                start = size - cut if self.options.codec.pack is None else 0
                self._aside(chunk.path, start, size - start, None, "torn")
        elif isinstance(chunk, FileChunk):
            self._recent.forget(chunk)
            bad, chunk.count, size = [], 0, 0
            for index in range(len(chunk.records)):
                found = self._segments.read(chunk.records, index)
                if found is None:
                    bad.append(index)
                else:
                    chunk.count += found[1]
                    size += len(found[0])
            for index in reversed(bad):
                path, offset, length = self._segments.place(chunk.records, index)
                self._aside(path, offset, length, None, "corrupt")
                self._segments.discard(chunk.records, index)
            self.size_bytes += size - chunk.size_bytes
            chunk.size_bytes = size
            flying = self.flying.pop(chunk.id, None)
            chunk.id = _other_id(chunk.id, bad)
            if flying is not None:
                self.flying[chunk.id] = chunk
            self._journal.closed(chunk.records.id, self._totals(chunk))
        lost = max(0, before - chunk.count)
        self.events -= before - chunk.count
        return lost

    # ------------------------------------------------------------ the disk

    @property
    def failing(self) -> bool:
        """Whether the disk has refused an append so shortly ago that none is tried."""
        return time.monotonic() < self._refuse_until

    def settle(self) -> None:
        """Syncs what the policy asks for. To be called without the lock, after appending.

        Raises:
            OSError: with `fsync append`; otherwise it is reported.
        """
        self._syncing.appended()

    def confirm(self, chunk: BufferChunk) -> None:
        """Waits with `fsync chunk` until the disk has a closed chunk; what goes wrong is reported."""
        if isinstance(chunk, FileChunk):
            self._syncing.confirm(chunk.end)

    @property
    def usage(self) -> tuple[int, int, int]:
        """(bytes on the disk, bytes of them that live, number of segments)."""
        return self._segments.usage()

    # ------------------------------------------------------------ inside

    def _recover(self, now: float, wall: float, *, read_only: bool = False) -> Recovery:
        closed, gone, rotten = journal.read(os.path.join(self.options.place.store, journal.NAME))
        found, damage, dead = self._segments.recover(gone, VERIFY_BYTES)
        for number, chunk_id in dead:
            self._gone.setdefault(number, []).append(chunk_id)
        lost: dict[str, int] = {}
        bad_bytes = ranges = unknown = 0
        for name, offset, length, events, why, whose in damage:
            path = os.path.join(self.options.place.store, name)
            if not read_only and not self._aside(path, offset, length, events, why):
                continue
            bad_bytes += length
            ranges += 1
            unknown += events is None
            if events and (whose is None or whose[0] not in closed):
                lost[why] = lost.get(why, 0) + events
        chunks: list[FileChunk] = []
        present = {entry[0] for entry in found} if damage else set()
        found.reverse()
        while found:  # what was taken over is not held twice
            chunk_id, created_ns, meta, events, size, gaps, records = found.pop()
            created = created_ns / 1e9
            born = now - max(0.0, wall - created)
            totals = closed.get(chunk_id)
            if totals is not None and totals.events > events:
                lost["corrupt"] = lost.get("corrupt", 0) + totals.events - events
            chunk = FileChunk(
                self, _unpack_key(meta), created, born, number=next(self._number), records=records,
                chunk_id=_other_id(chunk_id, gaps),
            )  # fmt: skip
            chunk.count, chunk.size_bytes = events, size
            chunks.append(chunk)
        chunks.sort(key=lambda chunk: chunk.created_at)  # moved ones stand behind younger ones in the files
        if damage:
            for chunk_id in [each for each in closed if each not in present]:
                lost["corrupt"] = lost.get("corrupt", 0) + closed.pop(chunk_id).events
        imported = self._import(now, wall, read_only=read_only)
        if read_only:
            self._journal.pause()
        self._take_over(chunks, closed)
        if not read_only:
            self._segments.sweep()
            self._shorten_journal(set(self._segments.numbers()), at_start=True)
        return Recovery(
            len(chunks) + imported, self.events, self.size_bytes, imported, lost, bad_bytes, ranges, unknown,
            rotten,
        )  # fmt: skip

    def _take_over(self, chunks: list[FileChunk], closed: dict[bytes, journal.Totals]) -> None:
        """Stages and queues what was recovered, in the order of an earlier life."""
        order = {chunk_id: number for number, chunk_id in enumerate(closed)}
        queue = sorted(
            (chunk for chunk in chunks if chunk.records.id in order),
            key=lambda chunk: order[chunk.records.id],
        )
        for chunk in queue:
            chunk.state = "queued"
            chunk.closed_at = closed[chunk.records.id].closed_at
            self._ready.append(chunk)
        for chunk in chunks:
            self.events += chunk.count
            self.size_bytes += chunk.size_bytes
            if chunk.records.id in order:
                continue
            other = self.staged.get(chunk.key)
            if other is not None:  # its end is not in the journal
                self._queue(other)
            chunk.state = "staged"
            self.staged[chunk.key] = chunk
            if self.limits.full(chunk.size_bytes, chunk.count):
                self._queue(chunk)
            else:
                self._plan(chunk, chunk.born, chunk.created_at)

    def _import(self, now: float, wall: float, *, read_only: bool) -> int:
        """Queues the chunks that a Fluentd has left."""
        options = self.options
        chunks: list[FluentdChunk] = []
        for path, single in list(fluentd.paths(options.place)):
            try:
                chunk = fluentd.load(
                    path, single=single, fields=options.fields, codec=options.codec,
                    entries=options.entries, count=not single or options.count_events,
                    born=lambda created: now - max(0.0, wall - created), number=next(self._number),
                )  # fmt: skip
            except fluentd.BrokenChunkError as error:
                if read_only:
                    continue
                self._report(f"broken chunk of Fluentd {path}: {error}", OSError(str(error)))
                for each in (path, f"{path}.meta"):
                    if os.path.exists(each):
                        self.quarantine.move(each, events=None, why=str(error))
                continue
            chunks.append(chunk)
        for chunk in sorted(chunks, key=lambda chunk: chunk.modified_at):
            chunk.state = "queued"
            self.events += chunk.count
            self.size_bytes += chunk.size_bytes
            self._ready.append(chunk)
        return len(chunks)

    def _aside(self, path: str, offset: int, length: int, events: int | None, why: str) -> bool:
        try:
            if why == "unreadable":  # the disk may give it another time
                return self.quarantine.keep(path, offset, length)
            return self.quarantine.copy(path, offset, length, events=events, why=why)
        except OSError as error:
            self._report(f"cannot copy {length} broken bytes of {path} to quarantine", error)
            return True

    def _totals(self, chunk: FileChunk) -> journal.Totals:
        return journal.Totals(len(chunk.records), chunk.count, chunk.size_bytes, chunk.closed_at)

    def _shorten_journal(self, segments: set[int], *, at_start: bool = False) -> None:
        """Writes the journal anew without what no segment needs, where that is worth it."""
        self._gone = {number: ids for number, ids in self._gone.items() if number in segments}
        dead = {chunk_id for ids in self._gone.values() for chunk_id in ids}
        needed = len(dead) + self.queued + len(self.flying)
        if not at_start and self._journal.entries < 4 * needed:
            return
        closed = {
            chunk.records.id: self._totals(chunk)
            for chunk in [*self.flying.values(), *(entry[2] for entry in self._waiting), *self._ready]
            if isinstance(chunk, FileChunk)
        }
        try:
            self._journal.rewrite(closed, dead, time.time())
        except OSError as error:
            self._report("cannot write the journal anew", error)
            if at_start:
                self._journal.resume()  # the old one still says what is gone

    def _compact(self) -> None:
        for _ in range(_COMPACT_MOST):
            number = self._segments.straggler()
            if number is None:
                return
            chunks = [
                chunk.records
                for chunk in self.chunks()
                if isinstance(chunk, FileChunk)
                and chunk.state != "flying"
                and number in chunk.records.segments()
            ]
            try:
                if not self._segments.rewrite(number, chunks):
                    return
            except OSError as error:
                self._report("cannot make room in the buffer", error)
                return


def _make_folders(path: str, mode: int) -> None:
    if os.path.isdir(path):
        return
    parent = os.path.dirname(path)
    if parent:
        _make_folders(parent, mode)
    with suppress(FileExistsError):
        os.mkdir(path, mode)
        os.chmod(path, mode)  # the umask does not count, as in Fluentd


def _other_id(chunk_id: bytes, missing: Sequence[int]) -> bytes:
    """The id of a chunk without some of its records: the same after every start."""
    if not missing:
        return chunk_id
    from hashlib import blake2b  # noqa: PLC0415 - loads OpenSSL, and hardly anybody needs it

    return blake2b(chunk_id + json.dumps(list(missing)).encode(), digest_size=16).digest()


def _pack_key(key: Key) -> bytes:
    # ASCII: field values may hold what is not UTF-8
    return json.dumps(key, separators=(",", ":")).encode()


def _unpack_key(meta: bytes) -> Key:
    tag, timekey, variables = json.loads(meta)
    return Key(tag, timekey, tuple((name, value) for name, value in variables))
