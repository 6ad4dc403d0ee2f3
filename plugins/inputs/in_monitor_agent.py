"""in_monitor_agent: the state of all plugins as JSON or LTSV over HTTP, or as events.

`/api/plugins.json`, `/api/plugins`, `/api/config.json`, `/api/config`; the query may have `tag=`, `id=` (or
`@id=`), `type=` (or `@type=`), and with `include_debug_info` `debug=1` and `with_ivars=NAME,NAME`.

*Delivery*: with `tag`, one event per plugin every `emit_interval`; what a full buffer refuses is dropped and
counted (`overflow`).

*Differs from Fluentd*: secrets in `config` are masked. `version` is the forwarder's. Instance variables are
the plugin's parameters and its counters under Fluentd's names. `config.json` has no path of a
command socket.
"""

from __future__ import annotations

import json
import os
import threading
import time
from typing import Any, Final

from forwarder.api import (
    BufferOverflow,
    ConfigError,
    EventStream,
    Input,
    boolean,
    duration,
    integer,
    section,
    string,
)
from forwarder.api.http import HttpServer, Request, Response
from forwarder.api.listening import Listening
from forwarder.api.monitor import Info, info_by_tag, plugin_infos
from forwarder.api.server import check_certificate
from forwarder.api.shared_sections import Transport

_NOT_FOUND: Final = Response(404, b'{"message":"Not found"}', "application/json")


class MonitorAgentInput(Listening, Input):
    """Tells the state of all plugins."""

    multi_workers_ready = True

    port = integer("Port to listen on; further workers take the next ones.", 24220)
    tag = string("Tag of the events with the state of the plugins; none: no events.", None)
    emit_interval = duration("Seconds between these events.", 60.0)
    include_config = boolean("Tell the parameters of the plugins.", False)
    include_retry = boolean("Tell the state of retries.", False)
    include_debug_info = boolean("Allow the query's debug and with_ivars.", False)

    transport = section(Transport, "TLS parameters.")

    def configure(self) -> None:
        self.check_port()
        if self.emit_interval <= 0:
            raise ConfigError("must be more than 0", param="emit_interval")
        if self.transport.protocol == "tls":
            check_certificate(self.transport)
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        port = self.port + self.context.worker_id if self.port else 0
        routes = {
            "/api/plugins": lambda request: _ltsv(self._plugins(request)),
            "/api/plugins.json": lambda request: self._json({"plugins": self._plugins(request)}, request),
            "/api/config": lambda _: _ltsv([self._process()]),
            "/api/config.json": lambda request: self._json(self._process(), request),
        }
        self._server = HttpServer(
            self, self.bind, port, routes, not_found=_NOT_FOUND, transport=self.transport
        )
        self.bound_port = self._server.port
        self._server.start()
        self.log.debug(f"the state of plugins is served on {self.bind}:{self.bound_port}/api/plugins")
        if self.tag is not None:
            self._thread = threading.Thread(target=self._run, name=f"in:{self.context.id}", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()

    def close(self) -> None:
        self._server.stop()

    # ------------------------------------------------------------ answers

    def _plugins(self, request: Request) -> list[Info]:
        debug, variables = False, None
        if self.include_debug_info:
            debug = "debug" in request.query
            if "with_ivars" in request.query:
                variables = request.query["with_ivars"][0].split(",")
        infos = plugin_infos(
            self.context, with_config=self.include_config, with_retry=self.include_retry,
            debug=debug, variables=variables,
        )  # fmt: skip
        query = {name: values[0] for name, values in request.query.items()}
        if "tag" in query:
            return info_by_tag(self.context, query["tag"], infos)
        plugin_id = query.get("@id", query.get("id"))
        if plugin_id is not None:
            return [info for info in infos if info["plugin_id"] == plugin_id]
        type_name = query.get("@type", query.get("type"))
        return [info for info in infos if type_name in (None, info["type"])]

    def _process(self) -> Info:
        from forwarder import __version__  # noqa: PLC0415 - the package itself is no room

        return {
            "pid": os.getpid(),
            "ppid": os.getppid(),
            "version": __version__,
            **self.context.process,
        }

    def _json(self, value: Any, request: Request) -> Response:
        pretty = self.include_debug_info and "debug" in request.query
        separators = None if pretty else (",", ":")
        text = json.dumps(
            value, ensure_ascii=False, indent=2 if pretty else None, separators=separators, default=str
        )
        return Response(200, text.encode(), "application/json")

    # ------------------------------------------------------------ events

    def _run(self) -> None:
        while not self._stopping.wait(self.emit_interval):
            try:
                infos = plugin_infos(self.context)
            except TimeoutError as error:
                self.log_repeated("cannot read the state of the plugins", error=str(error))
                continue
            now = time.time_ns()
            self.context.received(len(infos))
            try:
                self.emit(self.tag or "", EventStream.from_events((now, info) for info in infos))
            except BufferOverflow as error:
                self.context.drop(len(infos), error.reason)
                self.log_repeated("buffer full, events dropped", count=len(infos), error=str(error))
            except Exception as error:
                self.context.drop(len(infos), "emit_error")
                self.log_repeated("emitting failed", level="error", count=len(infos), error=repr(error))


def _ltsv(infos: list[Info]) -> Response:
    lines = []
    for info in infos:
        cells = [f"{name}:{_cell(value)}" for name, value in info.items() if not isinstance(value, dict)]
        lines.append("\t".join(cells) + "\n")
    return Response(200, "".join(lines).encode())


def _cell(value: object) -> str:
    if isinstance(value, list | tuple):
        return ",".join(_cell(each) for each in value)
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)
