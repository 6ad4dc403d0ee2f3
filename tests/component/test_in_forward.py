"""`<source> @type forward` and `@type unix`, driven through configuration text and real sockets."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import os
import secrets
import socket
import ssl
import stat
import threading
from pathlib import Path
from typing import Any

import msgpack
import pytest

from forwarder.api import BufferOverflow
from forwarder.api.testing import Driver, run

CONFIG = """
<source>
  @type forward
  bind 127.0.0.1
  port 0
  {extra}
  {sections}
</source>
<match **>
  @type test
</match>
"""
T = 1_700_000_000
SECURITY = """
<security>
  self_hostname server.local
  shared_key secret
  {more}
</security>
"""


def config(extra: str = "", sections: str = "") -> str:
    return CONFIG.format(extra=extra, sections=sections)


def pack(value: Any) -> bytes:
    return bytes(msgpack.packb(value))


def squeeze(data: bytes) -> bytes:
    return gzip.compress(data, mtime=0)  # a test's name may be made of it


def message(record: dict[str, Any], chunk: str | None = None, tag: str = "t.a") -> bytes:
    return pack([tag, T, record] + ([] if chunk is None else [{"chunk": chunk}]))


class Client:
    """A connection that reads MessagePack."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        sock.settimeout(10)
        self._unpacker = msgpack.Unpacker()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def read(self) -> Any:
        """The next value; None: the connection was closed."""
        while True:
            try:
                return self._unpacker.unpack()
            except msgpack.OutOfData:
                try:
                    data = self.socket.recv(65536)
                except ConnectionResetError:
                    # linger_timeout is 0: TLS connections are reset, which Python 3.13 and later tell
                    if not isinstance(self.socket, ssl.SSLSocket):
                        raise
                    return None
                if not data:
                    return None
                self._unpacker.feed(data)

    def greet(
        self, shared_key: bytes = b"secret", user: bytes = b"", password: bytes = b"", hostname: bytes = b"me"
    ) -> Any:
        """Answers HELO; gives PONG, whose digest is right."""
        helo, options = self.read()
        assert helo == "HELO"
        salt = secrets.token_bytes(16)
        digest = hashlib.sha512(salt + hostname + options["nonce"] + shared_key).hexdigest()
        login = hashlib.sha512(options["auth"] + user + password).hexdigest()
        self.send(pack(["PING", hostname, salt, digest, user, login]))
        pong = self.read()
        if pong[1]:
            expected = hashlib.sha512(salt + b"server.local" + options["nonce"] + shared_key).hexdigest()
            assert pong == ["PONG", True, "", "server.local", expected]
        return pong


def port_of(driver: Driver) -> int:
    return int(driver.plugin("in_forward").bound_port)


def connect(driver: Driver) -> Client:
    return Client(socket.create_connection(("127.0.0.1", port_of(driver)), timeout=10))


def numbers(driver: Driver) -> list[Any]:
    return [record["i"] for record in driver.records()]


def full_at_first(monkeypatch: pytest.MonkeyPatch, driver: Driver) -> threading.Event:
    """The buffer is full until the event is set."""
    context, room = driver.plugin("in_forward").context, threading.Event()
    emit = context.emit

    def full(batch: Any) -> None:
        if not room.is_set():
            raise BufferOverflow("full")
        emit(batch)

    monkeypatch.setattr(context, "emit", full)
    return room


def test_all_modes_on_one_connection() -> None:
    entry = pack([T, {"i": 2}])
    with run(config("add_tag_prefix pre")) as driver, connect(driver) as client:
        client.send(message({"i": 0}) + pack(["t.b", [[T, {"i": 1}]]]))
        client.send(
            pack(["t.c", entry]) + pack(["t.d", squeeze(entry), {"compressed": "gzip", "chunk": "c"}])
        )
        assert client.read() == {"ack": "c"}
        assert [event.tag for event in driver.events()] == ["pre.t.a", "pre.t.b", "pre.t.c", "pre.t.d"]
        assert numbers(driver) == [0, 1, 2, 2]
        assert driver["in_forward"].received == 4


def test_an_acknowledgement_comes_after_the_buffer_has_the_event(monkeypatch: pytest.MonkeyPatch) -> None:
    with run(config()) as driver:
        room = full_at_first(monkeypatch, driver)
        with connect(driver) as client:
            client.send(message({"i": 0}, "c"))
            driver.wait_for(lambda: "reading stopped" in driver.log)
            client.socket.setblocking(False)
            with pytest.raises(BlockingIOError):
                client.socket.recv(1)
            client.socket.settimeout(10)
            room.set()
            assert client.read() == {"ack": "c"}
        assert numbers(driver) == [0]
        assert driver["in_forward"].lost == {}


def test_what_could_not_be_emitted_is_not_acknowledged(monkeypatch: pytest.MonkeyPatch) -> None:
    with run(config()) as driver, connect(driver) as client:
        context = driver.plugin("in_forward").context
        emit, failures = context.emit, iter([OSError("disk")])

        def broken(batch: Any) -> None:
            for error in failures:
                raise error
            emit(batch)

        monkeypatch.setattr(context, "emit", broken)
        client.send(message({"i": 0}, "first"))
        driver.wait_for(lambda: driver["in_forward"].lost == {"emit_error": 1})
        client.send(message({"i": 1}, "second"))
        assert client.read() == {"ack": "second"}


def test_a_full_buffer_stops_reading_and_heartbeats_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    payload = pack(["t", b"".join(pack([T, {"i": i, "x": "y" * 200}]) for i in range(1000))])
    with run(config()) as driver:
        room = full_at_first(monkeypatch, driver)
        with connect(driver) as client:
            client.send(message({"i": -1}))
            driver.wait_for(lambda: "reading stopped" in driver.log)
            client.socket.settimeout(0.5)
            with pytest.raises(TimeoutError):  # the kernel's buffers are finite: the sender has to wait
                client.send(payload * 500)
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as beat:
                beat.settimeout(10)
                beat.sendto(b"\0", ("127.0.0.1", port_of(driver)))
                assert beat.recv(10) == b"\0"
            room.set()
            driver.wait_for_events(1001)
        assert driver["in_forward"].lost.keys() <= {"unterminated"}


def test_who_has_said_all_still_gets_the_acknowledgement(monkeypatch: pytest.MonkeyPatch) -> None:
    with run(config()) as driver:
        room = full_at_first(monkeypatch, driver)
        with connect(driver) as client:
            client.send(message({"i": 0}, "c"))
            client.socket.shutdown(socket.SHUT_WR)
            driver.wait_for(lambda: "reading stopped" in driver.log)
            room.set()
            assert client.read() == {"ack": "c"}
            assert client.read() is None


def test_deny_keepalive() -> None:
    with run(config("deny_keepalive true")) as driver:
        with connect(driver) as client:
            client.send(message({"i": 0}, "c"))
            assert client.read() == {"ack": "c"}
            assert client.read() is None
        with connect(driver) as client:
            client.send(message({"i": 1}))
            driver.wait_for_events(2)
            with pytest.raises(ConnectionResetError):  # linger_timeout 0
                client.socket.recv(1)


def test_a_stop_takes_and_acknowledges_what_the_kernel_has() -> None:
    with run(config()) as driver, connect(driver) as client:
        client.send(b"".join(message({"i": i}, str(i)) for i in range(500)))
        assert client.read() == {"ack": "0"}
        driver.stop()
        got = numbers(driver)
        assert got == list(range(len(got)))
        acks = 1
        while client.read() is not None:
            acks += 1
        assert acks == len(got)
        books = driver["in_forward"]
        assert books.received == books.emitted + sum(books.lost.values())


def test_sender_fields() -> None:
    with run(config("source_address_key addr\nsource_hostname_key host\ntag other")) as driver:
        with connect(driver) as client:
            client.send(message({"i": 0}))
            (event,) = driver.wait_for_events(1)
        assert event.tag == "other"
        assert event.record["addr"] == "127.0.0.1"
        assert event.record["host"]


def test_a_slow_sender_does_not_hold_up_the_others() -> None:
    large = pack(["slow", pack([T, {"i": 0}]) * 30_000, {"chunk": "c"}])
    with run(config()) as driver, connect(driver) as slow, connect(driver) as other:
        for start in range(0, len(large), 40_000):
            slow.send(large[start : start + 40_000])
            other.send(message({"i": 1}, str(start)))
            assert other.read() == {"ack": str(start)}
        assert slow.read() == {"ack": "c"}
        driver.wait_for_events(30_000)


BOMB = squeeze(bytes(1 << 20))
HOSTILE = [
    (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "no_forward", "not the forward protocol"),
    (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "tls_on_plain", "TLS on a port without TLS"),
    (b"\xc1\xc1", "broken_stream", "connection closed"),
    (b"\x91" * 5000, "broken_stream", "nested deeper"),
    (pack(["t", BOMB, {"compressed": "gzip"}]), "decompression_size_limit", "too large"),
    (pack(["t", b"\x92\x01\xdf\xff\xff\xff\xff"]), "broken_entries", "not MessagePack"),
    (b"\x92\xa1t\xc6\xff\xff\xff\xff" + b"x" * 100, "chunk_size_limit", "chunk_size_limit"),
    (message({"a": "x" * 3000}), "chunk_size_limit", "chunk_size_limit"),
]  # fmt: skip


@pytest.mark.parametrize(("data", "reason", "words"), HOSTILE, ids=[reason for _, reason, _ in HOSTILE])
def test_a_hostile_sender_is_logged_with_its_address(data: bytes, reason: str, words: str) -> None:
    limits = "decompression_size_limit 1000\nchunk_size_limit 2000"
    if reason == "broken_stream":
        limits = ""
    with run(config(limits)) as driver, connect(driver) as good, connect(driver) as bad:
        name = "{}:{}".format(*bad.socket.getsockname())
        good.send(message({"i": 0})[:5])
        bad.send(data)
        if data.startswith(b"\x92\xa1t\xc6"):
            bad.socket.close()  # a length that lies: only the end tells
            reason, words = "unterminated", "connection ended within a message"
        driver.wait_for(lambda: driver["in_forward"].lost == {reason: 1})
        driver.wait_for(lambda: words in driver.log and name in driver.log)
        good.send(message({"i": 0})[5:] + message({"i": 1}, "c"))
        assert good.read() == {"ack": "c"}
        assert numbers(driver) == [0, 1]


def test_invalid_events_and_limits_are_logged() -> None:
    with run(config("chunk_size_warn_limit 10")) as driver, connect(driver) as client:
        client.send(pack(["t", [[T, {"i": 0}], [None, {"i": 1}], [T, "x"]], {"chunk": "c"}]))
        assert client.read() == {"ack": "c"}
        driver.wait_for(lambda: driver["in_forward"].lost == {"invalid_event": 2})
        assert "skipped an invalid event" in driver.log
        assert "chunk_size_warn_limit" in driver.log


def test_many_idle_connections() -> None:
    with run(config()) as driver:
        clients = [connect(driver) for _ in range(200)]
        for i, client in enumerate(clients):
            client.send(message({"i": i}, "c"))
        assert [client.read() for client in clients] == [{"ack": "c"}] * 200
        assert sorted(numbers(driver)) == list(range(200))
        for client in clients:
            client.socket.close()


# ---------------------------------------------------------------- who may send


@pytest.mark.parametrize(
    ("more", "login", "refusal"),
    [
        ("", {}, None),
        ("", {"shared_key": b"wrong"}, "shared_key mismatch"),
        ("allow_anonymous_source false\n<client>\nhost 127.0.0.1\n</client>", {}, None),
        ("allow_anonymous_source false\n<client>\nnetwork 127.0.0.0/8\nshared_key own\n</client>",
         {"shared_key": b"own"}, None),
        ("<client>\nnetwork 127.0.0.0/8\nshared_key own\n</client>", {}, "shared_key mismatch"),
        ("<client>\nnetwork 10.0.0.0/8\nshared_key own\n</client>", {}, None),
        ("allow_anonymous_source false\n<client>\nnetwork 10.0.0.0/8\n</client>", {},
         "anonymous source host '127.0.0.1' denied"),
        ("user_auth true\n<user>\nusername u\npassword p\n</user>", {"user": b"u", "password": b"p"}, None),
        ("user_auth true\n<user>\nusername u\npassword p\n</user>", {"user": b"u", "password": b"x"},
         "username/password mismatch"),
        ("user_auth true\n<user>\nusername u\npassword p\n</user>", {"user": b"v", "password": b"p"},
         "username/password mismatch"),
        ("user_auth true\n<user>\nusername u\npassword p\n</user>\n<user>\nusername v\npassword q\n</user>\n"
         "<client>\nhost 127.0.0.1\nusers v\n</client>", {"user": b"u", "password": b"p"},
         "username/password mismatch"),
        ("user_auth true\n<user>\nusername u\npassword p\n</user>\n<user>\nusername v\npassword q\n</user>\n"
         "<client>\nhost 127.0.0.1\nusers v\n</client>", {"user": b"v", "password": b"q"}, None),
    ],
)  # fmt: skip
def test_handshake(more: str, login: dict[str, bytes], refusal: str | None) -> None:
    with run(config(sections=SECURITY.format(more=more))) as driver, connect(driver) as client:
        pong = client.greet(**login)
        if refusal is None:
            client.send(message({"i": 0}, "c"))
            assert client.read() == {"ack": "c"}
        else:
            assert pong == ["PONG", False, refusal, "", ""]
            assert client.read() is None
            driver.wait_for(lambda: refusal in driver.log)
            driver.wait_for(lambda: driver["in_forward"].lost == {"refused": 1})
            for secret in ("secret", '"p"', "own", "x"):
                assert f"{secret}\n" not in driver.log


@pytest.mark.parametrize("first", [message({"i": 0}), pack(["PING", 1, 2, 3, 4, 5]), pack(5), pack(["PING"]),
                                   pack(["t", b"x" * 100_000])])  # fmt: skip
def test_nothing_passes_before_the_handshake(first: bytes) -> None:
    with run(config(sections=SECURITY.format(more=""))) as driver, connect(driver) as client:
        client.read()
        pong = None
        # what the server has not read when it closes resets the connection, perhaps before the answer is read
        with contextlib.suppress(ConnectionError):
            client.send(first)
            client.send(message({"i": 1}))
            pong = client.read()
        assert pong is None or pong[:2] == ["PONG", False]
        with connect(driver) as good:
            assert good.greet()[1]
            good.send(message({"i": 2}, "c"))
            assert good.read() == {"ack": "c"}
        assert numbers(driver) == [2]


def test_nonces_are_fresh_and_many_failures_are_few_lines() -> None:
    with run(config("deny_keepalive true", SECURITY.format(more=""))) as driver:
        seen = set()
        for _ in range(30):
            with connect(driver) as client:
                _, options = client.read()
                assert options["keepalive"] is False
                seen |= {options["nonce"], options["auth"]}
            with connect(driver) as client:
                assert client.greet(b"wrong")[1] is False
        assert len(seen) == 60
        assert driver.log.count("forward client refused") == 1


# ---------------------------------------------------------------- TLS


def tls_config(certificates: Any, tls: str = "", extra: str = "", more: str = "") -> str:
    return config(extra, f"""<transport tls>
      cert_path {certificates.cert}
      private_key_path {certificates.key}
      {tls}
    </transport>
    {more}""")  # fmt: skip


def tls_connect(driver: Driver, certificates: Any, *, client: bool = False) -> Client:
    context = ssl.create_default_context(cafile=str(certificates.ca))
    if client:
        context.load_cert_chain(certificates.client_cert, certificates.client_key)
    return Client(context.wrap_socket(connect(driver).socket, server_hostname="127.0.0.1"))


def test_tls_with_acknowledgements_and_handshake(certificates: Any) -> None:
    large = pack(["t", pack([T, {"i": 1}]) * 20_000, {"chunk": "large"}])
    with run(tls_config(certificates, more=SECURITY.format(more=""))) as driver:
        with tls_connect(driver, certificates) as client:
            assert client.greet()[1]
            client.send(message({"i": 0}, "c"))
            assert client.read() == {"ack": "c"}
            client.send(large)
            assert client.read() == {"ack": "large"}
        with tls_connect(driver, certificates) as client:
            assert client.greet(b"wrong")[1] is False
            assert client.read() is None
        assert len(driver.events()) == 20_001
        driver.wait_for(lambda: driver["in_forward"].lost == {"refused": 1})


def test_tls_backpressure_deny_keepalive_and_stop(certificates: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with run(tls_config(certificates, extra="deny_keepalive true")) as driver:
        room = full_at_first(monkeypatch, driver)
        with tls_connect(driver, certificates) as client:
            client.send(message({"i": 0}, "c") + message({"i": 1}))
            driver.wait_for(lambda: "reading stopped" in driver.log)
            room.set()
            assert client.read() == {"ack": "c"}
            assert client.read() is None
        with tls_connect(driver, certificates) as client:
            client.send(message({"i": 2}, "d"))
            driver.wait_for_events(2)
            driver.stop()
            assert client.read() == {"ack": "d"}
        assert numbers(driver) == [0, 2]


@pytest.mark.parametrize("trusted", [True, False])
def test_mutual_tls(certificates: Any, trusted: bool) -> None:
    with run(tls_config(certificates, f"client_cert_auth true\nca_path {certificates.ca}")) as driver:
        if trusted:
            with tls_connect(driver, certificates, client=True) as client:
                client.send(message({"i": 0}, "c"))
                assert client.read() == {"ack": "c"}
        else:
            with pytest.raises(OSError, match=r"(?i)handshake|alert|reset|certificate"):
                tls_connect(driver, certificates).read()
            driver.wait_for(lambda: driver["in_forward"].lost == {"tls_error": 1})
            assert "TLS handshake or connection failed" in driver.log


def test_tls_versions(certificates: Any) -> None:
    versions = "min_version TLSv1_2\nmax_version TLSv1_3"
    for tls, spoken in (("", "TLSv1.2"), ("version TLSv1_3", "TLSv1.3"), (versions, "TLSv1.3")):
        with run(tls_config(certificates, tls)) as driver, tls_connect(driver, certificates) as client:
            assert isinstance(client.socket, ssl.SSLSocket)
            assert client.socket.version() == spoken


def test_plain_senders_on_a_tls_port(certificates: Any) -> None:
    with run(tls_config(certificates)) as driver, connect(driver) as silent, connect(driver) as plain:
        name = "{}:{}".format(*plain.socket.getsockname())
        plain.send(message({"i": 0}) * 10)
        driver.wait_for(lambda: driver["in_forward"].lost == {"tls_error": 1})
        driver.wait_for(lambda: "TLS handshake or connection failed" in driver.log and name in driver.log)
        with tls_connect(driver, certificates) as good:
            good.send(message({"i": 1}, "c"))
            assert good.read() == {"ack": "c"}
        assert numbers(driver) == [1]
        assert silent.socket.fileno() > 0


def test_changed_certificates_are_used(certificates: Any, tmp_path: Path) -> None:
    class Copies:
        cert, key, ca = tmp_path / "c.pem", tmp_path / "k.pem", certificates.ca

    def subject() -> str:
        with tls_connect(driver, certificates) as client:
            assert isinstance(client.socket, ssl.SSLSocket)
            found = client.socket.getpeercert()
            assert found is not None
            return str(found["subject"])

    Copies.cert.write_bytes(certificates.cert.read_bytes())
    Copies.key.write_bytes(certificates.key.read_bytes())
    with run(tls_config(Copies)) as driver:
        assert "server" in subject()
        Copies.cert.write_bytes(certificates.client_cert.read_bytes())
        Copies.key.write_bytes(certificates.client_key.read_bytes())
        assert "client" in subject()


# ---------------------------------------------------------------- configuration


@pytest.mark.parametrize(
    ("extra", "sections", "words"),
    [
        ("port 70000", "", "port"),
        ('tag ""', "", "must not be empty"),
        ('add_tag_prefix ""', "", "must not be empty"),
        ("source_hostname_key h\nresolve_hostname false", "", "resolve_hostname"),
        ("send_keepalive_packet true\ndeny_keepalive true", "", "deny_keepalive"),
        ("chunk_size_limit -1", "", "-1 bytes: at least 0"),
        ("", "<transport tls>\n</transport>", "cert_path"),
        ("", "<security>\nshared_key x\n</security>", "self_hostname"),
        ("", SECURITY.format(more="user_auth true"), "<user>"),
        ("", SECURITY.format(more="allow_anonymous_source false"), "<client>"),
        ("", SECURITY.format(more="<client>\n</client>"), "either host or network"),
    ],
)
def test_wrong_configurations_are_refused(extra: str, sections: str, words: str) -> None:
    with pytest.raises(Exception, match=words):
        run(config(extra, sections).replace("port 0", "" if "port" in extra else "port 0"), start=False)


def test_a_port_in_use_is_an_error_that_names_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(Exception, match="in use"):
            run(config().replace("port 0", f"port {port}"))


# ---------------------------------------------------------------- in_unix


def unix_config(path: Path, extra: str = "") -> str:
    return f"<source>\n@type unix\npath {path}\n{extra}\n</source>\n<match **>\n@type test\n</match>"


def unix_connect(path: Path) -> Client:
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(10)
    sock.connect(str(path))
    return Client(sock)


def test_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "deeper" / "u.sock"
    with run(unix_config(path)) as driver:
        with unix_connect(path) as client:
            client.send(message({"i": 0}) + pack(["t", [[None, {"i": 1}], [T + 0.5, {"i": 2}]]]))
            client.send(pack(["t", pack([T, {"i": 3}]), {"chunk": "c"}]))
            assert client.read() == {"ack": "c"}
        assert numbers(driver) == [0, 1, 2, 3]
        assert driver.events()[2].time_ns == T * 10**9 + 500_000_000
        with unix_connect(path) as client:
            client.send(b'["j",1700000000,{"i":4}]')
            driver.wait_for_events(5)
        driver.stop()
        assert not path.exists()


def test_unix_socket_with_its_own_tag_replaces_an_old_socket(tmp_path: Path) -> None:
    path = tmp_path / "u.sock"
    with socket.socket(socket.AF_UNIX) as old:
        old.bind(str(path))
    with run(unix_config(path, "tag mine")) as driver, unix_connect(path) as client:
        assert "found existing" in driver.log
        client.send(message({"i": 0}))
        (event,) = driver.wait_for_events(1)
        assert event.tag == "mine"


def test_unix_socket_does_not_remove_what_is_no_socket(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("precious")
    with pytest.raises(Exception, match="no socket"):
        run(unix_config(path))
    assert stat.S_ISREG(os.stat(path).st_mode)


def test_linger_resets_only_who_got_no_answer() -> None:
    sections = "<transport tcp>\nlinger_timeout 0\n</transport>"
    with run(config(sections=sections)) as driver, connect(driver) as silent, connect(driver) as client:
        client.send(message({"i": 0}, "c"))
        assert client.read() == {"ack": "c"}
        driver.stop()
        assert client.read() is None
        with pytest.raises(ConnectionResetError):
            silent.socket.recv(1)
