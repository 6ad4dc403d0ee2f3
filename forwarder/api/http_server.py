"""An HTTP/1.1 server in one thread, for plugins: h11 reads and writes the protocol, an `Application` answers.

The thread serves all connections and never waits for one of them: a client that is slow, silent or talks
nonsense costs its own connection. What is bounded (`Limits`): the connections (the one that has been silent
for longest makes room for a new one), the head and the body of a request, all bodies together, the time that
a request and a response may take. The application runs in that thread.
"""

from __future__ import annotations

import selectors
import socket
import time
from collections import Counter
from http import HTTPStatus
from threading import Thread
from typing import TYPE_CHECKING, Any, Final

from forwarder.api.errors import ConfigError
from forwarder.api.http_message import Application, Head, Limits, Response
from forwarder.api.plugin import Plugin
from forwarder.api.shared_sections import Transport
from forwarder.api.sockets import DEFAULT_BACKLOG, Binding

if TYPE_CHECKING:
    import ssl

    import h11

READ_BYTES: Final = 65_536
ACCEPTS: Final = 32
"""New connections in a row before the others have their turn."""
STEPS: Final = 64
"""Reads, writes and events of one connection in a row."""
LINGER_SECONDS: Final = 2.0
"""How long what a client still sends is read and thrown away behind the last response, so that the response
arrives: unread bytes would have the kernel answer with a reset."""
FRESH_SECONDS: Final = 0.5
"""At the stop: how long a new connection may take to send its first request."""
LEAST_BYTES_PER_SECOND: Final = 1024
"""A body that comes more slowly is given up."""


class _Connection:
    """A connection: reading a request, writing a response, or lingering behind the last one."""

    __slots__ = (
        "body", "body_since", "deadline", "fresh", "handshake", "head", "lingering", "out", "peer",
        "protocol", "quiet_since", "socket",
    )  # fmt: skip

    def __init__(self, sock: socket.socket, peer: str, protocol: h11.Connection, *, handshake: bool) -> None:
        self.socket = sock
        self.peer = peer
        self.protocol = protocol
        self.handshake = handshake
        self.head: Head | None = None
        self.body = bytearray()
        self.body_since = 0.0
        self.out = memoryview(b"")
        self.lingering = False
        self.fresh = True
        self.quiet_since = time.monotonic()
        self.deadline = 0.0

    @property
    def idle(self) -> bool:
        """Whether nothing of a request has come and nothing is owed."""
        return not self.out and self.head is None and not self.protocol.trailing_data[0]


class Server:
    """Serves `application` on a port.

    Args:
        transport: `protocol tls` for HTTPS.

    Raises:
        OSError: the port cannot be had. ConfigError: the certificate cannot be used, h11 is missing.
    """

    def __init__(
        self, plugin: Plugin, application: Application, bind: str, port: int, *,
        limits: Limits, transport: Transport | None = None, backlog: int = DEFAULT_BACKLOG,
    ) -> None:  # fmt: skip
        try:
            import h11  # noqa: PLC0415 - only a configuration that serves HTTP pays for it
        except ImportError as error:
            raise ConfigError(f"an HTTP server needs the package h11: {error}") from error
        self._h11 = h11
        self._plugin = plugin
        self._application = application
        self._limits = limits
        self._certificates: Any = None
        if transport is not None and transport.protocol == "tls":
            from forwarder.api.tls_context import Certificates  # noqa: PLC0415 - ssl costs memory

            self._certificates = Certificates(plugin, transport)
        size = None if transport is None else transport.receive_buffer_size
        self._listener = plugin.context.bind(Binding("tcp", bind, port, backlog, size)).socket
        self.port = int(self._listener.getsockname()[1])
        """The bound port."""
        self.statuses: Counter[int] = Counter()
        """Responses so far, by status."""
        self._selector = selectors.DefaultSelector()
        self._waker, self._wake = socket.socketpair()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._wake, selectors.EVENT_READ)
        self._connections: set[_Connection] = set()
        self._more: set[_Connection] = set()
        self._bodies_bytes = 0
        self._first_end = float("inf")  # no connection's deadline is earlier
        self._stopping = False
        self._thread = Thread(target=self._run, name=f"http:{plugin.context.id}", daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Lets requests in progress come to their end, closes all connections, ends the thread."""
        self._stopping = True
        self._waker.send(b"x")
        self._thread.join()

    # ------------------------------------------------------------ the thread

    def _run(self) -> None:
        while not self._stopping:
            self._attempt_round()
        self._selector.unregister(self._wake)
        self._selector.unregister(self._listener)
        until = time.monotonic() + self._limits.stop_seconds
        fresh_until = until - self._limits.stop_seconds + FRESH_SECONDS
        if self._limits.stop_seconds and not self._plugin.context.keeping_sockets:
            self._accept()  # nobody else will
        self._more |= self._connections
        while self._connections and time.monotonic() < until:
            self._attempt_round(fresh_until if time.monotonic() < fresh_until else until)
            # a client that has just connected is about to send
            patient = time.monotonic() < fresh_until
            for connection in list(self._connections):
                if connection.lingering or (connection.idle and not (patient and connection.fresh)):
                    self._close(connection)
        for connection in list(self._connections):
            self._close(connection)
        self._selector.close()
        for each in (self._listener, self._waker, self._wake):
            each.close()

    def _attempt_round(self, until: float = float("inf")) -> None:
        try:
            self._round(until)
        except Exception as error:  # ours: the server goes on
            self._plugin.log_repeated("HTTP server failed", level="error", error=repr(error))
            time.sleep(0.1)

    def _round(self, until: float) -> None:
        more, self._more = self._more, set()
        next_end = min(self._first_end, until)
        wait = 0.0 if more else None if next_end == float("inf") else max(0.0, next_end - time.monotonic())
        for key, _ in self._selector.select(wait):
            if key.fileobj is self._listener:
                self._accept()
            elif isinstance(key.data, _Connection):
                more.add(key.data)
        for connection in more & self._connections:
            if connection in self._connections:  # not closed by one before it
                self._serve(connection)
        now = time.monotonic()
        if now >= self._first_end:
            for connection in [each for each in self._connections if each.deadline <= now]:
                self._close(connection)
            self._first_end = min((each.deadline for each in self._connections), default=float("inf"))

    def _end_at(self, connection: _Connection, deadline: float) -> None:
        connection.deadline = deadline
        self._first_end = min(self._first_end, deadline)

    def _accept(self) -> None:
        for _ in range(ACCEPTS):
            try:
                sock, address = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:  # out of descriptors
                self._plugin.log_repeated("cannot accept a connection", error=str(error))
                if not self._make_room():
                    time.sleep(0.1)
                return
            while len(self._connections) >= self._limits.connections:
                self._make_room()
            try:
                self._admit(sock, str(address[0]).partition("%")[0])
            except OSError:
                sock.close()

    def _make_room(self) -> bool:
        """Closes the connection that has been silent for longest."""
        if not self._connections:
            return False
        self._close(min(self._connections, key=lambda each: each.quiet_since))
        return True

    def _admit(self, sock: socket.socket, peer: str) -> None:
        sock.setblocking(False)
        if self._certificates is not None:
            context: ssl.SSLContext = self._certificates.context()
            sock = context.wrap_socket(
                sock, server_side=True, do_handshake_on_connect=False, suppress_ragged_eofs=True
            )
        protocol = self._h11.Connection(self._h11.SERVER, max_incomplete_event_size=self._limits.head_bytes)
        connection = _Connection(sock, peer, protocol, handshake=self._certificates is not None)
        self._end_at(connection, connection.quiet_since + self._limits.request_seconds)
        self._connections.add(connection)
        self._selector.register(sock, selectors.EVENT_READ, connection)
        self._serve(connection)  # mostly the request is there already

    def _serve(self, connection: _Connection) -> None:
        """Goes on with a connection as far as it goes without waiting, for a while."""
        try:
            if connection.handshake:
                connection.socket.do_handshake()  # type: ignore[attr-defined]
                connection.handshake = False
            for _ in range(STEPS):
                if connection.out:
                    self._send(connection)
                elif connection.lingering:
                    if not connection.socket.recv(READ_BYTES):
                        self._close(connection)
                else:
                    self._advance(connection)
                if connection not in self._connections:
                    return
            self._more.add(connection)  # the others have their turn first
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

    # ------------------------------------------------------------ reading

    def _advance(self, connection: _Connection) -> None:
        """Takes the protocol's next event, or reads once."""
        h11, protocol = self._h11, connection.protocol
        try:
            event = protocol.next_event()
            if event is h11.NEED_DATA:
                self._read(connection)
            elif isinstance(event, h11.Request):
                self._begin(connection, event)
            elif isinstance(event, h11.Data):
                self._collect(connection, event.data)
            elif isinstance(event, h11.EndOfMessage):
                self._complete(connection)
            else:
                self._close(connection)
        except h11.RemoteProtocolError as error:
            if protocol.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
                self._close(connection)
                return
            self._respond(connection, Response(error.error_status_hint, b"this is no request\n", close=True))

    def _read(self, connection: _Connection) -> None:
        data = connection.socket.recv(READ_BYTES)
        now = time.monotonic()
        if connection.head is None:
            if not connection.protocol.trailing_data[0]:  # a request's first bytes
                self._end_at(connection, now + self._limits.request_seconds)
        else:
            slowest = connection.body_since + len(connection.body) / LEAST_BYTES_PER_SECOND
            self._end_at(connection, min(now, slowest) + self._limits.request_seconds)
        connection.protocol.receive_data(data)

    def _begin(self, connection: _Connection, event: h11.Request) -> None:
        headers = tuple(event.headers)
        head = Head(event.method.decode("ascii"), event.target.decode("ascii"), headers, connection.peer)
        connection.head = head
        connection.fresh = False
        connection.body_since = time.monotonic()
        names = {name for name, _ in headers}
        has_body = b"content-length" in names or b"transfer-encoding" in names
        refusal = self._judge(head, has_body)
        if refusal is not None:
            if not has_body:
                connection.protocol.next_event()  # the end of the request
            self._respond(connection, refusal)
        elif connection.protocol.they_are_waiting_for_100_continue:
            go_on = self._h11.InformationalResponse(status_code=100, headers=[], reason="Continue")
            connection.out = memoryview(connection.protocol.send(go_on) or b"")

    def _judge(self, head: Head, has_body: bool) -> Response | None:
        """An answer that makes the body needless."""
        expected = head.header(b"expect")
        if expected is not None and expected.lower() != "100-continue":
            return Response(417, b"", close=True)
        refusal = self._application.judge(head)
        if refusal is not None:
            return refusal._replace(close=refusal.close or has_body)
        if has_body and not self._limits.body_bytes:
            return self._answer(head, b"")._replace(close=True)
        # h11 has checked that it is a number
        if int(head.header(b"content-length") or 0) > self._limits.body_bytes:
            return _TOO_LARGE
        return None

    def _collect(self, connection: _Connection, data: bytes | bytearray) -> None:
        if len(connection.body) + len(data) > self._limits.body_bytes:
            self._respond(connection, _TOO_LARGE)
        elif self._bodies_bytes + len(data) > self._limits.bodies_bytes:
            self._respond(connection, _BUSY)
        else:
            connection.body += data
            self._bodies_bytes += len(data)

    def _complete(self, connection: _Connection) -> None:
        if connection.head is not None:
            body = bytes(connection.body)
            self._drop_body(connection)
            self._respond(connection, self._answer(connection.head, body))

    def _answer(self, head: Head, body: bytes) -> Response:
        try:
            return self._application.answer(head, body)
        except Exception as error:
            self._plugin.log_repeated("cannot answer", level="error", target=head.target, error=repr(error))
            self._plugin.log.debug("the error", exc_info=error)
            return Response(500, f"{type(error).__name__}\n".encode())

    def _drop_body(self, connection: _Connection) -> None:
        self._bodies_bytes -= len(connection.body)
        connection.body = bytearray()

    # ------------------------------------------------------------ writing

    def _respond(self, connection: _Connection, response: Response) -> None:
        h11, protocol = self._h11, connection.protocol
        self._drop_body(connection)
        self.statuses[response.status] += 1
        headers = [*response.headers, ("Content-Type", response.content_type)]
        if response.status != HTTPStatus.NO_CONTENT:
            headers.append(("Content-Length", str(len(response.body))))
        if response.close or self._stopping:
            headers.append(("Connection", "close"))
        reason = HTTPStatus(response.status).phrase
        out = protocol.send(h11.Response(status_code=response.status, headers=headers, reason=reason)) or b""
        if connection.head is None or connection.head.method != "HEAD":
            out += protocol.send(h11.Data(data=response.body)) or b""
        out += protocol.send(h11.EndOfMessage()) or b""
        connection.out = memoryview(out)
        connection.head = None
        connection.quiet_since = time.monotonic()
        self._end_at(connection, connection.quiet_since + self._limits.response_seconds)

    def _send(self, connection: _Connection) -> None:
        while connection.out:
            sent = connection.socket.send(connection.out)
            connection.out = connection.out[sent:]
        self._want(connection, selectors.EVENT_READ)
        protocol = connection.protocol
        connection.quiet_since = time.monotonic()
        if protocol.our_state is self._h11.SEND_RESPONSE:
            return  # 100 Continue: the body is still to come
        if protocol.our_state is self._h11.DONE and protocol.their_state is self._h11.DONE:
            protocol.start_next_cycle()
            self._end_at(connection, connection.quiet_since + self._limits.idle_seconds)
        else:
            connection.socket.shutdown(socket.SHUT_WR)
            connection.lingering = True
            self._end_at(connection, connection.quiet_since + LINGER_SECONDS)

    def _close(self, connection: _Connection) -> None:
        self._drop_body(connection)
        self._connections.discard(connection)
        self._selector.unregister(connection.socket)
        connection.socket.close()


_TOO_LARGE: Final = Response(413, b"Too large", "text/plain", close=True)
_BUSY: Final = Response(503, b"too many bodies at a time\n", headers=(("Retry-After", "1"),), close=True)
