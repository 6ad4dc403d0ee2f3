"""A server that answers bulk requests as a test wants, over real sockets: for what a real node does not do
on demand. What a node does by itself is in tests/integration."""

from __future__ import annotations

import gzip
import json
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Lock, Thread
from typing import Any
from urllib.parse import urlsplit

Answer = tuple[int, Any]
"""Status and body: bytes, or something for JSON."""


@dataclass
class Request:
    """A request that came in."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    peer: tuple[str, int]

    def pairs(self) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        """(action, document) of a bulk request."""
        body = gzip.decompress(self.body) if self.headers.get("content-encoding") == "gzip" else self.body
        assert body.endswith(b"\n")
        lines = [json.loads(line) for line in body.split(b"\n")[:-1]]
        return list(zip(lines[::2], lines[1::2], strict=True))

    def docs(self) -> list[dict[str, Any]]:
        return [doc for _, doc in self.pairs()]


def failure(status: int, kind: str, reason: str = "because") -> dict[str, Any]:
    """An item's outcome."""
    return {"status": status, "error": {"type": kind, "reason": reason}}


Rule = Callable[[dict[str, Any], dict[str, Any]], dict[str, Any] | None]


@dataclass
class BulkServer:
    """`answers`: what the next bulk requests get: an answer, "close" (no answer) or "hang"; afterwards each
    document gets what `rule(action, document)` says, None: taken. As a real server it takes an id once."""

    answers: list[Answer | str] = field(default_factory=list)
    rule: Rule = lambda _action, _doc: None
    info: Answer = (200, {"version": {"number": "8.15.0"}})
    retry_after: str | None = None
    close_after_answer: bool = False
    limit_bytes: int = 1 << 30

    def __post_init__(self) -> None:
        self.requests: list[Request] = []
        self.taken: list[dict[str, Any]] = []
        self.ids: set[str] = set()
        self.lock = Lock()
        self.closing = Event()
        self.context: ssl.SSLContext | None = None

    @property
    def bulks(self) -> list[Request]:
        return [request for request in list(self.requests) if request.method == "POST"]

    @property
    def connections(self) -> int:
        return len({request.peer for request in self.requests})

    def answer(self, request: Request) -> Answer | str:
        if request.method == "GET":
            return self.info
        if len(request.body) > self.limit_bytes:
            return 413, b""
        with self.lock:
            answer = self.answers.pop(0) if self.answers else None
        if answer is None or answer == "hang":
            taken = self.take(request)
            return answer or (200, taken)
        return answer

    def take(self, request: Request) -> dict[str, Any]:
        items = []
        for action, doc in request.pairs():
            ((operation, meta),) = action.items()
            outcome = self.rule(action, doc)
            with self.lock:
                if outcome is None and operation == "create" and meta["_id"] in self.ids:
                    outcome = failure(409, "version_conflict_engine_exception")
                elif outcome is None:
                    self.taken.append(doc)
                    self.ids.add(str(meta.get("_id")))
            items.append({operation: outcome or {"status": 201}})
        errors = any("error" in each for item in items for each in item.values())
        return {"took": 1, "errors": errors, "items": items}

    def __enter__(self) -> BulkServer:
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def serve(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                headers = {name.lower(): value for name, value in self.headers.items()}
                request = Request(self.command, self.path, headers, body, self.client_address)
                fake.requests.append(request)
                answer = fake.answer(request)
                if isinstance(answer, str):
                    if answer == "hang":
                        fake.closing.wait(30)
                    self.close_connection = True
                    return
                status, content = answer
                data = content if isinstance(content, bytes) else json.dumps(content).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                if fake.retry_after is not None:
                    self.send_header("Retry-After", fake.retry_after)
                self.end_headers()
                self.wfile.write(data)
                self.close_connection |= fake.close_after_answer

            do_GET = do_POST = do_PUT = serve  # noqa: N815

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: object) -> None:
                pass  # clients that go away

        self.server = Server(("127.0.0.1", 0), Handler)
        if self.context is not None:
            self.server.socket = self.context.wrap_socket(self.server.socket, server_side=True)
        Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self.server.shutdown()
        self.server.server_close()

    @property
    def port(self) -> int:
        return int(self.server.server_address[1])


def path_of(request: Request) -> str:
    """The path, without what is asked of the answer."""
    return urlsplit(request.path).path


def fields(requests: Sequence[Request], name: str) -> list[Any]:
    """One field of all documents, by request."""
    return [[doc[name] for doc in request.docs()] for request in requests]
