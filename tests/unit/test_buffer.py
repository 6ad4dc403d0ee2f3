"""The memory buffer: examples, and a state machine that compares it with a plain model."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from forwarder.buffer.chunk import Key, MemoryChunk
from forwarder.buffer.limits import Limits
from forwarder.buffer.memory import MemoryBuffer

PLAIN = Key(None, None, ())


def tag(name: str) -> Key:
    return Key(name, None, ())


def test_blocks_are_kept_as_they_came() -> None:
    buffer = MemoryBuffer(Limits())
    first, second = b"a" * 100, b"b" * 50
    assert buffer.append(PLAIN, first, 2, 0.0, 1000.0)  # a new chunk: something to plan
    assert not buffer.append(PLAIN, second, 1, 1.0, 1001.0)
    buffer.queue_all()
    chunk = buffer.take(2.0)
    assert chunk is not None
    assert list(chunk.blocks()) == [first, second]
    assert chunk.blocks()[0] is first
    assert (chunk.count, chunk.size_bytes, chunk.created_at, len(chunk.id)) == (3, 150, 1000.0, 16)
    assert buffer.remove(chunk)
    assert not buffer.remove(chunk)
    assert (buffer.events, buffer.size_bytes) == (0, 0)


@pytest.mark.parametrize(
    ("limits", "blocks", "queued", "staged"),
    [
        # a block that no longer fits starts a new chunk
        (Limits(chunk_bytes=100), [60, 60], [60], [60]),
        # from 95 per cent a chunk is full
        (Limits(chunk_bytes=100), [94], [], [94]),
        (Limits(chunk_bytes=100), [95], [95], []),
        (Limits(chunk_bytes=100), [60, 36, 10], [96], [10]),
        (Limits(chunk_bytes=1000, chunk_events=2), [1, 1, 1], [2], [1]),
        (Limits(chunk_bytes=100, full_share=0.5), [50, 50], [50, 50], []),
        (Limits(chunk_bytes=100), [300, 10], [300], [10]),  # one event larger than a chunk
    ],
)
def test_chunk_limits(limits: Limits, blocks: list[int], queued: list[int], staged: list[int]) -> None:
    buffer = MemoryBuffer(limits)
    for size in blocks:
        buffer.append(PLAIN, b"x" * size, 1, 0.0, 0.0)
    found = []
    while (chunk := buffer.take(0.0)) is not None:
        found.append(chunk.size_bytes)
    assert found == queued
    assert [chunk.size_bytes for chunk in buffer.staged.values()] == staged


def test_age_makes_a_chunk_due() -> None:
    buffer = MemoryBuffer(Limits(flush_seconds=5.0))
    buffer.append(tag("a"), b"x", 1, 10.0, 0.0)
    assert buffer.next_due(12.0, 0.0) == 3.0
    buffer.queue_due(14.9, 0.0)
    assert buffer.take(14.9) is None
    buffer.queue_due(15.0, 0.0)
    assert buffer.take(15.0) is not None
    assert buffer.next_due(15.0, 0.0) is None


def test_a_time_slot_is_due_after_its_end_and_the_wait() -> None:
    buffer = MemoryBuffer(Limits(flush_seconds=None, timekey=60, timekey_wait=10.0))
    buffer.append(Key(None, 120, ()), b"x", 1, 0.0, 130.0)
    assert buffer.next_due(0.0, 130.0) == 60.0
    buffer.queue_due(1e9, 189.9)
    assert buffer.take(1e9) is None
    buffer.queue_due(0.0, 190.0)
    assert buffer.take(0.0) is not None


def test_late_events_wait_for_others_of_their_slot() -> None:
    buffer = MemoryBuffer(Limits(flush_seconds=None, timekey=60, timekey_wait=0.0, late_seconds=1.0))
    buffer.append(Key(None, 0, ()), b"x", 1, 0.0, 5000.0)
    assert buffer.next_due(0.0, 5000.0) == 1.0
    buffer.append(Key(None, 0, ()), b"y", 1, 0.0, 5000.5)
    buffer.queue_due(0.0, 5001.0)
    chunk = buffer.take(0.0)
    assert chunk is not None
    assert chunk.count == 2


def test_while_enough_is_queued_chunks_grow_instead() -> None:
    buffer = MemoryBuffer(Limits(flush_seconds=1.0, queued_chunks=1))
    for name in "abc":
        buffer.append(tag(name), b"x", 1, 0.0, 0.0)
    buffer.queue_due(2.0, 0.0)
    assert (buffer.queued, len(buffer.staged)) == (1, 2)
    assert buffer.next_due(2.0, 0.0) is None
    chunk = buffer.take(2.0)
    assert chunk is not None
    buffer.queue_due(2.0, 0.0)
    assert (buffer.queued, len(buffer.staged)) == (1, 1)


def test_a_failed_chunk_comes_back_when_it_is_due_and_before_new_ones() -> None:
    buffer = MemoryBuffer(Limits())
    buffer.append(tag("a"), b"x", 1, 0.0, 0.0, queue=True)
    failed = buffer.take(0.0)
    assert failed is not None
    buffer.give_back(failed, 10.0)
    buffer.append(tag("b"), b"x", 1, 0.0, 0.0, queue=True)
    buffer.append(tag("c"), b"x", 1, 0.0, 0.0, queue=True)
    assert buffer.next_due(4.0, 0.0) == 6.0
    other = buffer.take(9.9)
    assert other is not None
    assert other.key.tag == "b"
    assert buffer.take(10.0) is failed


def test_the_oldest_chunk_is_a_queued_one_first() -> None:
    buffer = MemoryBuffer(Limits())
    buffer.append(tag("old"), b"x", 1, 0.0, 0.0)
    buffer.append(tag("queued"), b"x", 1, 1.0, 0.0, queue=True)
    buffer.append(tag("flying"), b"x", 1, 1.0, 0.0, queue=True)
    names = []
    while (chunk := buffer.oldest()) is not None:
        names.append(chunk.key.tag)
    assert names == ["queued", "flying", "old"]
    assert buffer.events == 0


def test_a_delivered_chunk_leaves_memory_before_its_interval_is_over() -> None:
    buffer = MemoryBuffer(Limits(flush_seconds=3600.0))
    buffer.append(PLAIN, b"x", 1, 0.0, 0.0)
    buffer.queue_all()
    chunk = buffer.take(0.0)
    assert chunk is not None
    buffer.remove(chunk)
    assert sys.getrefcount(chunk) <= 2  # the variable and the argument


class BufferMachine(RuleBasedStateMachine):
    """Every event that was appended is in exactly one chunk until it is removed."""

    flying = Bundle("flying")

    def __init__(self) -> None:
        super().__init__()
        self.limits = Limits(chunk_bytes=100, chunk_events=5, total_bytes=1000, flush_seconds=5.0, timekey=60,
                             timekey_wait=1.0, queued_chunks=2)  # fmt: skip
        self.buffer = MemoryBuffer(self.limits)
        self.now = 0.0
        self.number = 0
        self.inside: set[bytes] = set()

    @rule(
        name=st.sampled_from("ab"),
        slot=st.sampled_from([0, 60]),
        size=st.integers(4, 120),
        queue=st.booleans(),
    )
    def append(self, name: str, slot: int, size: int, queue: bool) -> None:
        self.number += 1
        block = self.number.to_bytes(4, "big") + b"x" * (size - 4)
        self.buffer.append(Key(name, slot, ()), block, 1, self.now, self.now, queue=queue)
        self.inside.add(block)

    @rule(seconds=st.floats(0, 50))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.buffer.queue_due(self.now, self.now)

    @rule()
    def queue_all(self) -> None:
        self.buffer.queue_all()
        assert not self.buffer.staged

    @rule(target=flying)
    def take(self) -> Any:
        waiting = self.buffer.queued
        chunk = self.buffer.take(self.now)
        if chunk is None:
            due = self.buffer.next_due(self.now, self.now)
            assert waiting == 0 or due is not None
            if due == 0:  # then there is something to queue
                staged = len(self.buffer.staged)
                self.buffer.queue_due(self.now, self.now)
                assert len(self.buffer.staged) < staged
        else:
            assert chunk.state == "flying"
        return chunk

    @rule(chunk=consumes(flying), seconds=st.floats(0, 20))
    def fail(self, chunk: MemoryChunk | None, seconds: float) -> None:
        if chunk is not None:
            self.buffer.give_back(chunk, self.now + seconds)

    @rule(chunk=consumes(flying))
    def deliver(self, chunk: MemoryChunk | None) -> None:
        if chunk is not None:
            assert self.buffer.remove(chunk)
            self.leave(chunk)

    @rule()
    def drop_oldest(self) -> None:
        chunk = self.buffer.oldest()
        if chunk is not None:
            self.leave(chunk)

    def leave(self, chunk: MemoryChunk) -> None:
        assert set(chunk.blocks()) <= self.inside
        self.inside -= set(chunk.blocks())

    @invariant()
    def nothing_is_lost_or_doubled(self) -> None:
        blocks = [block for chunk in self.buffer.chunks() for block in chunk.blocks()]
        assert len(blocks) == len(set(blocks))
        assert set(blocks) == self.inside
        assert self.buffer.events == len(blocks)
        assert self.buffer.size_bytes == sum(map(len, blocks))

    @invariant()
    def limits_hold(self) -> None:
        for chunk in self.buffer.chunks():
            assert chunk.count == len(chunk.blocks()) > 0
            assert self.limits.fits(chunk.size_bytes, chunk.count) or chunk.count == 1
        assert self.buffer.full == (self.buffer.size_bytes >= self.limits.total_bytes)

    @invariant()
    def states_are_where_they_say(self) -> None:
        assert all(chunk.state == "staged" for chunk in self.buffer.staged.values())
        assert all(chunk.state == "flying" for chunk in self.buffer.flying.values())


TestBufferMachine = BufferMachine.TestCase
TestBufferMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
