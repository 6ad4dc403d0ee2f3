"""A worker below a supervisor: does what it is told, and says how far it is.

It says "built" (the configuration is fine), "running", "released" (its files and sockets are free for the
next), and is told "start", "release", "resume", "leave" (release, then end), "stop" (nobody follows),
"flush", "shift" (the source-only mode ends), "ping". When the supervisor is gone it ends as at "leave": what
waits in persistent buffers is left to the next start.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import sys
import time
from threading import Thread
from typing import TYPE_CHECKING, Final

from forwarder._native import keep_memory
from forwarder.api.errors import ConfigError
from forwarder.buffer.lock import InUseError
from forwarder.runtime import control_path
from forwarder.runtime.channel import Channel
from forwarder.runtime.control import Control
from forwarder.runtime.kept import RemoteKeeper
from forwarder.runtime.modes import log_balance, say_running, shift
from forwarder.runtime.options import Options
from forwarder.runtime.signals import Signals
from forwarder.runtime.worker import Loaded, dump_on_signal, leave

if TYPE_CHECKING:
    from forwarder.runtime.rpc import Rpc

_SIGNALS: Final = (signal.SIGTERM, signal.SIGUSR1)
_PREDECESSOR_SECONDS: Final = 15.0
"""How long a worker without a supervisor may keep its buffers: an attempt may be under way."""
_PORT_SECONDS: Final = 2.0
"""How long it may keep its ports."""
_PAUSE_SECONDS: Final = 0.05


def work(options: Options, number: int, commands: Channel, sockets: Channel) -> int:
    """Runs until it is told to end; gives the exit status."""
    # Control-C in a terminal reaches all processes: the supervisor passes on what it means
    for each in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR2, signal.SIGWINCH):
        signal.signal(each, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        loaded = Loaded(options, number, RemoteKeeper(sockets))
    except ConfigError as error:
        print(error.message, file=sys.stderr)
        return 1
    return _Worker(loaded, commands, sockets).run()


class _Worker:
    def __init__(self, loaded: Loaded, commands: Channel, sockets: Channel) -> None:
        self._loaded = loaded
        self._commands = commands
        self._sockets = sockets
        self._signals = Signals(_SIGNALS)
        self._engine = loaded.engine
        self._draining: Thread | None = None
        self._control: Control | None = None
        self._rpc: Rpc | None = None
        self._ended = False
        self._status = 0

    def run(self) -> int:
        loaded, system = self._loaded, self._loaded.structure.system
        loaded.settle()
        keep_memory()
        dump_on_signal()
        self._say(
            "built", workers=system.workers, overlaps=self._engine.overlaps, log=tuple(loaded.log_settings),
            process_name=system.process_name, restart_seconds=system.restart_worker_interval,
            source_only=self._engine.collecting,
        )  # fmt: skip
        poll = select.poll()
        poll.register(self._signals, select.POLLIN)
        poll.register(self._commands, select.POLLIN)
        while not self._ended:
            ready = {descriptor for descriptor, _ in poll.poll()}
            if self._commands.fileno() in ready:
                received = self._commands.receive()
                self._told("orphaned" if received is None else received[0]["do"])
            if self._signals.fileno() in ready:
                for number in self._signals.read():
                    # to this worker alone: the supervisor starts another one
                    self._told("leave" if number == signal.SIGTERM else "flush")
        if self._control is not None:
            self._control.close()
        return self._status

    def _say(self, what: str, **more: object) -> None:
        self._commands.send({"says": what, **more})

    def _told(self, what: str) -> None:
        if what == "ping":
            self._say("alive")
        elif what in ("start", "first start", "resume"):
            self._start(what)
        elif what == "release":
            self._release()
        elif what in ("leave", "orphaned"):
            self._leave(what)
        elif what == "flush":
            self._loaded.own_log.reopen()
            self._loaded.log.main.info("flushing all buffers")
            self._engine.flush()
        elif what == "shift":
            if not shift(self._loaded, self._engine):
                self._ended, self._status = True, 1
        elif what == "stop":
            self._loaded.log.main.info("stopping")
            self._stop_rpc()
            self._engine.stop(self._loaded.options.stop_seconds)
            log_balance(self._engine, self._loaded.log)
            self._loaded.log.main.info("stopped")
            self._ended = True

    def _start(self, what: str) -> None:
        log, options = self._loaded.log.main, self._loaded.options
        try:
            if what == "resume":
                if self._draining is not None:
                    self._draining.join()
                self._engine = self._loaded.build(RemoteKeeper(self._sockets))
            else:
                log.info(
                    "starting forwarder",
                    pid=os.getpid(),
                    config=options.config,
                    worker=self._loaded.worker_id,
                )
            self._start_engine(_PREDECESSOR_SECONDS if what == "first start" else 0.0)
        except Exception as error:
            print(f"error: cannot start: {error}", file=sys.stderr)
            log.debug("the error", exc_info=error)
            self._ended, self._status = True, 1
            return
        if self._control is None and options.control_socket != "none":
            path = options.control_socket
            if path is not None:
                path = control_path.of_worker(path, self._loaded.worker_id)
            self._control = Control(lambda: self._engine, log, path, siblings=True)
            self._control.start()
        self._rpc = self._loaded.serve_rpc(self._engine, os.getppid())
        say_running(self._engine, self._loaded.log)
        self._say("running")

    def _start_engine(self, patience: float) -> None:
        """What a worker has whose supervisor was killed is free in a moment."""
        started = time.monotonic()
        waiting = False
        while True:
            try:
                return self._engine.start()
            except OSError as error:
                ours = patience if isinstance(error, InUseError) else min(patience, _PORT_SECONDS)
                known = isinstance(error, InUseError) or error.errno == errno.EADDRINUSE
                if not known or time.monotonic() - started >= ours:
                    raise
                if not waiting:
                    self._loaded.log.main.warning("in use: trying again", error=error)
                waiting = True
                time.sleep(_PAUSE_SECONDS)
                self._engine = self._loaded.build(RemoteKeeper(self._sockets))

    def _stop_rpc(self) -> None:
        if self._rpc is not None:
            self._rpc.stop()
            self._rpc = None

    def _release(self) -> None:
        self._stop_rpc()
        if self._draining is None or not self._draining.is_alive():
            self._draining = leave(self._engine, self._loaded.options.stop_seconds, self._loaded.log)
        self._say("released")

    def _leave(self, what: str) -> None:
        log = self._loaded.log.main
        if what == "orphaned":
            log.error("the supervisor is gone: stopping")
        self._stop_rpc()
        if self._draining is None:
            self._draining = leave(self._engine, self._loaded.options.stop_seconds, self._loaded.log)
        self._draining.join()
        log.info("stopped, another worker goes on" if what == "leave" else "stopped")
        self._ended = True
