"""`<system>`: what concerns the whole process."""

from __future__ import annotations

import re

from forwarder.api.errors import ConfigError
from forwarder.api.parameters import (
    Section,
    boolean,
    duration,
    enum,
    hash_,
    integer,
    optional_section,
    section,
    size,
    string,
)
from forwarder.config.diagnostics import Diagnostics
from forwarder.config.element import Element

_OCTAL = re.compile("[0-7]+")
_ENDPOINT = re.compile(r"\[?([0-9a-zA-Z:\-.]+)\]?:([0-9]+)")
LOG_LEVELS = ("trace", "debug", "info", "warn", "error", "fatal")
_COUNTER = (
    "the counter API is for Ruby plugins: what this process counts is shown by prometheus and monitor_agent"
)


class SystemLog(Section):
    """`<log>`: the process's own log."""

    path = string("File instead of the standard error stream.", None)
    format = enum("Layout of a line.", ("text", "json"), "text")
    time_format = string("strftime format of the time in a line.", "%Y-%m-%d %H:%M:%S %z")
    rotate_age = string(
        "daily, weekly or monthly: when a new file is begun; or how many files there may be.", None
    )
    rotate_size = size("File size that starts a new file.", None)
    forced_stacktrace_level = enum(
        "Level at which stack traces are logged; none: debug.", ("none", *LOG_LEVELS), "none"
    )

    def configure(self) -> None:
        age = self.rotate_age
        if age is not None and not age.isdecimal() and age not in ("daily", "weekly", "monthly"):
            raise ConfigError(
                f"rotate_age: expected daily, weekly, monthly or a number of files, but got {age!r}",
                param="rotate_age",
            )


class CounterServer(Section):
    """`<counter_server>`: refused."""

    scope = string("Scope.", None, unsupported=_COUNTER)
    port = integer("Port.", None, unsupported=_COUNTER)
    bind = string("Address.", None, unsupported=_COUNTER)
    backup_path = string("File.", None, unsupported=_COUNTER)

    def configure(self) -> None:
        raise ConfigError(_COUNTER)


class CounterClient(Section):
    """`<counter_client>`: refused."""

    host = string("Server.", None, unsupported=_COUNTER)
    port = integer("Port.", None, unsupported=_COUNTER)
    timeout = duration("Time-out of an operation.", None, unsupported=_COUNTER)

    def configure(self) -> None:
        raise ConfigError(_COUNTER)


class Metrics(Section):
    """`<metrics>`: kept in the process; nothing else exists."""

    default_labels = hash_("Labels of all metrics; nothing shows them.", {}, of="string")
    labels = hash_("Labels of all metrics; nothing shows them, in Fluentd neither.", {}, of="string")


class SourceOnlyBuffer(Section):
    """`<source_only_buffer>`: where events wait in source-only mode."""

    flush_thread_count = integer("Flush threads.", 1)
    overflow_action = enum(
        "What a full buffer does.", ("throw_exception", "block", "drop_oldest_chunk"), "drop_oldest_chunk"
    )
    path = string(
        "Folder; not set: source-only-buffer below root_dir, FLUENT_BACKUP_DIR or /tmp/fluent.", None
    )
    flush_interval = duration("Seconds between flushes, once the mode is over; not set: 10.", None)
    chunk_limit_size = size("Size of a chunk.", None)
    total_limit_size = size("Size of all chunks.", None)
    compress = enum("Compression of chunks.", ("text", "gzip"), None)


class SystemConfig(Section):
    """Fluentd's `<system>` parameters. Said to do nothing: right as it is, because we have no such thing."""

    workers = integer("Worker processes.", 1)
    restart_worker_interval = duration("Least pause before a worker that died is started again.", 0.0)
    root_dir = string("Folder for what plugins keep.", None)
    log_level = enum("Lowest level that is logged.", LOG_LEVELS, "info")
    suppress_repeated_stacktrace = boolean(
        "Do not log a stack trace again that equals the last one; not set: so.", None
    )
    ignore_repeated_log_interval = duration("For how long a line that equals the last one is left out.", None)
    ignore_same_log_interval = duration("For how long a line is left out that was logged already.", None)
    emit_error_log_interval = duration(
        "Seconds between two summaries of what may happen for every event; not set: 10.", None
    )
    suppress_config_dump = boolean("Do not log the configuration at the start. It never is.", None)
    log_event_verbose = boolean(
        "Own log lines of the stop become events too, until the outputs are flushed for the last time.", None
    )
    without_source = boolean("Start without the sources.", None)
    with_source_only = boolean(
        "Start the sources only, and keep in files what comes, until SIGWINCH starts the rest.", None
    )
    rpc_endpoint = string("Address and port of the RPC server: 127.0.0.1:24444.", None)
    enable_get_dump = boolean("RPC: `/api/config.getDump` gives the configuration, secrets masked.", None)
    process_name = string("Name of the process (`ps -o comm`): its first 15 bytes.", None)
    strict_config_value = boolean("Doubtful numbers are errors.", None)
    enable_msgpack_time_support = boolean("Time objects in MessagePack. Does nothing.", None)
    disable_shared_socket = boolean(
        "Do not share sockets between workers: each binds its own, and a reload closes them.", None
    )
    enable_input_metrics = boolean("Count events of inputs. They always are: false has no effect.", True)
    enable_size_metrics = boolean("Count bytes of events too.", None)
    enable_jit = boolean("Ruby's JIT. Does nothing.", False)
    file_permission = string("Mode of files, octal.", None)
    dir_permission = string("Mode of folders, octal.", None)
    config_include_dir = string(
        "Folder of configurations that are always added; empty: none; not set: FLUENT_CONF_INCLUDE_DIR or "
        "/etc/fluent/conf.d.",
        None,
    )
    memory_limit_size = size(
        "What all workers together may keep in memory: buffers, unfinished messages, chunks that are written;"
        " not set: half of the cgroup's limit, at most a quarter of the machine.", None,
    )  # fmt: skip
    umask = string("The process's umask, octal.", None)
    log = section(SystemLog, "The process's own log.")
    counter_server = optional_section(CounterServer, "Counter server.")
    counter_client = optional_section(CounterClient, "Counter client.")
    metrics = optional_section(Metrics, "Where metrics are kept.")
    source_only_buffer = section(SourceOnlyBuffer, "Buffer of source-only mode.")

    def configure(self) -> None:
        if self.rpc_endpoint is not None and not _ENDPOINT.fullmatch(self.rpc_endpoint):
            raise ConfigError(
                f"rpc_endpoint: expected ADDRESS:PORT, but got {self.rpc_endpoint!r}", param="rpc_endpoint"
            )
        if self.workers < 1:
            raise ConfigError(f"{self.workers} is no number of workers: expected 1 or more", param="workers")
        if self.memory_limit_size is not None and self.memory_limit_size < 1 << 20:
            raise ConfigError("memory_limit_size: expected at least 1m", param="memory_limit_size")
        for name in ("file_permission", "dir_permission", "umask"):
            text: str | None = getattr(self, name)
            if text is not None and not _OCTAL.fullmatch(text):
                raise ConfigError(
                    f"{name}: expected an octal mode such as 0644, but got {text!r}", param=name
                )

    def rpc_address(self) -> tuple[str, int] | None:
        """`rpc_endpoint` as address and port."""
        found = None if self.rpc_endpoint is None else _ENDPOINT.fullmatch(self.rpc_endpoint)
        return None if found is None else (found[1], int(found[2]))

    def mode(self, name: str) -> int | None:
        """`file_permission`, `dir_permission` or `umask` as a number; None where it is none."""
        text: str | None = getattr(self, name)
        return int(text, 8) if text is not None and _OCTAL.fullmatch(text) else None


def read_system(root: Element, diagnostics: Diagnostics) -> SystemConfig:
    """The bound `<system>` section, or its defaults; sets `diagnostics.strict`."""
    from forwarder.config.bind import bind_configured  # noqa: PLC0415 - bind and system know each other

    found = root.children("system")
    if len(found) > 1:
        diagnostics.error(
            "<system> is duplicated: it may stand once", found[1].position,
            hint=f"the first one is in {found[0].file}:{found[0].line}",
        )  # fmt: skip
    element = found[0] if found else Element("system", "", root.position, synthetic=True)
    if (element.get("strict_config_value") or "").lower() in ("true", "yes"):
        diagnostics.strict = True
    config = SystemConfig()
    for metrics in element.children("metrics"):
        kind = metrics.get("@type")
        if kind not in (None, "local"):
            diagnostics.error(
                f"metrics of type {kind} are not supported", metrics.position, section="<system> > <metrics>"
            )
    bind_configured(config, element, _no_plugins, diagnostics)
    return config


def _no_plugins(kind: str, type_name: str, element: Element) -> None:
    raise ConfigError(f"<system> has no {kind} plugins")
