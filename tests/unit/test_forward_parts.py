"""The parts of the forward output that need no network: failure detector, balancer, service discovery."""

from __future__ import annotations

import json
import logging
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forwarder._native import EventBatch, EventStream, integer_times, msgpack_pack, msgpack_unpack
from forwarder.api import ConfigError
from forwarder.api.forward_client import Link
from forwarder.plugins.outputs.forward.balancer import LoadBalancer
from forwarder.plugins.outputs.forward.discovery import discovery
from forwarder.plugins.outputs.forward.failure import FailureDetector
from forwarder.plugins.outputs.forward.node import Node, Settings
from forwarder.plugins.outputs.forward.sections import Service, ServiceDiscovery


class Quiet(logging.LoggerAdapter[logging.Logger]):
    """Takes fields, as the engine's loggers do."""

    def process(self, msg: object, kwargs: object) -> tuple[object, dict[str, object]]:
        return msg, {}


LOG = Quiet(logging.getLogger("test"), {})

# ------------------------------------------------------------ failure detector


def test_phi_grows_with_silence() -> None:
    detector = FailureDetector(1.0, 30.0, 0.0)
    for second in range(1, 21):
        detector.add(float(second))
    values = [detector.phi(20.0 + silence) for silence in (1, 2, 10, 36, 37)]
    assert values == sorted(values)
    assert values[0] == pytest.approx(0.434, abs=0.001)
    assert values[3] < 16 < values[4]  # phi_threshold's default: 36 seconds of regular heartbeats missed
    assert not detector.hard_timeout(50.0)
    assert detector.hard_timeout(50.1)


def test_irregular_heartbeats_make_it_patient() -> None:
    regular, irregular = FailureDetector(1.0, 60.0, 0.0), FailureDetector(1.0, 60.0, 0.0)
    now = 0.0
    for number in range(100):
        now += 1.0
        regular.add(now)
        if number % 5 == 0:
            irregular.add(now)
    assert irregular.phi(now + 20) < regular.phi(now + 20)


def test_clear_asks_for_a_new_start() -> None:
    detector = FailureDetector(1.0, 60.0, 0.0)
    detector.add(1.0)
    detector.clear()
    assert (detector.samples, detector.phi(5.0)) == (0, 0.0)
    detector.add(6.0)
    assert detector.samples == 1
    assert detector.phi(7.0) < 1


class TestNode:
    """Availability of a node, by a clock of the test's own."""

    @pytest.fixture
    def node(self) -> Node:
        self.now = 100.0
        self.changes = 0

        def changed() -> None:
            self.changes += 1

        options = Settings(Link(), hard_timeout=60.0, recover_samples=10)
        return Node(Service("127.0.0.1"), options, LOG, changed, lambda: self.now)

    def beat(self, node: Node, seconds: int) -> None:
        for _ in range(seconds):
            self.now += 1
            node.alive(recovers=True)
            node.tick()

    def test_silence_then_recovery(self, node: Node) -> None:
        self.beat(node, 20)
        assert node.available
        for _ in range(60):
            self.now += 1
            node.tick()
        assert (node.available, self.changes) == (False, 1)
        self.beat(node, 10)
        assert not node.available  # recover_wait
        self.beat(node, 1)
        assert (node.available, self.changes) == (True, 2)

    def test_a_failure_ends_with_the_next_heartbeat(self, node: Node) -> None:
        self.beat(node, 20)
        node.disable("no ack")
        assert not node.available
        node.alive(recovers=False)  # a chunk that another thread got through says nothing
        assert not node.available
        self.beat(node, 1)
        assert node.available

    def test_nothing_is_detected_without_heartbeats(self) -> None:
        node = Node(Service("127.0.0.1"), Settings(Link(), detects=False), LOG, lambda: None)
        node.disable("no ack")
        assert node.available


# ------------------------------------------------------------ balancer


@dataclass
class Fake:
    name: str
    weight: int = 60
    standby: bool = False
    available: bool = True


def first_choices(balancer: LoadBalancer[Fake], count: int) -> Counter[str]:
    return Counter(next(balancer.candidates()).name for _ in range(count))


@pytest.mark.parametrize(
    ("nodes", "count", "expected"),
    [
        ([Fake("a"), Fake("b")], 120, {"a": 60, "b": 60}),
        ([Fake("a", 30), Fake("b", 10)], 120, {"a": 90, "b": 30}),
        ([Fake("a"), Fake("b", 0)], 12, {"a": 12}),
        ([Fake("a"), Fake("b", standby=True)], 12, {"a": 12}),
        ([Fake("a", available=False), Fake("b", standby=True)], 12, {"b": 12}),
        # one standby server is enough for the weight that is lost
        (
            [Fake("a", available=False), Fake("b"), Fake("c", standby=True), Fake("d", standby=True)],
            120, {"b": 60, "c": 60},
        ),
    ],
)  # fmt: skip
def test_shares(nodes: list[Fake], count: int, expected: dict[str, int]) -> None:
    balancer: LoadBalancer[Fake] = LoadBalancer(LOG)
    balancer.rebalance(nodes)
    got = first_choices(balancer, count)
    if len(expected) > 1 and any(not node.available for node in nodes):
        # turns of a server that is not available fall to the next one, so shares are about equal only
        assert set(got) == set(expected)
        assert min(got.values()) > count / 6
    else:
        assert got == expected


def test_every_available_server_is_tried_once() -> None:
    balancer: LoadBalancer[Fake] = LoadBalancer(LOG)
    balancer.rebalance([Fake("a"), Fake("b", 5), Fake("c", available=False), Fake("d", 7)])
    for _ in range(50):
        assert sorted(node.name for node in balancer.candidates()) == ["a", "b", "d"]


def test_without_servers() -> None:
    balancer: LoadBalancer[Fake] = LoadBalancer(LOG)
    assert list(balancer.candidates()) == []
    balancer.rebalance([Fake("a", 0)])
    assert list(balancer.candidates()) == []


# ------------------------------------------------------------ service discovery


def section(**values: object) -> ServiceDiscovery:
    made = ServiceDiscovery()
    for name, value in values.items():
        setattr(made, name, value)
    made.configure()
    return made


@pytest.mark.parametrize("ending", ["json", "yaml", "yml", "conf"])
def test_a_file_of_servers(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"servers.{ending}"
    entries = [
        {"host": "a", "port": 1},
        {"host": "b", "port": 2, "name": "B", "weight": 5, "standby": True, "username": "u",
         "password": "p", "shared_key": "k"},
    ]  # fmt: skip
    path.write_text(json.dumps(entries))  # which is YAML too
    found = discovery(section(type="file", path=str(path)))
    services = found.services()
    assert services == [Service("a", 1), Service("b", 2, "B", 5, True, "u", "p", "k")]
    assert found.services() is None  # as before
    path.write_text("[]")
    assert found.services() == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "servers.json: "),
        ('{"host": "a"}', "expected a list of servers"),
        ('["a"]', "server 1: expected host, port"),
        ('[{"host": "a", "port": 1}, {"port": 1}]', "server 2: host is missing"),
        ('[{"host": "a"}]', "server 1: port is missing"),
        ('[{"host": "a", "port": "1"}]', "server 1: port must be an integer, not '1'"),
        ('[{"host": "a", "port": true}]', "server 1: port must be an integer"),
        ('[{"host": "a", "port": 70000}]', "port must be between 1 and 65535"),
        ('[{"host": "a", "port": 1, "standby": "yes"}]', "standby must be true or false"),
        ('[{"host": 1, "port": 1}]', "host must be a text"),
    ],
)
def test_a_wrong_file(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "servers.json"
    path.write_text(text)
    with pytest.raises(ConfigError) as error:
        discovery(section(type="file", path=str(path))).services()
    assert message in str(error.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        discovery(section(type="file", path=str(tmp_path / "none.yaml"))).services()


@pytest.fixture
def dns_server() -> Iterator[int]:
    """Answers for `_fluentd._tcp.example.test`: two servers, one without weight."""
    import socket  # noqa: PLC0415

    import dns.message  # noqa: PLC0415
    import dns.rrset  # noqa: PLC0415

    records = {
        ("_fluentd._tcp.example.test.", "SRV"): [
            "20 5 24225 two.example.test.", "10 0 24224 one.example.test."
        ],
        ("one.example.test.", "A"): ["192.0.2.1"],
        ("two.example.test.", "AAAA"): ["2001:db8::2"],
    }  # fmt: skip
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    stop = False

    def serve() -> None:
        while True:
            data, sender = sock.recvfrom(2000)
            if stop:
                return
            query = dns.message.from_wire(data)
            question = query.question[0]
            kind = dns.rdatatype.to_text(question.rdtype)
            answer = dns.message.make_response(query)
            found = records.get((question.name.to_text(), kind))
            if found:
                answer.answer.append(dns.rrset.from_text_list(question.name, 60, "IN", kind, found))
            sock.sendto(answer.to_wire(), sender)

    thread = threading.Thread(target=serve)
    thread.start()
    port = sock.getsockname()[1]
    yield port
    stop = True
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as waker:
        waker.sendto(b"", ("127.0.0.1", port))
    thread.join()
    sock.close()


@pytest.mark.parametrize("lookup", [True, False])
def test_srv_records(dns_server: int, lookup: bool) -> None:
    found = discovery(
        section(
            type="srv", service="fluentd", hostname="example.test", username="u",
            dns_server_host=f"127.0.0.1:{dns_server}", dns_lookup=lookup,
        )
    )  # fmt: skip
    one, two = ("192.0.2.1", "2001:db8::2") if lookup else ("one.example.test", "two.example.test")
    assert found.services() == [
        Service(one, 24224, "one.example.test", 1, username="u"),
        Service(two, 24225, "two.example.test", 5, username="u"),
    ]


def test_a_service_that_does_not_exist(dns_server: int) -> None:
    server = f"127.0.0.1:{dns_server}"
    found = discovery(section(type="srv", service="none", hostname="example.test", dns_server_host=server))
    with pytest.raises(OSError, match=r"_none\._tcp\.example\.test"):
        found.services()


def test_srv_needs_its_parameters() -> None:
    with pytest.raises(ConfigError, match="hostname"):
        section(type="srv", service="fluentd")
    with pytest.raises(ConfigError, match="dns_server_host"):
        discovery(section(type="srv", service="a", hostname="b", dns_server_host="127.0.0.1:x"))


# ------------------------------------------------------------ kernels

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text()
    | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@given(VALUES)
@settings(max_examples=60)
def test_values_are_what_msgpack_makes_of_them(value: object) -> None:
    packed = msgpack_pack(value)
    assert msgpack.unpackb(packed, strict_map_key=False) == value
    assert msgpack_unpack(packed + b"\xc1") == (value, len(packed))
    for size in range(len(packed)):
        assert msgpack_unpack(packed[:size]) is None


@given(st.binary(max_size=40))
@settings(max_examples=100)
def test_any_bytes_are_a_value_or_an_error(data: bytes) -> None:
    try:
        found = msgpack_unpack(data)
    except ValueError:
        return
    assert found is None or 0 < found[1] <= len(data)


@given(st.lists(st.tuples(st.integers(0, 2**32 * 10**9 - 1), st.dictionaries(st.text(), VALUES, max_size=3))))
@settings(max_examples=40)
def test_whole_seconds(events: list[tuple[int, dict[str, object]]]) -> None:
    batch = EventBatch([("t", EventStream.from_events(events))])
    unpacker = msgpack.Unpacker(strict_map_key=False)
    unpacker.feed(integer_times(batch))
    assert list(unpacker) == [[time_ns // 10**9, record] for time_ns, record in events]


def test_secrets_are_not_printed() -> None:
    assert "s3cret" not in repr(Service("h", 1, password="s3cret", shared_key="s3cret"))
