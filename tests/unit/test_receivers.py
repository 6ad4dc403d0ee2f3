"""Ingestor, UdpReceiver, StreamServer, StreamFeeder, Sampler: the native receivers without plugins."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest

from forwarder._native import (
    EventBatch,
    Ingestor,
    Intake,
    Sampler,
    StreamFeeder,
    StreamServer,
    UdpReceiver,
    network_contains,
    python_parser,
)
from forwarder.api.sockets import Binding, bind

Record = dict[str, Any]
Receiver = UdpReceiver | StreamServer


def parse(text: bytes) -> list[tuple[int | None, Record]]:
    if text == b"raise":
        raise RuntimeError("no")
    if text.startswith(b"!"):
        return []
    try:
        return [(None, {"message": text.decode()})]
    except UnicodeDecodeError:
        return [(None, {"message": text})]


PARSER = python_parser(parse)


def records(batch: EventBatch) -> list[tuple[str, Record]]:
    return [(tag, record) for tag, stream in batch.streams() for _, record in stream]


def messages(batch: EventBatch) -> list[bytes]:
    values = [record["message"] for _, record in records(batch)]
    return [value.encode() if isinstance(value, str) else value for value in values]


def gather(receiver: Receiver, done: Callable[[list[Intake]], bool], seconds: float = 10.0) -> list[Intake]:
    intakes: list[Intake] = []
    deadline = time.monotonic() + seconds
    while not done(intakes):
        assert time.monotonic() < deadline, "not received in time"
        intake = receiver.next(100)
        if intake is not None:
            intakes.append(intake)
    return intakes


def drained(receiver: Receiver) -> list[Intake]:
    receiver.stop()
    intakes = []
    while not receiver.finished:
        intake = receiver.next(100)
        if intake is not None:
            intakes.append(intake)
    return intakes


def received(intakes: list[Intake]) -> int:
    return sum(intake.received for intake in intakes)


def udp(limit: int = 4096, buffer: int = 1 << 20, **rule: Any) -> tuple[UdpReceiver, socket.socket]:
    bound = bind(Binding("udp", "127.0.0.1", receive_buffer_size=buffer))
    with bound.socket as bound_socket:
        receiver = UdpReceiver(
            Ingestor(PARSER, "t", **rule), bound_socket.fileno(), message_length_limit=limit
        )
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sender.connect(("127.0.0.1", receiver.port))
    return receiver, sender


@pytest.fixture
def tcp() -> Iterator[Callable[..., StreamServer]]:
    made: list[StreamServer] = []

    def make(rule: Record | None = None, buffer: int | None = None, **options: Any) -> StreamServer:
        with bind(Binding("tcp", "127.0.0.1", receive_buffer_size=buffer)).socket as listener:
            made.append(StreamServer(Ingestor(PARSER, "t", **(rule or {})), listener.fileno(), **options))
        return made[-1]

    yield make
    for server in made:
        drained(server)


def connect(server: StreamServer) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=10)


# ---------------------------------------------------------------- ingest


def test_a_python_parser_works_and_its_exceptions_are_counted() -> None:
    intake = Ingestor(PARSER, "t").ingest([b"a", b"!no", b"raise", b"b"])
    assert messages(intake.batch) == [b"a", b"b"]
    assert intake.failures == [("unmatched", 1, b"!no"), ("parser_error", 1, b"raise")]
    assert intake.received == 4


def test_what_a_python_parser_must_not_return_is_an_error_of_the_parser() -> None:
    returned: list[Any] = [[("now", {})], [(1, ["a"])], [(1, {"a": object()})], None, [(1, {"a": 1 << 70})]]
    for value in returned:
        intake = Ingestor(python_parser(lambda _, value=value: value), "t").ingest([b"x"])
        assert [failure[:2] for failure in intake.failures] == [("parser_error", 1)], value
        assert not intake.batch


def test_syslog_tag_and_fields() -> None:
    ingestor = Ingestor(
        PARSER, "sys", syslog=True, severity_key="s", facility_key="f", source_address_key="from",
        emit_unmatched_lines=True,
    )  # fmt: skip
    intake = ingestor.ingest([b"<34>hello", b"<999>x", b"plain", b"<1>!no"], "10.1.2.3")
    source = {"from": "10.1.2.3"}
    assert records(intake.batch) == [
        ("sys.auth.crit", {"message": "hello", "s": "crit", "f": "auth", **source}),
        ("sys..debug", {"message": "x", "s": "debug", "f": None, **source}),
        ("sys.unmatched", {"unmatched_line": "plain", **source}),
        ("sys.unmatched", {"unmatched_line": "<1>!no", **source}),
    ]
    assert intake.failures == []
    assert [notice[:2] for notice in intake.notices] == [("no_priority", 1), ("unmatched", 1)]


def test_all_192_priorities() -> None:
    intake = Ingestor(PARSER, "s", syslog=True).ingest([b"<%d>x" % number for number in range(192)])
    assert len(intake.batch.tags) == 192
    assert intake.batch.tags[:2] == ("s.kern.emerg", "s.kern.alert")
    assert intake.batch.tags[191] == "s.local7.debug"


def test_an_address_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="no IP address"):
        Ingestor(PARSER, "t", source_address_key="a").ingest([b"x"], "localhost")


def test_many_tags_from_a_field() -> None:
    parser = python_parser(lambda text: [(None, {"k": text.decode(), "n": 1})])
    intake = Ingestor(parser, "t", tag_key="k").ingest([b"t%d" % (number % 1000) for number in range(5000)])
    assert len(intake.batch.tags) == 1000
    assert records(intake.batch)[1001] == ("t1", {"n": 1})


# ---------------------------------------------------------------- UDP


def test_udp_receives_what_is_sent_in_order() -> None:
    receiver, sender = udp(source_address_key="from", chomp=True)
    with closing(sender):
        for number in range(300):
            sender.send(b"%d\r\n" % number)
        intakes = gather(receiver, lambda got: received(got) >= 300)
        assert [m for i in intakes for m in messages(i.batch)] == [b"%d" % n for n in range(300)]
        assert records(intakes[0].batch)[0] == ("t", {"message": "0", "from": "127.0.0.1"})
        assert drained(receiver) == []


def test_udp_stop_drains_the_kernel_queue() -> None:
    receiver, sender = udp()
    with closing(sender):
        for number in range(500):
            sender.send(b"%d" % number)
        assert received(drained(receiver)) == 500


def test_udp_losses_are_counted_exactly_while_it_runs() -> None:
    receiver, sender = udp(buffer=1)
    intakes: list[Intake] = []

    def run() -> None:
        while not receiver.finished:
            intake = receiver.next(1000)
            if intake is not None:
                intakes.append(intake)

    thread = threading.Thread(target=run)
    thread.start()
    with closing(sender):
        for _ in range(20_000):
            sender.send(b"x" * 100)
    receiver.stop()
    thread.join(10)
    assert not thread.is_alive()
    dropped = sum(intake.kernel_drops for intake in intakes)
    assert dropped > 0
    assert received(intakes) + dropped == 20_000


def test_udp_odd_datagrams() -> None:
    receiver, sender = udp(limit=1000)
    odd = [b"", b"\0" * 20, bytes(range(256)), b"x" * 1000, b"y" * 1001, b"z" * 65_507]
    with closing(sender):
        for datagram in odd:
            sender.send(datagram)
        intakes = drained(receiver)
    assert [m for i in intakes for m in messages(i.batch)] == [datagram[:1000] for datagram in odd]
    assert [n for i in intakes for n in i.notices] == [("truncated", 2, b"y" * 512)]


def test_udp_ipv6_and_a_port_in_use() -> None:
    if not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    try:
        bound = bind(Binding("udp", "[::1]"))
    except OSError as error:
        pytest.skip(f"no IPv6 loopback here: {error}")
    ingestor = Ingestor(PARSER, "t", source_address_key="a")
    receiver = UdpReceiver(ingestor, bound.socket.fileno(), message_length_limit=99)
    bound.close()
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"x", ("::1", receiver.port))
        intakes = gather(receiver, lambda got: received(got) == 1)
        assert records(intakes[0].batch) == [("t", {"message": "x", "a": "::1"})]
    with pytest.raises(OSError, match="in use"):
        bind(Binding("udp", "::1", receiver.port))
    with pytest.raises(OSError, match=r"not known|resolution"):
        bind(Binding("udp", "no-such-host.invalid"))
    drained(receiver)


def test_udp_next_returns_when_nothing_comes_and_stop_wakes_it() -> None:
    receiver, sender = udp()
    sender.close()
    assert receiver.next(1) is None
    threading.Timer(0.05, receiver.stop).start()
    assert receiver.next(60_000) is None
    assert drained(receiver) == []
    assert receiver.next(60_000) is None


# ---------------------------------------------------------------- TCP


def test_tcp_messages_of_several_connections(tcp: Callable[..., StreamServer]) -> None:
    server = tcp(delimiter=b"\n")
    with connect(server) as one, connect(server) as two:
        one.sendall(b"a\nb\r\n")
        two.sendall(b"c")
        gather(server, lambda got: received(got) == 2)
        two.sendall(b"d\n\n")
        intakes = gather(server, lambda got: received(got) == 2)
        assert [m for i in intakes for m in messages(i.batch)] == [b"cd", b""]


def test_tcp_unterminated_rest_is_counted(tcp: Callable[..., StreamServer]) -> None:
    server = tcp(delimiter=b"\n")
    with connect(server) as one:
        one.sendall(b"whole\nhalf")
    intakes = gather(server, lambda got: received(got) == 2)
    assert [failure for intake in intakes for failure in intake.failures] == [("unterminated", 1, b"half")]


def test_tcp_large_volume_is_complete_and_in_order(tcp: Callable[..., StreamServer]) -> None:
    server = tcp(delimiter=b"\n", message_length_limit=2000)
    count = 50_000

    def send() -> None:
        with connect(server) as one:
            one.sendall(b"".join(b"%d %s\n" % (number, b"x" * (number % 300)) for number in range(count)))

    sender = threading.Thread(target=send)
    sender.start()
    intakes = gather(server, lambda got: received(got) >= count, 30)
    sender.join(10)
    got = [m for i in intakes for m in messages(i.batch)]
    assert [int(message.split()[0]) for message in got] == list(range(count))


def test_tcp_back_pressure_stops_the_sender_and_loses_nothing(tcp: Callable[..., StreamServer]) -> None:
    server = tcp(delimiter=b"\n", buffer=4096)
    with connect(server) as one:
        server.next(100)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
        one.settimeout(0.2)
        sent = 0
        blocked = False
        while not blocked:  # nobody reads: the sender must come to a stand
            try:
                sent += one.send(b"x" * 99 + b"\n")
            except TimeoutError:
                blocked = True
        intakes = gather(server, lambda got: received(got) >= sent // 100)
        assert received(intakes) == sent // 100


def test_tcp_stop_reads_what_the_kernel_has(tcp: Callable[..., StreamServer]) -> None:
    server = tcp(delimiter=b"\n")
    with connect(server) as known, connect(server) as waiting:
        known.sendall(b"first\n")
        gather(server, lambda got: received(got) == 1)
        known.sendall(b"".join(b"%d\n" % number for number in range(5000)) + b"rest")
        waiting.sendall(b"early\n")
        intakes = drained(server)
    assert received(intakes) == 5002
    assert [failure[0] for intake in intakes for failure in intake.failures] == ["unterminated"]
    with pytest.raises(OSError, match="refused"):
        connect(server)


def test_tcp_octet_counting_and_a_broken_peer(tcp: Callable[..., StreamServer]) -> None:
    server = tcp(rule={"syslog": True})
    with connect(server) as good, connect(server) as bad:
        bad.sendall(b"nonsense\n")
        good.sendall(b"7 <6>a\nb\n6 <6>abc")
        intakes = gather(server, lambda got: received(got) == 3)
        assert bad.recv(1) == b""
        good.sendall(b"4 <6>!")
        intakes += gather(server, lambda got: received(got) == 1)
    assert [f[:2] for i in intakes for f in i.failures] == [("bad_frame", 1), ("unmatched", 1)]
    assert [m for i in intakes for m in messages(i.batch)] == [b"a", b"abc"]


def test_tcp_too_long_messages_are_skipped(tcp: Callable[..., StreamServer]) -> None:
    server = tcp(delimiter=b"\n", message_length_limit=10)
    with connect(server) as one:
        one.sendall(b"short\n" + b"x" * 200_000 + b"\nshort again\nend\n")
        intakes = gather(server, lambda got: received(got) == 4)
    assert [m for i in intakes for m in messages(i.batch)] == [b"short", b"end"]
    assert sum(f[1] for i in intakes for f in i.failures if f[0] == "too_long") == 2


def test_tcp_allow_list(tcp: Callable[..., StreamServer]) -> None:
    server = tcp(delimiter=b"\n", allow=["10.0.0.0/8", "192.168.1.1"])
    with connect(server) as one:
        intakes = gather(server, bool)
        assert [i.notices for i in intakes] == [[("denied", 1, b"127.0.0.1")]]
        assert one.recv(1) == b""
    with pytest.raises(ValueError, match="neither"):
        tcp(delimiter=b"\n", allow=["nonsense"])


def test_tcp_connection_limit_makes_others_wait(tcp: Callable[..., StreamServer]) -> None:
    server = tcp(delimiter=b"\n", max_connections=1)
    with connect(server) as first:
        first.sendall(b"a\n")
        gather(server, lambda got: received(got) == 1)
        with connect(server) as second:
            second.sendall(b"b\n")
            intakes = gather(server, bool)
            assert intakes[0].notices[0][0] == "connection_limit"
            assert server.next(50) is None
            first.close()
            intakes = gather(server, lambda got: received(got) == 1)
            assert messages(intakes[-1].batch) == [b"b"]


# ---------------------------------------------------------------- streams that Python reads, samples


def test_feeder_gathers_several_reads() -> None:
    feeder = StreamFeeder(Ingestor(PARSER, "t", source_address_key="a"), delimiter=b"\n")
    one, two = feeder.connect("10.0.0.1"), feeder.connect("fe80::1%eth0")
    assert feeder.take() is None
    assert feeder.feed(one, b"x\ny")
    assert feeder.feed(two, b"z\n")
    feeder.finish(one)
    assert feeder.count == 3
    intake = feeder.take()
    assert intake is not None
    assert records(intake.batch) == [
        ("t", {"message": "x", "a": "10.0.0.1"}),
        ("t", {"message": "z", "a": "fe80::1"}),
    ]
    assert intake.failures == [("unterminated", 1, b"y")]
    assert not StreamFeeder(Ingestor(PARSER, "t")).feed(one, b"nonsense ")


def test_sampler() -> None:
    sampler = Sampler("t", [{"a": 1, "n": "x", "b": 2}, {"c": [True, None]}], "n")
    assert records(sampler.take(3)) == [
        ("t", {"a": 1, "n": 0, "b": 2}),
        ("t", {"c": [True, None], "n": 1}),
        ("t", {"a": 1, "n": 2, "b": 2}),
    ]
    assert records(sampler.take(1))[0][1]["n"] == 3
    assert [record for _, record in records(Sampler("t", [{"a": "b"}]).take(2))] == [{"a": "b"}] * 2
    assert len(sampler.take(0)) == 0
    with pytest.raises(ValueError, match="at least one"):
        Sampler("t", [])


def test_networks() -> None:
    assert network_contains("10.0.0.0/8", "::ffff:10.1.1.1")
    assert not network_contains("10.0.0.0/8", "11.0.0.1")
    with pytest.raises(ValueError, match="neither"):
        network_contains("x", "11.0.0.1")
