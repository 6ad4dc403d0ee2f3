"""in_exec: runs a command and takes what it writes as events; once, or every `run_interval`.

What follows each other in the output: lines; JSON values with `<parse> @type json`; MessagePack values with
`@type msgpack`; with `@type multiline` the whole output is one text. Tag and time of an event may come from
fields of it (`<extract>`).

*Delivery*: at most once. A full buffer stops reading, and so the command once the pipe is full. At the stop
the command gets SIGTERM, what it still writes is taken, after 3 s it gets SIGKILL. A command that runs once
and ends is not started again. Output without an end of a record beyond 16 MiB is given up (`too_long`).

*Differs from Fluentd*: there each line is a text of its own for `multiline` too; bytes that are not ASCII
stay as they are without `encoding` (Fluentd replaces them); standard error goes to our log (Fluentd throws
it away). `command_timeout` counts from the start of the command, not from the end of its output. The
command runs by `/bin/sh -c` in a process group of its own.
"""

from __future__ import annotations

import codecs
import os
import select
import signal
import time
from collections.abc import Mapping
from typing import ClassVar, Final

from forwarder._native import BodyReader, Intake
from forwarder.api import (
    ConfigError,
    Input,
    duration,
    enum,
    optional_section,
    parser_section,
    size,
    string,
)
from forwarder.api.children import TERM_SECONDS, Child, ChildOutput, sequence_of
from forwarder.api.extract import CommandExtract, body_reader
from forwarder.api.server import Reception, receiver_parser

_RETRY_SECONDS: Final = 1.0


class ExecInput(Input):
    """Events from a command."""

    multi_workers_ready = True

    command = string("The command, for `/bin/sh`.")
    connect_mode = enum(
        "Whether its standard error is taken as output too.", ("read", "read_with_stderr"), "read"
    )
    tag = string("Tag of the events; without it <extract> must have a tag_key.", None)
    run_interval = duration("Seconds from one start to the next; not set: it is started once.", None)
    command_timeout = duration("Seconds after which the command is killed; not set: never.", None)
    read_block_size = size("Bytes that are read at a time, at most.", 10 * 1024)
    encoding = string("Encoding of the output, such as `Shift_JIS`; not set: UTF-8.", None)

    parse = parser_section(
        "How the output is parsed.", default="tsv",
        defaults={"time_type": "float", "time_key": None, "estimate_current_event": False},
    )  # fmt: skip
    extract = optional_section(CommandExtract, "Tag and time from fields of the record.")

    flat: ClassVar[Mapping[str, Mapping[str, str]]] = {
        "extract": {name: name for name in ("tag_key", "time_key", "time_format", "timezone")}
    }

    def configure(self) -> None:
        if self.tag is None and (self.extract is None or self.extract.tag_key is None):
            raise ConfigError("'tag' or 'tag_key' option is required on exec input", param="tag")
        if self.encoding is not None:
            try:
                codecs.lookup(self.encoding)
            except LookupError:
                raise ConfigError(f"unknown encoding {self.encoding!r}", param="encoding") from None
        for name in ("run_interval", "command_timeout", "read_block_size"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ConfigError(f"{name} must be more than 0", param=name)
        self._reader = body_reader(receiver_parser(self, self.parse), self.extract)

    def start(self) -> None:
        self._reception = Reception(self, _Runs(self, self._reader), waits=True)
        self._reception.start()

    def stop(self) -> None:
        self._reception.stop()


class _Runs:
    """The command's runs as a receiver (`forwarder.api.server.Receiver`)."""

    def __init__(self, plugin: ExecInput, reader: BodyReader) -> None:
        self._plugin = plugin
        self._reader = reader
        self._wake, self._waker = os.pipe()
        self._child: Child | None = None
        self._output: ChildOutput | None = None
        self._kill_at: float | None = None
        self._stopping = self._told = False
        self.finished = False
        interval = plugin.run_interval
        self._due: float | None = time.monotonic() + (interval or 0.0)

    def stop(self, *, keep: bool = False) -> None:
        """As `Receiver`."""
        self._stopping = True
        os.write(self._waker, b"x")

    def next(self, max_wait_ms: int) -> Intake | None:
        """As `Receiver`."""
        if self._stopping:
            self._end()
        now = time.monotonic()
        if not self.finished:
            self._tick(now)
        if self._child is None or self._output is None:
            self._sleep(now, max_wait_ms / 1000)
            return None
        limits = [each for each in (self._kill_at, self._due) if each is not None]
        intake = self._output.next(min([max_wait_ms / 1000, *(max(0.0, each - now) for each in limits)]))
        if self._output.ended:
            self._ended(self._child, self._output)
        return intake

    def _tick(self, now: float) -> None:
        """Starts the command when it is due; ends one that takes too long."""
        plugin, child = self._plugin, self._child
        if child is not None and self._kill_at is not None and now >= self._kill_at:
            if not self._stopping:
                plugin.log.warning("the command takes too long, it is ended", command=plugin.command)
            child.signal(signal.SIGKILL)
            self._kill_at = None
        if self._due is None or now < self._due or self._stopping:
            return
        self._due = None if plugin.run_interval is None else self._due + plugin.run_interval
        if self._due is not None and self._due < now:
            self._due = now + (plugin.run_interval or 0.0)  # the machine slept, or a buffer was full
        if child is not None:
            plugin.log.warning("previous child process is still running. skipped.", command=plugin.command)
            return
        self._start(now)

    def _start(self, now: float) -> None:
        plugin = self._plugin
        merged = plugin.connect_mode == "read_with_stderr"
        try:
            child = Child(plugin, plugin.command, stdout=True, stderr_to_stdout=merged)
        except OSError as error:
            plugin.log_repeated("the command cannot be started", level="error", error=str(error))
            self._due = now + max(_RETRY_SECONDS, plugin.run_interval or 0.0)
            return
        self._output = ChildOutput(
            child, self._reader, sequence=sequence_of(plugin.parse), tag=plugin.tag,
            block_bytes=plugin.read_block_size, encoding=plugin.encoding, wake=self._wake,
        )  # fmt: skip
        self._child = child
        if plugin.command_timeout is not None:
            self._kill_at = now + plugin.command_timeout

    def _ended(self, child: Child, output: ChildOutput) -> None:
        output.close()
        if output.too_long:
            self._plugin.context.received(output.too_long)
            self._plugin.context.drop(output.too_long, "too_long")
            self._plugin.log_repeated("output without an end of a record is given up", count=output.too_long)
        status = child.reap()
        if status and not self._stopping:
            self._plugin.log.warning("the command failed", command=self._plugin.command, status=status)
        self._child = self._output = self._kill_at = None

    def _end(self) -> None:
        """After a stop: the command is told, and given its time; then everything is closed."""
        if self._child is not None and not self._told:
            self._told = True
            self._due, self._kill_at = None, time.monotonic() + TERM_SECONDS
            os.read(self._wake, 1)
            self._child.signal(signal.SIGTERM)
        elif self._child is None and not self.finished:
            os.close(self._wake)
            os.close(self._waker)
            self.finished = True

    def _sleep(self, now: float, most: float) -> None:
        if not self.finished:
            wait = most if self._due is None else min(most, max(0.0, self._due - now))
            select.select([self._wake], [], [], wait)
