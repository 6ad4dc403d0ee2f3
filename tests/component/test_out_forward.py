"""`@type forward` as output, against a server of the protocol that the tests bring along."""

from __future__ import annotations

import base64
import gzip
import json
import random
import socket
import ssl
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgpack
import pytest
from forward_peer import Message, Peer
from waiting import wait_for

from forwarder._native import EventBatch, EventStream
from forwarder.api import ConfigError
from forwarder.api.files import packer
from forwarder.api.testing import Driver, run
from forwarder.config import InvalidConfiguration
from forwarder.plugins.outputs.forward.acks import UNACKNOWLEDGED

if TYPE_CHECKING:
    from conftest import Certificates

NOW = 1_700_000_000_250_000_000
FAST = "heartbeat_interval 0.05\n recover_wait 0.1\n"


def config(*peers: Peer | str, options: str = "", buffer: str = "flush_mode immediate") -> str:
    servers = "\n".join(
        peer
        if isinstance(peer, str)
        else f"<server>\n host 127.0.0.1\n port {peer.port}\n name n{number}\n</server>"
        for number, peer in enumerate(peers)
    )
    return f"""
        <match **>
          @type forward
          @id out
          {options}
          {servers}
          <buffer tag>
            {buffer}
          </buffer>
        </match>
    """


def delivered(driver: Driver, count: int) -> None:
    driver.wait_for(lambda: driver["out"].delivered == count)


@pytest.fixture
def peer() -> Any:
    with Peer() as made:
        yield made


def test_events_arrive_as_packed_forward(peer: Peer) -> None:
    with run(config(peer)) as driver:
        driver.emit("app.a", {"n": 1, "text": "ä"}, {"n": 2}, time_ns=NOW)
        driver.emit("app.b", {"n": 3}, time_ns=NOW)
        wait_for(lambda: len(peer.messages) == 2)
        delivered(driver, 3)
    first, second = sorted(peer.messages, key=lambda message: message.tag)
    assert (first.tag, second.tag) == ("app.a", "app.b")
    assert first.events == [((1_700_000_000, 250_000_000), {"n": 1, "text": "ä"}),
                            ((1_700_000_000, 250_000_000), {"n": 2})]  # fmt: skip
    assert first.option == {"size": 2}
    assert peer.errors == []


def test_the_bytes_of_a_chunk_go_out_untouched(peer: Peer) -> None:
    # an integer time, a float time and a bin: what a decoder would have changed
    raw = b"\x92\x05\x81\xa1k\xc4\x01\xff" + b"\x92\xcb\x41\xd0\x00\x00\x00\x00\x00\x00\x81\xa1a\xd9\x01b"
    with run(config(peer)) as driver:
        driver.emit_batch(EventBatch([("t", EventStream(raw))]))
        delivered(driver, 2)
        wait_for(lambda: peer.messages)
    assert peer.messages[0].raw == raw


@pytest.mark.parametrize("method", ["gzip", "zstd"])
def test_compress(peer: Peer, method: str) -> None:
    with run(config(peer, options=f"compress {method}", buffer="flush_interval 600")) as driver:
        for number in range(50):
            driver.emit("t", *({"n": number, "i": i, "text": "x" * 50} for i in range(20)))
        driver.engine.flush()
        delivered(driver, 1000)
        wait_for(lambda: peer.messages)
    (message,) = peer.messages
    assert message.option == {"size": 1000, "compressed": method}
    assert len(message.raw) < 20_000
    assert [record["n"] for record in peer.records] == [n for n in range(50) for _ in range(20)]


def test_time_as_integer(peer: Peer) -> None:
    with run(config(peer, options="time_as_integer true")) as driver:
        driver.emit("t", {"n": 1}, time_ns=NOW)
        wait_for(lambda: peer.messages)
    assert peer.messages[0].events == [(1_700_000_000, {"n": 1})]


# ------------------------------------------------------------ acks


def test_a_chunk_is_delivered_when_its_ack_comes(peer: Peer) -> None:
    hold = threading.Event()
    peer.ack = lambda _: hold.wait(10)
    with run(config(peer, options="require_ack_response true")) as driver:
        driver.emit("t", {"n": 1})
        driver.emit("t", {"n": 2})
        wait_for(lambda: peer.open == 2)  # the second does not wait for the first one's ack
        assert driver["out"].delivered == 0
        hold.set()
        delivered(driver, 2)
    assert {len(base64.b64decode(message.option["chunk"])) for message in peer.messages} == {16}


@pytest.mark.parametrize("answer", ["close", "bm90IHRoZSBpZA=="])
def test_a_chunk_without_its_ack_goes_again(peer: Peer, answer: str) -> None:
    seen: list[str] = []

    def ack(message: Message) -> bool | str:
        seen.append(message.option["chunk"])
        return answer if len(seen) == 1 else True

    peer.ack = ack
    options = f"require_ack_response true\n {FAST}"
    with run(config(peer, options=options, buffer="flush_mode immediate\n retry_wait 0.05")) as driver:
        driver.emit("t", {"n": 1})
        delivered(driver, 1)
        assert driver["out"].failures >= 1
    assert len(seen) == 2
    assert seen[0] == seen[1]  # so that the receiver can tell a repetition


def test_no_ack_in_time(peer: Peer) -> None:
    seen: list[Message] = []

    def ack(message: Message) -> bool:
        seen.append(message)
        return len(seen) > 1

    peer.ack = ack
    options = f"require_ack_response true\n ack_response_timeout 1\n {FAST}"
    with run(config(peer, options=options, buffer="flush_mode immediate\n retry_wait 0.05")) as driver:
        driver.emit("t", {"n": 1})
        delivered(driver, 1)
        assert "sent no ack for 1 s" in driver.log
        assert "recovered forwarding server" in driver.log
    assert len(seen) == 2


def test_failed_acks_do_not_hold_up_other_chunks(peer: Peer) -> None:
    """A connection that breaks says nothing about the destination: no pause for all that follows."""
    broken: list[str] = []

    def ack(message: Message) -> bool | str:
        if message.events[0][1]["n"] < 5 and message.option["chunk"] not in broken:
            broken.append(message.option["chunk"])
            return "close"
        return True

    peer.ack = ack
    options = "require_ack_response true\n heartbeat_type none"
    with run(config(peer, options=options, buffer="flush_mode immediate\n retry_wait 0.2")) as driver:
        for n in range(5):
            driver.emit("t", {"n": n})
        driver.wait_for(lambda: driver["out"].failures == 5)
        driver.emit("t", {"n": 99})
        delivered(driver, 6)
    # the later chunk did not wait until the earlier ones were through
    good = [record["n"] for record in peer.records[5:]]
    assert sorted(good) == [0, 1, 2, 3, 4, 99]


def test_unacknowledged_chunks_are_limited(peer: Peer) -> None:
    hold = threading.Event()
    peer.ack = lambda _: hold.wait(10)
    with run(config(peer, options="require_ack_response true\n heartbeat_type none")) as driver:
        for n in range(UNACKNOWLEDGED + 6):
            driver.emit("t", {"n": n})
        wait_for(lambda: peer.open == UNACKNOWLEDGED)
        hold.set()
        delivered(driver, UNACKNOWLEDGED + 6)
    assert sorted(record["n"] for record in peer.records) == list(range(UNACKNOWLEDGED + 6))


# ------------------------------------------------------------ connections


def test_a_connection_per_chunk_without_keepalive(peer: Peer) -> None:
    with run(config(peer, options="heartbeat_type none")) as driver:
        for n in range(5):
            driver.emit("t", {"n": n})
        delivered(driver, 5)
        wait_for(lambda: len(peer.messages) == 5 and peer.open == 0)
    assert len({message.connection for message in peer.messages}) == 5


@pytest.mark.parametrize("acks", ["true", "false"])
def test_keepalive_uses_connections_again(peer: Peer, acks: str) -> None:
    options = f"keepalive true\n heartbeat_type none\n require_ack_response {acks}"
    with run(config(peer, options=options)) as driver:
        for n in range(5):
            driver.emit("t", {"n": n})
            delivered(driver, n + 1)
        wait_for(lambda: len(peer.messages) == 5)
        assert {message.connection for message in peer.messages} == {1}
        peer.cut()
        wait_for(lambda: peer.open == 0)
        driver.emit("t", {"n": 5})
        delivered(driver, 6)
        wait_for(lambda: len(peer.messages) == 6)
    wait_for(lambda: peer.open == 0)
    assert driver["out"].failures == 0


def test_keepalive_timeout(peer: Peer) -> None:
    options = f"keepalive true\n keepalive_timeout 0.1\n {FAST}"
    with run(config(peer, options=options)) as driver:
        driver.emit("t", {"n": 0})
        delivered(driver, 1)
        wait_for(lambda: peer.messages)
        wait_for(lambda: peer.accepted > 2 and peer.open == 0)  # closed by the heartbeat's thread


def test_a_server_that_takes_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        server = f"<server>\n host 127.0.0.1\n port {port}\n</server>"
        options = "send_timeout 0.3\n heartbeat_type none"
        buffer = "flush_mode immediate\n chunk_limit_size 64m\n retry_max_times 0"
        with run(config(server, options=options, buffer=buffer)) as driver:
            driver.emit("t", {"text": "x" * 30_000_000})
            driver.wait_for(lambda: driver["out"].lost == {"retry_limit": 1})
            assert "took nothing for 0.3 s" in driver.log


# ------------------------------------------------------------ security


def security(key: str = "k3y") -> str:
    return f"<security>\n self_hostname me.local\n shared_key {key}\n</security>\n"


def server(peer: Peer, more: str = "") -> str:
    return f"<server>\n host 127.0.0.1\n port {peer.port}\n {more}\n</server>"


@pytest.mark.parametrize("acks", ["true", "false"])
def test_shared_key(acks: str) -> None:
    with Peer(shared_key="k3y") as peer:
        options = f"{security()} require_ack_response {acks}"
        with run(config(peer, options=options)) as driver:
            driver.emit("t", {"n": 1})
            delivered(driver, 1)
            wait_for(lambda: peer.records == [{"n": 1}])
        assert peer.pings[0][:2] == ["PING", "me.local"]
        assert peer.pings[0][4:] == ["", ""]


def test_user_and_key_of_one_server() -> None:
    with Peer(shared_key="own", users={"bob": "pw"}) as peer:
        own = server(peer, "username bob\n password pw\n shared_key own")
        with run(config(own, options=security("other"))) as driver:
            driver.emit("t", {"n": 1})
            delivered(driver, 1)
            wait_for(lambda: peer.records == [{"n": 1}])
        assert "pw" not in driver.log
        assert "own" not in driver.log.replace("known", "").replace("shutdown", "")


@pytest.mark.parametrize(
    ("changes", "more", "message"),
    [
        ({"shared_key": "other"}, "", "refuses us: mismatch"),
        ({"users": {"bob": "pw"}}, "username bob\n password wrong", "refuses us: mismatch"),
        ({"hostname": "me.local"}, "", "has our own self_hostname"),
        ({"pong": lambda pong: [*pong[:4], "00"]}, "", "does not know our shared_key"),
        ({"pong": lambda pong: pong[:4]}, "", "something else than PONG"),
        ({"pong": lambda _: "x" * 200_000}, "", "without end"),
    ],
)
def test_a_failed_handshake_says_why(changes: dict[str, Any], more: str, message: str) -> None:
    with Peer(**{"shared_key": "k3y", **changes}) as peer:
        options = f"{security()} heartbeat_type none"
        buffer = "flush_mode immediate\n retry_max_times 0"
        with run(config(server(peer, more), options=options, buffer=buffer)) as driver:
            driver.emit("t", {"n": 1})
            driver.wait_for(lambda: driver["out"].lost == {"retry_limit": 1})
            assert message in driver.log
            assert "k3y" not in driver.log
        assert peer.messages == []


def test_a_server_that_asks_for_nothing(peer: Peer) -> None:
    options = f"{security()} hard_timeout 0.3\n heartbeat_type none"
    with run(config(peer, options=options, buffer="flush_mode immediate\n retry_max_times 0")) as driver:
        driver.emit("t", {"n": 1})
        driver.wait_for(lambda: driver["out"].lost == {"retry_limit": 1})
        assert "sent no HELO" in driver.log


# ------------------------------------------------------------ TLS


def server_side(certificates: Certificates, *, client: bool = False) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.cert, certificates.key)
    if client:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(certificates.ca)
    return context


@pytest.mark.parametrize("version", ["TLSv1_2", "TLS1_3"])
@pytest.mark.parametrize("acks", ["true", "false"])
def test_tls(certificates: Certificates, version: str, acks: str) -> None:
    with Peer(context=server_side(certificates, client=True), shared_key="k3y") as peer:
        options = f"""
            transport tls
            tls_version {version}
            tls_cert_path {certificates.ca}
            tls_client_cert_path {certificates.client_cert}
            tls_client_private_key_path {certificates.client_key}
            keepalive true
            heartbeat_type none
            require_ack_response {acks}
            {security()}
        """
        with run(config(server(peer), options=options)) as driver:
            for n in range(3):
                driver.emit("t", {"n": n, "text": "x" * 500_000})
                delivered(driver, n + 1)
            wait_for(lambda: len(peer.messages) == 3)
        assert {message.connection for message in peer.messages} == {1}
        assert peer.errors == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("", "certificate is not accepted"),
        ("tls_cert_path {ca}", "certificate is not accepted"),  # not for this name
        ("tls_cert_path {ca}\n tls_verify_hostname false", None),
        ("tls_insecure_mode true", None),
        ("tls_cert_path {ca}\n tls_verify_hostname false\n tls_allow_self_signed_cert true", None),
        ("tls_ca_cert_path {ca}\n tls_verify_hostname false\n tls_ciphers AES128-SHA", "no TLS connection"),
    ],
)
def test_tls_verification(certificates: Certificates, options: str, message: str | None) -> None:
    with Peer(context=server_side(certificates)) as peer:
        named = server(peer, "name elsewhere.example")
        text = f"transport tls\n heartbeat_type none\n {options.format(ca=certificates.ca)}"
        with run(config(named, options=text, buffer="flush_mode immediate\n retry_max_times 0")) as driver:
            driver.emit("t", {"n": 1})
            if message is None:
                delivered(driver, 1)
                wait_for(lambda: peer.messages)
            else:
                driver.wait_for(lambda: driver["out"].lost == {"retry_limit": 1})
                assert message in driver.log


def test_tls_to_a_plain_port(peer: Peer) -> None:
    options = "transport tls\n heartbeat_type none\n connect_timeout 1"
    peer.ack = lambda _: False
    with run(config(peer, options=options, buffer="flush_mode immediate\n retry_max_times 0")) as driver:
        driver.emit("t", {"n": 1})
        driver.wait_for(lambda: driver["out"].lost == {"retry_limit": 1})
    assert peer.messages == []


# ------------------------------------------------------------ several servers


def counts(*peers: Peer) -> list[int]:
    return [len(peer.messages) for peer in peers]


def test_chunks_are_shared_by_weight() -> None:
    with Peer() as a, Peer() as b, Peer() as c:
        servers = [server(a, "weight 20"), server(b, "weight 10"), server(c, "weight 0")]
        with run(config(*servers, options="heartbeat_type none\n keepalive true")) as driver:
            for n in range(96):
                driver.emit("t", {"n": n})
            delivered(driver, 96)
            wait_for(lambda: sum(counts(a, b)) == 96)
        assert counts(a, b, c) == [64, 32, 0]


def test_a_server_that_is_gone_costs_nothing() -> None:
    with Peer() as a, Peer() as b:
        b.close()
        with run(config(a, b, options="heartbeat_type none\n keepalive true")) as driver:
            for n in range(20):
                driver.emit("t", {"n": n})
            delivered(driver, 20)
            assert driver["out"].failures == 0
            assert "another one has the chunk" in driver.log
        wait_for(lambda: sorted(record["n"] for record in a.records) == list(range(20)))


def test_standby_stands_in_and_goes_back() -> None:
    with Peer() as a, Peer() as b:
        servers = [server(a, "name main"), server(b, "name spare\n standby true")]
        options = f"{FAST} hard_timeout 0.3"
        with run(config(*servers, options=options)) as driver:
            driver.emit("t", {"n": 1})
            delivered(driver, 1)
            wait_for(lambda: counts(a, b) == [1, 0])
            a.close()
            driver.wait_for(lambda: "detached forwarding server" in driver.log)
            driver.emit("t", {"n": 2})
            delivered(driver, 2)
            wait_for(lambda: counts(b) == [1])
            with Peer(port=a.port) as again:
                driver.wait_for(lambda: "recovered forwarding server" in driver.log)
                driver.emit("t", {"n": 3})
                delivered(driver, 3)
                wait_for(lambda: counts(again) == [1])
    assert b.records == [{"n": 2}]


def test_udp_heartbeats() -> None:
    with Peer(udp=True) as peer:
        options = f"heartbeat_type udp\n {FAST} hard_timeout 0.5"
        with run(config(peer, options=options)) as driver:
            driver.emit("t", {"n": 1})
            delivered(driver, 1)
            peer.close()
            driver.wait_for(lambda: "detached forwarding server" in driver.log)
            driver.emit("t", {"n": 2})
            driver.wait_for(lambda: "no nodes are available" in driver.log)
            with Peer(udp=True, port=peer.port) as again:
                driver.wait_for(lambda: "recovered forwarding server" in driver.log)
                driver.flush()
                driver.wait_for(lambda: driver["out"].delivered == 2)
                wait_for(lambda: again.records == [{"n": 2}])


def test_secondary_takes_over() -> None:
    with Peer() as peer:
        dead = Peer()
        dead.close()
        text = f"""
            <match **>
              @type forward
              @id out
              heartbeat_type none
              {server(dead)}
              <buffer tag>
                flush_mode immediate
                retry_wait 0.05
                retry_timeout 0.4
                retry_secondary_threshold 0.3
              </buffer>
              <secondary>
                @type forward
                require_ack_response true
                heartbeat_type none
                {server(peer)}
              </secondary>
            </match>
        """
        with run(text) as driver:
            driver.emit("t", {"n": 1})
            driver.wait_for(lambda: driver["out"].by_secondary == 1)
        assert peer.records == [{"n": 1}]


# ------------------------------------------------------------ the start


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("heartbeat_type udp\n dns_round_robin true", "dns_round_robin"),
        ("send_keepalive_packet true", "send_keepalive_packet"),
        ("ack_response_timeout 0", "ack_response_timeout"),
        ("host 127.0.0.1", "<server>"),
        ("transport tls\n tls_ca_cert_path /nowhere.pem", "/nowhere.pem does not exist"),
        ("transport tls\n tls_client_cert_path /nowhere.pem", "/nowhere.pem"),
        ("transport tls\n tls_ciphers NONSENSE", "ciphers"),
        ("tls_cert_thumbprint abc", "Windows"),
        ("<security>\n shared_key x\n </security>", "self_hostname"),
        ("<server>\n host a\n port 0\n </server>", "port must be between"),
        ("<service_discovery>\n @type file\n path /nowhere.yaml\n </service_discovery>", "/nowhere.yaml"),
        ("<service_discovery>\n @type zookeeper\n </service_discovery>", "zookeeper"),
    ],
)
def test_a_wrong_configuration_is_refused(options: str, message: str) -> None:
    with pytest.raises(InvalidConfiguration) as error:
        run(config("<server>\n host 127.0.0.1\n </server>", options=options), start=False)
    assert message in str(error.value)


def test_without_servers_or_tag() -> None:
    with pytest.raises(InvalidConfiguration, match="at least one server"):
        run(config(), start=False)
    text = config("<server>\n host 127.0.0.1\n </server>").replace(
        "<buffer tag>", "<buffer time>\n timekey 1d"
    )
    with pytest.raises(InvalidConfiguration, match="must include 'tag'"):
        run(text.replace("flush_mode immediate", ""), start=False)


def test_an_unknown_name_stops_the_start(peer: Peer) -> None:
    unknown = "<server>\n host does-not-exist.invalid\n </server>"
    with pytest.raises(ConfigError, match="does-not-exist"):
        run(config(server(peer), unknown))
    with run(config(server(peer), unknown, options="ignore_network_errors_at_startup true")) as driver:
        driver.emit("t", {"n": 1})
        delivered(driver, 1)
    with run(config(server(peer), unknown, options="heartbeat_type none")) as driver:
        driver.emit("t", {"n": 1})
        delivered(driver, 1)


def test_verify_connection_at_startup() -> None:
    options = f"verify_connection_at_startup true\n {security()}"
    with Peer(shared_key="k3y") as peer, run(config(peer, options=options)):
        assert peer.pings
    with Peer(shared_key="other") as peer, pytest.raises(ConfigError, match="refuses us"):
        run(config(peer, options=options))


def test_servers_of_a_file_come_and_go(tmp_path: Path) -> None:
    path = tmp_path / "servers.json"
    with Peer() as a, Peer() as b:

        def publish(*peers: Peer) -> None:
            entries = [{"host": "127.0.0.1", "port": each.port} for each in peers]
            path.with_suffix(".new").write_text(json.dumps(entries))
            path.with_suffix(".new").replace(path)

        publish(a)
        section = f"<service_discovery>\n @type file\n path {path}\n </service_discovery>"
        with run(config(section, options="keepalive true")) as driver:
            driver.emit("t", {"n": 1})
            wait_for(lambda: a.records == [{"n": 1}])
            publish(b)
            driver.wait_for(lambda: "server is gone" in driver.log)
            wait_for(lambda: a.open == 0)
            driver.emit("t", {"n": 2})
            wait_for(lambda: b.records == [{"n": 2}])
            path.write_text("nonsense")
            driver.wait_for(lambda: "the servers stay as they are" in driver.log)
            driver.emit("t", {"n": 3})
            wait_for(lambda: b.records == [{"n": 2}, {"n": 3}])


def test_a_file_without_servers(tmp_path: Path) -> None:
    # as Fluentd's: the server that was there gets nothing more, the chunk waits for another one
    path = tmp_path / "servers.json"
    with Peer() as a, Peer() as b:
        path.write_text(json.dumps([{"host": "127.0.0.1", "port": a.port}]))
        section = f"<service_discovery>\n @type file\n path {path}\n </service_discovery>"
        with run(config(section, buffer="flush_mode immediate\n retry_wait 0.1")) as driver:
            path.write_text("[]")
            driver.wait_for(lambda: "server is gone" in driver.log)
            driver.emit("t", {"n": 1})
            driver.wait_for(lambda: "no nodes are available" in driver.log)
            path.write_text(json.dumps([{"host": "127.0.0.1", "port": b.port}]))
            wait_for(lambda: b.records == [{"n": 1}])
            assert a.records == []


def test_a_stop_waits_for_acks(peer: Peer) -> None:
    """Events that are on their way at a stop are delivered, not lost."""
    release = threading.Event()
    peer.ack = lambda _: release.wait(10)
    driver = run(config(peer, options="require_ack_response true", buffer="flush_interval 600"))
    driver.emit("t", {"n": 1})
    stopping = threading.Thread(target=driver.stop)
    stopping.start()
    wait_for(lambda: peer.open >= 1)
    release.set()
    stopping.join(10)
    assert driver["out"].delivered == 1
    assert driver["out"].lost == {}


# ------------------------------------------------------------ relaying


def payload(count: int, start: int = 0) -> bytes:
    """Entries that do not compress extremely well."""
    noise = random.Random(start)
    return b"".join(
        msgpack.packb(
            [msgpack.ExtType(0, b"\x65\x53\xf1\x00" + bytes(4)), {"n": n, "id": noise.randbytes(40).hex()}]
        )
        for n in range(start, start + count)
    )


def squeezed(data: bytes, method: str = "gzip") -> bytes:
    """Compressed in another way than the output would do it."""
    return (
        gzip.compress(data, 1) if method == "gzip" else b"".join(packer("zstd")([data[:1000], data[1000:]]))
    )


def relay(peer: Peer, options: str, buffer: str = "flush_interval 600") -> Driver:
    source = "<source>\n @type forward\n bind 127.0.0.1\n port 0\n</source>\n"
    return run(source + config(peer, options=f"heartbeat_type none\n {options}", buffer=buffer))


def send(driver: Driver, *messages: tuple[bytes, dict[str, Any]]) -> None:
    """Sends payloads one after the other, each when the one before is acknowledged."""
    with socket.create_connection(("127.0.0.1", driver.plugin("in_forward").bound_port)) as sock:
        for data, option in messages:
            sock.sendall(msgpack.packb(["t.a", data, {**option, "chunk": "c"}]))
            assert msgpack.unpackb(sock.recv(100)) == {"ack": "c"}


@pytest.mark.parametrize("method", ["gzip", "zstd"])
def test_what_comes_compressed_goes_on_as_it_is(peer: Peer, method: str) -> None:
    first, plain, last = payload(2000), payload(50, 2000), payload(2000, 2050)
    compressed = {"compressed": method}
    packed = [squeezed(each, method) for each in (first, last)]
    with relay(peer, f"compress {method}") as driver:
        send(driver, (packed[0], compressed), (plain, {}), (packed[1], compressed))
        driver.flush()
        delivered(driver, 4050)
        wait_for(lambda: peer.messages)
    (message,) = peer.messages
    assert message.raw.startswith(packed[0])
    assert message.raw.endswith(packed[1])
    assert [record["n"] for record in peer.records] == list(range(4050))
    assert peer.errors == []


@pytest.mark.parametrize(
    ("options", "buffer", "more"),
    [
        ("compress text", "", ""),
        ("compress zstd", "", ""),
        ("compress gzip\n time_as_integer true", "", ""),
        ("compress gzip\n <secondary>\n @type secondary_file\n directory /nowhere\n </secondary>", "", ""),
        ("compress gzip", "@type file\n path {path}/buffer", ""),
        ("compress gzip", "", "<filter t.**>\n @type parser\n key_name id\n reserve_data true\n <parse>\n"
         " @type regexp\n expression /^(?<first>.)/\n </parse>\n </filter>"),
    ],
)  # fmt: skip
def test_what_cannot_go_on_as_it_is_is_made_anew(
    peer: Peer, options: str, buffer: str, more: str, tmp_path: Path
) -> None:
    data = squeezed(payload(2000))
    source = "<source>\n @type forward\n bind 127.0.0.1\n port 0\n</source>\n"
    chunks = f"flush_interval 600\n {buffer.format(path=tmp_path)}"
    text = config(peer, options=f"heartbeat_type none\n {options}", buffer=chunks)
    with run(source + more + text) as driver:
        send(driver, (data, {"compressed": "gzip"}))
        driver.flush()
        delivered(driver, 2000)
        wait_for(lambda: peer.messages)
    (message,) = peer.messages
    assert message.raw != data
    assert [record["n"] for record in peer.records] == list(range(2000))
    assert ("first" in peer.records[0]) == bool(more)
    assert peer.errors == []


def test_chunks_do_not_grow_beyond_measure_by_what_is_packed_well(peer: Peer) -> None:
    """The limits of chunks hold for what a receiver gets to see, which refuses too much of it."""
    data = b"".join(msgpack.packb([1, {"text": "x" * 1000}]) for _ in range(2000))
    packed = squeezed(data)
    assert len(data) > 100 * len(packed)
    with relay(peer, "compress gzip", "flush_interval 600\n chunk_limit_size 3m") as driver:
        send(driver, *[(packed, {"compressed": "gzip"})] * 4)
        driver.flush()
        delivered(driver, 8000)
        wait_for(lambda: len(peer.records) == 8000)
    assert len(peer.messages) == 4
