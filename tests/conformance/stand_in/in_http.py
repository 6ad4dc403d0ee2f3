"""Stands in for in_http while there is none, so that cases about other plugins can run: `POST /tag?time=N`
with a JSON object or an array of objects; every answer is 200."""

from __future__ import annotations

import json
import threading
import time
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from forwarder.api import EventStream, Input, integer, string


class StandInInput(Input):
    """Takes events over HTTP."""

    bind = string("Address.", "0.0.0.0")
    port = integer("Port.", 9880)

    def start(self) -> None:
        plugin = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, format: str, *args: Any) -> None:
                pass

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                plugin.take(self.path, body)
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

        self._server = ThreadingHTTPServer((self.bind, self.port), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def take(self, path: str, body: bytes) -> None:
        url = urlsplit(path)
        given = Fraction(parse_qs(url.query).get("time", ["0"])[0])
        time_ns = int(given * 10**9) or time.time_ns()
        parsed = json.loads(body)
        records = parsed if isinstance(parsed, list) else [parsed]
        tag = url.path.strip("/").replace("/", ".")
        self.context.received(len(records))
        self.emit(tag, EventStream.from_events((time_ns, record) for record in records))

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
