"""A proxy before an S3-compatible server that does to chosen requests what networks and busy stores do."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email.utils import formatdate
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ssl import SSLContext
from threading import Event, Lock, Thread
from time import time
from typing import Any
from urllib.parse import urlsplit

_ERROR = '<?xml version="1.0" encoding="UTF-8"?><Error><Code>{code}</Code><Message>{code}</Message></Error>'
_STATUS = {"SlowDown": 503, "InternalError": 500, "NotImplemented": 501, "RequestTimeTooSkewed": 403}
_HOP = {"connection", "transfer-encoding", "content-length", "expect", "keep-alive"}


@dataclass
class Fault:
    """What happens to a request.

    kind: an error code (see _STATUS), answered without asking the server; or
        "cut": half of the body reaches the server, then both connections break;
        "lost": the server does it, but the answer does not come;
        "half": half of the answer's body comes;
        "slow": the answer comes when the test is over.
    """

    kind: str
    method: str = "PUT"
    query: str = ""
    """A part of the request's target."""
    times: int = 1
    clock: float = 0.0
    """Seconds that the store's clock is ahead of ours."""


@dataclass
class Proxy:
    """A running one."""

    upstream: str
    faults: list[Fault] = field(default_factory=list)
    ignored: tuple[str, ...] = ()
    """Headers, in lower case, that the server does not get."""
    on_request: Callable[[str, str], None] = lambda _method, _target: None
    on_body: Callable[[bytes], object] = lambda _body: None
    url: str = ""

    def __post_init__(self) -> None:
        self.seen: list[tuple[str, str, str]] = []
        """Method, target, and the fault's kind or the status."""
        self.headers: list[dict[str, str]] = []
        """Of the same requests; names in lower case."""
        self.over = Event()
        self._lock = Lock()

    def fault(self, method: str, target: str) -> Fault | None:
        """The one that this request gets."""
        with self._lock:
            for each in self.faults:
                if each.times and each.method == method and each.query in target:
                    each.times -= 1
                    return each
            return None

    @property
    def kinds(self) -> list[str]:
        return [kind for _, _, kind in self.seen]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: Proxy

    def _handle(self) -> None:
        proxy = self.proxy
        proxy.on_request(self.command, self.path)
        proxy.headers.append({name.lower(): value for name, value in self.headers.items()})
        fault = proxy.fault(self.command, self.path)
        length = int(self.headers.get("content-length", 0))
        if fault is not None:
            proxy.seen.append((self.command, self.path, fault.kind))
        if fault is not None and fault.kind == "cut":
            with suppress(OSError):
                self._forward(self.rfile.read(length // 2), length, answer=False)
            self._break()
            return
        body = self.rfile.read(length)
        proxy.on_body(body)
        if fault is not None and fault.kind in _STATUS:
            text = _ERROR.format(code=fault.kind).encode()
            self._answer(_STATUS[fault.kind], [("Date", formatdate(time() + fault.clock, usegmt=True))], text)
            return
        status, headers, data = self._forward(body, length)
        if fault is None:
            proxy.seen.append((self.command, self.path, str(status)))
        elif fault.kind == "lost":
            self._break()
            return
        elif fault.kind == "slow":
            proxy.over.wait(30)
        self._answer(status, headers, data, half=fault is not None and fault.kind == "half")

    def do_CONNECT(self) -> None:
        """Somebody takes us for a proxy to a place that is not there."""
        self.proxy.seen.append((self.command, self.path, "502"))
        self.send_error(502)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _handle  # noqa: N815 - http.server's names

    def _forward(
        self, body: bytes, length: int, *, answer: bool = True
    ) -> tuple[int, list[tuple[str, str]], bytes]:
        """Sends the request on; the status, headers and body of the answer."""
        address = urlsplit(self.proxy.upstream)
        upstream = HTTPConnection(address.hostname or "", address.port or 80, timeout=30)
        try:
            # with a whole URL we are the client's proxy
            target = self.path.removeprefix(f"http://{self.headers['host']}")
            upstream.putrequest(self.command, target, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in (*_HOP, *self.proxy.ignored):
                    upstream.putheader(name, value)
            if length or self.command in ("PUT", "POST"):
                upstream.putheader("Content-Length", str(length))
            upstream.endheaders(body or None)
            if not answer:
                return 0, [], b""
            response = upstream.getresponse()
            return response.status, response.getheaders(), response.read()
        finally:
            upstream.close()

    def _answer(
        self, status: int, headers: list[tuple[str, str]], body: bytes, *, half: bool = False
    ) -> None:
        with suppress(OSError):
            self.send_response_only(status)
            length = next((value for name, value in headers if name.lower() == "content-length"), None)
            for name, value in headers:
                if name.lower() not in _HOP:
                    self.send_header(name, value)
            self.send_header(
                "Content-Length", length if self.command == "HEAD" and length else str(len(body))
            )
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body[: len(body) // 2] if half else body)
        if half:
            self._break()

    def _break(self) -> None:
        """Resets the connection."""
        self.close_connection = True
        with suppress(OSError):
            self.wfile.flush()
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()

    def log_message(self, *_: Any) -> None:
        """Nothing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        """A client that has gone is no news here."""


@contextmanager
def faulty(upstream: str, context: SSLContext | None = None) -> Iterator[Proxy]:
    """Runs a proxy before the server `upstream`; with a context it speaks TLS."""
    proxy = Proxy(upstream)
    server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"proxy": proxy}))
    proxy.url = f"http://127.0.0.1:{server.server_address[1]}"
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        proxy.url = proxy.url.replace("http:", "https:")
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield proxy
    finally:
        proxy.over.set()
        server.shutdown()
        server.server_close()
        thread.join()
