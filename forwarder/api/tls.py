"""A TLS server for inputs: Python's `ssl` does the cryptography, native code frames and parses."""

from __future__ import annotations

import contextlib
import selectors
import socket
import ssl
import time
from collections.abc import Sequence
from typing import Any, Final, Protocol

from forwarder._native import Intake, MemoryLoan, network_contains
from forwarder.api.plugin import Input
from forwarder.api.server import listening
from forwarder.api.shared_sections import Transport
from forwarder.api.tls_context import Certificates

HANDSHAKE_SECONDS: Final = 10.0
"""A connection that has not finished its handshake by then is closed."""
READ_BYTES: Final = 65_536
READS: Final = 8
"""Reads of one connection in a row."""
TARGET: Final = 2048
"""Events at which a batch is handed on."""
LINGER_SECONDS: Final = 0.02
"""Longest time that an event waits for others."""
BUSY: Final = 200
"""Events of one round from which on there is no pause: the senders keep us busy."""


class Feeder(Protocol):
    """What takes the bytes that were read: the native `StreamFeeder` and `ForwardFeeder`."""

    def connect(self, address: str) -> Any:
        """A new connection from an IP address."""

    def feed(self, connection: Any, data: bytes) -> bool:
        """Takes what was read. False: nothing more must be read."""

    def finish(self, connection: Any) -> None:
        """The connection's end."""

    def notice(self, what: str, sample: bytes) -> None:
        """Books "denied", "tls_error" or "connection_limit" for the log."""

    def lend(self, loan: MemoryLoan) -> None:
        """Unfinished messages are borrowed from here on."""

    @property
    def count(self) -> int:
        """Events and failures gathered so far."""

    def take(self) -> Intake | None:
        """What was gathered since the last call."""


class Connection:
    """One connection."""

    __slots__ = ("deadline", "ended", "fed", "out", "peer", "socket")

    def __init__(self, sock: ssl.SSLSocket, fed: Any, peer: str) -> None:
        self.socket = sock
        self.fed = fed
        self.peer = peer
        self.out = b""
        self.ended = False
        self.deadline: float | None = time.monotonic() + HANDSHAKE_SECONDS  # None: handshake done


class TlsServer:
    """Receives messages over TLS; one thread serves all connections.

    `next`, `stop`, `finished` as the native `StreamServer`: not calling `next` is back-pressure.

    Raises:
        OSError: the port cannot be had. ConfigError: the certificate cannot be used.
    """

    def __init__(
        self,
        plugin: Input,
        feeder: Feeder,
        transport: Transport,
        bind: str,
        port: int,
        *,
        keepalive: bool = False,
        allow: Sequence[str] | None = None,
        max_connections: int = 1024,
        reuse_port: bool = False,
        linger_timeout: int | None = None,
        backlog: int | None = None,
    ) -> None:
        self._feeder = feeder
        self._certificates = Certificates(plugin, transport)
        self._linger = transport.linger_timeout if linger_timeout is None else linger_timeout
        self._keepalive = keepalive
        self._allow = allow
        self._max_connections = max_connections
        self._listener = listening(plugin, transport, bind, port, reuse_port=reuse_port, backlog=backlog)
        self._selector = selectors.DefaultSelector()
        self._waker, self._wake = socket.socketpair()
        self._wake.setblocking(False)
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._wake, selectors.EVENT_READ)
        self._connections: set[Connection] = set()
        self._unread: set[Connection] = set()
        self._look_again = 0.0
        self._paused = False
        self._news = False  # something for the log, which does not wait for events
        self._stopping = False
        self._finished = False

    @property
    def port(self) -> int:
        """The bound port."""
        return int(self._listener.getsockname()[1])

    @property
    def finished(self) -> bool:
        """Whether everything was given after a stop."""
        return self._finished

    def stop(self, *, keep: bool = False) -> None:
        """From any thread: `next` gives what was received, then closes everything. `keep`: who waits to be
        accepted is left to another process, as it always is."""
        self._stopping = True
        self._waker.send(b"x")

    def lend(self, loan: MemoryLoan) -> None:
        """Unfinished messages are borrowed from here on."""
        self._feeder.lend(loan)

    def next(self, max_wait_ms: int) -> Intake | None:
        """What has come, waiting at most so long for it; None: nothing."""
        if self._finished:
            return None
        if self._stopping:
            self._drain()
            self._shut()
        else:
            self._gather(max_wait_ms)
        return self._feeder.take()

    def _gather(self, max_wait_ms: int) -> None:
        until = time.monotonic() + max_wait_ms / 1000
        gathered = self._news = False
        while not self._stopping:
            self._round(0.0 if self._unread else max(0.0, until - time.monotonic()))
            count = self._feeder.count
            if count >= TARGET or time.monotonic() >= until or (gathered and count < BUSY) or self._news:
                break
            if count and not gathered:
                gathered = True
                until = time.monotonic() + LINGER_SECONDS
                if count < BUSY and not self._unread:
                    time.sleep(LINGER_SECONDS)

    def _round(self, wait_seconds: float) -> None:
        # handshakes that hang are looked at once in `wait_seconds`, at most a second
        ready = self._selector.select(wait_seconds)
        unread, self._unread = self._unread, set()
        for key, _ in ready:
            if key.fileobj is self._listener:
                self._accept()
            elif isinstance(key.data, Connection):
                unread.add(key.data)
        for connection in unread:
            self._serve(connection)
        now = time.monotonic()
        if now >= self._look_again:
            self._look_again = now + min(1.0, HANDSHAKE_SECONDS)
            for connection in [each for each in self._connections if each.deadline and each.deadline < now]:
                self._fail(connection, "handshake took too long")
        if self._paused and len(self._connections) < self._max_connections:
            self._paused = False
            self._selector.register(self._listener, selectors.EVENT_READ)

    def _accept(self) -> None:
        while True:
            if len(self._connections) >= self._max_connections:
                self._pause(f"{self._max_connections} are open")
                return
            try:
                plain, address = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:  # out of descriptors
                self._pause(str(error))
                return
            host = str(address[0]).split("%")[0]
            if self._allow is not None and not any(network_contains(each, host) for each in self._allow):
                self._notice("denied", host)
                plain.close()
                continue
            try:
                self._admit(plain, host, int(address[1]))
            except OSError as error:
                self._notice("tls_error", f"{host}: {error}")
                plain.close()

    def _admit(self, plain: socket.socket, host: str, port: int) -> None:
        plain.setblocking(False)
        linger = self._linger.to_bytes(4, "little")
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0" + linger)
        if self._keepalive:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        wrapped = self._certificates.context().wrap_socket(
            plain, server_side=True, do_handshake_on_connect=False, suppress_ragged_eofs=True
        )
        peer = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        connection = Connection(wrapped, self._open(host, port), peer)
        self._connections.add(connection)
        self._selector.register(wrapped, selectors.EVENT_READ, connection)

    def _open(self, host: str, port: int) -> Any:
        """The feeder's side of a new connection."""
        return self._feeder.connect(host)

    def _established(self, connection: Connection) -> None:
        """The TLS handshake is over."""

    def _end_of_stream(self, connection: Connection) -> None:
        """The peer sends no more."""
        self._close(connection)

    def _fed(self, connection: Connection, *, more: bool) -> bool:
        """Something was fed; with `more` the feeder takes more. False: nothing more is read."""
        if not more:
            self._close(connection)
        return more

    def _notice(self, what: str, sample: str) -> None:
        self._feeder.notice(what, sample.encode())
        self._news = True

    def _pause(self, why: str) -> None:
        self._notice("connection_limit", why)
        self._selector.unregister(self._listener)
        self._paused = True

    def _serve(self, connection: Connection, reads: int = READS) -> bool:
        """Goes on with a connection; whether there may be more to read at once."""
        sock = connection.socket
        try:
            if connection.deadline is not None:
                sock.do_handshake()
                connection.deadline = None
                self._selector.modify(sock, selectors.EVENT_READ, connection)
                self._established(connection)
            for _ in range(reads):
                data = sock.recv(READ_BYTES)
                if not data:
                    self._end_of_stream(connection)
                    return False
                if not self._fed(connection, more=self._feeder.feed(connection.fed, data)):
                    return False
        except ssl.SSLWantReadError:
            return False
        except ssl.SSLWantWriteError:
            self._selector.modify(sock, selectors.EVENT_READ | selectors.EVENT_WRITE, connection)
            return False
        except (ssl.SSLError, OSError) as error:
            if connection.deadline is None and not isinstance(error, ssl.SSLError):
                self._close(connection)  # reset by the peer
            else:
                self._fail(connection, str(error))
            return False
        # OpenSSL may hold decrypted bytes that no selector sees
        self._unread.add(connection)
        return True

    def _fail(self, connection: Connection, why: str) -> None:
        self._notice("tls_error", f"{connection.peer}: {why}")
        self._close(connection)

    def _close(self, connection: Connection) -> None:
        self._connections.discard(connection)
        self._unread.discard(connection)
        with contextlib.suppress(KeyError):  # a server may have stopped watching it before
            self._selector.unregister(connection.socket)
        self._feeder.finish(connection.fed)
        connection.socket.close()

    def _drain(self) -> None:
        """Reads what was received, for at most a second, and closes the connections."""
        deadline = time.monotonic() + 1.0
        for connection in list(self._connections):
            while connection.deadline is None and self._serve(connection):
                if time.monotonic() >= deadline:
                    break
            if connection in self._connections:
                self._close(connection)

    def _shut(self) -> None:
        """Nothing is open any more."""
        self._listener.close()
        self._selector.close()
        self._wake.close()
        self._waker.close()
        self._finished = True
