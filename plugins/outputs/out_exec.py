"""`<match> @type exec`: runs a command for each chunk; its last argument is the path of a file that holds it.

*Delivery*: at least once: a chunk is delivered when its command ends with status 0; otherwise, and after
`command_timeout`, it is tried again by the retry rules of `<buffer>`.

*Differs from Fluentd*: as many commands run at the same time as `flush_thread_count` says. The file is always
a temporary one. The command's standard error goes to our log. Flat buffer parameters of old configurations
do not bring the chunk key `time`.
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Mapping
from typing import Any, ClassVar

from forwarder import _native
from forwarder.api import (
    Chunk,
    CompiledFormatter,
    EventBatch,
    ForwarderError,
    Output,
    boolean,
    duration,
    enum,
    formatter_section,
    optional_section,
    string,
)
from forwarder.api.children import Child
from forwarder.api.inject import Inject


class ExecInject(Inject):
    """`<inject>` with the defaults of out_exec."""

    time_type = enum(
        "How the time is written.",
        ("float", "unixtime", "unixtime_millis", "unixtime_micros", "unixtime_nanos", "string"),
        "string",
    )
    localtime = boolean("Text times in the machine's zone.", False)


class ExecOutput(Output):
    """Chunks for a command."""

    multi_workers_ready = True

    command = string("The command, for `/bin/sh`; the file's path is appended.")
    command_timeout = duration("Seconds after which the command is killed.", 270.0)
    format = formatter_section("How events are written.", default="tsv")
    inject = optional_section(ExecInject, "Fields to add.")

    flat_buffer: ClassVar[bool] = True
    buffer_defaults: ClassVar[Mapping[str, Any]] = {"delayed_commit_timeout": 300.0}

    def configure(self) -> None:
        if self.inject is not None:
            self.inject.bind(self.context, self.buffer.keys().fields)
        self._lines = formatted_as_lines(self)
        self._lock = threading.Lock()
        self._running: set[Child] = set()
        self._closing = False

    def format_batch(self, batch: EventBatch) -> bytes:
        if self.inject is not None:
            batch = self.inject.apply(batch)
        return self.format.format_batch(batch) if self._lines is None else self._lines.format(batch)

    def write(self, chunk: Chunk) -> None:
        with tempfile.NamedTemporaryFile(prefix="forwarder-exec-") as file:
            file.writelines(chunk.blocks())
            file.flush()
            with self._lock:
                if self._closing:
                    raise ForwarderError("stopping")
                child = Child(self, f"{self.command} {file.name}")
                self._running.add(child)
            try:
                status = child.wait(self.command_timeout)
            finally:
                with self._lock:
                    self._running.discard(child)
        if status:
            how = f"status {status}" if status > 0 else f"signal {-status}"
            raise ForwarderError(f"command exits with error code: {how}: {self.command}")

    def close(self) -> None:
        with self._lock:
            self._closing = True
            running = list(self._running)
        for child in running:
            child.end()


def formatted_as_lines(plugin: ExecOutput) -> CompiledFormatter | None:
    """One line end behind each event whatever the formatter says; None: the formatter is binary or Python."""
    compiled = plugin.format.compiled()
    binary = plugin.format.context.type_name == "msgpack"
    return None if compiled is None or binary else _native.lines_formatter(compiled)
