"""`<match> @type exec_filter`: events go through a command: in by its standard input, out by its standard
output, from where they are emitted again.

`num_children` commands run all the time and get the chunks in turn. Tag and time of what comes out: `tag`, or
fields of the record (`<extract>`), or now.

*Delivery*: at least once into the command: a chunk that could not be written as a whole is tried again. What
a command has taken and not written when it dies is lost without a trace, as a command owes no answer. What it
writes waits where a buffer is full. At the stop its standard input is closed; it may write for 10 s more,
then it gets SIGTERM and SIGKILL. Output that gives no event is logged and counted in
`forwarder_exec_filter_unreadable_total`.

*Differs from Fluentd*: standard error goes to our log (Fluentd throws it away). `child_respawn N` is per
child for as long as we run (Fluentd counts anew after each start, so that N means for ever). The command runs
by `/bin/sh -c` in a process group of its own.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Final

from forwarder import _native
from forwarder._native import BodyReader, EventBatch, Intake
from forwarder.api import (
    BufferOverflow,
    Chunk,
    ConfigError,
    ForwarderError,
    Output,
    duration,
    enum,
    formatter_section,
    integer,
    optional_section,
    parser_section,
    size,
    string,
)
from forwarder.api.children import Child, ChildOutput, sequence_of
from forwarder.api.extract import CommandExtract, body_reader
from forwarder.api.inject import Inject
from forwarder.api.metrics import Family, Sample
from forwarder.api.server import MESSAGES, RETRY_SECONDS, receiver_parser

_STOP_SECONDS: Final = 10.0
_WRITE_SECONDS: Final = 1.0
"""How long a write may still take at the stop."""
_RESPAWN_SECONDS: Final = 0.2
_OLD: Final = "use '{}' in <inject>/<extract> instead"


class ExecFilterInject(Inject):
    """`<inject>` with the defaults of out_exec_filter."""

    time_type = enum(
        "How the time is written; with time_format: `string`.",
        ("float", "unixtime", "unixtime_millis", "unixtime_micros", "unixtime_nanos", "string"),
        "unixtime",
    )

    def configure(self) -> None:
        if self.time_format is not None and "time_type" not in self.given:
            self.time_type = "string"
        super().configure()


class ExecFilterOutput(Output):
    """Events through a command."""

    multi_workers_ready = True

    command = string("The command, for `/bin/sh`.")
    remove_prefix = string(
        "Part of tags that is taken off before events are written.", None,
        deprecated="use @label instead for event routing",
    )  # fmt: skip
    add_prefix = string(
        "Put this and a dot before tags from records.", None,
        deprecated="use @label instead for event routing",
    )  # fmt: skip
    tag = string("Tag of what comes out; without it <extract> must have a tag_key.", None)
    tag_key = string("Old form.", None, deprecated=_OLD.format("tag_key"))
    time_key = string("Old form.", None, deprecated=_OLD.format("time_key"))
    time_format = string("Old form.", None, deprecated=_OLD.format("time_format"))
    read_block_size = size("Bytes that are read at a time, at most.", 10 * 1024)
    num_children = integer("How many commands run.", 1)
    child_respawn = string(
        "How often a command that has ended is started again: `none` (0), `inf` (-1) or a number.", None
    )
    suppress_error_log_interval = duration("No effect: what repeats is logged once and counted.", 0.0)

    inject = optional_section(ExecFilterInject, "Fields to add before events are written.")
    format = formatter_section("How events are written.", default="tsv")
    parse = parser_section(
        "How the output is parsed.", default="tsv",
        defaults={"time_key": None, "time_format": None, "localtime": True, "estimate_current_event": False},
    )  # fmt: skip
    extract = optional_section(CommandExtract, "Tag and time from fields of the record.")

    emits: ClassVar[bool] = True
    flat_buffer: ClassVar[bool] = True
    buffer_defaults: ClassVar[Mapping[str, Any]] = {"flush_mode": "interval", "flush_interval": 1.0}
    flat: ClassVar[Mapping[str, Mapping[str, str]]] = {
        "inject": {
            "tag_key": "tag_key", "time_key": "time_key", "time_format": "time_format",
            "in_tag_key": "tag_key", "in_time_key": "time_key", "in_time_format": "time_format",
        },
        "format": {"in_format": "@type", "in_keys": "keys"},
        "parse": {
            "out_format": "@type", "out_keys": "keys", "out_stream_buffer_size": "stream_buffer_size",
        },
        "extract": {
            "tag_key": "tag_key", "time_key": "time_key", "time_format": "time_format",
            "out_tag_key": "tag_key", "out_time_key": "time_key", "out_time_format": "time_format",
        },
    }  # fmt: skip

    def configure(self) -> None:
        if self.tag is None and (self.extract is None or self.extract.tag_key is None):
            raise ConfigError(
                "'tag' or '<extract> tag_key </extract>' option is required on exec_filter output",
                param="tag",
            )
        if self.num_children < 1:
            raise ConfigError("num_children must be at least 1", param="num_children")
        if self.read_block_size < 1:
            raise ConfigError("at least 1 byte is needed", param="read_block_size")
        self._respawns = _respawns(self.child_respawn)
        if self.inject is not None:
            self.inject.bind(self.context, self.buffer.keys().fields)
        compiled = self.format.compiled()
        binary = self.format.context.type_name == "msgpack"
        self._lines = None if compiled is None or binary else _native.lines_formatter(compiled)
        prefix = "" if self.add_prefix is None else f"{self.add_prefix}."
        self._reader = body_reader(receiver_parser(self, self.parse), self.extract, prefix)
        self._workers: list[_Worker] = []
        self._lock = threading.Lock()
        self._turn = 0
        self.stopping = threading.Event()

    def start(self) -> None:
        self._workers = [_Worker(self, self._reader, self._respawns) for _ in range(self.num_children)]
        for worker in self._workers:
            worker.start()

    def format_batch(self, batch: EventBatch) -> bytes:
        if self.remove_prefix is not None:
            prefix = f"{self.remove_prefix}."
            batch = EventBatch([(tag.removeprefix(prefix), events) for tag, events in batch.streams()])
        if self.inject is not None:
            batch = self.inject.apply(batch)
        return self.format.format_batch(batch) if self._lines is None else self._lines.format(batch)

    def write(self, chunk: Chunk) -> None:
        with self._lock:
            self._turn += 1
            turn = self._turn
        for number in range(len(self._workers)):
            worker = self._workers[(turn + number) % len(self._workers)]
            if worker.takes(chunk.blocks()):
                return
        raise ForwarderError("no healthy child processes exist")

    def close(self) -> None:
        self.stopping.set()
        for worker in self._workers:
            worker.finish()
        for worker in self._workers:
            worker.join()

    def measure(self) -> Iterable[Family]:
        sample = Sample(sum(worker.unreadable for worker in self._workers), {"plugin_id": self.context.id})
        name = "forwarder_exec_filter_unreadable_total"
        return (Family(name, "counter", "Records of commands that gave no event.", [sample]),)


class _Worker:
    """A command that is kept running, and the thread that reads what it writes."""

    def __init__(self, plugin: ExecFilterOutput, reader: BodyReader, respawns: int) -> None:
        self._plugin = plugin
        self._reader = reader
        self._respawns = respawns
        self._writing = threading.Lock()
        self._child: Child | None = None
        self.unreadable = 0
        self._thread = threading.Thread(target=self._run, name=f"exec:{plugin.context.id}", daemon=True)

    def start(self) -> None:
        """Starts the command. Raises OSError."""
        self._child = Child(self._plugin, self._plugin.command, stdin=True, stdout=True)
        self._thread.start()

    def takes(self, blocks: Iterable[bytes]) -> bool:
        """Writes a chunk; False: the command does not run. Raises ForwarderError: it has ended meanwhile."""
        with self._writing:
            child = self._child
            if child is None:
                return False
            try:
                child.write(blocks)
            except OSError as error:
                raise ForwarderError(f"cannot write to the command: {error}") from error
            return True

    def finish(self) -> None:
        """No more comes."""
        child = self._child
        if child is not None and self._writing.acquire(timeout=_WRITE_SECONDS):
            child.close_stdin()
            self._writing.release()
        elif child is not None:
            child.end()  # it reads no more, and a flush thread waits for that

    def join(self) -> None:
        """Waits until the command has ended; ends it after a while."""
        self._thread.join(_STOP_SECONDS)
        child = self._child
        if self._thread.is_alive() and child is not None:
            child.end()
            self._thread.join(_STOP_SECONDS)

    def _run(self) -> None:
        plugin = self._plugin
        while True:
            child = self._child
            if child is not None:
                self._read(child)
                self._child = None
                status = child.reap()
                if not plugin.stopping.is_set():
                    plugin.log.warning("child process exits", command=plugin.command, status=status)
            if self._respawns == 0 or plugin.stopping.wait(_RESPAWN_SECONDS):
                return
            self._respawns -= self._respawns > 0
            plugin.log.info("respawning child process", left=self._respawns)
            try:
                self._child = Child(plugin, plugin.command, stdin=True, stdout=True)
            except OSError as error:
                plugin.log.error("the command cannot be started", error=str(error))

    def _read(self, child: Child) -> None:
        plugin = self._plugin
        output = ChildOutput(
            child, self._reader, sequence=sequence_of(plugin.parse), tag=plugin.tag,
            block_bytes=plugin.read_block_size,
        )  # fmt: skip
        try:
            while not output.ended:
                intake = output.next(None)
                if intake is not None:
                    self._take(intake)
        except Exception as error:
            plugin.log.error("reading from the command failed", error=repr(error))
            child.end()
        finally:
            self.unreadable += output.too_long
            output.close()

    def _take(self, intake: Intake) -> None:
        plugin = self._plugin
        for reason, count, sample in intake.failures:
            self.unreadable += count
            data = sample.decode("utf-8", "backslashreplace")
            plugin.log_repeated(MESSAGES.get(reason, reason), count=count, data=data)
        if not intake.batch:
            return
        waited = 0
        while True:
            try:
                plugin.context.emit_to_label(plugin.context.label or "@ROOT", intake.batch)
                return
            except BufferOverflow as error:
                plugin.log_repeated("buffer full, the command waits", error=str(error))
                if plugin.stopping.wait(RETRY_SECONDS):
                    waited += 1
                    if waited * RETRY_SECONDS > _STOP_SECONDS / 2:
                        self._lose(intake.batch, str(error))
                        return
                    threading.Event().wait(RETRY_SECONDS)
            except Exception as error:
                self._lose(intake.batch, repr(error))
                return

    def _lose(self, batch: EventBatch, why: str) -> None:
        self._plugin.log_repeated(
            "events of the command are lost", level="error", count=len(batch), error=why
        )
        self._plugin.context.received(len(batch))
        self._plugin.context.drop(len(batch), "emit_error")


def _respawns(text: str | None) -> int:
    """How often; -1: always."""
    if text in (None, "none", "0"):
        return 0
    if text in ("inf", "-1"):
        return -1
    if text is not None and text.isdecimal():
        return int(text)
    raise ConfigError(
        "child_respawn option argument invalid: none(or 0), inf(or -1) or positive number",
        param="child_respawn",
    )
