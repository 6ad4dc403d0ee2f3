"""`<system> rpc_endpoint`: Fluentd's HTTP requests that do what signals do.

Worker 0 answers and passes on to the supervisor; the socket is kept by that, so a request during a reload
waits. A reload is checked before it begins, and the answer says what is wrong with the configuration.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, cast

from forwarder.api.errors import ConfigError
from forwarder.api.http import HttpServer, Request, Response
from forwarder.api.plugin import Plugin
from forwarder.config.render import render

if TYPE_CHECKING:
    import logging

    from forwarder.api.plugin import Context
    from forwarder.api.sockets import Binding, Bound
    from forwarder.core.engine import Engine
    from forwarder.runtime.worker import Loaded
    from forwarder.telemetry.log import Log

_SIGNALS: Final = {
    "/api/processes.interruptWorkers": (signal.SIGINT,),
    "/api/processes.killWorkers": (signal.SIGTERM,),
    "/api/processes.flushBuffersAndKillWorkers": (signal.SIGUSR1, signal.SIGTERM),
    "/api/plugins.flushBuffers": (signal.SIGUSR1,),
}
_RELOADS: Final = (
    "/api/config.reload",
    "/api/config.gracefulReload",
    "/api/processes.zeroDowntimeRestart",
)


class _Context:
    """What the HTTP server asks of a plugin's context."""

    id = "rpc"

    def __init__(self, engine: Engine, log: Log) -> None:
        self._engine = engine
        self._sink = log
        self.log: logging.LoggerAdapter[logging.Logger] = log.of("rpc")

    def bind(self, binding: Binding) -> Bound:
        return self._engine.sockets.bind(binding)

    def log_repeated(self, message: str, *, count: int = 1, level: str = "warn", **fields: object) -> None:
        self._sink.repeats.log(cast("Any", self.log), message, count, level, fields)


class _Own(Plugin):
    kind = "rpc"

    def __init__(self, context: _Context) -> None:
        self.context = cast("Context", context)


class Rpc:
    """Serves the requests from its making until `stop`.

    Raises:
        OSError: the port cannot be had.
    """

    def __init__(self, loaded: Loaded, engine: Engine, address: tuple[str, int], pid: int) -> None:
        """`pid`: of the process that takes the signals."""
        self._loaded = loaded
        self._pid = pid
        routes: dict[str, Callable[[Request], Response]] = dict.fromkeys(_RELOADS, self._reload)
        routes.update(dict.fromkeys(_SIGNALS, self._signal))
        routes["/api/config.dump"] = self._dump
        if loaded.structure.system.enable_get_dump:
            routes["/api/config.getDump"] = lambda _: _answer(conf=render(loaded.root))
        self._server = HttpServer(_Own(_Context(engine, loaded.log)), *address, routes)
        self._server.start()

    def stop(self) -> None:
        """Closes the connections."""
        self._server.stop()

    def _signal(self, request: Request) -> Response:
        for number in _SIGNALS[request.path]:
            os.kill(self._pid, number)
        return _answer()

    def _reload(self, _request: Request) -> Response:
        try:
            self._loaded.check_again()
        except ConfigError as error:
            return _answer(500, error=error.message)
        os.kill(self._pid, signal.SIGHUP)
        return _answer()

    def _dump(self, _request: Request) -> Response:
        self._loaded.log.main.info("the configuration", conf=render(self._loaded.root))
        return _answer()


def _answer(status: int = 200, **fields: object) -> Response:
    body = json.dumps({**fields, "ok": status == 200}, ensure_ascii=False).encode()
    return Response(status, body, "application/json")
