"""The file buffer against a plain model: what was appended and not removed is there, after any crash."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from forwarder._native import ChunkRecords
from forwarder.buffer.chunk import BufferChunk, Key
from forwarder.buffer.compression import codec
from forwarder.buffer.file import FileBuffer, FileChunk, FileOptions, _pack_key
from forwarder.buffer.limits import Limits
from forwarder.buffer.place import place

TORN = Key("torn", None, ())
KEYS = [Key(tag, timekey, ()) for tag in ("a", "b", "c") for timekey in (None, 60)]
LIMITS = Limits(chunk_bytes=200, chunk_events=20, total_bytes=100_000, flush_seconds=10.0)


class Model(RuleBasedStateMachine):
    """Chunks by id: key and blocks, in the order of appending."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="forwarder-model-"))
        self.chunks: dict[bytes, tuple[Key, list[tuple[bytes, int]]]] = {}
        self.closed: set[bytes] = set()
        self.number = 0
        self.now = 0.0

    @initialize(method=st.sampled_from(["text", "gzip"]), segment=st.sampled_from([300, 2000, 1 << 20]),
                fsync=st.sampled_from(["never", "chunk", "append"]),
                recent=st.sampled_from([0, 150, 1 << 20]))  # fmt: skip
    def start(self, method: str, segment: int, fsync: str, recent: int) -> None:
        where = place(str(self.folder / "buffer"), ".log", single=False)
        self.options = FileOptions(
            where, codec(method), segment_bytes=segment, fsync=fsync, entries=False, recent_bytes=recent
        )
        self.opened()

    def opened(self) -> None:
        self.buffer = FileBuffer(LIMITS, self.options)
        found = self.buffer.open(self.now, 1000.0 + self.now)
        assert (found.lost, found.bad_bytes, found.journal_entries) == ({}, 0, 0)
        assert found.events == sum(count for _, blocks in self.chunks.values() for _, count in blocks)

    @rule(data=st.lists(st.tuples(st.sampled_from(KEYS), st.integers(0, 60), st.integers(1, 9)), min_size=1,
                        max_size=6), queue=st.booleans())  # fmt: skip
    def append(self, data: list[tuple[Key, int, int]], queue: bool) -> None:
        blocks = []
        for key, size, count in data:
            self.number += 1
            blocks.append((key, b"%d:" % self.number + b"x" * size, count))
        staged = {chunk.key: chunk for chunk in self.buffer.staged.values()}
        self.buffer.append_all(self.buffer.pack(blocks), self.now, 1000.0 + self.now, queue=queue)
        self.buffer.settle()
        # which chunk a block went to follows from its order: the blocks of one key stand in its chunks one
        # after the other
        for key in {key for key, _, _ in blocks}:
            mine = [(data, count) for each, data, count in blocks if each == key]
            known = [staged[key]] if key in staged else []
            fresh = [
                chunk for chunk in self.buffer.chunks() if chunk.key == key and chunk.id not in self.chunks
            ]
            for chunk in known + sorted(fresh, key=lambda chunk: chunk.number):
                _, content = self.chunks.setdefault(chunk.id, (key, []))
                missing = chunk.count - sum(count for _, count in content)
                while missing > 0:
                    missing -= mine[0][1]
                    content.append(mine.pop(0))
                assert missing == 0
            assert not mine

    @rule()
    def queue_all(self) -> None:
        self.buffer.queue_all()

    @rule(seconds=st.sampled_from([1.0, 11.0]))
    def time_goes_by(self, seconds: float) -> None:
        self.now += seconds
        self.buffer.queue_due(self.now, 1000.0 + self.now)

    def taken(self) -> BufferChunk | None:
        chunk = self.buffer.take(self.now)
        if chunk is not None:
            key, blocks = self.chunks[chunk.id]
            assert (chunk.key, list(chunk.blocks())) == (key, [data for data, _ in blocks])
            assert chunk.count == sum(count for _, count in blocks)
        return chunk

    @rule()
    def deliver(self) -> None:
        chunk = self.taken()
        if chunk is not None:
            assert self.buffer.remove(chunk)
            del self.chunks[chunk.id]

    @rule(wait=st.sampled_from([0.0, 5.0]))
    def fail(self, wait: float) -> None:
        chunk = self.taken()
        if chunk is not None:
            self.buffer.give_back(chunk, self.now + wait)

    @rule(data=st.binary(min_size=1, max_size=20), wait=st.sampled_from([0.0, 5.0]))
    def deliver_a_part(self, data: bytes, wait: float) -> None:
        chunk = self.taken()
        if chunk is not None:
            key, _ = self.chunks.pop(chunk.id)
            count = max(1, chunk.count // 2)
            self.buffer.shrink(chunk, data, count)
            self.chunks[chunk.id] = (key, [(data, count)])
            self.buffer.give_back(chunk, self.now + wait)

    @rule()
    def drop_oldest(self) -> None:
        chunk = self.buffer.oldest()
        if chunk is not None:
            del self.chunks[chunk.id]

    @rule()
    def compact(self) -> None:
        everything = [chunk.records for chunk in self.buffer.chunks() if isinstance(chunk, FileChunk)]
        for number in self.buffer._segments.numbers()[:-1]:
            self.buffer._segments.rewrite(number, everything)

    @rule()
    def crash(self) -> None:
        assert self.buffer._lock is not None
        self.buffer._lock.release()
        self.opened()

    @rule()
    def restart(self) -> None:
        self.buffer.close()
        self.opened()

    @rule(sizes=st.lists(st.integers(0, 90), min_size=1, max_size=3), part=st.floats(0, 1))
    @precondition(lambda self: self.segments())
    def crash_in_an_append(self, sizes: list[int], part: float) -> None:
        """A part of what is appended is in the newest segment: nobody was told that it was taken."""
        store = self.buffer._segments
        before = {path: path.read_bytes() for path in self.segments()}
        fresh = [ChunkRecords(os.urandom(16), 0, _pack_key(TORN)) for _ in sizes]
        store.append([(records, b"y" * size, 7, 0) for records, size in zip(fresh, sizes, strict=True)])
        lengths = [store.place(records, 0)[2] for records in fresh]
        newest, start, _ = store.place(fresh[0], 0)
        cut = start + int(part * (sum(lengths) - 1))
        old, new = before.get(Path(newest), b""), Path(newest).read_bytes()
        if len(old) < len(new):
            os.truncate(newest, cut)
        else:  # in the place of an older one: first the new end is marked, then the records are written
            end = start + sum(lengths)
            Path(newest).write_bytes(new[:cut] + old[cut:end] + new[end:])
        assert self.buffer._lock is not None
        self.buffer._lock.release()

        buffer = FileBuffer(LIMITS, self.options)
        found = buffer.open(self.now, 1000.0 + self.now)
        assert found.bad_bytes <= sum(lengths)
        assert sum(found.lost.values()) <= 7
        whole = [chunk for chunk in buffer.chunks() if chunk.key == TORN]
        assert len(whole) == sum(start + sum(lengths[:upto]) <= cut for upto in range(1, len(sizes) + 1))
        for chunk in whole:
            buffer.discard(chunk)
        self.buffer = buffer
        # the model has no broken ends: the next start must not find it again
        shutil.rmtree(buffer.quarantine.folder, ignore_errors=True)
        if os.path.exists(newest):
            os.truncate(newest, start)

    def segments(self) -> list[Path]:
        return sorted((self.folder / "buffer").glob("*.seg"))

    @invariant()
    def books_and_files_agree(self) -> None:
        if not hasattr(self, "buffer"):
            return
        assert {chunk.id for chunk in self.buffer.chunks()} == self.chunks.keys()
        assert self.buffer.events == sum(count for _, blocks in self.chunks.values() for _, count in blocks)
        size, live, count = self.buffer.usage
        assert count == len(self.segments())
        assert size >= live >= self.buffer.size_bytes

    def teardown(self) -> None:
        if hasattr(self, "buffer"):
            for chunk in list(self.buffer.chunks()):
                assert list(chunk.blocks()) == [data for data, _ in self.chunks[chunk.id][1]]
            self.buffer.close()
        shutil.rmtree(self.folder)


Model.TestCase.settings = settings(
    max_examples=60, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
TestFileBuffer = Model.TestCase
