"""A small HTTP/1.1 server for inputs that answer probes and scrapes: GET and HEAD, nothing else.

One thread serves all connections and never waits for one of them: a client that is slow, silent or talks
nonsense costs its own connection. h11 reads and writes the protocol. What is bounded: the connections (the
one that has been silent for longest makes room for a new one), the head of a request, the time that a
request and a response may take. Handlers run in that thread and should be quick.
"""

from __future__ import annotations

import selectors
import socket
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from threading import Thread
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

from forwarder.api.errors import ConfigError
from forwarder.api.plugin import Plugin
from forwarder.api.shared_sections import Transport
from forwarder.api.sockets import Binding

if TYPE_CHECKING:
    import ssl

    import h11

MAX_CONNECTIONS: Final = 64
MAX_HEAD_BYTES: Final = 16_384
REQUEST_SECONDS: Final = 5.0
"""From a connection's or a request's first byte until the request is there, TLS handshake included."""
IDLE_SECONDS: Final = 75.0
"""How long a connection may stay open between two requests."""
RESPONSE_SECONDS: Final = 30.0
READ_BYTES: Final = 16_384
ACCEPTS: Final = 32
"""New connections in a row before the others have their turn."""


class Request(NamedTuple):
    """What was asked for."""

    path: str
    query: Mapping[str, list[str]]
    headers: Mapping[str, str]
    """By lower-case name."""


class Response(NamedTuple):
    """The answer."""

    status: int
    body: bytes
    content_type: str = "text/plain; charset=utf-8"
    headers: tuple[tuple[str, str], ...] = ()


Handler = Callable[[Request], Response]


class _Connection:
    """A connection: reading a request, or writing a response."""

    __slots__ = ("deadline", "handshake", "out", "protocol", "quiet_since", "socket")

    def __init__(self, sock: socket.socket, protocol: h11.Connection, *, handshake: bool) -> None:
        self.socket = sock
        self.protocol = protocol
        self.handshake = handshake
        self.out = memoryview(b"")
        self.quiet_since = time.monotonic()
        self.deadline = self.quiet_since + REQUEST_SECONDS


class HttpServer:
    """Answers requests by path.

    Args:
        routes: handlers by path. not_found: answers all other paths. transport: `protocol tls` for HTTPS.

    Raises:
        OSError: the port cannot be had. ConfigError: the certificate cannot be used, h11 is missing.
    """

    def __init__(
        self, plugin: Plugin, bind: str, port: int, routes: Mapping[str, Handler], *,
        not_found: Response | None = None, transport: Transport | None = None,
    ) -> None:  # fmt: skip
        try:
            import h11  # noqa: PLC0415 - only a configuration that serves HTTP pays for it
        except ImportError as error:
            raise ConfigError(f"an HTTP server needs the package h11: {error}") from error
        self._h11 = h11
        self._plugin = plugin
        self._routes = routes
        self._not_found = not_found or Response(404, b"not found\n")
        self._certificates: Any = None
        if transport is not None and transport.protocol == "tls":
            from forwarder.api.tls import Certificates  # noqa: PLC0415 - ssl costs memory

            self._certificates = Certificates(plugin, transport)
        self._listener = plugin.context.bind(Binding("tcp", bind, port)).socket
        self.port = int(self._listener.getsockname()[1])
        """The bound port."""
        self._selector = selectors.DefaultSelector()
        self._waker, self._wake = socket.socketpair()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._wake, selectors.EVENT_READ)
        self._connections: set[_Connection] = set()
        self._more: set[_Connection] = set()
        self._stopping = False
        self._thread = Thread(target=self._run, name=f"http:{plugin.context.id}", daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Closes all connections and ends the thread."""
        self._stopping = True
        self._waker.send(b"x")
        self._thread.join(REQUEST_SECONDS)

    # ------------------------------------------------------------ the thread

    def _run(self) -> None:
        while not self._stopping:
            try:
                self._round()
            except Exception as error:  # ours: the server goes on
                self._plugin.log_repeated("HTTP server failed", level="error", error=repr(error))
                time.sleep(0.1)
        for connection in list(self._connections):
            self._close(connection)
        self._selector.close()
        for each in (self._listener, self._waker, self._wake):
            each.close()

    def _round(self) -> None:
        more, self._more = self._more, set()
        next_end = min((connection.deadline for connection in self._connections), default=None)
        wait = 0.0 if more else None if next_end is None else max(0.0, next_end - time.monotonic())
        for key, _ in self._selector.select(wait):
            if key.fileobj is self._listener:
                self._accept()
            elif isinstance(key.data, _Connection):
                more.add(key.data)
        for connection in more & self._connections:
            if connection in self._connections:  # not closed by one before it
                self._serve(connection)
        now = time.monotonic()
        for connection in [each for each in self._connections if each.deadline <= now]:
            self._close(connection)

    def _accept(self) -> None:
        for _ in range(ACCEPTS):
            try:
                sock, _ = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:  # out of descriptors
                self._plugin.log_repeated("cannot accept a connection", error=str(error))
                if not self._make_room():
                    time.sleep(0.1)
                return
            while len(self._connections) >= MAX_CONNECTIONS:
                self._make_room()
            try:
                self._admit(sock)
            except OSError:
                sock.close()

    def _make_room(self) -> bool:
        """Closes the connection that has been silent for longest."""
        if not self._connections:
            return False
        self._close(min(self._connections, key=lambda each: each.quiet_since))
        return True

    def _admit(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        if self._certificates is not None:
            context: ssl.SSLContext = self._certificates.context()
            sock = context.wrap_socket(
                sock, server_side=True, do_handshake_on_connect=False, suppress_ragged_eofs=True
            )
        protocol = self._h11.Connection(self._h11.SERVER, max_incomplete_event_size=MAX_HEAD_BYTES)
        connection = _Connection(sock, protocol, handshake=self._certificates is not None)
        self._connections.add(connection)
        self._selector.register(sock, selectors.EVENT_READ, connection)
        self._serve(connection)  # mostly the request is there already

    def _serve(self, connection: _Connection) -> None:
        """Goes on with a connection as far as it goes without waiting."""
        try:
            if connection.handshake:
                connection.socket.do_handshake()  # type: ignore[attr-defined]
                connection.handshake = False
            if self._send(connection) and self._receive(connection) and self._send(connection):
                # there may be a further request: after the others had their turn
                self._more.add(connection)
        except BlockingIOError:
            self._want(connection, selectors.EVENT_WRITE if connection.out else selectors.EVENT_READ)
        except OSError as error:
            # ssl's wants are OSErrors by name only where ssl is loaded
            wants = type(error).__name__
            if wants == "SSLWantReadError":
                self._want(connection, selectors.EVENT_READ)
            elif wants == "SSLWantWriteError":
                self._want(connection, selectors.EVENT_WRITE)
            else:
                self._close(connection)

    def _want(self, connection: _Connection, events: int) -> None:
        self._selector.modify(connection.socket, events, connection)

    def _send(self, connection: _Connection) -> bool:
        """Sends what is to be sent; False: the connection is closed."""
        if not connection.out:
            return True
        while connection.out:
            sent = connection.socket.send(connection.out)
            connection.out = connection.out[sent:]
        protocol = connection.protocol
        if protocol.our_state is not self._h11.DONE or protocol.their_state is not self._h11.DONE:
            self._finish(connection)
            return False
        protocol.start_next_cycle()
        connection.quiet_since = time.monotonic()
        connection.deadline = connection.quiet_since + IDLE_SECONDS
        return True

    def _receive(self, connection: _Connection) -> bool:
        """Reads on until there is a response to send; False: the connection is closed."""
        h11 = self._h11
        protocol = connection.protocol
        try:
            while True:
                event = protocol.next_event()
                if event is h11.NEED_DATA:
                    data = connection.socket.recv(READ_BYTES)
                    if protocol.their_state is h11.IDLE and not protocol.trailing_data[0]:
                        connection.deadline = time.monotonic() + REQUEST_SECONDS
                    protocol.receive_data(data)
                elif isinstance(event, h11.Request):
                    self._answer(connection, event)
                    return True
                elif isinstance(event, h11.ConnectionClosed) or event is h11.PAUSED:
                    break
        except h11.RemoteProtocolError as error:
            if protocol.our_state in (h11.IDLE, h11.SEND_RESPONSE):
                response = Response(error.error_status_hint, b"this is no request\n")
                self._respond(connection, response, head=False, close=True)
                return True
        self._close(connection)
        return False

    def _answer(self, connection: _Connection, event: h11.Request) -> None:
        method = event.method.decode("ascii")
        # a body is not read: the connection ends with the response
        body = any(name in (b"content-length", b"transfer-encoding") for name, _ in event.headers)
        if method not in ("GET", "HEAD"):
            response = Response(405, b"only GET and HEAD\n", headers=(("Allow", "GET, HEAD"),))
        else:
            response = self._handle(event)
        if not body:
            connection.protocol.next_event()  # the end of the request
        self._respond(connection, response, head=method == "HEAD", close=body)

    def _handle(self, event: h11.Request) -> Response:
        try:
            target = urlsplit(event.target.decode("ascii"))
            query = parse_qs(target.query, keep_blank_values=True, max_num_fields=100)
            path = unquote(target.path)
        except ValueError as error:
            return Response(400, f"{error}\n".encode())
        handler = self._routes.get(path)
        if handler is None:
            return self._not_found
        headers = {name.decode("ascii"): value.decode("latin-1") for name, value in event.headers}
        try:
            return handler(Request(path, query, headers))
        except Exception as error:
            self._plugin.log_repeated("cannot answer", level="error", path=path, error=repr(error))
            self._plugin.log.debug("the error", exc_info=error)
            return Response(500, f"{type(error).__name__}\n".encode())

    def _respond(self, connection: _Connection, response: Response, *, head: bool, close: bool) -> None:
        h11, protocol = self._h11, connection.protocol
        headers = [
            ("Content-Type", response.content_type),
            ("Content-Length", str(len(response.body))),
            *response.headers,
        ]
        if close:
            headers.append(("Connection", "close"))
        reason = HTTPStatus(response.status).phrase
        out = protocol.send(h11.Response(status_code=response.status, headers=headers, reason=reason)) or b""
        if not head:
            out += protocol.send(h11.Data(data=response.body)) or b""
        out += protocol.send(h11.EndOfMessage()) or b""
        connection.out = memoryview(out)
        connection.quiet_since = time.monotonic()
        connection.deadline = connection.quiet_since + RESPONSE_SECONDS

    def _finish(self, connection: _Connection) -> None:
        """Closes a connection behind its response, so that the response arrives: unread bytes of the peer
        would have the kernel answer with a reset."""
        try:
            connection.socket.shutdown(socket.SHUT_WR)
            for _ in range(ACCEPTS):
                if not connection.socket.recv(READ_BYTES):
                    break
        except OSError:
            pass
        self._close(connection)

    def _close(self, connection: _Connection) -> None:
        self._connections.discard(connection)
        self._selector.unregister(connection.socket)
        connection.socket.close()
