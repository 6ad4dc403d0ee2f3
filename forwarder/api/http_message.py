"""Requests and responses of `forwarder.api.http_server`, and what answers them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol


@dataclass(frozen=True, slots=True)
class Limits:
    """What a server bears."""

    connections: int = 64
    head_bytes: int = 16_384
    body_bytes: int = 0
    """Longest body; 0: bodies are not read, and the connection ends with the response."""
    bodies_bytes: int = 0
    """All bodies that are being received, together."""
    request_seconds: float = 5.0
    """From a connection's or a request's first byte until its head is there, TLS handshake included; also
    how long a client may be silent within a body."""
    idle_seconds: float = 75.0
    """How long a connection may stay open between two requests."""
    response_seconds: float = 30.0
    stop_seconds: float = 0.0
    """How long requests that are being received at the stop may go on."""


class Head(NamedTuple):
    """A request without its body."""

    method: str
    target: str
    """As it came: path and query, encoded."""
    headers: tuple[tuple[bytes, bytes], ...]
    """Names in lower case."""
    peer: str
    """The client's address."""

    def header(self, name: bytes) -> str | None:
        """The first header of that name (in lower case)."""
        return next((value.decode("latin-1") for known, value in self.headers if known == name), None)


class Response(NamedTuple):
    """The answer."""

    status: int
    body: bytes
    content_type: str = "text/plain"
    headers: tuple[tuple[str, str], ...] = ()
    close: bool = False
    """Whether the connection ends with it."""


class Application(Protocol):
    """What answers requests, in the server's thread."""

    def judge(self, head: Head) -> Response | None:
        """Called before a body is read: an answer that makes it needless."""

    def answer(self, head: Head, body: bytes) -> Response:
        """Called with the whole request."""
