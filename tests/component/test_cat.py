"""`forwarder cat` as a process, against a server of the protocol and against a socket file."""

from __future__ import annotations

import base64
import os
import socket
import ssl
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgpack
import pytest
from forward_peer import Message, Peer
from waiting import wait_for

if TYPE_CHECKING:
    from conftest import Certificates

FORWARDER = Path(sys.executable).parent / "forwarder"


def cat(*arguments: object, data: bytes = b"", **environment: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [FORWARDER, "cat", *map(str, arguments)],
        input=data, capture_output=True, check=False, timeout=40, env={**os.environ, **environment},
    )  # fmt: skip
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


@pytest.fixture
def peer() -> Any:
    with Peer() as made:
        yield made


def test_json_lines_become_events(peer: Peer) -> None:
    done = cat("t.a", "--port", peer.port, data=b'{"n":1}\n\n{"n":"\xc3\xa4"}\n{"n":3}')
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert peer.records == [{"n": 1}, {"n": "ä"}, {"n": 3}]
    assert {message.tag for message in peer.messages} == {"t.a"}
    assert all("chunk" in message.option for message in peer.messages)
    assert peer.messages[0].events[0][0][1] > 0  # an EventTime with nanoseconds


def test_text_lines(peer: Peer) -> None:
    done = cat("t", "-p", peer.port, "--none", "--message-key", "m", data=b"one\r\n\n\xff\n")
    assert done.returncode == 0
    assert peer.records == [{"m": "one"}, {"m": ""}, {"m": b"\xff"}]


def test_msgpack_values(peer: Peer) -> None:
    at = msgpack.ExtType(0, (5).to_bytes(4, "big") + (6).to_bytes(4, "big"))
    data = msgpack.packb({"a": 1}) + msgpack.packb([at, {"b": 2}]) + msgpack.packb([7, {"c": b"\xff"}])
    done = cat("t", "-p", peer.port, "--msgpack", "--event-time", "2023-11-14T22:13:20.25Z", data=data)
    assert (done.returncode, done.stderr) == (0, "")
    assert [event for message in peer.messages for event in message.events] == [
        ((1_700_000_000, 250_000_000), {"a": 1}), ((5, 6), {"b": 2}), (7, {"c": b"\xff"})
    ]  # fmt: skip


def test_whole_seconds(peer: Peer) -> None:
    cat("t", "-p", peer.port, "--time-as-integer", "--event-time", "2023-11-14T22:13:20.25+00:00", data=b"{}")
    assert peer.messages[0].events == [(1_700_000_000, {})]


@pytest.mark.parametrize(
    ("arguments", "data", "message"),
    [
        ([], b'{"n":1}\n{"n":\n{"n":3}\n', "line 2: "),
        ([], b'{"n":1}\n[1]\n{"n":3}\n', "line 2: expected a JSON object, but got [1]"),
        ([], b'{"n":1}\n{"n":NaN}\n{"n":3}\n', "line 2: NaN is not JSON"),
        ([], b'{"n":1}\n{"n":123456789012345678901234}\n{"n":3}\n', "line 2: "),
        ([], b'{"n":1}\n\xff\n{"n":3}\n', "line 2: "),
        (["--msgpack"], b"\x81\xa1n\x01\xa1x\x81\xa1n\x03", "value 2: expected a map or an entry"),
        (["--msgpack"], b"\x81\xa1n\x01\x81\xa1n\x03\xc1\x80", "after 2 values: "),
        (["--msgpack"], b"\x81\xa1n\x01\x81\xa1n\x03\x81", "the input ends inside a MessagePack value"),
    ],
)
def test_what_is_wrong_is_named_and_the_rest_sent(
    peer: Peer, arguments: list[str], data: bytes, message: str
) -> None:
    done = cat("t", "-p", peer.port, *arguments, data=data)
    assert done.returncode == 1
    assert done.stderr.startswith(f"forwarder cat: {message}"), done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert peer.records == [{"n": 1}, {"n": 3}]


def test_input_is_sent_as_it_comes(peer: Peer) -> None:
    with subprocess.Popen([FORWARDER, "cat", "t", "-p", str(peer.port)], stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        for n in range(3):
            process.stdin.write(b'{"n":%d}\n' % n)
            process.stdin.flush()
            wait_for(lambda n=n: len(peer.records) == n + 1)  # while standard input stays open
        process.stdin.close()
        assert process.wait(20) == 0


def test_many_lines_in_batches(peer: Peer) -> None:
    done = cat("t", "-p", peer.port, data=b"".join(b'{"n":%d}\n' % n for n in range(20_000)))
    assert done.returncode == 0
    assert [record["n"] for record in peer.records] == list(range(20_000))
    assert 20 <= len(peer.messages) < 400


def test_not_acknowledged(peer: Peer) -> None:
    peer.ack = lambda _: False
    done = cat("t", "-p", peer.port, "--ack-timeout", "0.2", "--retry-limit", "0", data=b'{"n":1}\n{"n":2}\n')
    assert done.returncode == 1
    assert "did not answer for 0.2 s" in done.stderr
    assert "2 of 2 events were not acknowledged" in done.stderr


def test_what_a_broken_connection_lost_is_sent_again(peer: Peer) -> None:
    seen: list[Message] = []

    def ack(message: Message) -> bool | str:
        seen.append(message)
        return "close" if len(seen) == 1 else True

    peer.ack = ack
    done = cat("t", "-p", peer.port, data=b'{"n":1}\n')
    assert done.returncode == 0
    assert "trying again" in done.stderr
    assert [message.option["chunk"] for message in seen] == [seen[0].option["chunk"]] * 2
    assert len(base64.b64decode(seen[0].option["chunk"])) == 16


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    done = cat("t", "-p", port, "--retry-limit", "0", data=b"{}\n{}\n")
    assert done.returncode == 1
    assert "refused" in done.stderr
    assert "2 of 2 events were not acknowledged" in done.stderr


def test_without_acks(peer: Peer) -> None:
    done = cat("t", "-p", peer.port, "--no-ack", data=b"{}\n")
    assert done.returncode == 0
    wait_for(lambda: peer.messages)
    assert peer.messages[0].option == {"size": 1}


def test_shared_key_and_user() -> None:
    with Peer(shared_key="k3y", users={"bob": "pw"}) as peer:
        secrets = {"FORWARDER_SHARED_KEY": "k3y", "FORWARDER_PASSWORD": "pw"}
        done = cat("t", "-p", peer.port, "--user", "bob", data=b'{"n":1}\n', **secrets)
        assert (done.returncode, done.stderr) == (0, "")
        assert peer.records == [{"n": 1}]
        done = cat("t", "-p", peer.port, "--shared-key", "other", data=b'{"n":2}\n')
        assert done.returncode == 1
        assert "refuses us: mismatch" in done.stderr
        assert "1 of 1 events were not acknowledged" in done.stderr


def test_tls(certificates: Certificates) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.cert, certificates.key)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(certificates.ca)
    with Peer(context=context) as peer:
        own = ["--tls-cert", certificates.client_cert, "--tls-key", certificates.client_key]
        good = cat("t", "-p", peer.port, "--tls", "--tls-ca", certificates.ca, *own, data=b'{"n":1}\n')
        assert (good.returncode, good.stderr) == (0, "")
        assert peer.records == [{"n": 1}]
        bad = cat("t", "-p", peer.port, "--tls", *own, "--retry-limit", "0", data=b'{"n":2}\n')
        assert bad.returncode == 1
        assert "certificate is not accepted" in bad.stderr


def test_unix_socket(tmp_path: Path) -> None:
    path = str(tmp_path / "in.sock")
    got: list[bytes] = []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()

        def serve() -> None:
            sock, _ = listener.accept()
            with sock:
                while data := sock.recv(1000):
                    got.append(data)

        thread = threading.Thread(target=serve)
        thread.start()
        done = cat("t", "--unix", "--socket", path, data=b'{"n":1}\n')
        thread.join(10)
    assert (done.returncode, done.stderr) == (0, "")
    tag, entries, option = msgpack.unpackb(b"".join(got))
    assert (tag, option) == ("t", {"size": 1})
    assert msgpack.unpackb(entries)[1] == {"n": 1}


@pytest.mark.parametrize("arguments", [[], ["t", "--format", "xml"], ["t", "--event-time", "soon"]])
def test_wrong_usage(arguments: list[str]) -> None:
    assert cat(*arguments).returncode != 0
