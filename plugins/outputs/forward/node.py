"""One server: its address, its connections, and whether it is available."""

from __future__ import annotations

import ipaddress
import random
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from logging import Logger, LoggerAdapter
from threading import Lock
from typing import TYPE_CHECKING

from forwarder.api.forward_client import Connection, Credentials, ForwardError, Link, connect
from forwarder.plugins.outputs.forward.failure import FailureDetector
from forwarder.plugins.outputs.forward.sections import Service

if TYPE_CHECKING:
    from forwarder.api.tls_client import ClientTls


@dataclass(frozen=True, slots=True)
class Settings:
    """What all servers of an output have in common. Times in seconds."""

    link: Link
    tls: ClientTls | None = None
    self_hostname: str | None = None
    """Set where the servers ask who we are."""
    shared_key: str = ""
    detects: bool = True
    """Whether failures are detected; else every server counts as available."""
    heartbeat_interval: float = 1.0
    hard_timeout: float = 60.0
    phi_threshold: float | None = 16
    """None: only `hard_timeout` counts."""
    recover_samples: float = 10
    """Signs of life that a server needs before it counts as available again."""
    keepalive: bool = False
    keepalive_timeout: float | None = None
    dns_round_robin: bool = False
    expire_dns_cache: float | None = None
    """How long an address is kept; None: until the server fails."""


class Node:
    """A server. Thread-safe."""

    def __init__(
        self,
        service: Service,
        settings: Settings,
        log: LoggerAdapter[Logger],
        changed: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`changed` is called when the server becomes available or not."""
        self.service = service
        self.name = service.name or f"{service.host}:{service.port}"
        self.weight = service.weight
        self.standby = service.standby
        self._settings = settings
        self._log = log
        self._changed = changed
        self._clock = clock
        self._certificate_name = service.name if _is_address(service.host) else service.host
        self._credentials: Credentials | None = None
        if settings.self_hostname is not None:
            key = settings.shared_key if service.shared_key is None else service.shared_key
            self._credentials = Credentials(settings.self_hostname, key, service.username, service.password)
        self._lock = Lock()
        self._available = True
        self._failure = FailureDetector(settings.heartbeat_interval, settings.hard_timeout, clock())
        self._address: str | None = None
        self._resolved_at = 0.0
        self._idle: list[tuple[Connection, float]] = []
        self._closed = False

    # ------------------------------------------------------------ availability

    @property
    def available(self) -> bool:
        """Whether it gets chunks."""
        return self._available or not self._settings.detects

    def disable(self, why: str) -> None:
        """It has failed: no chunks until it recovers."""
        if not self._settings.detects:
            return
        with self._lock:
            was, self._available = self._available, False
            self._address = None
        if was:
            self._log.warning("forwarding server is not available", server=self.name, reason=why)
            self._changed()

    def alive(self, *, recovers: bool) -> None:
        """Books a sign of life; `recovers`: enough of them make it available again."""
        with self._lock:
            self._failure.add(self._clock())
            back = recovers and not self._available and self._failure.samples > self._settings.recover_samples
            if back:
                self._available = True
        if back:
            self._log.warning("recovered forwarding server", server=self.name)
            self._changed()

    def tick(self) -> None:
        """Looks whether it has been silent for too long; called once per heartbeat interval."""
        now = self._clock()
        with self._lock:
            hard = self._failure.hard_timeout(now)
            if not self._available:
                if hard:
                    self._failure.clear()
                return
            threshold = self._settings.phi_threshold
            phi = 0.0 if threshold is None or hard else self._failure.phi(now)
            if not hard and (threshold is None or phi <= threshold):
                return
            self._available = False
            self._address = None
            self._failure.clear()
        self._log.warning(
            "detached forwarding server", server=self.name, hard_timeout=hard, phi=round(phi, 1)
        )
        self._changed()

    # ------------------------------------------------------------ connections

    def resolve(self) -> str:
        """Its address, looked up where it is not known or too old. Raises OSError."""
        keep = self._settings.expire_dns_cache
        address, now = self._address, self._clock()
        if address is not None and (keep is None or now - self._resolved_at < keep):
            return address
        service = self.service
        try:
            found = socket.getaddrinfo(service.host, service.port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise OSError(f"cannot resolve {service.host!r}: {error.strerror or error}") from None
        chosen = random.choice(found) if self._settings.dns_round_robin else found[0]
        address = str(chosen[4][0])
        with self._lock:
            self._address = address
            self._resolved_at = now
        return address

    def connect(self, link: Link | None = None) -> Connection:
        """A new connection, ready for messages. Raises OSError, ForwardError."""
        settings = self._settings
        try:
            return connect(
                self.resolve(), self.service.port, link or settings.link,
                tls=None if settings.tls is None else settings.tls.context(),
                name=self._certificate_name, credentials=self._credentials,
            )  # fmt: skip
        except OSError as error:
            self._address = None  # it may have moved
            raise ConnectionError(f"{self.name}: {error}") from error
        except ForwardError as error:
            self.disable(str(error))
            raise

    def send(self, pieces: list[bytes]) -> Connection:
        """Sends a message; gives the connection, to be given back. Raises OSError, ForwardError."""
        connection = self._reuse()
        if connection is not None:
            try:
                connection.send(pieces)
            except TimeoutError:
                connection.abort()
                raise
            except OSError as error:
                # Closed since the last message. Part of a message is nothing to the peer: it goes again.
                connection.abort()
                self._log.debug("kept connection is broken", server=self.name, error=error)
            else:
                return connection
        connection = self.connect()
        try:
            connection.send(pieces)
        except BaseException:
            connection.abort()
            raise
        return connection

    def _reuse(self) -> Connection | None:
        while True:
            with self._lock:
                if not self._idle:
                    return None
                connection, end = self._idle.pop()
            if end > self._clock() and connection.idle:
                return connection
            connection.close()

    def give_back(self, connection: Connection) -> None:
        """Keeps a connection for the next message, or closes it."""
        settings = self._settings
        if settings.keepalive:
            with self._lock:
                if not self._closed:
                    end = self._clock() + (settings.keepalive_timeout or float("inf"))
                    self._idle.append((connection, end))
                    return
        connection.close()

    def purge(self) -> None:
        """Closes kept connections whose time is over."""
        now = self._clock()
        with self._lock:
            over = [connection for connection, end in self._idle if end <= now]
            self._idle = [entry for entry in self._idle if entry[1] > now]
        for connection in over:
            connection.close()

    def close(self) -> None:
        """Closes all kept connections; later ones are closed when they are given back."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection, _ in idle:
            connection.close()


def _is_address(host: str) -> bool:
    with suppress(ValueError):
        ipaddress.ip_address(host)
        return True
    return False
