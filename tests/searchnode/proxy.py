"""A load balancer in front of a real node, for what a node does not do on demand: it closes, refuses,
swallows answers."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any, NamedTuple


class Answer(NamedTuple):
    """The proxy's own, instead of the node's."""

    status: int
    body: Any = b""
    headers: Mapping[str, str] = {}


Rule = Callable[[str, str, Mapping[str, str]], "Answer | str | None"]
"""Of method, path and headers (names in lower case): None passes a request on; an `Answer` is given; "close":
the connection is closed, the node gets nothing; "swallow": the node gets it, but its answer is cut off in the
middle."""


class Proxy:
    """In front of the node on `port`; `rule` may be replaced while it runs."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.rule: Rule = lambda *_: None
        self.closes = False
        """Every connection is closed behind an answer, without a word about it."""
        self.in_flight = 0
        """Bulk requests that are being answered."""
        self.most = 0
        """Highest value of `in_flight`."""
        self.bulks = 0
        """Bulk requests that came in."""
        self._lock = Lock()

    def __enter__(self) -> Proxy:
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def serve(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                bulk = "_bulk" in self.path
                with proxy._lock:
                    proxy.in_flight += bulk
                    proxy.bulks += bulk
                    proxy.most = max(proxy.most, proxy.in_flight)
                try:
                    self.decide(body)
                except OSError:
                    self.close_connection = True
                finally:
                    with proxy._lock:
                        proxy.in_flight -= bulk

            def decide(self, body: bytes) -> None:
                headers = {name.lower(): value for name, value in self.headers.items()}
                found = proxy.rule(self.command, self.path, headers)
                if isinstance(found, Answer):
                    data = found.body if isinstance(found.body, bytes) else json.dumps(found.body).encode()
                    self.reply(found.status, data, found.headers)
                elif found == "close":
                    self.close_connection = True
                else:
                    status, data = proxy._ask(self.command, self.path, body, headers)
                    self.reply(status, data, {}, cut=found == "swallow")

            def reply(self, status: int, data: bytes, more: Mapping[str, str], *, cut: bool = False) -> None:
                self.send_response(status)
                for name, value in {"Content-Length": str(len(data)), **more}.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(data[: len(data) // 2] if cut else data)
                self.close_connection |= cut or proxy.closes

            do_GET = do_HEAD = do_POST = do_PUT = serve  # noqa: N815

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: object) -> None:
                pass  # clients that go away

        self._server = Server(("127.0.0.1", 0), Handler)
        Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def _ask(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        try:
            kept = {name: value for name, value in headers.items() if name not in ("host", "connection")}
            connection.request(method, path, body or None, kept)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()
