"""Finding the bad events of a chunk that a destination rejects."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forwarder._native import EventStream
from forwarder.api.errors import PartialWrite, UnrecoverableError
from forwarder.buffer.chunk import Key, MemoryChunk
from forwarder.core.rejected import MOST_WRITES, Piece, Search


def chunk(count: int, *, text: bool = False) -> MemoryChunk:
    found = MemoryChunk(Key("t", None, ()), 1.0, 1.0, 0)
    if text:
        found.append(b"".join(b"%d\n" % number for number in range(count)))
    else:
        found.append(bytes(EventStream.from_events([(1, {"i": number}) for number in range(count)])))
    found.count = count
    return found


def numbers(data: bytes, *, text: bool) -> list[int]:
    return [int(line) for line in data.split()] if text else [record["i"] for _, record in EventStream(data)]


def search(
    count: int, bad: set[int], *, text: bool = False, down_after: int | None = None, partial: bool = False
) -> tuple[Search, list[int]]:
    """Searches with an output that rejects a piece with a bad event; gives what it took, too."""
    taken: list[int] = []

    def write(piece: Piece) -> None:
        found = numbers(piece.read(), text=text)
        assert len(found) == piece.count
        assert found[0] == piece.start
        if down_after is not None and done.writes > down_after:
            if not partial:
                raise OSError("down")
            taken.extend(found[:1])
            data = b"".join(bytes(EventStream.from_events([(1, {"i": i})])) for i in found[1:])
            raise PartialWrite("down", data, len(found) - 1)
        if bad & set(found):
            raise UnrecoverableError("no")
        taken.extend(found)

    done = Search(write, lambda: 0)
    whole = Piece.of(chunk(count, text=text), entries=not text)
    assert whole is not None
    done.run(whole, UnrecoverableError("no"))
    return done, taken


@settings(max_examples=80, deadline=None)
@given(st.data(), st.integers(1, 300), st.booleans())
def test_every_event_is_taken_or_rejected_in_order(data: st.DataObject, count: int, text: bool) -> None:
    bad = data.draw(st.sets(st.integers(0, count - 1), min_size=1, max_size=count))
    found, taken = search(count, bad, text=text)
    rejected = [number for piece, _ in found.bad for number in numbers(piece.read(), text=text)]
    assert sorted(taken + rejected) == list(range(count))
    assert taken == sorted(taken)
    assert bad <= set(rejected)
    assert found.delivered == len(taken)
    assert found.writes <= MOST_WRITES + 2 * math.ceil(math.log2(count + 1)) + 2
    # few bad ones are found exactly
    if len(bad) * 2 * math.ceil(math.log2(count + 1)) < MOST_WRITES and len(bad) < 3:
        assert set(rejected) == bad


@settings(max_examples=60, deadline=None)
@given(st.data(), st.integers(2, 200), st.integers(0, 20), st.booleans())
def test_what_a_destination_that_goes_down_has_not_taken_is_kept(
    data: st.DataObject, count: int, down_after: int, partial: bool
) -> None:
    bad = data.draw(st.sets(st.integers(0, count - 1), min_size=1, max_size=4))
    found, taken = search(count, bad, down_after=down_after, partial=partial)
    rest = numbers(b"".join(found.rest), text=False)
    rejected = [number for piece, _ in found.bad for number in numbers(piece.read(), text=False)]
    assert sorted(taken + rejected + rest) == list(range(count))
    assert rest == sorted(rest)
    assert len(rest) == found.rest_count
    assert (found.error is not None) == (found.writes > down_after)


@pytest.mark.parametrize("position", [0, 1, 499_999, 999_999])
def test_one_bad_event_among_a_million_costs_forty_writes(position: int) -> None:
    found, taken = search(1_000_000, {position})
    assert [piece.start for piece, _ in found.bad] == [position]
    assert len(taken) == 999_999
    assert found.writes <= 40


def test_an_output_that_takes_nothing_at_all_is_not_asked_for_every_event() -> None:
    found, taken = search(10_000, set(range(10_000)))
    assert taken == []
    assert sum(piece.count for piece, _ in found.bad) == 10_000
    assert found.writes <= 40


def test_pieces_have_ids_of_their_own_that_do_not_change() -> None:
    whole = chunk(8)
    first = Piece.of(whole, entries=True)
    again = Piece.of(whole, entries=True)
    assert first is not None
    assert again is not None
    ids = {piece.id for half in first.halves() for piece in (half, *half.halves())} | {first.id, whole.id}
    assert len(ids) == 8
    assert [half.id for half in again.halves()] == [half.id for half in first.halves()]


@pytest.mark.parametrize("text", [b"a\nb\n", b"a\nb\nc", b"one"])
def test_a_text_whose_lines_are_no_events_is_left_alone(text: bytes) -> None:
    found = MemoryChunk(Key(None, None, ()), 1.0, 1.0, 0)
    found.append(text)
    found.count = 3
    assert Piece.of(found, entries=False) is None
