"""A server of the forward protocol for tests, written on msgpack: what arrives is decoded and kept."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import os
import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgpack


@dataclass
class Message:
    """One message in PackedForward mode."""

    tag: str
    events: list[tuple[Any, Any]]
    option: dict[str, Any]
    connection: int
    raw: bytes = b""


def decompress(data: bytes, method: str) -> bytes:
    if method == "gzip":
        return gzip.decompress(data)
    if method == "zstd":
        try:
            from compression import zstd  # noqa: PLC0415
        except ImportError:
            from backports import zstd  # noqa: PLC0415
        return bytes(zstd.decompress(data))
    return data


def time_of(value: Any) -> Any:
    """An EventTime as (seconds, nanoseconds); an integer as it is."""
    if isinstance(value, msgpack.ExtType):
        assert value.code == 0
        return int.from_bytes(value.data[:4], "big"), int.from_bytes(value.data[4:], "big")
    return value


@dataclass
class Peer:
    """Listens on 127.0.0.1 from the start on. `ack` says what becomes of a message with the option chunk:
    True: acknowledged, False: not, "close": the connection is closed, "half-close": no more is sent, but what
    comes is read, any other text: this is sent as the ack."""

    ack: Callable[[Message], bool | str] = lambda _: True
    port: int = 0
    shared_key: str | None = None
    users: dict[str, str] = field(default_factory=dict)
    hostname: str = "peer.local"
    context: ssl.SSLContext | None = None
    pong: Callable[[list[Any]], list[Any]] = lambda pong: pong
    udp: bool = False
    keep: bool = True

    def __post_init__(self) -> None:
        self.messages: list[Message] = []
        self.pings: list[list[Any]] = []
        self.accepted = 0
        self.errors: list[str] = []
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._closed = False
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()
        if self.udp:
            self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self._udp.bind(("127.0.0.1", self.port))
            threading.Thread(target=self._echo, daemon=True).start()

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def records(self) -> list[Any]:
        return [record for message in list(self.messages) for _, record in message.events]

    @property
    def open(self) -> int:
        """Number of connections that are open now."""
        with self._lock:
            return len(self._open)

    def close(self) -> None:
        """Stops listening and cuts all connections."""
        self._closed = True
        # shutdown wakes the thread in accept
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        if self.udp:
            with contextlib.suppress(OSError):
                self._udp.shutdown(socket.SHUT_RDWR)
            self._udp.close()
        self.cut()

    def cut(self) -> None:
        """Cuts all connections."""
        with self._lock:
            for sock in self._open:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)

    def _echo(self) -> None:
        while not self._closed:
            try:
                data, sender = self._udp.recvfrom(100)
                if sender is not None:  # else: shut down
                    self._udp.sendto(data, sender)
            except OSError:
                return

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self._open.add(sock)
                self.accepted += 1
                number = self.accepted
            threading.Thread(target=self._serve, args=(sock, number), daemon=True).start()

    def _serve(self, sock: socket.socket, number: int) -> None:
        talk = sock
        try:
            if self.context is not None:
                talk = self.context.wrap_socket(sock, server_side=True)
                with self._lock:
                    self._open.discard(sock)
                    self._open.add(talk)
            unpacker = msgpack.Unpacker(raw=False, strict_map_key=False, max_buffer_size=0)
            values = self._values(talk, unpacker)
            if self.shared_key is not None and not self._handshake(talk, values):
                return
            for value in values:
                self._message(talk, value, number)
        except (OSError, ValueError, KeyError, TypeError, AssertionError) as error:
            self.errors.append(repr(error))
        finally:
            with self._lock:
                self._open.discard(talk)
                self._open.discard(sock)
            talk.close()

    @staticmethod
    def _values(sock: socket.socket, unpacker: Any) -> Any:
        while True:
            data = sock.recv(1 << 20)
            if not data:
                return
            unpacker.feed(data)
            yield from unpacker

    def _handshake(self, sock: socket.socket, values: Any) -> bool:
        nonce, auth = os.urandom(16), os.urandom(16) if self.users else b""
        sock.sendall(msgpack.packb(["HELO", {"nonce": nonce, "auth": auth, "keepalive": True}]))
        ping = next(values, None)
        if ping is None:
            return False
        self.pings.append(ping)
        key = (self.shared_key or "").encode()
        name, salt, digest, user, proof = ping[1:]
        good = hashlib.sha512(salt.encode() + name.encode() + nonce + key).hexdigest() == digest
        if self.users:
            password = self.users.get(user, "")
            expected = hashlib.sha512(auth + user.encode() + password.encode()).hexdigest()
            good = good and user in self.users and proof == expected
        mine = hashlib.sha512(salt.encode() + self.hostname.encode() + nonce + key).hexdigest()
        sock.sendall(
            msgpack.packb(self.pong(["PONG", good, "" if good else "mismatch", self.hostname, mine]))
        )
        return good

    def _message(self, sock: socket.socket, value: Any, number: int) -> None:
        tag, entries, option = value
        assert isinstance(entries, bytes)
        unpacker = msgpack.Unpacker(raw=False, strict_map_key=False, max_buffer_size=0)
        unpacker.feed(decompress(entries, option.get("compressed", "text")))
        events = [(time_of(at), record) for at, record in unpacker]
        message = Message(tag, events, option, number, entries)
        assert option["size"] == len(events)
        answer: bool | str = True
        if "chunk" in option:
            answer = self.ack(message)
        if self.keep:
            self.messages.append(message)
        if answer == "close":
            sock.shutdown(socket.SHUT_RDWR)
        elif answer == "half-close":
            sock.shutdown(socket.SHUT_WR)
        elif "chunk" in option and answer is not False:
            sock.sendall(msgpack.packb({"ack": option["chunk"] if answer is True else answer}))
