"""The worker process: a configuration from its file to its orderly end.

SIGTERM and SIGINT stop gracefully, a second one at once; SIGUSR1 flushes all buffers.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO

from forwarder.api.errors import ConfigError
from forwarder.config.diagnostics import Diagnostics
from forwarder.config.reader import load, parse_text
from forwarder.config.structure import read_structure
from forwarder.core.build import build
from forwarder.core.engine import STOP_SECONDS, Engine
from forwarder.core.registry import Registry
from forwarder.telemetry.log import LEVELS, Log

if TYPE_CHECKING:
    from forwarder.config.element import Element
    from forwarder.config.system import SystemConfig


class Options(NamedTuple):
    """What the command line says."""

    config: str = "/etc/fluent/fluent.conf"
    inline: str | None = None
    """Configuration text added behind the file's."""
    plugin_dirs: tuple[str, ...] = ()
    log_path: str | None = None
    log_level: str | None = None
    log_json: bool | None = None
    dry_run: bool = False
    without_source: bool = False
    stop_seconds: float = STOP_SECONDS


def run(options: Options) -> int:
    """Runs until a signal ends it.

    Returns:
        The exit status: 0 after a graceful stop, 1 for a configuration that cannot run.
    """
    diagnostics = Diagnostics()
    try:
        root = _read(options, diagnostics)
        structure = read_structure(root, diagnostics)
        log = _log(options, structure.system)
        registry = Registry()
        for folder in options.plugin_dirs:
            registry.add_directory(folder)
        engine = build(
            root, diagnostics=diagnostics, structure=structure, registry=registry, log=log,
            check_only=options.dry_run, without_sources=options.without_source,
        )  # fmt: skip
    except ConfigError as error:
        diagnostics.exception(error)
        print(diagnostics.render(("error",)), file=sys.stderr)
        return 1
    for item in diagnostics.warnings:
        where = {} if item.position is None else {"at": str(item.position)}
        log.main.line(LEVELS["warn"], item.message, where)
    if options.dry_run:
        log.main.info("finished dry run: the configuration is fine", path=options.config)
        return 0
    umask = structure.system.mode("umask")
    if umask is not None:
        os.umask(umask)
    return _serve(engine, log, options)


def _read(options: Options, diagnostics: Diagnostics) -> Element:
    if options.inline is None:
        return load(options.config, diagnostics)
    root = load(options.config, diagnostics) if options.config != os.devnull else None
    inline = parse_text(options.inline, "inline_config", diagnostics)
    if root is None:
        return inline
    root.params.update(inline.params)
    root.elements.extend(inline.elements)
    return root


def _log(options: Options, system: SystemConfig) -> Log:
    path = options.log_path or system.log.path
    stream: TextIO | None = None
    if path is not None and path != "-":
        try:
            stream = open(path, "a", encoding="utf-8", buffering=1)  # noqa: SIM115 - open until the end
        except OSError as error:
            raise ConfigError(f"cannot open log file {path}: {error.strerror or error}") from error
    json = system.log.format == "json" if options.log_json is None else options.log_json
    return Log(stream, level=options.log_level or system.log_level, json=json)


def _serve(engine: Engine, log: Log, options: Options) -> int:
    # A handler only notes the signal: the byte that the interpreter writes wakes the read below.
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    stopping = False

    def note(number: int, _frame: Any) -> None:
        if stopping and number in (signal.SIGTERM, signal.SIGINT):
            os.write(2, b"second signal: stopped at once\n")
            os._exit(1)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP):
        signal.signal(number, note)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    log.main.info("starting forwarder", pid=os.getpid(), config=options.config)
    try:
        engine.start()
    except Exception as error:
        print(f"error: cannot start: {error}", file=sys.stderr)
        log.main.debug("the error", exc_info=error)
        return 1
    log.main.info("forwarder is now running")
    while True:
        received = os.read(reader, 1)[0]
        if received in (signal.SIGTERM, signal.SIGINT):
            break
        if received == signal.SIGUSR1:
            log.main.info("flushing all buffers")
            engine.flush()
        else:
            log.main.warning("reload is not available yet", signal=signal.Signals(received).name)
    stopping = True
    log.main.info("stopping", signal=signal.Signals(received).name)
    engine.stop(options.stop_seconds)
    log.main.info("stopped")
    sys.stdout.flush()
    return 0
