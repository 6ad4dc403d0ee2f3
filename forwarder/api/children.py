"""Commands that plugins run: their standard error goes to our log, they end in bounded time, and none is left
as a zombie.

A command runs by `/bin/sh -c` in a process group of its own, so that what it starts ends with it.
"""

from __future__ import annotations

import codecs
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import IO, Final

from forwarder._native import BodyReader, Intake
from forwarder.api.plugin import Parser, Plugin

MAX_RECORD_BYTES: Final = 16 << 20
"""Of output without an end of a record."""
TERM_SECONDS: Final = 3.0
"""From SIGTERM to SIGKILL."""
_LINES_A_SECOND: Final = 20
"""Of standard error; what is more is counted."""
_LINE_BYTES: Final = 2000
_LOOK_SECONDS: Final = 0.2
_READ_BYTES: Final = 65_536
_SEQUENCES: Final = {"json": "json", "msgpack": "msgpack", "multiline": "whole", "multiline_grok": "whole"}


def sequence_of(parser: Parser) -> str:
    """How records follow each other in the output of a command, for `BodyReader.feed`."""
    return _SEQUENCES.get(parser.context.type_name, "lines")


class Child:
    """A command that runs.

    Raises:
        OSError: it cannot be started.
    """

    def __init__(
        self, plugin: Plugin, command: str, *, stdin: bool = False, stdout: bool = False,
        stderr_to_stdout: bool = False,
    ) -> None:  # fmt: skip
        self._plugin = plugin
        self.command = command
        self.started_at = time.monotonic()
        self._process = subprocess.Popen(
            ["/bin/sh", "-c", command],
            stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
            stdout=subprocess.PIPE if stdout else subprocess.DEVNULL,
            stderr=subprocess.STDOUT if stderr_to_stdout else subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
        )
        self.stdin, self.stdout, self.stderr = self._process.stdin, self._process.stdout, self._process.stderr
        self._errors = b""
        self._second, self._lines = 0, 0

    @property
    def pid(self) -> int:
        """Its process id, which is its group's too."""
        return self._process.pid

    def write(self, blocks: Iterable[bytes]) -> None:
        """Writes all to its standard input; waits as long as it does not read. Raises OSError."""
        if self.stdin is None or self.stdin.closed:
            raise BrokenPipeError("the command's standard input is closed")
        for block in blocks:
            rest = memoryview(block)
            while rest:
                rest = rest[os.write(self.stdin.fileno(), rest) :]

    def close_stdin(self) -> None:
        """Tells it that nothing more comes."""
        if self.stdin is not None:
            with suppress(OSError):
                self.stdin.close()

    def signal(self, number: int) -> None:
        """Sends a signal to it and to what it has started; nothing where it has ended."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)

    def log_errors(self) -> bool:
        """Reads its standard error once and logs the lines; False: it is closed."""
        if self.stderr is None:
            return False
        data = self.stderr.read(_READ_BYTES) or b""
        *lines, self._errors = (self._errors + data).split(b"\n")
        if not data or len(self._errors) > _LINE_BYTES:
            lines.append(self._errors)
            self._errors = b""
        for line in lines:
            if line.strip():
                self._log(line[:_LINE_BYTES].decode("utf-8", "replace"))
        return bool(data)

    def _log(self, line: str) -> None:
        second = int(time.monotonic())
        if second != self._second:
            self._second, self._lines = second, 0
        self._lines += 1
        if self._lines <= _LINES_A_SECOND:
            self._plugin.log.warning("standard error of the command", line=line, pid=self.pid)
        else:
            self._plugin.log_repeated("too many lines on the command's standard error", pid=self.pid)

    def wait(self, timeout_seconds: float | None) -> int:
        """Waits for its end, logging its standard error meanwhile, and ends it after the time. Its status:
        negative for a signal."""
        limit = None if timeout_seconds is None else self.started_at + timeout_seconds
        with selectors.DefaultSelector() as selector:
            if self.stderr is not None:
                selector.register(self.stderr, selectors.EVENT_READ)
            while self._process.poll() is None:
                # mostly the end of standard error says that the command has ended
                for key, _ in selector.select(_LOOK_SECONDS):
                    if not self.log_errors():
                        selector.unregister(key.fileobj)
                if limit is not None and time.monotonic() >= limit:
                    self._plugin.log.warning("the command takes too long, it is ended", command=self.command)
                    self.signal(signal.SIGKILL)
                    limit = None
            while selector.get_map() and selector.select(0) and self.log_errors():
                pass
        return self.reap()

    def reap(self) -> int:
        """Its status after its end; ends it where it goes on. Closes everything."""
        try:
            status = self._process.wait(TERM_SECONDS)
        except subprocess.TimeoutExpired:
            self.signal(signal.SIGKILL)
            status = self._process.wait()
        for each in (self.stdin, self.stdout, self.stderr):
            if each is not None:
                with suppress(OSError):
                    each.close()
        return status

    def end(self) -> None:
        """Ends it, from any thread: SIGTERM, and SIGKILL for what is left after a while."""
        self.signal(signal.SIGTERM)
        try:
            self._process.wait(TERM_SECONDS)
        except subprocess.TimeoutExpired:
            self._plugin.log.warning("the command does not end, it is killed", command=self.command)
        self.signal(signal.SIGKILL)


class ChildOutput:
    """Reads what a child writes as events. For one thread.

    Args:
        sequence: of the records, see `sequence_of`. tag: of events without one of their own. encoding: of the
        text; None: as it comes. wake: a descriptor that ends a `next` early when it can be read.
    """

    def __init__(
        self, child: Child, reader: BodyReader, *, sequence: str, tag: str | None, block_bytes: int,
        encoding: str | None = None, wake: int | None = None,
    ) -> None:  # fmt: skip
        self._child = child
        self._reader = reader
        self._sequence = sequence
        self._tag = tag
        self._block_bytes = block_bytes
        self._decoder = None if encoding is None else codecs.getincrementaldecoder(encoding)("replace")
        self._rest = b""
        self.too_long = 0
        """Records that were given up because they had no end."""
        self.ended = False
        """Whether all has been read."""
        self._selector = selectors.DefaultSelector()
        self._open: set[IO[bytes]] = set()
        for stream in (child.stdout, child.stderr):
            if stream is not None:
                self._selector.register(stream, selectors.EVENT_READ)
                self._open.add(stream)
        if wake is not None:
            self._selector.register(wake, selectors.EVENT_READ)

    def next(self, wait_seconds: float | None) -> Intake | None:
        """What has come, waiting at most so long for it (None: as long as it takes); None: nothing."""
        intake = None
        for key, _ in self._selector.select(wait_seconds):
            if key.fileobj is self._child.stderr:
                if not self._child.log_errors():
                    self._shut(self._child.stderr)
            elif key.fileobj is self._child.stdout:
                intake = self._read(self._child.stdout)
        self.ended = not self._open
        return intake

    def close(self) -> None:
        """Ends the reading; the child's end of the pipes breaks."""
        self._selector.close()

    def _read(self, stdout: IO[bytes]) -> Intake | None:
        data = os.read(stdout.fileno(), self._block_bytes)
        last = not data
        if last:
            self._shut(stdout)
        if self._decoder is not None:
            data = self._decoder.decode(data, last).encode()
        data = self._rest + data
        if not data:
            return None
        intake, used = self._reader.feed(self._sequence, data, self._tag, last)
        self._rest = data[used:]
        if len(self._rest) > MAX_RECORD_BYTES:
            self._rest = b""
            self.too_long += 1
        return intake

    def _shut(self, stream: IO[bytes]) -> None:
        self._selector.unregister(stream)
        self._open.discard(stream)
