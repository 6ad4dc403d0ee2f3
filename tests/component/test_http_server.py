"""The HTTP server of probes and scrapes, against clients that are slow, silent, many or talk nonsense."""

from __future__ import annotations

import http.client
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress

import pytest

from forwarder.api import http as server_module
from forwarder.api.http_message import Limits
from forwarder.api.testing import Driver, run
from tests.conftest import Certificates

CONFIG = """
<source>
  @type prometheus
  port 0
</source>
<match **>
  @type test
</match>
"""


@pytest.fixture
def driver() -> Iterator[Driver]:
    with run(CONFIG) as driver:
        yield driver


def port_of(driver: Driver) -> int:
    return int(driver.plugin("in_prometheus").bound_port)


def connect(driver: Driver) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port_of(driver)), timeout=10)


def get(driver: Driver, path: str = "/healthz") -> tuple[int, bytes]:
    with closing(http.client.HTTPConnection("127.0.0.1", port_of(driver), timeout=10)) as client:
        client.request("GET", path)
        response = client.getresponse()
        return response.status, response.read()


def read_all(sock: socket.socket) -> bytes:
    """Until the server closes."""
    data = b""
    while True:
        try:
            more = sock.recv(65536)
        except ConnectionResetError:
            return data
        if not more:
            return data
        data += more


def test_a_connection_serves_several_requests(driver: Driver) -> None:
    with closing(http.client.HTTPConnection("127.0.0.1", port_of(driver), timeout=10)) as client:
        sockets = set()
        for path, status in (("/healthz", 200), ("/nothing", 404), ("/readyz?verbose", 200)):
            client.request("GET", path)
            response = client.getresponse()
            assert (response.status, bool(response.read())) == (status, True)
            sockets.add(id(client.sock))
        client.request("HEAD", "/healthz")
        response = client.getresponse()
        assert (response.status, response.getheader("Content-Length"), response.read()) == (200, "3", b"")
        assert len(sockets) == 1


def test_requests_may_come_in_one_piece_or_byte_by_byte(driver: Driver) -> None:
    request = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    with connect(driver) as sock:
        sock.sendall(request + request + request[:-2] + b"Connection: close\r\n\r\n")
        assert read_all(sock).count(b"HTTP/1.1 200") == 3
    with connect(driver) as sock:
        for byte in request[:-2] + b"Connection: close\r\n\r\n":
            sock.sendall(bytes([byte]))
        assert read_all(sock).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\xff" * 600 + b"\r\n\r\n", b"400"),
        (b"garbage\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\n\r\n", b"400"),  # no Host
        (b"GET / HTTP/x\r\nHost: x\r\n\r\n", b"400"),
        (b"GET /healthz HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 100_000, b"431"),
        (b"GET /" + b"y" * 100_000, b"431"),
        (b"POST /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc", b"405"),
        (b"GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc", b"200"),
        (b"GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 999999999999999999999\r\n\r\n", b"400"),
        (b"GET http://[::1/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", b"400"),
        (b"GET /metrics?" + b"a&" * 1000 + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", b"400"),
    ],
)
def test_nonsense_is_answered_and_costs_its_own_connection(
    driver: Driver, data: bytes, status: bytes
) -> None:
    with connect(driver) as quiet, connect(driver) as sock:
        with suppress(OSError):  # refused while it is being sent
            sock.sendall(data)
        answer = read_all(sock)
        assert answer == b"" or answer.split()[1] == status
        assert len(answer) < 1000
        quiet.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
        assert read_all(quiet).startswith(b"HTTP/1.1 200")


def test_a_thousand_connections_leave_room_for_a_probe(driver: Driver) -> None:
    """Ones that never send, ones that send half a request, and ones that never read."""
    with ExitStack() as stack:
        for number in range(1000):
            sock = stack.enter_context(connect(driver))
            if number % 3 == 1:
                sock.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\nX-Slow: ")
            elif number % 3 == 2:
                sock.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * 3)
            if number % 100 == 99:
                assert get(driver) == (200, b"ok\n")
        server = driver.plugin("in_prometheus")._server._server
        assert len(server._connections) <= server_module.LIMITS.connections
        assert get(driver)[0] == 200
    assert get(driver)[0] == 200


def test_a_connection_that_sends_half_a_request_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "LIMITS", Limits(request_seconds=0.2))
    with run(CONFIG) as driver, connect(driver) as slow, connect(driver) as silent:
        slow.sendall(b"GET /healthz HTTP/1.1\r\n")
        started = time.monotonic()
        try:
            while True:  # one header line after the other, for ever
                slow.sendall(b"X: y\r\n")
                assert time.monotonic() - started < 10
                time.sleep(0.01)
        except OSError:
            pass
        assert read_all(silent) == b""
        assert get(driver)[0] == 200


def test_a_handler_that_raises_is_a_500_and_a_line_in_the_log(driver: Driver) -> None:
    def fails(_: object) -> server_module.Response:
        raise RuntimeError("boom")

    driver.plugin("in_prometheus")._server._routes["/fails"] = fails
    assert get(driver, "/fails") == (500, b"RuntimeError\n")
    assert "boom" in driver.log
    assert get(driver)[0] == 200


def test_https(certificates: Certificates) -> None:
    config = CONFIG.replace(
        "port 0",
        f"""port 0
  <transport tls>
    cert_path {certificates.cert}
    private_key_path {certificates.key}
  </transport>""",
    )
    context = ssl.create_default_context(cafile=str(certificates.ca))
    with run(config) as driver:
        with connect(driver) as plain:  # plain HTTP on a TLS port
            plain.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert b"200 OK" not in read_all(plain)
        with connect(driver), connect(driver) as half:  # hand-shakes that never come, or stop half-way
            half.sendall(b"\x16\x03\x01")
            client = http.client.HTTPSConnection("127.0.0.1", port_of(driver), timeout=10, context=context)
            with closing(client):
                for path in ("/healthz", "/metrics", "/healthz"):
                    client.request("GET", path)
                    response = client.getresponse()
                    body = response.read()
                    assert response.status == 200
                    assert len(body) == int(response.getheader("Content-Length") or -1)


def test_the_port_is_taken(driver: Driver) -> None:
    with pytest.raises(OSError, match="in use"):
        run(CONFIG.replace("port 0", f"port {port_of(driver)}"))
