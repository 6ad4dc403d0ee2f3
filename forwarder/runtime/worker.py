"""A configuration from its file to an engine that is ready to start, and the process that runs it alone.

Alone (`--no-supervisor`, in a container): SIGTERM and SIGINT stop gracefully, a second one at once; SIGHUP
and SIGUSR2 reload; SIGUSR1 flushes all buffers and reopens the log; SIGWINCH ends the source-only mode.
`forwarder.runtime.supervised` is the worker below a supervisor.
"""

from __future__ import annotations

import os
import select
import signal
import sys
from contextlib import suppress
from threading import Thread
from threading import enumerate as enumerate_threads
from types import FrameType
from typing import TYPE_CHECKING, Final

from forwarder._native import MemoryBudget, keep_memory
from forwarder.api.errors import ConfigError
from forwarder.config.diagnostics import Diagnostics
from forwarder.config.reader import add_include_dir, load, parse_text
from forwarder.config.structure import Structure, read_structure
from forwarder.core.build import build
from forwarder.core.engine import Engine
from forwarder.core.memory import limit_bytes
from forwarder.core.registry import Registry
from forwarder.runtime.control import Control
from forwarder.runtime.modes import log_balance, say_running, shift
from forwarder.runtime.notify import Notifier
from forwarder.runtime.options import Options
from forwarder.runtime.own_log import LogSettings, OwnLog
from forwarder.runtime.process import give_up_privileges, in_background, set_name
from forwarder.runtime.signals import Signals
from forwarder.telemetry.log import LEVELS

if TYPE_CHECKING:
    from collections.abc import Callable

    from forwarder.api.sockets import Keeper, OwnKeeper
    from forwarder.config.element import Element
    from forwarder.runtime.rpc import Rpc
    from forwarder.telemetry.log import Log

_SIGNALS: Final = (
    signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP, signal.SIGWINCH,
)  # fmt: skip


class Loaded:
    """A configuration that was read and checked.

    Raises:
        ConfigError: it cannot run; the text says all that is wrong, with places.
    """

    def __init__(
        self, options: Options, worker_id: int = 0, keeper: Keeper | None = None, *,
        memory: MemoryBudget | None = None,
    ) -> None:  # fmt: skip
        """`memory`: of the process, where it has one already."""
        diagnostics = Diagnostics(strict=options.strict)
        self.options = options
        self.worker_id = worker_id
        self.memory = MemoryBudget() if memory is None else memory
        try:
            self.root = _read(options, diagnostics, worker_id)
            add_include_dir(self.root, diagnostics, worker_id=worker_id)
            self.structure = self._structure(diagnostics)
            self.log_settings = LogSettings.of(options, self.structure.system)
            self.own_log = self._open_log()
            self.engine = self.build(keeper, diagnostics)
        except ConfigError as error:
            diagnostics.exception(error)
            raise ConfigError(diagnostics.render(("error",))) from error
        self.log = self.own_log.log
        for item in diagnostics.warnings:
            where = {} if item.position is None else {"at": str(item.position)}
            self.log.main.line(LEVELS["warn"], item.message, where)

    def _open_log(self) -> OwnLog:
        try:
            return OwnLog(self.log_settings)
        except OSError as error:
            raise ConfigError(
                f"cannot open log file {self.log_settings.path}: {error.strerror or error}"
            ) from error

    def _structure(self, diagnostics: Diagnostics) -> Structure:
        worker_id = None if self.options.dry_run else self.worker_id
        structure = read_structure(self.root, diagnostics, worker_id=worker_id, workers=self.options.workers)
        if self.options.sizes:
            structure.system.enable_size_metrics = True
        if self.options.log_event_verbose:
            structure.system.log_event_verbose = True
        return structure

    def build(self, keeper: Keeper | None, diagnostics: Diagnostics | None = None) -> Engine:
        """A new engine of this configuration; `keeper`: what keeps its sockets. Raises ConfigError."""
        registry = Registry()
        for folder in self.options.plugin_dirs:
            if os.path.isdir(folder):
                registry.add_directory(folder)
            elif diagnostics is not None:  # images of Fluentd name one that need not be there
                diagnostics.warning(f"plugin folder {folder}: there is none")
        sockets = None
        system = self.structure.system
        shares = self.options.shares_sockets and not system.disable_shared_socket
        if keeper is not None and shares:
            from forwarder.api.sockets import Sockets  # noqa: PLC0415 - `--dry-run` does without

            sockets = Sockets(keeper)
        engine = build(
            self.root, diagnostics=diagnostics, structure=self.structure, registry=registry,
            log=self.own_log.log, check_only=self.options.dry_run, worker_id=self.worker_id,
            without_sources=self.options.without_source, source_only=self.options.source_only,
            sockets=sockets, memory=self.memory,
        )  # fmt: skip
        engine.process = {
            "config_path": self.options.config,
            "pid_file": self.options.pid_file,
            "plugin_dirs": list(self.options.plugin_dirs),
            "log_path": self.log_settings.path,
            "root_dir": system.root_dir,
        }
        return engine

    def check_again(self) -> None:
        """Whether the file as it is now can run. Raises ConfigError."""
        again = Loaded(self.options._replace(dry_run=True, log_path=os.devnull), self.worker_id)
        again.own_log.close()

    def serve_rpc(self, engine: Engine, pid: int) -> Rpc | None:
        """The RPC server, in worker 0, where one is wanted; `pid` is of the process that takes signals.
        A port that cannot be had is logged."""
        address = self.structure.system.rpc_address()
        if address is None or self.worker_id:
            return None
        from forwarder.runtime.rpc import Rpc  # noqa: PLC0415 - rarely asked for

        try:
            return Rpc(self, engine, address, pid)
        except OSError as error:
            self.log.main.error("no RPC server", rpc_endpoint=f"{address[0]}:{address[1]}", error=error)
            return None

    def settle(self) -> None:
        """What `<system>` says about the process itself."""
        system = self.structure.system
        self.memory.limit_bytes = limit_bytes(system)
        if system.process_name:
            set_name(f"worker:{system.process_name}" if self.options.supervised else system.process_name)
        umask = system.mode("umask")
        if umask is not None and self.options.umask is None:
            os.umask(umask)


def _read(options: Options, diagnostics: Diagnostics, worker_id: int) -> Element:
    def file() -> Element:
        return load(
            options.config, diagnostics, worker_id=worker_id, yaml=options.yaml, encoding=options.encoding
        )

    if options.inline is None:
        return file()
    root = file() if options.config != os.devnull else None
    # A back-slash and an n are a line end there, as in Fluentd.
    inline = parse_text(
        options.inline.replace("\\n", "\n"), os.path.join(os.path.dirname(options.config), "inline_config"),
        diagnostics, worker_id=worker_id,
    )  # fmt: skip
    if root is None:
        return inline
    root.params.update(inline.params)
    root.elements.extend(inline.elements)
    return root


def run(options: Options) -> int:
    """Runs alone until a signal ends it.

    Returns:
        The exit status: 0 after a graceful stop, 1 for a configuration that cannot run.
    """
    from forwarder.api.sockets import OwnKeeper  # noqa: PLC0415

    keeper = OwnKeeper()
    running: Callable[[], None] = lambda: None  # noqa: E731
    try:
        loaded = Loaded(options, keeper=keeper)
        if options.dry_run:
            loaded.log.main.info("finished dry run: the configuration is fine", path=options.config)
            return 0
        if loaded.structure.system.workers > 1:
            raise ConfigError(
                f"error: workers must be 1 with --no-supervisor, but it is {loaded.structure.system.workers}"
            )
        if options.pid_file:
            running = in_background(options.pid_file)
        loaded.settle()
        give_up_privileges(options)
    except ConfigError as error:
        print(error.message, file=sys.stderr)
        return 1
    except (KeyError, OSError) as error:
        print(f"error: cannot change user or group: {error}", file=sys.stderr)
        return 1
    return Alone(loaded, keeper, running).run()


class Alone:
    """The one process without a supervisor."""

    def __init__(self, loaded: Loaded, keeper: OwnKeeper, on_running: Callable[[], None]) -> None:
        self._loaded = loaded
        self._keeper = keeper
        self._on_running = on_running
        self._signals = Signals(_SIGNALS, _at_once)
        self._notifier = Notifier()
        self._leaving: list[Thread] = []
        self._rpc: Rpc | None = None

    def run(self) -> int:
        """Gives the exit status."""
        loaded = self._loaded
        keep_memory()
        dump_on_signal()
        loaded.log.main.info("starting forwarder", pid=os.getpid(), config=loaded.options.config)
        try:
            loaded.engine.start()
        except Exception as error:
            print(f"error: cannot start: {error}", file=sys.stderr)
            loaded.log.main.debug("the error", exc_info=error)
            return 1
        control = Control(lambda: self._loaded.engine, loaded.log.main, loaded.options.control_socket)
        if loaded.options.control_socket != "none":
            control.start()
        self._rpc = loaded.serve_rpc(loaded.engine, os.getpid())
        say_running(loaded.engine, loaded.log)
        self._on_running()
        self._notifier.ready("running")
        number = self._serve()
        if number:
            self._loaded.log.main.info("stopping", signal=signal.Signals(number).name)
        self._notifier.stopping()
        if self._rpc is not None:
            self._rpc.stop()
        self._keeper.retain(set())
        self._loaded.engine.stop(self._loaded.options.stop_seconds)
        for thread in self._leaving:
            thread.join()
        control.close()
        log_balance(self._loaded.engine, self._loaded.log)
        self._loaded.log.main.info("stopped")
        sys.stdout.flush()
        return 0 if number else 1

    def _serve(self) -> int:
        """Until a signal ends it, which it gives; 0: it cannot go on."""
        watchdog = self._notifier.watchdog_seconds
        poll = select.poll()
        poll.register(self._signals, select.POLLIN)
        while True:
            poll.poll(None if watchdog is None else watchdog * 1000 / 3)
            self._notifier.alive()
            for number in self._signals.read():
                if number in (signal.SIGTERM, signal.SIGINT):
                    self._signals.stopping = True
                    return number
                if number == signal.SIGUSR1:
                    self._loaded.own_log.reopen()
                    self._loaded.log.main.info("flushing all buffers")
                    self._loaded.engine.flush()
                elif number == signal.SIGWINCH:
                    if not shift(self._loaded, self._loaded.engine):
                        return 0
                else:
                    self._notifier.reloading()
                    self._reload()
                    self._notifier.ready("running")

    def _reload(self) -> None:
        """The new engine takes over where it can start; else the old one goes on."""
        old = self._loaded
        old.log.main.info("reloading the configuration", config=old.options.config)
        try:
            new = Loaded(old.options, keeper=self._keeper, memory=old.memory)
        except ConfigError as error:
            old.log.main.error(
                "reload failed: the configuration cannot run; the old one goes on", error=error.message
            )
            return
        if new.engine.overlaps and old.engine.overlaps:
            try:
                new.engine.start()
            except Exception as error:
                old.log.main.error(
                    "reload failed: it cannot start; the old configuration goes on", error=error
                )
                return
            self._leaving.append(leave(old.engine, old.options.stop_seconds, old.log))
        else:
            self._leaving.append(leave(old.engine, old.options.stop_seconds, old.log))
            try:
                new.engine.start()
            except Exception as error:
                old.log.main.error(
                    "reload failed: it cannot start; the old configuration goes on", error=error
                )
                old.engine = old.build(self._keeper)
                old.engine.start()
                return
        self._loaded = new
        new.settle()
        if self._rpc is not None:
            self._rpc.stop()
        self._rpc = new.serve_rpc(new.engine, os.getpid())
        self._keeper.retain(new.engine.sockets.keys)
        new.log.main.info("reloaded")
        self._leaving = [thread for thread in self._leaving if thread.is_alive()]


def leave(engine: Engine, seconds: float, log: Log) -> Thread:
    """Stops an engine that another one follows, and comes back as soon as that may start; the thread flushes
    what memory buffers hold."""
    from threading import Event  # noqa: PLC0415

    gone = Event()

    def stop() -> None:
        try:
            engine.stop(seconds, leave=gone.set)
            log_balance(engine, log)
        finally:
            gone.set()

    thread = Thread(target=stop, name="leaving")
    thread.start()
    gone.wait()
    return thread


def dump_on_signal() -> None:
    """SIGCONT writes the stacks of all threads to the standard error stream."""
    signal.signal(signal.SIGCONT, _write_stacks)


def _write_stacks(_number: int, _frame: FrameType | None) -> None:
    # Not faulthandler.register: it walks the frames of threads that run meanwhile, which crashed the process.
    import traceback  # noqa: PLC0415

    names = {thread.ident: thread.name for thread in enumerate_threads()}
    text = "".join(
        f"Thread {names.get(ident, ident)} (most recent call last):\n"
        + "".join(traceback.format_stack(frame))
        for ident, frame in sys._current_frames().items()
    )
    with suppress(OSError):
        os.write(2, text.encode("utf-8", "backslashreplace"))


def _at_once(number: int) -> None:
    if number in (signal.SIGTERM, signal.SIGINT):
        os.write(2, b"second signal: stopped at once\n")
        os._exit(1)
