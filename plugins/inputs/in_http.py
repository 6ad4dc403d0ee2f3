"""in_http: events by HTTP POST; the path is the tag: `POST /app/access` gives `app.access`.

Content types: `application/json` (an object, or an array of them), `application/x-ndjson`,
`application/msgpack`, forms with a field `json`, `ndjson` or `msgpack` (urlencoded or multipart), which may
stand in the query too. With `<parse>` the body is one text for that parser, whatever its content type. The
time of the events: `?time=` (seconds), or the record's field `time`, or now. A body may be compressed
(`Content-Encoding`: gzip, deflate, zstd). `GET` is answered with 200, for probes.

*Delivery*: the answer is 200 (or 204) once the buffers have all events of the request. 503 with
`Retry-After`: a buffer is full and nothing was taken. 400 and 415: the request is refused as a whole, which
counts as one lost event with its reason. Within a good request, what is no record (as text that is no JSON)
is counted as lost and answered with 200, as in Fluentd. All answers are counted by status in
`forwarder_http_requests_total`.

*Differs from Fluentd*: zstd; 503 instead of 500 for a full buffer; 415 for an unknown content encoding,
which Fluentd ignores; HEAD is answered as GET; a request that Fluentd closes the connection for (a target
that is no URL) gets 400; what a refusal says is in our words; MessagePack that ends within a value is
refused; a time beyond what an event's time can hold is refused. At most 1000 form fields; bodies that are
being received share 256 MiB (or four times `body_size_limit`), beyond that the answer is 503. A body may be
silent for 10 s and must come at 1 KiB/s.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from forwarder import _native
from forwarder._native import BodyReader, Intake
from forwarder.api import (
    BufferOverflow,
    ConfigError,
    Input,
    array,
    boolean,
    duration,
    integer,
    parser_section,
    section,
    size,
    string,
)
from forwarder.api.http_message import Head, Limits, Response
from forwarder.api.http_server import Server
from forwarder.api.listening import Listening
from forwarder.api.metrics import Family, Sample
from forwarder.api.parsing import CommonParser
from forwarder.api.server import MESSAGES, check_certificate, max_connections, receiver_parser
from forwarder.api.shared_sections import Transport
from forwarder.api.sockets import DEFAULT_BACKLOG
from forwarder.plugins.inputs.http import request
from forwarder.plugins.inputs.http.cors import Cors

_HEAD_BYTES: Final = 80 * 1024
_BODIES_BYTES: Final = 256 << 20
_REQUEST_SECONDS: Final = 10.0
_STOP_SECONDS: Final = 3.0
_RETRY_AFTER: Final = (("Retry-After", "1"),)
_PIXEL: Final = b"GIF89a\1\0\1\0\x80\xff\0\xff\xff\xff\0\0\0,\0\0\0\0\1\0\1\0\0\2\2D\1\0;"


class HttpInput(Listening, Input):
    """Receives events over HTTP."""

    multi_workers_ready = True

    port = integer("Port to listen on.", 9880)
    body_size_limit = size("Longest body in bytes; a longer one is answered with 413.", 32 << 20)
    decompression_size_limit = size("Longest body in bytes after its decompression.", 256 << 20)
    keepalive_timeout = duration("How long a connection may stay open between two requests.", 10.0)
    backlog = integer("Connections that may wait to be accepted; not set: 1024.", None)
    add_http_headers = boolean("Add the request's headers as fields HTTP_NAME.", False)
    add_remote_addr = boolean(
        "Add the client's address as field REMOTE_ADDR (the first one of X-Forwarded-For, where that is).",
        False,
    )
    blocking_timeout = duration("Only has a meaning for Fluentd's event loop; does nothing here.", 0.5)
    cors_allow_origins = array(
        "Origins from which browsers may send (`*`: all; `https://*.example.com`); not set: origins do not "
        "matter, and preflight requests are refused.", None, of="string",
    )  # fmt: skip
    cors_allow_credentials = boolean("Allow browsers to send credentials.", False)
    respond_with_empty_img = boolean("Answer with a GIF of one pixel.", False)
    use_204_response = boolean("Answer with 204 instead of 200.", False)
    dump_error_log = boolean("Log requests that are refused.", True)
    add_query_params = boolean("Add the query's parameters as fields QUERY_NAME.", False)
    add_tag_prefix = string("Put this and a dot before the tag.", None)

    transport = section(Transport, "Socket and TLS parameters.")
    parse = parser_section(
        "How bodies are parsed. Without it (or with `@type in_http`): by their content type; then only "
        "time_key, keep_time_key and how a time is written have a meaning.", default="in_http",
    )  # fmt: skip

    def configure(self) -> None:
        self.check_port()
        for name in ("body_size_limit", "decompression_size_limit"):
            if getattr(self, name) < 1:
                raise ConfigError("at least 1 byte is needed", param=name)
        origins = self.cors_allow_origins
        if self.cors_allow_credentials and (origins is None or "*" in origins):
            raise ConfigError(
                "cors_allow_credentials needs specific origins in cors_allow_origins",
                param="cors_allow_credentials",
            )
        if self.add_tag_prefix == "":
            raise ConfigError("add_tag_prefix must not be empty", param="add_tag_prefix")
        if self.transport.protocol == "tls":
            check_certificate(self.transport)
        self._cors = None if origins is None else Cors(origins, credentials=self.cors_allow_credentials)
        self._adds = self.add_http_headers or self.add_query_params or self.add_remote_addr
        self._by_type = self.parse.context.type_name == "in_http"
        self._reader = self._body_reader()

    def _body_reader(self) -> BodyReader:
        parse = self.parse
        if not isinstance(parse, CommonParser) or not self._by_type:
            return BodyReader(receiver_parser(self, parse))
        time: dict[str, Any] | None = None
        if {"time_type", "time_format"} & parse.given:
            time = parse.options()
        return BodyReader(
            _native.json_parser("oj", {}),
            time_key=parse.time_key,
            keep_time_key=parse.keep_time_key,
            time=time,
        )

    def start(self) -> None:
        limits = Limits(
            connections=max_connections(),
            head_bytes=_HEAD_BYTES,
            body_bytes=self.body_size_limit,
            bodies_bytes=max(_BODIES_BYTES, 4 * self.body_size_limit),
            request_seconds=_REQUEST_SECONDS,
            idle_seconds=self.keepalive_timeout,
            stop_seconds=_STOP_SECONDS,
        )
        self._server = Server(
            self, self, self.bind, self.port, limits=limits, transport=self.transport,
            backlog=self.backlog or DEFAULT_BACKLOG,
        )  # fmt: skip
        self.bound_port = self._server.port
        self._server.start()
        self.log.info(f"listening http on {self.bind}:{self.bound_port}")

    def stop(self) -> None:
        self._server.stop()

    def measure(self) -> Iterable[Family]:
        samples = [
            Sample(count, {"plugin_id": self.context.id, "status": str(status)})
            for status, count in sorted(dict(self._server.statuses).items())
        ]
        name = "forwarder_http_requests_total"
        return (Family(name, "counter", "Requests that were answered, by status.", samples),)

    # ------------------------------------------------------------ requests

    def judge(self, head: Head) -> Response | None:
        """An answer that makes the body needless."""
        if head.method in ("GET", "HEAD"):
            return Response(200, b"", "text/plain")
        if head.method == "OPTIONS":
            return Response(403, b"", "text/plain") if self._cors is None else self._cors.preflight(head)
        if self._cors is not None and not self._cors.admits(head):
            return Response(403, b"", "text/plain", close=True)
        return None

    def answer(self, head: Head, body: bytes) -> Response:
        """Takes a request's events."""
        try:
            path, query = request.split_target(head.target)
            body = request.plain(head, body, self.decompression_size_limit)
            intake = self._read(head, request.tag_of(path), query, body)
        except request.Bad as bad:
            self.context.received(1)
            self.context.drop(1, bad.reason)
            if self.dump_error_log:
                self.log_repeated(
                    "failed to process request", level="error", error=bad.detail, path=head.target
                )
            status = {400: "400 Bad Request"}.get(bad.status, str(bad.status))
            response = Response(bad.status, f"{status}\n{bad.detail}\n".encode(), "text/plain")
        else:
            response = self._emit(intake)
        return (
            response
            if self._cors is None
            else response._replace(headers=(*response.headers, *self._cors.headers(head)))
        )

    def _read(self, head: Head, tag: str, query: bytes, body: bytes) -> Intake:
        asked = request.fields_of(query)
        fields = dict(asked)
        if self._by_type:
            fields.update(request.fields_of_body(head, body))
            content = request.content_of(fields)
        else:
            content = request.Content("text", body)
        if self.add_tag_prefix is not None:
            tag = f"{self.add_tag_prefix}.{tag}"
        added = self._added(head, asked, fields) if self._adds else None
        try:
            return self._reader.read(content.form, content.data, tag, request.time_of(fields), added)
        except ValueError as error:
            detail, reason = error.args
            raise request.Bad(detail, reason) from None

    def _added(self, head: Head, asked: request.Fields, fields: request.Fields) -> dict[str, Any]:
        """Fields for every record, in Fluentd's order: headers, query, address."""
        added: dict[str, Any] = {}
        if self.add_http_headers:
            for name, value in fields.items():
                if name.startswith(b"HTTP_"):
                    added[name.decode("utf-8", "replace")] = request.text(value)
            for header, values in request.headers_of(head).items():
                added["HTTP_" + header.replace("-", "_").upper()] = values if len(values) > 1 else values[0]
        if self.add_query_params:
            for name, value in fields.items():
                if name.startswith(b"QUERY_"):
                    added[name.decode("utf-8", "replace")] = request.text(value)
            for name, value in asked.items():
                key = name.decode("utf-8", "replace").replace("-", "_").upper()
                added[f"QUERY_{key}"] = request.text(value)
        if self.add_remote_addr:
            forwarded = head.header(b"x-forwarded-for")
            added["REMOTE_ADDR"] = (forwarded or "").partition(",")[0] or head.peer
        return added

    def _emit(self, intake: Intake) -> Response:
        batch = intake.batch
        self.context.received(intake.received)  # first: no more comes out than went in
        try:
            if batch:
                self.emit_batch(batch)
        except BufferOverflow as error:
            self.context.received(-intake.received)
            self.log_repeated("buffer full, requests are answered with 503", error=str(error))
            return Response(503, b"the buffer is full, try again later\n", "text/plain", _RETRY_AFTER)
        except Exception as error:
            self.context.received(len(batch) - intake.received)
            self.context.drop(len(batch), "emit_error")
            if self.dump_error_log:
                self.log_repeated("failed to emit data", level="error", count=len(batch), error=repr(error))
            return Response(500, f"500 Internal Server Error\n{error}\n".encode(), "text/plain")
        for reason, count, sample in intake.failures:
            self.context.drop(count, reason)
            data = sample.decode("utf-8", "backslashreplace")
            self.log_repeated(MESSAGES.get(reason, reason), count=count, data=data)
        if self.respond_with_empty_img:
            return Response(200, _PIXEL, "image/gif; charset=utf-8")
        return Response(204 if self.use_204_response else 200, b"", "text/plain")
