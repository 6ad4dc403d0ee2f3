"""The forward protocol over TLS: as the native `ForwardServer`, on top of Python's `ssl`."""

from __future__ import annotations

import selectors
import ssl
import time
from typing import Any, Final

from forwarder._native import ForwardFeeder, ForwardRules, Intake
from forwarder.api.plugin import Input
from forwarder.api.shared_sections import Transport
from forwarder.api.tls import LINGER_SECONDS, TARGET, Connection, TlsServer

HELLO_SECONDS: Final = 30.0
"""A client that has not passed the forward protocol's handshake by then is disconnected."""
_STOP_SECONDS: Final = 1.0


class ForwardTlsServer(TlsServer):
    """Receives events over TLS; one thread serves all connections.

    Raises:
        OSError: the port cannot be had. ConfigError: the certificate cannot be used.
    """

    def __init__(
        self,
        plugin: Input,
        rules: ForwardRules,
        transport: Transport,
        bind: str,
        port: int,
        *,
        deny_keepalive: bool = False,
        **options: Any,
    ) -> None:
        self._forward = ForwardFeeder(rules, deny_keepalive=deny_keepalive)
        self._by_token: dict[int, Connection] = {}
        self._greeted: dict[Connection, float] = {}
        self._ended: set[Connection] = set()
        super().__init__(plugin, self._forward, transport, bind, port, **options)
        self._drained = False

    def acknowledge(self) -> None:
        """What `next` gave last is safe: senders that asked for it get an acknowledgement."""
        for token in self._forward.acknowledge():
            connection = self._by_token.get(token)
            if connection is not None:
                self._write(connection)

    def next(self, max_wait_ms: int) -> Intake | None:
        """What has come, waiting at most so long for it; None: nothing."""
        if self._finished:
            return None
        if self._stopping and not self._drained:
            self._read_rest()
            self._drained = True
        elif not self._stopping and not self._forward.urgent:
            self._gather(max_wait_ms)
        intake = self._forward.take()
        self._close_ended()
        if intake is None and self._drained:
            for connection in list(self._connections):
                self._close(connection)
            self._shut()
        return intake

    def _gather(self, max_wait_ms: int) -> None:
        until = time.monotonic() + max_wait_ms / 1000
        gathered = self._news = False
        while not self._stopping:
            wait = until - time.monotonic()
            # what is owed must not wait; what more there is now is taken along
            self._round(0.0 if self._unread or self._forward.urgent else max(0.0, wait))
            self._look_at_greeted()
            count = self._forward.count
            if self._forward.urgent and not self._unread:
                return
            if count >= TARGET or self._news or time.monotonic() >= until:
                return
            if count and not gathered:
                gathered = True
                until = time.monotonic() + LINGER_SECONDS

    def _open(self, host: str, port: int) -> Any:
        return self._forward.connect(host, port)

    def _established(self, connection: Connection) -> None:
        self._by_token[connection.fed.token] = connection
        if not self._forward.established(connection.fed):
            self._greeted[connection] = time.monotonic() + HELLO_SECONDS
        self._write(connection)

    def _fed(self, connection: Connection, *, more: bool) -> bool:
        if connection in self._greeted and self._forward.established(connection.fed):
            del self._greeted[connection]
        connection.ended |= not more
        self._write(connection)
        return more and connection in self._connections

    def _serve(self, connection: Connection, reads: int = 8) -> bool:
        if connection not in self._connections:
            return False
        if connection.out:
            self._write(connection)
        if connection.ended or connection not in self._connections:
            return False
        return super()._serve(connection, reads)

    def _end_of_stream(self, connection: Connection) -> None:
        # the peer may have closed only its own direction, and still wait for acknowledgements
        connection.ended = True
        self._write(connection)

    def _close(self, connection: Connection) -> None:
        if connection not in self._connections:
            return
        self._ended.discard(connection)
        self._by_token.pop(connection.fed.token, None)
        self._greeted.pop(connection, None)
        super()._close(connection)

    def _write(self, connection: Connection) -> None:
        """Sends what it can, watches for room for the rest, and closes what is done."""
        out = connection.out + self._forward.outgoing(connection.fed)
        try:
            while out:
                out = out[connection.socket.send(out) :]
        except (ssl.SSLWantWriteError, ssl.SSLWantReadError):
            pass
        except OSError:
            self._close(connection)
            return
        connection.out = out
        if connection.ended:
            self._ended.add(connection)
            if not out and not self._forward.owed(connection.fed):
                self._close(connection)
                return
        events = 0 if connection.ended else selectors.EVENT_READ
        self._watch(connection, events | (selectors.EVENT_WRITE if out else 0))

    def _watch(self, connection: Connection, events: int) -> None:
        key = self._selector.get_map().get(connection.socket)
        if key is None:
            if events:
                self._selector.register(connection.socket, events, connection)
        elif not events:
            self._selector.unregister(connection.socket)
        elif key.events != events:
            self._selector.modify(connection.socket, events, connection)

    def _close_ended(self) -> None:
        """Those whose acknowledgements will not come: their events were not taken."""
        for connection in list(self._ended):
            self._write(connection)

    def _look_at_greeted(self) -> None:
        now = time.monotonic()
        for connection in [each for each, until in self._greeted.items() if until < now]:
            self._notice("handshake_timeout", connection.peer)
            self._close(connection)

    def _read_rest(self) -> None:
        """Reads what was received, for at most a second; the connections stay, for acknowledgements."""
        deadline = time.monotonic() + _STOP_SECONDS
        for connection in list(self._connections):
            while connection.deadline is None and self._serve(connection) and time.monotonic() < deadline:
                pass
            if connection in self._connections:
                self._end_of_stream(connection)
