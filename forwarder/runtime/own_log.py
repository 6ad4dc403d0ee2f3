"""The log of a process, as the command line and `<system>` want it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from forwarder.telemetry.log import REPEAT_SECONDS, Log
from forwarder.telemetry.log_file import LogFile

if TYPE_CHECKING:
    from forwarder.config.system import SystemConfig
    from forwarder.runtime.options import Options


class LogSettings(NamedTuple):
    """Plain values, so that a worker can tell the supervisor."""

    path: str | None = None
    level: str = "info"
    json: bool = False
    time_format: str = "%Y-%m-%d %H:%M:%S %z"
    repeat_seconds: float = REPEAT_SECONDS
    ignore_repeated_seconds: float | None = None
    ignore_same_seconds: float | None = None
    trace_level: str | None = None
    traces_once: bool = True
    rotate_age: str | None = None
    rotate_size: int | None = None

    @classmethod
    def of(cls, options: Options, system: SystemConfig) -> LogSettings:
        """The command line comes before the configuration."""
        interval = (
            system.emit_error_log_interval if options.repeat_seconds is None else options.repeat_seconds
        )
        once = system.suppress_repeated_stacktrace if options.traces_once is None else options.traces_once
        forced = system.log.forced_stacktrace_level
        path = options.log_path or system.log.path
        return cls(
            path=None if path == "-" else path,
            level=options.log_level or system.log_level,
            json=system.log.format == "json" if options.log_json is None else options.log_json,
            time_format=system.log.time_format,
            repeat_seconds=REPEAT_SECONDS if interval is None else interval,
            ignore_repeated_seconds=system.ignore_repeated_log_interval,
            ignore_same_seconds=system.ignore_same_log_interval,
            trace_level=None if forced == "none" else forced,
            traces_once=once is not False,
            rotate_age=options.log_rotate_age or system.log.rotate_age,
            rotate_size=options.log_rotate_size or system.log.rotate_size,
        )


class OwnLog:
    """A `Log` and the file behind it.

    Raises:
        OSError: the file cannot be opened.
    """

    def __init__(self, settings: LogSettings) -> None:
        self._file: LogFile | None = None
        if settings.path is not None:
            self._file = LogFile(settings.path, settings.rotate_age, settings.rotate_size)
        self.log = Log(
            self._file, level=settings.level, json=settings.json, time_format=settings.time_format,
            repeat_seconds=settings.repeat_seconds, ignore_repeated_seconds=settings.ignore_repeated_seconds,
            ignore_same_seconds=settings.ignore_same_seconds, trace_level=settings.trace_level,
            traces_once=settings.traces_once,
        )  # fmt: skip

    def close(self) -> None:
        """Closes the file."""
        if self._file is not None:
            self._file.close()

    def reopen(self) -> None:
        """Goes on with the file that is at the path now."""
        if self._file is not None:
            try:
                self._file.reopen()
            except OSError as error:
                self.log.main.error("cannot reopen the log file", error=error)
