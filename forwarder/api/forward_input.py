"""What belongs to forward inputs besides the events: who may send, and the UDP heartbeat.

Source: Fluentd Forward Protocol Specification v1, "Handshake messages" and "Heartbeat Message"
(https://github.com/fluent/fluentd/wiki/Forward-Protocol-Specification-v1).
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import select
import socket
import threading
from dataclasses import dataclass
from typing import Any, Final, Protocol

from forwarder._native import network_contains
from forwarder.api.errors import ConfigError
from forwarder.api.parameters import Section, array, boolean, sections, string
from forwarder.api.plugin import Input
from forwarder.api.server import StreamReceiver
from forwarder.api.shared_sections import Client
from forwarder.api.sockets import Binding

_HEARTBEAT: Final = b"\0"
_HEARTBEAT_BYTES: Final = 128


class ForwardReceiver(StreamReceiver, Protocol):
    """The native `ForwardServer`, or `forwarder.api.forward_tls.ForwardTlsServer`."""

    def acknowledge(self) -> None:
        """What `next` gave last is safe: senders that asked for it get an acknowledgement."""


class User(Section):
    """`<user>` in `<security>`."""

    username = string("The name.")
    password = string("The password.", secret=True)


class ForwardClient(Client):
    """`<client>` in `<security>` of a forward input."""

    shared_key = string("Shared key of these clients, instead of the common one.", None, secret=True)
    users = array("Users that these clients may be; empty: all.", [], of="string")


class ForwardSecurity(Section):
    """`<security>` of a forward input."""

    self_hostname = string("Name of this host in the handshake.")
    shared_key = string("Key that clients must know.", secret=True)
    user_auth = boolean("Clients must give a user and a password too.", False)
    allow_anonymous_source = boolean("Take clients that no <client> section names.", True)
    users = sections(User, "A user with user_auth.", name="user")
    clients = sections(ForwardClient, "Clients with a shared key or users of their own.", name="client")

    def configure(self) -> None:
        if self.user_auth and not self.users:
            raise ConfigError("<user> sections are required with user_auth", param="user_auth")
        if not self.allow_anonymous_source and not self.clients:
            raise ConfigError(
                "<client> sections are required with allow_anonymous_source false",
                param="allow_anonymous_source",
            )


@dataclass(frozen=True, slots=True)
class _Node:
    networks: list[str]
    shared_key: bytes
    users: frozenset[bytes]


class Gate:
    """The server's side of the handshake, as `ForwardRules` calls it.

    A fresh nonce and salt for each connection; digests are compared in constant time. Who is refused is told
    why, as in Fluentd, and logged at most once in a while.

    Raises:
        ConfigError: a client's host name cannot be resolved.
    """

    def __init__(self, plugin: Input, security: ForwardSecurity, *, keepalive: bool) -> None:
        self._plugin = plugin
        self._security = security
        self._keepalive = keepalive
        self._hostname = security.self_hostname.encode()
        self._shared_key = security.shared_key.encode()
        self._nodes = [
            _Node(
                client.networks(),
                self._shared_key if client.shared_key is None else client.shared_key.encode(),
                frozenset(str(name).encode() for name in client.users),
            )
            for client in security.clients
        ]

    def hello(self) -> tuple[list[Any], tuple[bytes, bytes]]:
        """HELO, and the connection's nonce and salt."""
        nonce, salt = secrets.token_bytes(16), secrets.token_bytes(16)
        return ["HELO", {"nonce": nonce, "auth": salt, "keepalive": self._keepalive}], (nonce, salt)

    def judge(self, secret: tuple[bytes, bytes], peer: str, message: Any) -> tuple[bool, list[Any]]:
        """Whether PING is good, and PONG."""
        nonce, salt = secret
        match message:
            case [b"PING" | "PING", name, key_salt, digest, user, password]:
                hostname, key_salt, user = _bytes(name), _bytes(key_salt), _bytes(user)
            case _:
                return self._refuse("invalid ping message", peer)
        address = peer.rpartition(":")[0].strip("[]") or "127.0.0.1"  # a Unix-domain socket is this host
        node = self._node(address)
        if node is None and not self._security.allow_anonymous_source:
            return self._refuse(f"anonymous source host '{address}' denied", peer, hostname)
        key = self._shared_key if node is None else node.shared_key
        if not _same(_digest(key_salt, hostname, nonce, key), digest):
            return self._refuse("shared_key mismatch", peer, hostname)
        if self._security.user_auth and not self._user_is_good(node, salt, user, password):
            return self._refuse("username/password mismatch", peer, hostname, user)
        return True, ["PONG", True, "", self._security.self_hostname,
                      _digest(key_salt, self._hostname, nonce, key)]  # fmt: skip

    def _node(self, address: str) -> _Node | None:
        for node in self._nodes:
            if any(network_contains(network, address) for network in node.networks):
                return node
        return None

    def _user_is_good(self, node: _Node | None, salt: bytes, user: bytes, password: object) -> bool:
        good = False
        for known in self._security.users:
            name = known.username.encode()
            if node is not None and node.users and name not in node.users:
                continue
            right = _same(_digest(salt, user, known.password.encode()), password)
            good |= right and hmac.compare_digest(name, user)
        return good

    def _refuse(
        self, why: str, peer: str, hostname: bytes = b"", user: bytes = b""
    ) -> tuple[bool, list[Any]]:
        self._plugin.log_repeated(
            "forward client refused", why=why, peer=peer, hostname=_shown(hostname), username=_shown(user)
        )
        return False, ["PONG", False, why, "", ""]


def _digest(*parts: bytes) -> str:
    return hashlib.sha512(b"".join(parts)).hexdigest()


def _same(expected: str, given: object) -> bool:
    return hmac.compare_digest(expected.encode(), _bytes(given))


def _bytes(value: object) -> bytes:
    if isinstance(value, bytes):
        return value
    return value.encode("utf-8", "surrogatepass") if isinstance(value, str) else b""


def _shown(text: bytes) -> str:
    return text[:128].decode("utf-8", "backslashreplace")


class Heartbeats:
    """Answers UDP heartbeats, in a thread of its own: also while a full buffer keeps the input waiting.

    Raises:
        OSError: the port cannot be had.
    """

    def __init__(self, plugin: Input, bind: str, port: int) -> None:
        bound = plugin.context.bind(Binding("udp", bind, port))
        self._socket = bound._replace(drops=None).copy().socket
        bound.close()
        self._waker, self._wake = socket.socketpair()
        self._thread = threading.Thread(target=self._run, name=f"heartbeat:{port}", daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread and closes the socket."""
        self._waker.send(b"x")
        self._thread.join()
        for each in (self._socket, self._waker, self._wake):
            each.close()

    def _run(self) -> None:
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        poll.register(self._wake, select.POLLIN)
        while True:
            ready = {descriptor for descriptor, _ in poll.poll()}
            if self._wake.fileno() in ready:
                return
            try:
                _, sender = self._socket.recvfrom(_HEARTBEAT_BYTES)
                self._socket.sendto(_HEARTBEAT, sender)
            except OSError:
                continue  # the sender will ask again
