"""What the command line of `forwarder run` says. Light: the supervisor imports nothing of the engine."""

from __future__ import annotations

import os
from typing import Final, NamedTuple

DEFAULT_CONFIG: Final = "/etc/fluent/fluent.conf"
STOP_SECONDS: Final = 10.0
"""How long a stop may take before what is left is given up."""


class Options(NamedTuple):
    """What the command line says."""

    config: str = DEFAULT_CONFIG
    inline: str | None = None
    """Configuration text added behind the file's."""
    plugin_dirs: tuple[str, ...] = ()
    log_path: str | None = None
    log_level: str | None = None
    log_json: bool | None = None
    log_rotate_age: str | None = None
    log_rotate_size: int | None = None
    dry_run: bool = False
    without_source: bool = False
    source_only: bool | None = None
    """Instead of `<system> with_source_only`; False once the mode was ended by SIGWINCH."""
    sizes: bool = False
    """As `<system> enable_size_metrics`."""
    strict: bool = False
    """Doubtful numbers are errors."""
    encoding: str = "utf-8-sig"
    """Of the configuration file."""
    log_event_verbose: bool = False
    """As `<system> log_event_verbose`."""
    yaml: bool = False
    """The configuration is YAML whatever its file is called."""
    repeat_seconds: float | None = None
    """How often what may happen for every event is summarised in the log."""
    traces_once: bool | None = None
    umask: int | None = None
    user: str | None = None
    group: str | None = None
    chroot: str | None = None
    stop_seconds: float = STOP_SECONDS
    control_socket: str | None = None
    """Its path; "none": none; None: `forwarder.runtime.control_path`."""
    workers: int | None = None
    """Instead of `<system> workers`."""
    pid_file: str | None = None
    """Run in the background and keep the process's number there."""
    shares_sockets: bool = True
    """False: each worker binds its own."""
    supervised: bool = True
    """Workers below a supervisor; False: one process."""


def default_config() -> str:
    """The configuration file where the command line names none."""
    return os.environ.get("FLUENT_CONF", DEFAULT_CONFIG)
