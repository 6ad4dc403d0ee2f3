"""A client of the forward protocol v1: messages, handshake and acknowledgements.

Specification: https://github.com/fluent/fluentd/wiki/Forward-Protocol-Specification-v1
"""

from __future__ import annotations

import os
import socket
import struct
import time
from base64 import b64encode
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from forwarder._native import msgpack_pack, msgpack_unpack
from forwarder.api.errors import ForwarderError
from forwarder.api.files import write_all

if TYPE_CHECKING:
    import ssl  # an output without TLS does not load OpenSSL

READ_BYTES: Final = 65_536
"""Largest read."""
_ANSWER_BYTES: Final = 65_536
"""Longest answer (HELO, PONG, ack) that is waited for."""


class ForwardError(ForwarderError):
    """The peer refuses us, or does not answer as the protocol says."""


class ConnectionClosedError(ForwardError):
    """The peer has closed the connection."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a server's `<security>` asks for."""

    self_hostname: str
    shared_key: str = field(repr=False)
    username: str = ""
    password: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Link:
    """How connections are made. Times in seconds; None: the operating system's."""

    connect_timeout: float | None = None
    send_timeout: float = 60.0
    """How long a write may make no progress."""
    linger_timeout: int | None = None
    """SO_LINGER: how long `close` waits for the peer's system to take the rest."""
    handshake_timeout: float = 60.0
    keepalive_packets: bool = False
    """SO_KEEPALIVE."""


def message(
    tag: str, blocks: Sequence[bytes], count: int, *, ack: str | None = None, compressed: str = "text"
) -> list[bytes]:
    """A message in PackedForward mode, as pieces to be written one after the other.

    Args:
        blocks: `count` entries, compressed by `compressed` ("text": not at all).
        ack: what the peer is asked to send back once it has them.
    """
    size = sum(map(len, blocks))
    options: dict[str, Any] = {"size": count}
    if compressed != "text":
        options["compressed"] = compressed
    if ack is not None:
        options["chunk"] = ack
    head = b"\x93" + msgpack_pack(tag) + b"\xc6" + size.to_bytes(4, "big")
    return [head, *blocks, msgpack_pack(options)]


def ack_of(chunk_id: bytes) -> str:
    """A chunk's id as the option `chunk` and the answer `ack` have it."""
    return b64encode(chunk_id).decode()


class Connection:
    """A connection to a server. One thread at a time uses it."""

    def __init__(self, sock: socket.socket, peer: str, link: Link) -> None:
        self.peer = peer
        """Host and port, for messages."""
        self._socket = sock
        self._link = link
        self._received = b""

    def fileno(self) -> int:
        """The descriptor, for `select`."""
        return self._socket.fileno()

    def send(self, pieces: Sequence[bytes]) -> None:
        """Writes all of `pieces`. Raises OSError."""
        try:
            self._write(pieces)
        except (BlockingIOError, TimeoutError):
            raise TimeoutError(f"{self.peer} took nothing for {self._link.send_timeout:g} s") from None

    def _write(self, pieces: Sequence[bytes]) -> None:
        write_all(self._socket.fileno(), pieces)

    def answers(self) -> list[Any]:
        """What the peer has sent, without waiting for more.

        Raises:
            ConnectionClosedError: there is no more to come. ForwardError: it is not MessagePack. OSError.
        """
        with suppress(BlockingIOError):
            self._read()
        found = []
        while (value := self._value()) is not None:
            found.append(value[0])
        return found

    def _read(self) -> None:
        """Takes what is there; may raise BlockingIOError where that is nothing."""
        self._take(self._socket.recv(READ_BYTES, socket.MSG_DONTWAIT))

    def answer(self, seconds: float) -> Any:
        """The next value that the peer sends. Raises TimeoutError after `seconds`, and as `answers`."""
        deadline = time.monotonic() + seconds
        while (value := self._value()) is None:
            left = deadline - time.monotonic()
            try:
                if left <= 0:
                    raise TimeoutError
                self._socket.settimeout(left)
                self._take(self._socket.recv(READ_BYTES))
            except TimeoutError:
                raise TimeoutError(f"{self.peer} did not answer for {seconds:g} s") from None
        self._socket.settimeout(None)
        return value[0]

    def _take(self, data: bytes) -> None:
        if not data:
            raise ConnectionClosedError(f"{self.peer} has closed the connection")
        self._received += data
        if len(self._received) > _ANSWER_BYTES + READ_BYTES:
            raise ForwardError(f"{self.peer} sends what is no answer of the forward protocol")

    def _value(self) -> tuple[Any, int] | None:
        try:
            value = msgpack_unpack(self._received) if self._received else None
        except ValueError as error:
            raise ForwardError(
                f"{self.peer} sends what is no answer of the forward protocol: {error}"
            ) from None
        if value is None and len(self._received) > _ANSWER_BYTES:
            raise ForwardError(f"{self.peer} sends an answer without end")
        if value is not None:
            self._received = self._received[value[1] :]
        return value

    @property
    def idle(self) -> bool:
        """Whether it may be used again: open, and nothing has come that nobody waits for."""
        try:
            return not self.answers() and not self._received
        except (ForwardError, OSError):
            return False

    def handshake(self, credentials: Credentials) -> None:
        """Makes ourselves known, and checks that the peer knows the key too.

        Raises:
            ForwardError: refused; says why. TimeoutError, OSError.
        """
        seconds = self._link.handshake_timeout
        try:
            helo = self.answer(seconds)
        except TimeoutError:
            raise TimeoutError(
                f"{self.peer} sent no HELO for {seconds:g} s: has its input a <security> section?"
            ) from None
        from hmac import compare_digest  # noqa: PLC0415 - loads OpenSSL, as sha512 does

        nonce, auth = _helo(helo, self.peer)
        salt = os.urandom(16).hex().encode()
        name, key = credentials.self_hostname.encode(), credentials.shared_key.encode()
        username, proof = "", ""
        if auth:
            username = credentials.username
            proof = _digest(auth, username.encode(), credentials.password.encode())
        ping = ["PING", credentials.self_hostname, salt.decode(), _digest(salt, name, nonce, key)]
        self.send([msgpack_pack([*ping, username, proof])])
        try:
            pong = self.answer(seconds)
        except ConnectionClosedError:
            raise ConnectionClosedError(f"{self.peer} has closed the connection at our PING") from None
        if not isinstance(pong, list) or len(pong) != 5 or pong[0] != "PONG":
            raise ForwardError(f"{self.peer} answers PING with something else than PONG")
        _, accepted, reason, hostname, digest = pong
        if not accepted:
            raise ForwardError(f"{self.peer} refuses us: {_text(reason)}")
        if hostname == credentials.self_hostname:
            raise ForwardError(f"{self.peer} has our own self_hostname {_text(hostname)!r}: they must differ")
        if not compare_digest(_digest(salt, _bytes(hostname), nonce, key).encode(), _bytes(digest)):
            raise ForwardError(f"{self.peer} does not know our shared_key")

    def close(self) -> None:
        """Says goodbye, so that the peer sees an end and not a reset, and closes."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)
        with suppress(OSError):
            self._socket.close()

    def abort(self) -> None:
        """Closes at once; what was not sent is dropped."""
        with suppress(OSError):
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        with suppress(OSError):
            self._socket.close()


def _helo(helo: Any, peer: str) -> tuple[bytes, bytes]:
    """(nonce, auth salt) of a HELO."""
    if not isinstance(helo, list) or len(helo) != 2 or helo[0] != "HELO":
        raise ForwardError(f"{peer} does not begin with HELO")
    options = helo[1] if isinstance(helo[1], dict) else {}
    return _bytes(options.get("nonce")), _bytes(options.get("auth"))


def _digest(*parts: bytes) -> str:
    from hashlib import sha512  # noqa: PLC0415

    return sha512(b"".join(parts)).hexdigest()


def _bytes(value: Any) -> bytes:
    if isinstance(value, str):
        return value.encode()
    return value if isinstance(value, bytes) else b""


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def connect(
    host: str,
    port: int,
    link: Link,
    *,
    tls: ssl.SSLContext | None = None,
    name: str | None = None,
    credentials: Credentials | None = None,
) -> Connection:
    """Connects to a server, TLS and handshake included.

    Args:
        host: address or name. name: whose certificate is expected; None: that of `host`.

    Raises:
        OSError: not reachable, or not as TLS. ForwardError: refused.
    """
    peer = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    sock = socket.create_connection((host, port), link.connect_timeout)
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if link.linger_timeout is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, link.linger_timeout))
        if link.keepalive_packets:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if tls is None:
            return _ready(Connection(sock, peer, link), sock, link, credentials)
        from forwarder.api.forward_client_tls import TlsConnection, wrap  # noqa: PLC0415

        sock = wrapped = wrap(sock, tls, name or host, peer, link.connect_timeout or link.handshake_timeout)
        return _ready(TlsConnection(wrapped, peer, link), sock, link, credentials)
    except BaseException:
        sock.close()
        raise


def connect_unix(path: str, link: Link, *, credentials: Credentials | None = None) -> Connection:
    """Connects to a server's Unix-domain socket. Raises as `connect`."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.settimeout(link.connect_timeout)
        sock.connect(path)
        return _ready(Connection(sock, path, link), sock, link, credentials)
    except BaseException:
        sock.close()
        raise


def _ready(
    connection: Connection, sock: socket.socket, link: Link, credentials: Credentials | None
) -> Connection:
    sock.settimeout(None)
    seconds = int(link.send_timeout)
    limit = struct.pack("ll", seconds, int((link.send_timeout - seconds) * 1e6))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
    if credentials is not None:
        connection.handshake(credentials)
    return connection
