"""The forwarder's own log: one line format (or JSON), levels per plugin, summaries of what repeats."""

from __future__ import annotations

import logging
import re
import sys
import time
from collections import deque
from collections.abc import Callable, MutableMapping
from threading import Condition, Lock, Thread, Timer
from typing import Any, Final, Protocol, TextIO

TRACE: Final = 5
LEVELS: Final = {
    "trace": TRACE,
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "error": logging.ERROR,
    "fatal": logging.CRITICAL,
}
"""Fluentd's level names."""
_NAMES: Final = {number: name for name, number in LEVELS.items()}
_LONGEST_VALUE: Final = 2000
_LONGEST_EVENT_QUEUE: Final = 1000
_MOST_REPEATED: Final = 1000
REPEAT_SECONDS: Final = 10.0
"""How often what may happen for every event is summarised."""
RAISED_SECONDS: Final = 60.0
"""How often the stack trace of a plugin that raises is written."""
_FRACTION: Final = re.compile(r"%%|%(\d*)([NL])")
TIME_FORMAT: Final = "%Y-%m-%d %H:%M:%S %z"
"""How a line's time is written where `<log> time_format` says nothing."""


def level_name(number: int) -> str:
    """Fluentd's name of a logging level."""
    return _NAMES.get(number) or next(
        name for name, floor in reversed(LEVELS.items()) if number >= floor or name == "trace"
    )


class PluginLog(logging.LoggerAdapter[logging.Logger]):
    """A logger that adds the plugin's id; keyword arguments become fields of the line."""

    def __init__(self, logger: logging.Logger, plugin_id: str | None, trace_level: int | None = None) -> None:
        """`trace_level`: level of all lines with a stack trace (`forced_stacktrace_level`)."""
        super().__init__(logger, {})
        self._id = plugin_id
        self._trace_level = trace_level

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        """Logs; a line with a stack trace at the level that is forced on those."""
        if self._trace_level is not None and kwargs.get("exc_info"):
            level = self._trace_level
        super().log(level, msg, *args, **kwargs)

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        known: dict[str, Any] = {}
        for name in ("exc_info", "stack_info", "stacklevel"):
            if name in kwargs:
                known[name] = kwargs.pop(name)
        kwargs.pop("extra", None)
        known["extra"] = {"plugin_id": self._id, "fields": dict(kwargs)}
        return msg, known

    def line(
        self, level: int, message: str, fields: dict[str, Any], trace: BaseException | None = None
    ) -> None:
        """Logs `message` as it is, with `fields`, and with the stack trace of `trace`."""
        if trace is not None and self._trace_level is not None:
            level = self._trace_level
        self.logger.log(level, "%s", message, extra={"plugin_id": self._id, "fields": fields}, exc_info=trace)


def _value(value: object) -> str:
    if isinstance(value, BaseException):
        value = f"{type(value).__name__}: {value}"
    if isinstance(value, bytes):
        value = value.decode("utf-8", "backslashreplace")
    text = str(value)
    if len(text) > _LONGEST_VALUE:
        text = f"{text[:_LONGEST_VALUE]}... ({len(text)} characters)"
    if text and not any(char in ' "=' or not char.isprintable() for char in text):
        return text
    import json  # noqa: PLC0415 - a log line that needs quoting is rare

    return json.dumps(text, ensure_ascii=False)


class _Layout(logging.Formatter):
    """What both layouts have in common. `once`: a stack trace that is the last one's again is left out."""

    def __init__(self, time_format: str, *, once: bool) -> None:
        super().__init__()
        self._time_format = time_format
        self._once = once
        self._last_trace = ""

    def stamp(self, created: float) -> str:
        """The time as text; `%N`, `%L`, `%3N` and the like as in Ruby."""

        def fraction(found: re.Match[str]) -> str:
            if found[0] == "%%":
                return found[0]
            digits = int(found[1][:2] or (9 if found[2] == "N" else 3))
            return f"{int(created % 1 * 1e9):09}".ljust(digits, "0")[:digits]

        return time.strftime(_FRACTION.sub(fraction, self._time_format), time.localtime(created))

    def trace(self, record: logging.LogRecord) -> str:
        """The stack trace of a line, empty where it has none."""
        if not record.exc_info:
            return ""
        text = self.formatException(record.exc_info)
        if self._once and text == self._last_trace:
            return "suppressed same stacktrace"
        self._last_trace = text
        return text


class _Lines(_Layout):
    def format(self, record: logging.LogRecord) -> str:
        text = f"{self.stamp(record.created)} [{level_name(record.levelno)}]: "
        plugin_id = getattr(record, "plugin_id", None)
        if plugin_id:
            text += f"#{plugin_id} "
        # a line break in a message would let outside data forge lines
        text += record.getMessage().replace("\n", "\\n").replace("\r", "\\r")
        for name, value in getattr(record, "fields", {}).items():
            text += f" {name}={_value(value)}"
        if trace := self.trace(record):
            text += "\n  " + trace.replace("\n", "\n  ")
        return text


class _Json(_Layout):
    def format(self, record: logging.LogRecord) -> str:
        import json  # noqa: PLC0415 - only with --log-format json

        entry: dict[str, object] = {
            "time": self.stamp(record.created),
            "level": level_name(record.levelno),
        }
        plugin_id = getattr(record, "plugin_id", None)
        if plugin_id:
            entry["plugin_id"] = plugin_id
        entry["message"] = record.getMessage()
        for name, value in getattr(record, "fields", {}).items():
            entry.setdefault(name, value if isinstance(value, int | float | bool | None) else _text(value))
        if trace := self.trace(record):
            entry["backtrace"] = trace
        return json.dumps(entry, ensure_ascii=False)


def _text(value: object) -> str:
    return f"{type(value).__name__}: {value}" if isinstance(value, BaseException) else str(value)


class _Ignore(logging.Filter):
    """Leaves out lines that were logged already, less than `seconds` ago: the last one, or any."""

    def __init__(self, seconds: float, *, last_only: bool, clock: Callable[[], float]) -> None:
        super().__init__()
        self._seconds = seconds
        self._last_only = last_only
        self._clock = clock
        self._logged: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        message = f"{record.getMessage()} {getattr(record, 'fields', None)}"
        now = self._clock()
        if now - self._logged.get(message, float("-inf")) <= self._seconds:
            return False
        if self._last_only:
            self._logged = {message: now}
        else:
            if len(self._logged) >= _MOST_REPEATED:
                self._logged = {each: at for each, at in self._logged.items() if now - at <= self._seconds}
            self._logged[message] = now
        return True


class EventTap(logging.Handler):
    """Log lines as events (`fluent.info` and so on), for `<label @FLUENT_LOG>` or a match that wants them.

    A thread of its own hands them on, so that a line logged under a lock cannot dead-lock; lines that this
    thread causes become no events, so that there is no loop. What does not fit the queue is left out.
    """

    def __init__(self, emit: Callable[[str, int, dict[str, Any]], None]) -> None:
        super().__init__()
        self._emit = emit
        self._ready = Condition(Lock())
        self._lines: deque[tuple[str, int, dict[str, Any]]] = deque()
        self._stopped = False
        self._thread = Thread(target=self._run, name="log-events", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self._thread.ident:
            return
        fields = {
            name: value if isinstance(value, int | float | bool | None) else _text(value)
            for name, value in getattr(record, "fields", {}).items()
        }
        if plugin_id := getattr(record, "plugin_id", None):
            fields.setdefault("plugin_id", plugin_id)
        fields["message"] = record.getMessage()
        with self._ready:
            if not self._stopped and len(self._lines) < _LONGEST_EVENT_QUEUE:
                event = (f"fluent.{level_name(record.levelno)}", int(record.created * 1e9), fields)
                self._lines.append(event)
                self._ready.notify()

    def stop(self) -> None:
        """Hands on what is queued, then no more."""
        with self._ready:
            self._stopped = True
            self._ready.notify()
        self._thread.join(2.0)

    def _run(self) -> None:
        while True:
            with self._ready:
                while not self._lines and not self._stopped:
                    self._ready.wait()
                if not self._lines:
                    return
                tag, time_ns, record = self._lines.popleft()
            try:
                self._emit(tag, time_ns, record)
            except Exception:
                continue  # the line itself is on stderr already


class _Sink(Protocol):
    def write(self, text: str, /) -> object: ...
    def flush(self) -> object: ...


class Log:
    """Where the log goes and how it looks. One per engine; makes the loggers of all plugins."""

    def __init__(
        self, stream: _Sink | TextIO | None = None, *, level: str = "info", json: bool = False,
        time_format: str = TIME_FORMAT, repeat_seconds: float = REPEAT_SECONDS,
        ignore_repeated_seconds: float | None = None, ignore_same_seconds: float | None = None,
        trace_level: str | None = None, traces_once: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        """
        Args:
            repeat_seconds: how often `log_repeated` writes a summary. ignore_repeated_seconds,
            ignore_same_seconds: for how long a line that equals the last one (any one) is left out.
            trace_level: level of lines with a stack trace, instead of their own. traces_once: a stack trace
            that equals the last one is not written again.
        """
        self._level = LEVELS[level]
        self._trace_level = LEVELS[trace_level] if trace_level else None
        self._handler: logging.Handler = logging.StreamHandler(stream or sys.stderr)
        self._handler.setFormatter((_Json if json else _Lines)(time_format, once=traces_once))
        self._filters = [
            _Ignore(seconds, last_only=last_only, clock=clock)
            for seconds, last_only in ((ignore_repeated_seconds, True), (ignore_same_seconds, False))
            if seconds
        ]
        self._loggers: list[logging.Logger] = []
        self._tap: EventTap | None = None
        self.repeats = Repeats(repeat_seconds, clock)
        self.raised = Repeats(RAISED_SECONDS, clock)
        """What plugins raise."""
        self.main = self.of(None)
        """The engine's own logger."""

    def of(self, plugin_id: str | None, level: str | None = None) -> PluginLog:
        """A plugin's logger; `level` is its `@log_level`."""
        # not from logging.getLogger: that would keep loggers of engines that are gone
        logger = logging.Logger(plugin_id or "forwarder", LEVELS[level] if level else self._level)
        logger.addHandler(self._handler)
        for each in self._filters:
            logger.addFilter(each)
        if self._tap is not None:
            logger.addHandler(self._tap)
        self._loggers.append(logger)
        return PluginLog(logger, plugin_id, self._trace_level)

    def tap(self, tap: EventTap | None) -> None:
        """Sets, or with None removes, the way that turns lines into events."""
        for logger in self._loggers:
            if self._tap is not None:
                logger.removeHandler(self._tap)
            if tap is not None:
                logger.addHandler(tap)
        self._tap = tap


class Repeats:
    """One line at once, then at most one per interval with the number of times since."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._lock = Lock()
        # (logger, message) -> [when the next line may come, times since the last line, its fields, level]
        self._seen: dict[tuple[int, str], tuple[float, int, dict[str, object], int, PluginLog]] = {}
        self._timer: Timer | None = None

    def log(
        self, log: PluginLog, message: str, count: int, level: str, fields: dict[str, object], *,
        trace: BaseException | None = None,
    ) -> None:  # fmt: skip
        """Logs `message`, with a stack trace if there is one, or counts it for the next summary."""
        number = LEVELS.get(level, logging.WARNING)
        if not log.isEnabledFor(number):
            return
        key = (id(log), message)
        now = self._clock()
        with self._lock:
            due, before, _, _, _ = self._seen.get(key, (now, 0, fields, number, log))
            if now < due:
                self._seen[key] = (due, before + count, fields, number, log)
                if self._timer is None:
                    self._timer = Timer(self._seconds, self.flush)
                    self._timer.daemon = True
                    self._timer.start()
                return
            if len(self._seen) >= _MOST_REPEATED:
                self._seen = {key: entry for key, entry in self._seen.items() if entry[0] > now or entry[1]}
            self._seen[key] = (now + self._seconds, 0, {}, number, log)
        _write(log, number, message, before + count, fields, trace=trace)

    def flush(self) -> None:
        """Writes the summaries that are due."""
        self._summarise(everything=False)

    def close(self) -> None:
        """Writes all summaries."""
        with self._lock:
            timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        self._summarise(everything=True)

    def _summarise(self, *, everything: bool) -> None:
        now = self._clock()
        lines = []
        with self._lock:
            self._timer = None
            for key, (due, count, fields, level, log) in list(self._seen.items()):
                if count and (everything or due <= now):
                    lines.append((log, level, key[1], count, fields))
                    self._seen[key] = (now + self._seconds, 0, {}, level, log)
            if not everything and any(entry[1] for entry in self._seen.values()):
                self._timer = Timer(self._seconds, self.flush)
                self._timer.daemon = True
                self._timer.start()
        for log, level, message, count, fields in lines:
            _write(log, level, message, count, fields)


def _write(
    log: PluginLog, level: int, message: str, count: int, fields: dict[str, object], *,
    trace: BaseException | None = None,
) -> None:  # fmt: skip
    if count > 1:
        fields = {**fields, "times": count}
    log.line(level, message, fields, trace)
