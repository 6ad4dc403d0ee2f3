"""A small HTTP/1.1 server for inputs that answer probes and scrapes: GET and HEAD, nothing else.

Connections and limits: `forwarder.api.http_server`. Handlers run in its one thread and should be quick.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

from forwarder.api.http_message import Head, Limits, Response
from forwarder.api.http_server import Server
from forwarder.api.plugin import Plugin
from forwarder.api.shared_sections import Transport

__all__ = ["LIMITS", "Handler", "HttpServer", "Request", "Response"]

LIMITS: Final = Limits()


class Request(NamedTuple):
    """What was asked for."""

    path: str
    query: Mapping[str, list[str]]
    headers: Mapping[str, str]
    """By lower-case name."""


Handler = Callable[[Request], Response]


class HttpServer:
    """Answers requests by path.

    Args:
        routes: handlers by path. not_found: answers all other paths and methods. transport: for HTTPS.

    Raises:
        OSError: the port cannot be had. ConfigError: the certificate cannot be used, h11 is missing.
    """

    def __init__(
        self, plugin: Plugin, bind: str, port: int, routes: Mapping[str, Handler], *,
        not_found: Response | None = None, transport: Transport | None = None,
    ) -> None:  # fmt: skip
        self._plugin = plugin
        self._routes = routes
        self._not_found = not_found or Response(404, b"not found\n")
        self._other_method = not_found or Response(
            405, b"only GET and HEAD\n", headers=(("Allow", "GET, HEAD"),)
        )
        self._server = Server(plugin, self, bind, port, limits=LIMITS, transport=transport)
        self.port = self._server.port
        """The bound port."""

    def start(self) -> None:
        """Starts the thread."""
        self._server.start()

    def stop(self) -> None:
        """Closes all connections and ends the thread."""
        self._server.stop()

    def judge(self, head: Head) -> Response | None:
        """As `Application`."""
        return None if head.method in ("GET", "HEAD") else self._other_method

    def answer(self, head: Head, body: bytes) -> Response:
        """As `Application`."""
        try:
            target = urlsplit(head.target)
            query = parse_qs(target.query, keep_blank_values=True, max_num_fields=100)
            path = unquote(target.path)
        except ValueError as error:
            return Response(400, f"{error}\n".encode())
        handler = self._routes.get(path) or self._routes.get(path.removesuffix("/"))
        if handler is None:
            return self._not_found
        headers = {name.decode("ascii"): value.decode("latin-1") for name, value in head.headers}
        return handler(Request(path, query, headers))
