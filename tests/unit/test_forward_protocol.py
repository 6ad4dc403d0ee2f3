"""The forward protocol, natively: however a stream is cut, the same events and acknowledgements come out."""

from __future__ import annotations

import gzip
import itertools
import json
import struct
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forwarder._native import ForwardFeeder, ForwardRules

try:
    from compression import zstd
except ImportError:
    from backports import zstd

NOW = 1_600_000_000 * 10**9
"""Times after this are the present."""


def event_time(seconds: int, nanoseconds: int = 0) -> msgpack.ExtType:
    return msgpack.ExtType(0, struct.pack(">II", seconds, nanoseconds))


def squeeze(data: bytes) -> bytes:
    return gzip.compress(data, mtime=0)  # a test's name may be made of it


def pack(value: Any) -> bytes:
    return bytes(msgpack.packb(value))


def packed(tag: Any, entries: bytes, option: Any = None, *, text: bool = False) -> bytes:
    """PackedForward, with the payload as bin or as str."""
    payload = pack(entries)
    if text:
        payload = b"\xdb" + struct.pack(">I", len(entries)) + entries
    parts = [pack(tag), payload] + ([] if option is None else [pack(option)])
    return bytes([0x90 + len(parts)]) + b"".join(parts)


class Outcome:
    """What came of a stream."""

    def __init__(
        self, data: bytes, cuts: list[int] | None = None, rules: ForwardRules | None = None, **options: Any
    ) -> None:
        feeder = ForwardFeeder(rules or ForwardRules(), **options)
        connection = feeder.connect("192.0.2.1", 99)
        self.open = True
        edges = [0, *sorted(cuts or []), len(data)]
        for start, stop in itertools.pairwise(edges):
            if self.open:
                self.open = feeder.feed(connection, data[start:stop])
        self.events: list[tuple[str, int, dict[str, Any]]] = []
        self.lost: dict[str, int] = {}
        self.notices: list[tuple[str, int, bytes]] = []
        self.samples: list[bytes] = []
        self.sent = b""
        self.batches = 0
        while (intake := feeder.take()) is not None:
            self.batches += 1
            for tag, stream in intake.batch.streams():
                self.events += [(tag, time, record) for time, record in stream]
            for reason, count, sample in intake.failures:
                self.lost[reason] = self.lost.get(reason, 0) + count
                self.samples.append(sample)
            self.notices += intake.notices
            assert intake.received == len(intake.batch) + sum(count for _, count, _ in intake.failures)
            feeder.acknowledge()
            self.sent += feeder.outgoing(connection)
        assert feeder.owed(connection) == 0

    @property
    def acks(self) -> list[Any]:
        return list(msgpack.Unpacker(_File(self.sent)))

    @property
    def result(self) -> tuple[Any, ...]:
        return self.events, self.lost, self.acks, self.open


class _File:
    def __init__(self, data: bytes) -> None:
        self.data = data

    def read(self, size: int) -> bytes:
        part, self.data = self.data[:size], self.data[size:]
        return part


T = 1_700_000_000
NS = T * 10**9


@pytest.mark.parametrize(
    ("data", "events"),
    [
        (pack(["t", T, {"a": 1}]), [("t", NS, {"a": 1})]),
        (pack(["t", event_time(T, 5), {}]), [("t", NS + 5, {})]),
        (pack(["t", [[T, {"a": 1}], [event_time(T, 7), {"b": [1, {"c": None}]}]]]),
         [("t", NS, {"a": 1}), ("t", NS + 7, {"b": [1, {"c": None}]})]),
        (packed("t", pack([T, {"a": 1}]) * 2), [("t", NS, {"a": 1})] * 2),
        (packed("t", pack([T, {"a": 1}]), text=True), [("t", NS, {"a": 1})]),
        (packed("t", pack([T, {"a": 1}]), {"size": 99}), [("t", NS, {"a": 1})]),  # only a claim
        (packed("t", squeeze(pack([T, {}])) * 2, {"compressed": "gzip"}), [("t", NS, {})] * 2),
        (packed("t", zstd.compress(pack([T, {}])), {"compressed": "zstd"}), [("t", NS, {})]),
        (packed("t", pack([T, {}]), {"compressed": "text"}), [("t", NS, {})]),
        (packed("t", b"", {"compressed": "gzip"}), []),
        (packed(b"t", pack([T, {}])), [("t", NS, {})]),
        (pack(["t", [[[event_time(T, 3), {"meta": 1}], {"a": 1}]]]), [("t", NS + 3, {"a": 1})]),
        (pack(["t", [[T, {"a": 1}, "more"]]]), [("t", NS, {"a": 1})]),
        (pack(["t", []]), []),
        (pack(None), []),
        (b'["t",[[1700000000,{"a":"\\u00e9]"}]]]\n["u",1700000000,{}]',
         [("t", NS, {"a": "é]"}), ("u", NS, {})]),
    ],
)  # fmt: skip
def test_modes(data: bytes, events: list[Any]) -> None:
    for cuts in ([], list(range(1, len(data)))):
        outcome = Outcome(data, cuts)
        assert outcome.events == events
        assert outcome.lost == {}
        assert outcome.open


@pytest.mark.parametrize("mode", ["message", "array", "packed"])
@pytest.mark.parametrize(
    ("time", "strict", "lenient"),
    [
        (0, "now", "now"),
        (event_time(0, 9), "now", "now"),
        (None, None, "now"),
        (T + 0.25, None, NS + 250_000_000),
        (T + 0.1, None, NS + 99_999_904),  # the float's exact value, cut off, as Ruby's Time.at
        ("x", None, "now"),  # Ruby's to_i makes 0 of it
        ("5x", None, None),
        (-5, -5 * 10**9, -5 * 10**9),
        (msgpack.ExtType(1, b"12345678"), None, None),
        (msgpack.ExtType(0, b"1234"), None, None),
        (float("nan"), None, None),
    ],
)
def test_times(mode: str, time: Any, strict: Any, lenient: Any) -> None:
    messages = {
        "message": pack(["t", time, {"a": 1}]),
        "array": pack(["t", [[time, {"a": 1}]]]),
        "packed": packed("t", pack([time, {"a": 1}])),
    }
    if mode == "message" and isinstance(time, str):
        return  # that is PackedForward
    for skip, wanted in ((True, strict), (False, lenient)):
        expected = None if mode == "packed" and isinstance(time, str) else wanted
        outcome = Outcome(messages[mode], rules=ForwardRules(skip_invalid_event=skip))
        times = [time for _, time, _ in outcome.events]
        checked = mode == "packed" or (mode == "array" and skip)
        if expected == "now" and checked and time is not None:
            assert times[0] < 10**9  # Fluentd leaves zero alone there
        elif expected == "now":
            assert times[0] > NOW
        else:
            assert times == ([] if expected is None else [expected])
        assert outcome.lost == ({"invalid_event": 1} if expected is None else {})


@pytest.mark.parametrize("mode", ["array", "packed"])
@pytest.mark.parametrize("bad", [5, [], [T], [T, "x"], [T, None], {"a": 1}, "text", [[], {}], [[None], {}]])
def test_invalid_entries_cost_only_themselves(mode: str, bad: Any) -> None:
    entries = [[T, {"i": 0}], bad, [T, {"i": 1}]]
    option = {"chunk": "c"}
    data = (
        pack(["t", entries, option]) if mode == "array" else packed("t", b"".join(map(pack, entries)), option)
    )
    outcome = Outcome(data)
    assert [record["i"] for _, _, record in outcome.events] == [0, 1]
    assert outcome.lost == {"invalid_event": 1}
    assert outcome.acks == [{"ack": "c"}]
    assert outcome.samples[0].startswith(b"192.0.2.1:99 tag t: ")


@pytest.mark.parametrize(
    ("data", "reason", "goes_on"),
    [
        (b"\xc1", "broken_stream", False),
        (b"\x91" * 1000, "broken_stream", False),
        (pack(["t", T, "no record"]), "invalid_event", True),
        (pack(["t", T]), "invalid_event", True),
        (pack([5, T, {}]), "bad_message", True),
        (pack(["t"]), "bad_message", True),
        (pack([]), "bad_message", True),
        (pack({"a": 1}), "bad_message", True),
        (packed("t", pack([T, {}]) + b"\xc1"), "broken_entries", True),
        (packed("t", pack([T, {}]) + b"\x92\x00"), "broken_entries", True),
        (packed("t", b"garbage", {"compressed": "gzip"}), "decompress_error", False),
        (packed("t", b"garbage", {"compressed": "lz4"}), "decompress_error", False),
        (
            packed("t", squeeze(b"\xc0" * 2000), {"compressed": "gzip"}),
            "decompression_size_limit",
            False,
        ),
        (b"GET / HTTP/1.1\r\n\r\n", "no_forward", False),
        (b"\x16\x03\x01\x02\x00\x01", "tls_on_plain", False),
        (b"[not json]", "broken_stream", False),
        (b"{}", "bad_message", True),
        (b"\x01" * 16, "bad_message", False),
    ],
)
def test_what_is_no_message(data: bytes, reason: str, goes_on: bool) -> None:
    for cuts in ([], list(range(1, len(data)))):
        outcome = Outcome(data, cuts, ForwardRules(decompression_size_limit=1000))
        assert set(outcome.lost) == {reason}
        assert outcome.open == goes_on
        assert outcome.samples[0].startswith(b"192.0.2.1:99")
    if goes_on and data[:1] != b"{":
        both = Outcome(data + pack(["good", T, {}]))
        assert [tag for tag, _, _ in both.events][-1] == "good"


def test_a_deep_record_is_no_event() -> None:
    record: Any = {}
    for _ in range(600):
        record = {"d": record}
    outcome = Outcome(packed("t", b"\x92\x01" + b"\x81\xa1d" * 600 + b"\x80") + pack(["good", T, {}]))
    assert [tag for tag, _, _ in outcome.events] == ["good"]
    assert outcome.lost == {"broken_entries": 1}


@pytest.mark.parametrize(
    "head", [b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\x92\xa1t\xc6\xff\xff\xff\xff"]
)
def test_lengths_that_lie_cost_nothing(head: bytes) -> None:
    outcome = Outcome(head + b"\xc0" * 10)
    assert outcome.events == []


@pytest.mark.parametrize("size", [50, 100_000])
@pytest.mark.parametrize("mode", ["message", "packed"])
def test_chunk_size_limit(size: int, mode: str) -> None:
    record = {"a": "x" * size}
    option = {"chunk": "c"}
    data = pack(["t", T, record, option])
    if mode == "packed":
        data = packed("t", pack([T, record]), option)
    for cuts in ([], [7, 30, len(data) // 2, len(data) - 1]):
        outcome = Outcome(data + pack(["good", T, {}]), cuts, ForwardRules(chunk_size_limit=len(data) - 1))
        assert [tag for tag, _, _ in outcome.events] == ["good"]
        assert outcome.lost == {"chunk_size_limit": 1}
        assert outcome.acks == []
    outcome = Outcome(
        data, rules=ForwardRules(chunk_size_limit=len(data), chunk_size_warn_limit=len(data) - 1)
    )
    assert len(outcome.events) == 1
    assert outcome.notices[0][:2] == ("chunk_size_warn_limit", 1)


def test_acknowledgements_give_the_chunk_back_as_it_was() -> None:
    for chunk in ("text", b"\xff\x00", 5):
        assert Outcome(pack(["t", T, {}, {"chunk": chunk}])).acks == [{"ack": chunk}]
    assert Outcome(pack(["t", T, {}, {"chunk": None}])).sent == b""
    assert Outcome(pack(["t", T, {}, "no options"])).sent == b""
    assert json.loads(Outcome(b'["t",1700000000,{},{"chunk":"\\u00e9"}]').sent) == {"ack": "é"}


def test_events_are_acknowledged_only_when_they_are_safe() -> None:
    feeder = ForwardFeeder(ForwardRules())
    connection = feeder.connect("192.0.2.1")
    feeder.feed(connection, pack(["t", T, {}, {"chunk": "a"}]))
    assert feeder.urgent
    assert feeder.owed(connection) == 1
    assert feeder.take() is not None
    assert feeder.outgoing(connection) == b""
    feeder.take()  # nobody has said that they are
    assert feeder.owed(connection) == 0
    feeder.acknowledge()
    assert feeder.outgoing(connection) == b""


def test_tags() -> None:
    data = pack(["a", T, {}]) + pack(["b", T, {}]) + pack(["a", T, {}])
    for options, tags in (
        ({}, ["a", "b", "a"]),
        ({"add_tag_prefix": "p"}, ["p.a", "p.b", "p.a"]),
        ({"tag": "t"}, ["t", "t", "t"]),
        ({"tag": "t", "add_tag_prefix": "p"}, ["p.t", "p.t", "p.t"]),
    ):
        outcome = Outcome(data, rules=ForwardRules(**options))  # type: ignore[arg-type]
        assert [tag for tag, _, _ in outcome.events] == tags
        assert outcome.batches == 1
    # Fluentd takes these too where it has a tag of its own for them
    fixed = Outcome(pack([None, T, {}]) + pack([5, [[T, {}]]]), rules=ForwardRules(tag="t"))
    assert [tag for tag, _, _ in fixed.events] == ["t", "t"]
    assert [tag for tag, _, _ in Outcome(pack([b"\xff", T, {}]) + pack([b"\xfe", T, {}])).events] == [
        "\ufffd"
    ] * 2


def test_the_sender_in_every_record() -> None:
    rules = ForwardRules(source_address_key="addr", source_hostname_key="host")
    entry = [T, {"addr": "fake", "x": 1}]
    data = pack(["t", *entry]) + pack(["t", [entry]]) + packed("t", pack(entry) * 1000)
    outcome = Outcome(data, rules=rules)
    assert len(outcome.events) == 1002
    for _, _, record in outcome.events:
        assert list(record) == ["addr", "x", "host"]
        assert record["addr"] == "192.0.2.1"
        assert record["host"]


def test_a_large_payload_becomes_a_batch_of_its_own() -> None:
    large = packed("large", pack([T, {"a": "x" * 100}]) * 2000, {"chunk": "c"})
    data = pack(["small", T, {}]) + large + pack(["small", T, {}])
    outcome = Outcome(data, list(range(10_000, len(data), 10_000)))
    assert outcome.batches == 3
    assert [tag for tag, _, _ in outcome.events] == ["small"] + ["large"] * 2000 + ["small"]


def test_deny_keepalive_ends_with_the_first_message() -> None:
    outcome = Outcome(pack(["a", T, {}, {"chunk": "1"}]) + pack(["b", T, {}]), deny_keepalive=True)
    assert [tag for tag, _, _ in outcome.events] == ["a"]
    assert outcome.acks == [{"ack": "1"}]
    assert not outcome.open


# ---------------------------------------------------------------- any stream, cut anywhere

scalars = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(
    max_size=300
) | st.binary(max_size=40)  # fmt: skip
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(
    st.text(max_size=40), inner, max_size=18), max_leaves=12)  # fmt: skip
times = st.integers(1, 2**32 - 1) | st.builds(
    event_time, st.integers(1, 2**32 - 1), st.integers(0, 999_999_999)
)
records = st.dictionaries(st.text(max_size=10), values, max_size=20)
entries = st.lists(st.tuples(times, records), max_size=5)
options = st.none() | st.fixed_dictionaries(
    {}, optional={"chunk": st.text(max_size=50), "size": st.integers(0, 9)}
)


@st.composite
def messages(draw: st.DrawFn) -> tuple[bytes, list[Any]]:
    tag, option = draw(st.text(max_size=20)), draw(options)
    end = [] if option is None else [option]
    mode = draw(st.sampled_from(["message", "array", "packed", "gzip"]))
    if mode == "message":
        time, record = draw(times), draw(records)
        return pack([tag, time, record, *end]), [(tag, time, record)]
    listed = draw(entries)
    if mode == "array":
        data = pack([tag, [list(entry) for entry in listed], *end])
    else:
        stream = b"".join(pack(list(entry)) for entry in listed)
        if mode == "gzip":
            stream, option = squeeze(stream), {**(option or {}), "compressed": "gzip"}
        data = packed(tag, stream, option, text=draw(st.booleans()))
    return data, [(tag, *entry) for entry in listed]


def nanoseconds(time: Any) -> int:
    if isinstance(time, int):
        return time * 10**9
    seconds, nanos = struct.unpack(">II", time.data)
    return int(seconds * 10**9 + nanos)


@settings(max_examples=60, deadline=None)
@given(st.lists(messages(), max_size=4), st.data())
def test_any_stream_cut_anywhere_gives_its_events(
    sent: list[tuple[bytes, list[Any]]], data: st.DataObject
) -> None:
    stream = b"".join(message for message, _ in sent)
    expected = [(tag, nanoseconds(time), record) for _, events in sent for tag, time, record in events]
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=8))
    outcome = Outcome(stream, cuts)
    assert outcome.events == expected
    assert outcome.lost == {}
    assert outcome.result == Outcome(stream, list(range(len(stream)))).result


@settings(max_examples=60, deadline=None)
@given(st.lists(messages(), min_size=1, max_size=3), st.data())
def test_a_damaged_stream_gives_the_same_however_it_is_cut(
    sent: list[tuple[bytes, list[Any]]], data: st.DataObject
) -> None:
    stream = bytearray(b"".join(message for message, _ in sent))
    for _ in range(data.draw(st.integers(1, 4))):
        stream[data.draw(st.integers(0, len(stream) - 1))] = data.draw(st.integers(0, 255))
    whole, cut = Outcome(bytes(stream)), Outcome(bytes(stream), list(range(len(stream))))

    # what is the present differs
    def old(outcome: Outcome) -> list[Any]:
        return [(tag, min(time, 2**32 * 10**9), record) for tag, time, record in outcome.events]

    assert [event[0] for event in old(whole)] == [event[0] for event in old(cut)]
    assert (whole.lost, whole.sent, whole.open) == (cut.lost, cut.sent, cut.open)
