"""in_prometheus: the forwarder's metrics for Prometheus, and answers to probes. Takes no events.

`/metrics` is what docs/metrics.md lists, read when it is asked for: nothing is paid per event. `/healthz`
and `/readyz` answer 200 or 503, with the reasons as text:

- `/healthz` (liveness): 503 where a flush thread has ended, or an output's lock is held for seconds.
- `/readyz` (readiness): 503 before all plugins have started and from the stop on; where an output's buffer
  is full or its disk takes nothing; where an output has delivered nothing for `not_ready_after` while
  attempts failed; and where it gave a chunk up and has delivered nothing since.

*Delivery*: no events.

*Differs from Fluentd* (fluent-plugin-prometheus): the forwarder's own metrics are always there; the page has
no metrics of Ruby. `aggregated_metrics_path` gives this process' metrics. An error while the page is made
is logged as everything that repeats, at most once per `ignore_error_log_interval` while it stays the same.
"""

from __future__ import annotations

import gzip
import time
from collections.abc import Iterator

from forwarder.api import (
    ConfigError,
    Input,
    Section,
    boolean,
    duration,
    enum,
    hash_,
    integer,
    optional_section,
    section,
    string,
)
from forwarder.api.exposition import CONTENT_TYPE, Page, families
from forwarder.api.health import dead, not_ready
from forwarder.api.http import HttpServer, Request, Response
from forwarder.api.listening import Listening
from forwarder.api.metrics import Family, Sample
from forwarder.api.server import check_certificate
from forwarder.api.shared_sections import Transport


class Ssl(Section):
    """`<ssl>`: the old form of `<transport tls>`."""

    enable = boolean("Serve HTTPS.", False, deprecated="use <transport tls>")
    certificate_path = string("As cert_path.", None, deprecated="use cert_path in <transport tls>")
    private_key_path = string("The key.", None, deprecated="use private_key_path in <transport tls>")
    ca_path = string("As ca_path.", None, deprecated="use ca_path in <transport tls>")
    extra_conf = hash_("For WEBrick.", None, unsupported="it configures WEBrick, which is Ruby's server")


class PrometheusInput(Listening, Input):
    """Serves metrics and probes."""

    multi_workers_ready = True

    bind = string("Address to listen on; probes from outside need 0.0.0.0.", "127.0.0.1")
    port = integer("Port to listen on; further workers take the next ones.", 24231)
    metrics_path = string("Path of the metrics.", "/metrics")
    aggregated_metrics_path = string("Path of the metrics of all workers.", "/aggregated_metrics")
    content_encoding = enum("Encoding of the metrics.", ("identity", "gzip"), "identity")
    ignore_error_log_interval = duration("How long an error that stays the same is not logged again.", 3600.0)
    not_ready_after = duration(
        "Not in Fluentd: /readyz is 503 where an output has only failed for so long.", 300.0
    )

    transport = section(Transport, "TLS parameters.")
    ssl = optional_section(Ssl, "The old form of <transport tls>.")

    def configure(self) -> None:
        self.check_port()
        for name in ("metrics_path", "aggregated_metrics_path"):
            if not getattr(self, name).startswith("/"):
                raise ConfigError("a path starts with /", param=name)
        old = self.ssl
        if old is not None and old.enable:
            if old.certificate_path is None or old.private_key_path is None:
                raise ConfigError("certificate_path and private_key_path are both needed", param="ssl")
            self.transport.protocol, self.transport.insecure = "tls", True
            self.transport.cert_path, self.transport.private_key_path = (
                old.certificate_path,
                old.private_key_path,
            )
            self.transport.ca_path = old.ca_path
        if self.transport.protocol == "tls":
            check_certificate(self.transport)
        self._page: Page | None = None
        self._error = ("", float("-inf"))

    def start(self) -> None:
        port = self.port + self.context.worker_id if self.port else 0
        routes = {
            self.metrics_path: self._metrics,
            self.aggregated_metrics_path: self._metrics,
            "/healthz": self._healthz,
            "/readyz": self._readyz,
        }
        self._server = HttpServer(self, self.bind, port, routes, transport=self.transport)
        self.bound_port = self._server.port
        self._server.start()
        scheme = "https" if self.transport.protocol == "tls" else "http"
        self.log.info(
            f"metrics and probes are served on {scheme}://{self.bind}:{self.bound_port}{self.metrics_path}"
        )

    def close(self) -> None:
        # not in `stop`: while the last chunks are written, /readyz says that we are going
        self._server.stop()

    # ------------------------------------------------------------ answers

    def _metrics(self, _request: Request) -> Response:
        try:
            if self._page is None:
                self._page = Page(self._families)
            body = self._page.render()
        except Exception as error:
            self._log_error(error)
            return Response(500, f"cannot make the page: {error!r}\n".encode())
        if self.content_encoding == "gzip":
            return Response(200, gzip.compress(body, 1), CONTENT_TYPE, (("Content-Encoding", "gzip"),))
        return Response(200, body, CONTENT_TYPE)

    def _families(self) -> Iterator[Family]:
        metrics = self.context.metrics()
        yield from families(metrics)
        ready = not not_ready(metrics, self.not_ready_after)
        yield Family("forwarder_ready", "gauge", "1: /readyz answers 200.", [Sample(float(ready), {})])
        yield from self.context.families()

    def _log_error(self, error: Exception) -> None:
        text, now = repr(error), time.monotonic()
        if self._error[0] != text or now - self._error[1] >= self.ignore_error_log_interval:
            self._error = text, now
            self.log.error("cannot make the page of metrics", error=error)
            self.log.debug("the error", exc_info=error)

    def _healthz(self, _request: Request) -> Response:
        try:
            return _answer(dead(self.context.metrics()))
        except TimeoutError as error:
            return _answer([str(error)])

    def _readyz(self, _request: Request) -> Response:
        try:
            return _answer(not_ready(self.context.metrics(), self.not_ready_after))
        except TimeoutError as error:
            return _answer([str(error)])


def _answer(reasons: list[str]) -> Response:
    text = "".join(f"{reason}\n" for reason in reasons) or "ok\n"
    return Response(503 if reasons else 200, text.encode())
