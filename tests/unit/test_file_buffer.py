"""The file buffer: what a later process finds, what breaks it, and what it does then."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from waiting import wait_for

from forwarder._native import ChunkRecords, MemoryBudget, Segments
from forwarder.buffer import journal
from forwarder.buffer.chunk import BufferChunk, Key
from forwarder.buffer.compression import codec
from forwarder.buffer.file import FileBuffer, FileChunk, FileOptions, Recovery, RottenRecordError
from forwarder.buffer.limits import Limits
from forwarder.buffer.lock import InUseError, owner
from forwarder.buffer.place import place

PLAIN = Key(None, None, ())


def tag(name: str) -> Key:
    return Key(name, None, ())


def make(folder: Path, limits: Limits | None = None, **options: object) -> FileBuffer:
    where = place(str(folder), ".log", single=False)
    # what is read comes from the files, unless a test says otherwise
    chosen = FileOptions(where, codec("text"), entries=False, recent_bytes=0)._replace(**options)  # type: ignore[arg-type]
    return FileBuffer(limits or Limits(), chosen)


def opened(folder: Path, limits: Limits | None = None, **options: object) -> tuple[FileBuffer, Recovery]:
    buffer = make(folder, limits, **options)
    return buffer, buffer.open(100.0, 1000.0)


def kill(buffer: FileBuffer) -> None:
    """As if the process were gone: nothing is written, the lock is free."""
    assert buffer._lock is not None
    buffer._lock.release()


def content(buffer: FileBuffer, now: float = 1e9) -> list[tuple[Key, bytes]]:
    """What outputs would get, chunk by chunk."""
    buffer.queue_all()
    found = []
    while (chunk := buffer.take(now)) is not None:
        found.append((chunk.key, chunk.read()))
    return found


def segments(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.seg"))


def spare(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.spare"))


def test_what_was_appended_is_there_after_a_crash(tmp_path: Path) -> None:
    buffer, first = opened(tmp_path)
    assert first == Recovery(0, 0, 0, 0, {}, 0, 0, 0, 0)
    odd = Key("t", 60, (("host", "a\udc80"), ("$.x", None)))
    buffer.append(odd, b"one", 2, 1.0, 1000.0)
    buffer.append(tag("b"), b"two", 1, 1.0, 1000.0, queue=True)
    buffer.append(odd, b"three", 3, 1.0, 1001.0)
    ids = {chunk.key: chunk.id for chunk in buffer.chunks()}
    kill(buffer)

    again, found = opened(tmp_path)
    assert (found.chunks, found.events, found.size_bytes, found.lost, found.bad_bytes) == (2, 6, 11, {}, 0)
    assert (again.events, again.size_bytes, again.queued, len(again.staged)) == (6, 11, 1, 1)
    assert {chunk.key: chunk.id for chunk in again.chunks()} == ids
    again.append(odd, b"four", 1, 200.0, 1100.0)
    staged = again.staged[odd]
    assert (staged.count, staged.created_at, staged.born) == (6, 1000.0, 100.0)
    assert content(again) == [(tag("b"), b"two"), (odd, b"onethreefour")]


def test_what_was_delivered_does_not_come_again(tmp_path: Path) -> None:
    buffer, _ = opened(tmp_path)
    for name in "abc":
        buffer.append(tag(name), name.encode(), 1, 1.0, 1000.0, queue=True)
    chunk = buffer.take(1.0)
    assert chunk is not None
    assert buffer.remove(chunk)
    kill(buffer)
    buffer, found = opened(tmp_path)
    assert found.events == 2
    assert content(buffer) == [(tag("b"), b"b"), (tag("c"), b"c")]
    for flying in list(buffer.flying.values()):
        buffer.remove(flying)
    buffer.close()
    assert list(tmp_path.iterdir()) == []


def test_queued_chunks_keep_their_order_and_staged_ones_their_age(tmp_path: Path) -> None:
    limits = Limits(flush_seconds=60.0)
    buffer, _ = opened(tmp_path, limits)
    for name in "cab":
        buffer.append(tag(name), b"x", 1, 1.0, 990.0)
    for name in "bc":
        buffer._queue(buffer.staged[tag(name)])
    kill(buffer)
    buffer, _ = opened(tmp_path, limits)
    assert [chunk.key.tag for chunk in buffer._ready] == ["b", "c"]
    taken = [buffer.take(0.0), buffer.take(0.0)]
    assert None not in taken
    assert buffer.next_due(100.0, 1000.0) == 50.0


def test_two_processes_on_one_path_are_an_error(tmp_path: Path) -> None:
    buffer, _ = opened(tmp_path)
    with pytest.raises(InUseError, match=f"in use by process {os.getpid()}"):
        opened(tmp_path)
    assert owner(str(tmp_path)) == str(os.getpid())
    buffer.close()
    assert owner(str(tmp_path)) is None
    opened(tmp_path)[0].close()


def test_a_full_disk_refuses_the_whole_batch_and_recovers(
    tmp_path: Path, disk: Callable[[int], Path]
) -> None:
    folder = disk(1 << 20) / "buffer"
    buffer, _ = opened(folder)
    block = os.urandom(100_000)
    written = 0

    def append() -> None:
        buffer.append_all([(tag("a"), block, 1), (tag("b"), block, 1)], 1.0, 1000.0)

    while os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize > 220_000:
        append()
        written += 1
    with pytest.raises(OSError, match="No space") as caught:
        append()
    assert caught.value.errno == errno.ENOSPC
    assert written >= 2
    assert buffer.failing
    assert (buffer.events, buffer.size_bytes) == (2 * written, 200_000 * written)
    (segment,) = segments(folder)
    assert segment.stat().st_size < 200_300 * written  # the part that was written is cut off again

    assert [data for _, data in content(buffer)] == [block * written] * 2
    for chunk in list(buffer.flying.values()):
        buffer.remove(chunk)
    buffer.append_all([(tag("a"), block, 1)], 1.0, 1000.0)
    kill(buffer)
    buffer, found = opened(folder)
    assert (found.events, found.bad_bytes) == (1, 0)


def test_a_rest_that_the_disk_does_not_take_stays_in_memory(
    tmp_path: Path, disk: Callable[[int], Path]
) -> None:
    folder = disk(1 << 20) / "buffer"
    buffer, _ = opened(folder)
    buffer.append_all([(tag("a"), b"0123456789", 10)], 1.0, 1000.0)
    buffer.queue_all()
    chunk = buffer.take(1.0)
    assert chunk is not None
    before = chunk.id
    with (folder.parent / "filler").open("wb", buffering=0) as filler, suppress(OSError):
        while True:
            filler.write(bytes(4096))
    large = os.urandom(100_000)
    buffer.shrink(chunk, large, 5)
    assert (chunk.id, chunk.read(), buffer.events) == (before, large, 5)
    (folder.parent / "filler").unlink()
    buffer.shrink(chunk, b"789", 3)
    assert chunk.id != before
    assert (chunk.read(), buffer.events, buffer.size_bytes) == (b"789", 3, 3)
    kill(buffer)
    buffer, found = opened(folder)
    assert (found.events, found.bad_bytes) == (3, 0)
    assert content(buffer) == [(tag("a"), b"789")]


def test_a_crash_before_the_old_chunk_is_gone_doubles_what_was_delivered(tmp_path: Path) -> None:
    buffer, _ = opened(tmp_path)
    buffer.append_all([(tag("a"), b"0123", 4)], 1.0, 1000.0)
    buffer.queue_all()
    chunk = buffer.take(1.0)
    assert chunk is not None
    buffer._journal.gone = lambda chunk_id, wall: None  # type: ignore[method-assign]
    buffer.shrink(chunk, b"23", 2)
    kill(buffer)
    buffer, found = opened(tmp_path)
    assert found.events == 6
    assert sorted(data for _, data in content(buffer)) == [b"0123", b"23"]


@pytest.mark.parametrize("method", ["gzip", "zstd"])
def test_compressed_blocks_are_read_back_whatever_is_configured_then(tmp_path: Path, method: str) -> None:
    buffer, _ = opened(tmp_path, codec=codec(method))
    text = b"the same again and again " * 100
    buffer.append_all(buffer.pack([(PLAIN, text, 5), (PLAIN, text, 1)]), 1.0, 1000.0)
    assert buffer.size_bytes < len(text)
    kill(buffer)
    buffer, found = opened(tmp_path)
    assert found.events == 6
    assert content(buffer) == [(PLAIN, text * 2)]


def damage(path: Path, needle: bytes, by: bytes) -> None:
    data = path.read_bytes()
    assert data.count(needle) == 1
    path.write_bytes(data.replace(needle, by))


def test_a_rotten_block_goes_to_quarantine_and_its_neighbours_stay(tmp_path: Path) -> None:
    buffer, _ = opened(tmp_path)
    for number in range(5):
        buffer.append(PLAIN, b"block %d." % number, 10 + number, 1.0, 1000.0)
    (chunk,) = buffer.chunks()
    kill(buffer)
    (segment,) = segments(tmp_path)
    damage(segment, b"block 2.", b"block X.")
    for known in (False, True):  # a second start finds it again, and does not count it again
        buffer, found = opened(tmp_path)
        assert found.lost == ({} if known else {"corrupt": 12})
        assert (found.events, found.bad_ranges, found.unknown_ranges) == (48, 0 if known else 1, 0)
        (other,) = buffer.chunks()
        assert other.id != chunk.id  # the events behind the gap have other positions now
        kill(buffer)
    assert content(opened(tmp_path)[0]) == [(PLAIN, b"block 0.block 1.block 3.block 4.")]
    (line,) = map(json.loads, (tmp_path / "quarantine/manifest.jsonl").read_text().splitlines())
    assert (line["events"], line["why"]) == (12, "corrupt")
    assert b"block X." in (tmp_path / "quarantine" / line["file"]).read_bytes()
    assert line["bytes"] == found.bad_bytes or line["bytes"] == line["copied_bytes"]


def test_a_rotten_head_is_counted_by_what_the_journal_says(tmp_path: Path) -> None:
    buffer, _ = opened(tmp_path)
    for number in range(3):
        buffer.append(PLAIN, b"block %d." % number, 10 + number, 1.0, 1000.0, queue=number == 2)
    kill(buffer)
    (segment,) = segments(tmp_path)
    data = bytearray(segment.read_bytes())
    start = data.index(b"block 1.") - len("[null,null,[]]") - 8  # inside its head
    data[start] ^= 0xFF
    segment.write_bytes(data)
    buffer, found = opened(tmp_path)
    assert (found.lost, found.events, found.unknown_ranges) == ({"corrupt": 11}, 22, 1)
    assert content(buffer) == [(PLAIN, b"block 0.block 2.")]
    kill(buffer)
    _, found = opened(tmp_path)
    assert found.lost == {}


def test_a_torn_tail_goes_to_quarantine(tmp_path: Path) -> None:
    buffer, _ = opened(tmp_path)
    buffer.append(PLAIN, b"whole", 1, 1.0, 1000.0)
    buffer.append(PLAIN, b"torn!", 7, 1.0, 1000.0)
    kill(buffer)
    (segment,) = segments(tmp_path)
    os.truncate(segment, segment.stat().st_size - 1)
    buffer, found = opened(tmp_path)
    assert (found.lost, found.events) == ({"torn": 7}, 1)
    assert found.bad_bytes == sum(path.stat().st_size for path in (tmp_path / "quarantine").glob("*.bin"))
    buffer.append(PLAIN, b" and more", 1, 1.0, 1000.0)
    assert content(buffer) == [(PLAIN, b"whole and more")]


def test_rot_found_when_a_chunk_is_read_costs_that_block_only(tmp_path: Path) -> None:
    buffer, _ = opened(tmp_path)
    for number in range(3):
        buffer.append(PLAIN, b"block %d." % number, 10 + number, 1.0, 1000.0)
    (segment,) = segments(tmp_path)
    damage(segment, b"block 1.", b"block ?.")
    buffer.queue_all()
    chunk = buffer.take(1.0)
    assert chunk is not None
    old = chunk.id
    with pytest.raises(RottenRecordError):
        chunk.read()
    assert buffer.repair(chunk) == 11
    assert chunk.read() == b"block 0.block 2."
    assert (chunk.count, chunk.size_bytes, buffer.events, buffer.size_bytes) == (22, 16, 22, 16)
    assert chunk.id != old
    repaired = chunk.id
    kill(buffer)
    buffer, found = opened(tmp_path)
    (again,) = buffer.chunks()
    assert (found.lost, again.id, again.read()) == ({}, repaired, b"block 0.block 2.")
    taken = buffer.take(1.0)
    assert taken is not None
    assert buffer.remove(taken)
    assert buffer.events == 0


@pytest.mark.parametrize("how", ["gone", "rotten", "torn", "rubbish"])
def test_without_its_journal_a_buffer_loses_nothing(tmp_path: Path, how: str) -> None:
    buffer, _ = opened(tmp_path)
    for name in "abc":
        buffer.append(tag(name), name.encode(), 1, 1.0, 1000.0, queue=True)
    chunk = buffer.take(1.0)
    assert chunk is not None
    buffer.remove(chunk)
    kill(buffer)
    path = tmp_path / journal.NAME
    data = path.read_bytes()
    if how == "gone":
        path.unlink()
    elif how == "rotten":
        path.write_bytes(bytes(byte ^ 1 for byte in data))
    elif how == "torn":
        path.write_bytes(data[:-1])
    else:
        path.write_bytes(os.urandom(1000))
    buffer, found = opened(tmp_path)
    assert found.lost == {}
    assert sorted(data for _, data in content(buffer)) == [b"a", b"b", b"c"]  # a comes twice


def test_a_journal_that_the_disk_does_not_give_any_more_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    buffer, _ = opened(tmp_path)
    for name in "ab":
        buffer.append(tag(name), name.encode(), 1, 1.0, 1000.0, queue=True)
    kill(buffer)
    pread = os.pread

    def broken(fd: int, size: int, offset: int) -> bytes:
        if os.readlink(f"/proc/self/fd/{fd}").endswith(f"/{journal.NAME}"):
            raise OSError(errno.EIO, "Input/output error")
        return pread(fd, size, offset)

    monkeypatch.setattr(os, "pread", broken)
    buffer, found = opened(tmp_path)
    assert (found.events, found.lost, found.journal_entries > 0) == (2, {}, True)
    assert sorted(data for _, data in content(buffer)) == [b"a", b"b"]


def test_a_disk_that_is_full_at_the_start_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    buffer, _ = opened(tmp_path)
    for name in "abc":
        buffer.append(tag(name), name.encode(), 1, 1.0, 1000.0, queue=True)
    kill(buffer)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(journal.Journal, "rewrite", full)
        buffer, found = opened(tmp_path)
    assert found.events == 3
    chunk = buffer.take(1.0)
    assert chunk is not None
    assert buffer.remove(chunk)
    kill(buffer)
    buffer, found = opened(tmp_path)
    assert (found.events, found.journal_entries) == (2, 0)  # the old journal was gone on with


def test_one_file_for_ten_thousand_keys(tmp_path: Path) -> None:
    buffer, _ = opened(tmp_path)
    before = len(os.listdir("/proc/self/fd"))
    buffer.append_all([(tag(str(number)), b"x" * 50, 1) for number in range(10_000)], 1.0, 1000.0)
    assert len(os.listdir("/proc/self/fd")) <= before + 1
    assert len(segments(tmp_path)) == 1
    buffer.queue_all()
    for _ in range(10_000):
        chunk = buffer.take(1.0)
        assert chunk is not None
        assert chunk.read() == b"x" * 50
        buffer.remove(chunk)
    assert len(os.listdir("/proc/self/fd")) <= before + 2
    buffer.close()
    assert segments(tmp_path) == []


def test_segments_go_when_nothing_in_them_lives_and_stragglers_are_moved(tmp_path: Path) -> None:
    buffer, _ = opened(tmp_path, segment_bytes=10_000)
    for number in range(1200):
        if number % 12 == 0:
            buffer.append(tag(f"old{number}"), b"straggler", 1, 1.0, number)
        buffer.append(tag("new"), b"%04d" % number * 200, 1, 1.0, 1000.0, queue=True)
        chunk = buffer.take(1.0)
        assert chunk is not None
        buffer.remove(chunk)
        size, live, count = buffer.usage
        assert size == sum(path.stat().st_size for path in segments(tmp_path) + spare(tmp_path))
        assert len(segments(tmp_path)) == count
        # what was appended between two looks comes on top of the rule
        assert size < 2 * live + 6 * 10_000 + 64 * 1000
    assert segments(tmp_path)[0].name > "segment-0000000050"  # the first stragglers have moved
    kill(buffer)
    buffer, found = opened(tmp_path)
    assert found.bad_bytes == 0
    assert content(buffer) == [(tag(f"old{number}"), b"straggler") for number in range(0, 1200, 12)]


def delivered(buffer: FileBuffer, data: bytes) -> None:
    buffer.append(tag("gone"), data, 1, 1.0, 1000.0, queue=True)
    chunk = buffer.take(1.0)
    assert chunk is not None
    buffer.remove(chunk)


def test_the_next_segment_takes_the_place_of_one_that_is_gone(tmp_path: Path) -> None:
    buffer, _ = opened(tmp_path, segment_bytes=1000)
    delivered(buffer, b"long gone" * 90)
    (old,) = segments(tmp_path)
    room = old.stat()
    buffer.append(tag("a"), b"b" * 200, 1, 1.0, 1000.0)
    (new,) = segments(tmp_path)
    assert (new.stat().st_ino, new.stat().st_size) == (room.st_ino, room.st_size)
    assert new != old
    copy = new.read_bytes()
    kill(buffer)
    buffer, found = opened(tmp_path, segment_bytes=1000)
    assert (found.events, found.bad_bytes, found.lost) == (1, 0, {})
    kill(buffer)
    # after a power loss that undid the renaming
    new.unlink()
    old.write_bytes(copy)
    buffer, found = opened(tmp_path, segment_bytes=1000)
    assert (found.events, found.bad_bytes, found.lost) == (1, 0, {})
    assert content(buffer) == [(tag("a"), b"b" * 200)]


def test_spare_files_go(tmp_path: Path) -> None:
    buffer, _ = opened(tmp_path, segment_bytes=1000)

    def fill_and_empty() -> None:
        for _ in range(5):
            buffer.append(tag("gone"), b"a" * 800, 1, 1.0, 1000.0, queue=True)
        while (chunk := buffer.take(1.0)) is not None:
            buffer.remove(chunk)
        assert len(spare(tmp_path)) == 2
        files = [*segments(tmp_path), *spare(tmp_path)]
        assert buffer.usage[0] == sum(path.stat().st_size for path in files)

    fill_and_empty()
    kill(buffer)
    buffer, found = opened(tmp_path, segment_bytes=1000)
    assert (found.events, found.bad_bytes, spare(tmp_path)) == (0, 0, [])
    fill_and_empty()
    buffer.close()
    assert list(tmp_path.iterdir()) == []


def test_a_crash_during_a_move_leaves_no_event_twice(tmp_path: Path) -> None:
    buffer, _ = opened(tmp_path, segment_bytes=1000)
    for number in range(10):
        buffer.append(tag("a"), b"%d" % number * 300, 1, 1.0, 1000.0)
    first = segments(tmp_path)[0]
    copy = first.read_bytes()
    (chunk,) = buffer.chunks()
    assert isinstance(chunk, FileChunk)
    assert buffer._segments.rewrite(1, [chunk.records])
    assert not first.exists()
    before = chunk.read()
    first.write_bytes(copy)  # as before the unlink
    kill(buffer)
    buffer, found = opened(tmp_path)
    assert (found.events, found.bad_bytes) == (10, 0)
    assert content(buffer) == [(tag("a"), before)]


def test_the_journal_does_not_grow_for_ever(tmp_path: Path) -> None:
    buffer, _ = opened(tmp_path, segment_bytes=1 << 20)
    buffer.append(tag("stays"), b"x", 1, 1.0, 1000.0)
    largest = 0
    for _ in range(6000):
        buffer.append(tag("goes"), b"x" * 4000, 1, 1.0, 1000.0, queue=True)
        chunk = buffer.take(1.0)
        assert chunk is not None
        buffer.remove(chunk)
        largest = max(largest, buffer._journal.entries)
    assert largest < 6000  # of 12,000 that were written
    kill(buffer)
    assert content(opened(tmp_path)[0]) == [(tag("stays"), b"x")]


def test_modes_of_files_and_folders(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    buffer, _ = opened(folder, file_mode=0o640, dir_mode=0o710)
    buffer.append(PLAIN, b"x", 1, 1.0, 1000.0)
    assert {path.stat().st_mode & 0o777 for path in (folder, folder.parent)} == {0o710}
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir() if path.name != "lock"} == {0o640}
    kill(buffer)


def test_what_was_refused_never_hides_what_was_taken(tmp_path: Path) -> None:
    """A disk that neither takes a whole append nor lets it be cut off again leaves a record behind."""
    first, second = (ChunkRecords(bytes(16), 0, b'["t",null,[]]') for _ in range(2))
    for records, data in ((first, b"refused"), (second, b"taken")):
        parts = Segments(str(tmp_path), 1 << 20, 0o644, False)
        parts.recover(set(), 1 << 20)
        parts.append([(records, data, 1, 0)])  # the same chunk and number, in another segment
        parts.close()
    buffer, found = opened(tmp_path)
    assert (len(segments(tmp_path)), found.events, found.lost) == (1, 1, {})
    assert content(buffer) == [(tag("t"), b"taken")]


class FailingSync:
    """Segments whose next sync fails, as a disk's may, once."""

    def __init__(self, real: Segments) -> None:
        self.real = real

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def sync(self) -> None:
        buffer_segments, self.sync = self.real, self.real.sync  # type: ignore[method-assign]
        buffer_segments.sync()
        raise OSError(errno.EIO, "Input/output error")


def test_a_sync_that_failed_fails_for_everybody_who_waited_for_it(tmp_path: Path) -> None:
    buffer, _ = opened(tmp_path, fsync="append")
    buffer.append(PLAIN, b"one", 1, 1.0, 1000.0)
    buffer.append(PLAIN, b"two", 1, 1.0, 1000.0)
    buffer._syncing._segments = FailingSync(buffer._segments)  # type: ignore[assignment]
    for _ in range(2):  # two threads, one sync
        with pytest.raises(OSError, match="Input/output error"):
            buffer.settle()
    buffer.append(PLAIN, b"three", 1, 1.0, 1000.0)
    buffer.settle()
    buffer.close()


@pytest.mark.parametrize("policy", ["never", "chunk", "interval", "append"])
def test_when_the_disk_is_asked_to_confirm(
    tmp_path: Path, policy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    buffer, _ = opened(tmp_path, fsync=policy, fsync_seconds=0.001)
    done: list[str] = []
    monkeypatch.setattr(buffer._syncing, "sync", lambda **_: done.append("sync"))
    buffer.append(PLAIN, b"x", 1, 1.0, 1000.0)
    buffer.settle()
    if policy == "interval":
        wait_for(lambda: done)
    assert done == ([] if policy in ("never", "chunk") else ["sync"])
    buffer.append(PLAIN, b"x", 1, 1.0, 1000.0, queue=True)
    buffer.settle()
    expected = {"never": 0, "chunk": 1}.get(policy, 2)
    wait_for(lambda: len(done) == expected)
    chunk = buffer.take(1.0)
    assert chunk is not None
    buffer.confirm(chunk)  # before it is written
    assert len(done) == expected + (policy == "chunk")
    buffer.close()


def test_a_closed_chunk_is_on_the_disk_before_it_is_written(tmp_path: Path) -> None:
    buffer, _ = opened(tmp_path, fsync="chunk")
    for number in range(40):  # enough for the kernel to be told to begin
        buffer.append(PLAIN, bytes(100_000), number, 1.0, 1000.0)
        buffer.settle()
    buffer.queue_all()
    chunk = buffer.take(1.0)
    assert isinstance(chunk, FileChunk)
    buffer.append(PLAIN, b"the next one", 1, 1.0, 1000.0)
    buffer.confirm(chunk)
    assert buffer._syncing.reached >= chunk.end > 4_000_000
    assert chunk.read() == bytes(4_000_000)
    buffer.close()


def test_a_chunk_reads_its_blocks_one_by_one(tmp_path: Path) -> None:
    buffer, _ = opened(tmp_path)
    for number in range(3):
        buffer.append(PLAIN, b"%d" % number, 1, 1.0, 1000.0)
    (chunk,) = buffer.chunks()
    assert isinstance(chunk, FileChunk)
    blocks = chunk.blocks()
    assert (len(blocks), blocks[0], blocks[-1], list(blocks[1:])) == (3, b"0", b"2", [b"1", b"2"])
    assert list(blocks) == [b"0", b"1", b"2"]
    with pytest.raises(IndexError):
        blocks[3]
    kill(buffer)


def test_after_the_end_nothing_is_removed(tmp_path: Path) -> None:
    buffer, _ = opened(tmp_path)
    buffer.append(PLAIN, b"x", 1, 1.0, 1000.0, queue=True)
    chunk: BufferChunk | None = buffer.take(1.0)
    assert chunk is not None
    buffer.close()
    assert not buffer.remove(chunk)
    with pytest.raises(OSError, match="descriptor"):
        chunk.read()
    assert content(opened(tmp_path)[0]) == [(PLAIN, b"x")]


def test_what_was_just_appended_is_not_read_back(tmp_path: Path) -> None:
    buffer, _ = opened(tmp_path, recent_bytes=20)
    for number in range(3):
        buffer.append(PLAIN, b"block %d." % number, 1, 1.0, 1000.0)
    (segment,) = segments(tmp_path)
    damage(segment, b"block 0.", b"block ?.")
    buffer.queue_all()
    chunk = buffer.take(1.0)
    assert chunk is not None
    assert (chunk.read(), chunk.in_memory) == (b"block 0.block 1.block 2.", 16)  # the last one had no room
    buffer.give_back(chunk, 1.0)
    again = buffer.take(1.0)
    assert again is chunk
    assert chunk.in_memory == 0
    with pytest.raises(RottenRecordError):
        chunk.read()


def test_chunks_that_grow_slowly_are_on_the_disk_alone(tmp_path: Path) -> None:
    buffer, _ = opened(tmp_path, recent_bytes=1000)
    loan = MemoryBudget(1000).borrow("t")
    buffer.lend(loan)
    buffer.append(PLAIN, b"young", 1, 1.0, 1000.0)
    assert loan.used_bytes == 5
    buffer.append(PLAIN, b"young", 1, 1.9, 1000.9)
    assert loan.used_bytes == 10
    buffer.append(PLAIN, b"old", 1, 2.1, 1001.1)
    assert loan.used_bytes == 0
    buffer.append(tag("a"), b"x", 1, 3.0, 1002.0)
    assert loan.used_bytes == 1
    assert content(buffer) == [(PLAIN, b"youngyoungold"), (tag("a"), b"x")]
    for chunk in list(buffer.chunks()):
        assert buffer.remove(chunk)
    assert loan.used_bytes == 0
