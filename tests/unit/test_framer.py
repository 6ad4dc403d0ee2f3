"""Framing of byte streams: delimiter and octet counting."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forwarder._native import StreamFramer


def feed(framer: StreamFramer, pieces: list[bytes]) -> list[bytes]:
    return [message for piece in pieces for message in framer.feed(piece)]


def cut(stream: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(stream) + 1) for place in places), len(stream)]
    return [stream[start:stop] for start, stop in pairwise(edges)]


@pytest.mark.parametrize(
    ("delimiter", "limit", "stream", "messages", "rest", "too_long"),
    [
        (b"\n", None, b"one\ntwo\r\n\nrest", [b"one", b"two\r", b""], b"rest", 0),
        (b"\0", None, b"one\ntwo\0\0", [b"one\ntwo", b""], b"", 0),
        (b"||", None, b"a|b||c|||d", [b"a|b", b"c"], b"|d", 0),
        (b"\n", 3, b"abc\nabcd\nab\n", [b"abc", b"ab"], b"", 1),
        (b"\n", 3, b"abcdefgh", [], b"", 1),
        (None, None, b"5 hello0 11 with\nline\n2", [b"hello", b"", b"with\nline\n2"], b"", 0),
        (None, None, b"3 one\n3 two\r\n3 th", [b"one", b"two"], b"3 th", 0),
        (None, None, b"", [], b"", 0),
    ],
)
def test_messages(  # noqa: PLR0917 - a table
    delimiter: bytes | None,
    limit: int | None,
    stream: bytes,
    messages: list[bytes],
    rest: bytes,
    too_long: int,
) -> None:
    framer = StreamFramer(delimiter, limit)
    assert framer.feed(stream) == messages
    assert framer.finish() == rest
    assert framer.too_long == too_long


@settings(max_examples=200)
@given(
    stream=st.lists(st.sampled_from([b"a", b"bc", b"|", b"||", b"\n", b"\0", b"xyz" * 3])).map(b"".join),
    places=st.lists(st.integers(0, 1000), max_size=8),
    delimiter=st.sampled_from([b"\n", b"\0", b"||", b"|a|", b"aa"]),
    limit=st.none() | st.integers(1, 12),
)
def test_how_a_stream_is_cut_does_not_matter(
    stream: bytes, places: list[int], delimiter: bytes, limit: int | None
) -> None:
    whole, pieces = StreamFramer(delimiter, limit), StreamFramer(delimiter, limit)
    assert feed(pieces, cut(stream, places)) == whole.feed(stream)
    assert pieces.too_long == whole.too_long
    assert pieces.finish() == whole.finish()


@settings(max_examples=200)
@given(messages=st.lists(st.binary(max_size=40)), places=st.lists(st.integers(0, 1000), max_size=8))
def test_delimited_messages_come_back(messages: list[bytes], places: list[int]) -> None:
    messages = [message.replace(b"\n", b"") for message in messages]
    stream = b"".join(message + b"\n" for message in messages)
    assert feed(StreamFramer(b"\n"), cut(stream, places)) == messages


@settings(max_examples=200)
@given(messages=st.lists(st.binary(max_size=300)), places=st.lists(st.integers(0, 4000), max_size=8))
def test_counted_messages_come_back(messages: list[bytes], places: list[int]) -> None:
    stream = b"".join(b"%d %b" % (len(message), message) for message in messages)
    assert feed(StreamFramer(), cut(stream, places)) == messages


@settings(max_examples=300)
@given(stream=st.binary(max_size=200), places=st.lists(st.integers(0, 300), max_size=6))
def test_garbage_breaks_a_counted_stream_at_the_same_place(stream: bytes, places: list[int]) -> None:
    def run(pieces: list[bytes]) -> tuple[list[bytes], bool]:
        framer, messages = StreamFramer(None, 50), []
        try:
            for piece in pieces:
                messages += framer.feed(piece)
        except ValueError:
            return messages, True
        return messages, False

    messages, broken = run([stream])
    byte_by_byte, broken_there = run(cut(stream, list(range(len(stream)))))
    pieces, broken_too = run(cut(stream, places))
    assert broken == broken_too == broken_there
    # the piece that breaks the stream gives none of its own messages: the smaller the pieces, the more come
    assert byte_by_byte[: len(pieces)] == pieces
    assert byte_by_byte[: len(messages)] == messages
    assert broken or byte_by_byte == messages


@pytest.mark.parametrize(
    ("stream", "reason"),
    [
        (b"99999999999999999999999 x", "bad_frame"),
        (b"-5 hello", "bad_frame"),
        (b"0x10 hello", "bad_frame"),
        (b"007 hello", "bad_frame"),
        (b"<13>hello", "bad_frame"),
        (b"2000000000 x", "too_long"),
    ],
)
def test_hostile_lengths_are_refused(stream: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        StreamFramer().feed(stream)


def test_impossible_framing_is_refused() -> None:
    with pytest.raises(ValueError, match="delimiter"):
        StreamFramer(b"")
    with pytest.raises(ValueError, match="limit"):
        StreamFramer(b"\n", 0)
