"""`<match> @type stdout`: prints events on standard output.

*Delivery*: without `<buffer>` a batch is written at once, with one system call, in the thread that emits it;
the input goes on when the reader has taken it. Where standard output is closed, the events are counted as
failed, and the forwarder goes on. With `<buffer>` such a chunk is retried.

*Differs from Fluentd*: events go to standard output and nowhere else: our log is on standard error, and with
`-o FILE` only the log goes to FILE. So both values of `use_logger` mean the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from forwarder import _native
from forwarder.api import (
    Chunk,
    CompiledFormatter,
    EventBatch,
    Output,
    boolean,
    formatter_section,
    optional_section,
)
from forwarder.api.inject import Inject
from forwarder.api.stdout import write_stdout


class StdoutOutput(Output):
    """Events on standard output, one line each."""

    multi_workers_ready = True

    use_logger = boolean("No effect: events always go to standard output, never through the log.", True)
    format = formatter_section("How an event is written.", default="stdout")
    inject = optional_section(Inject, "Fields to add.")

    buffer_defaults: ClassVar[Mapping[str, Any]] = {
        "chunk_keys": ["tag"],
        "flush_at_shutdown": True,
        "chunk_limit_size": 10 * 1024,
    }

    _lines: CompiledFormatter | None = None

    def configure(self) -> None:
        if self.inject is not None:
            self.inject.bind(self.context, self.buffer.keys().fields)
        compiled = self.format.compiled()
        self._lines = None if compiled is None else _native.lines_formatter(compiled)

    def format_batch(self, batch: EventBatch) -> bytes:
        if self.inject is not None:
            batch = self.inject.apply(batch)
        if self._lines is not None:
            return self._lines.format(batch)
        return b"".join(
            _chomp(self.format.format(tag, time_ns, record)) + b"\n"
            for tag, stream in batch.streams()
            for time_ns, record in stream
        )

    def process_batch(self, batch: EventBatch) -> None:
        write_stdout((self.format_batch(batch),))

    def write(self, chunk: Chunk) -> None:
        write_stdout(chunk.blocks())


def _chomp(text: bytes) -> bytes:
    """Without one line end, as Ruby's `chomp` takes it off."""
    if text.endswith(b"\r\n"):
        return text[:-2]
    return text[:-1] if text.endswith((b"\n", b"\r")) else text
