"""The worker process: a configuration from its file to its orderly end.

SIGTERM and SIGINT stop gracefully, a second one at once; SIGUSR1 flushes all buffers.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO

from forwarder._native import keep_memory
from forwarder.api.errors import ConfigError
from forwarder.config.diagnostics import Diagnostics
from forwarder.config.reader import add_include_dir, load, parse_text
from forwarder.config.structure import read_structure
from forwarder.core.build import build
from forwarder.core.engine import STOP_SECONDS, Engine
from forwarder.core.registry import Registry
from forwarder.runtime.control import Control
from forwarder.telemetry.log import LEVELS, REPEAT_SECONDS, Log

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
    strict: bool = False
    """Doubtful numbers are errors."""
    yaml: bool = False
    """The configuration is YAML whatever its file is called."""
    repeat_seconds: float | None = None
    """How often what may happen for every event is summarised in the log."""
    traces_once: bool | None = None
    umask: int | None = None
    user: str | None = None
    group: str | None = None
    stop_seconds: float = STOP_SECONDS
    control_socket: str | None = None
    """Its path; "none": none; None: `forwarder.runtime.control_path`."""


def run(options: Options) -> int:
    """Runs until a signal ends it.

    Returns:
        The exit status: 0 after a graceful stop, 1 for a configuration that cannot run.
    """
    diagnostics = Diagnostics(strict=options.strict)
    try:
        root = _read(options, diagnostics)
        add_include_dir(root, diagnostics)
        structure = read_structure(root, diagnostics)
        log = _log(options, structure.system)
        registry = Registry()
        for folder in options.plugin_dirs:
            registry.add_directory(folder)
        engine = build(
            root, diagnostics=diagnostics, structure=structure, registry=registry, log=log,
            check_only=options.dry_run, without_sources=options.without_source,
        )  # fmt: skip
        engine.process = {
            "config_path": options.config,
            "pid_file": None,
            "plugin_dirs": list(options.plugin_dirs),
            "log_path": options.log_path or structure.system.log.path,
            "root_dir": structure.system.root_dir,
        }
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
    if structure.system.process_name:
        _name_process(structure.system.process_name)
    umask = structure.system.mode("umask") if options.umask is None else options.umask
    if umask is not None:
        os.umask(umask)
    try:
        _change_user(options.user, options.group)
    except (KeyError, OSError) as error:
        print(f"error: cannot change user or group: {error}", file=sys.stderr)
        return 1
    return _serve(engine, log, options)


def _read(options: Options, diagnostics: Diagnostics) -> Element:
    if options.inline is None:
        return load(options.config, diagnostics, yaml=options.yaml)
    root = load(options.config, diagnostics, yaml=options.yaml) if options.config != os.devnull else None
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
            if os.path.dirname(path):
                os.makedirs(os.path.dirname(path), exist_ok=True)
            stream = open(path, "a", encoding="utf-8", buffering=1)  # noqa: SIM115 - open until the end
        except OSError as error:
            raise ConfigError(f"cannot open log file {path}: {error.strerror or error}") from error
    json = system.log.format == "json" if options.log_json is None else options.log_json
    interval = system.emit_error_log_interval if options.repeat_seconds is None else options.repeat_seconds
    once = system.suppress_repeated_stacktrace if options.traces_once is None else options.traces_once
    forced = system.log.forced_stacktrace_level
    return Log(
        stream,
        level=options.log_level or system.log_level,
        json=json,
        time_format=system.log.time_format,
        repeat_seconds=REPEAT_SECONDS if interval is None else interval,
        ignore_repeated_seconds=system.ignore_repeated_log_interval,
        ignore_same_seconds=system.ignore_same_log_interval,
        trace_level=None if forced == "none" else forced,
        traces_once=once is not False,
    )


def _change_user(user: str | None, group: str | None) -> None:
    """Gives up privileges, before any socket or file of a plugin is opened, as in Fluentd."""
    if user is None and group is None:
        return
    import grp  # noqa: PLC0415 - rarely asked for
    import pwd  # noqa: PLC0415

    entry = None if user is None else pwd.getpwuid(int(user)) if user.isdecimal() else pwd.getpwnam(user)
    if group is not None:
        os.setgid(int(group) if group.isdecimal() else grp.getgrnam(group).gr_gid)
    elif entry is not None:
        os.setgid(entry.pw_gid)
    if entry is not None:
        os.initgroups(entry.pw_name, os.getgid())
        os.setuid(entry.pw_uid)


def _name_process(name: str) -> None:
    """Sets what `ps -o comm` shows. The kernel keeps 15 bytes."""
    with suppress(OSError), open("/proc/self/comm", "w", encoding="utf-8") as file:
        file.write(name)


def _serve(engine: Engine, log: Log, options: Options) -> int:
    keep_memory()
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
    control = Control(lambda: engine, log.main, options.control_socket)
    if options.control_socket != "none":
        control.start()
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
    control.close()
    log.main.info("stopped")
    sys.stdout.flush()
    return 0
