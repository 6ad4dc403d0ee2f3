"""A sample service: answers HTTP requests, and logs each as a JSON datagram.

Logging never holds it up: what nobody takes from the socket is dropped, and the forwarder counts it.
"""

from __future__ import annotations

import json
import logging
import os
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from logging.handlers import DatagramHandler


class JsonDatagrams(DatagramHandler):
    """Sends each record as JSON, with what `extra` added as fields."""

    def makePickle(self, record: logging.LogRecord) -> bytes:  # noqa: N802 - the library's name
        """The datagram of a record."""
        fields = getattr(record, "fields", {})
        text = {"time": record.created, "level": record.levelname.lower(), "message": record.getMessage()}
        return json.dumps({**text, **fields}).encode()


class Handler(BaseHTTPRequestHandler):
    """Answers everything."""

    def do_GET(self) -> None:
        """Answers; a path that starts with /missing is not found."""
        started = time.monotonic()
        status = 404 if self.path.startswith("/missing") else 200
        body = json.dumps({"path": self.path}).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        fields = {
            "method": self.command, "path": self.path, "status": status, "client": self.client_address[0],
            "seconds": round(time.monotonic() - started, 6),
        }  # fmt: skip
        level = logging.WARNING if status >= 400 else logging.INFO
        logging.getLogger("service").log(level, "request", extra={"fields": fields})

    def log_message(self, format: str, *args: object) -> None:
        """Nothing on the standard error stream: the log goes to the forwarder."""


def main() -> None:
    """Serves until it is ended."""
    handler = JsonDatagrams(os.environ.get("LOG_HOST", "127.0.0.1"), int(os.environ.get("LOG_PORT", "5160")))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    with ThreadingHTTPServer(("", int(os.environ.get("PORT", "8080"))), Handler) as server:
        logging.getLogger("service").info("started")
        server.serve_forever()


if __name__ == "__main__":
    main()
