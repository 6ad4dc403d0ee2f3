"""The bases of all plugins, and the life of a plugin.

The engine makes an instance, binds its declared parameters, calls `configure` (offline: `forwarder check`
stops here), then `start`, then uses it, then `stop` (no new input), then `close` (after the last flush).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from forwarder._native import CompiledFormatter, CompiledParser, EventBatch, EventStream, MemoryLoan
from forwarder.api.buffering import BufferSection, ChunkKeys, with_defaults
from forwarder.api.errors import ConfigError
from forwarder.api.parameters import Section, SectionParam, boolean, float_, section

if TYPE_CHECKING:
    from forwarder.api.chunk import Chunk
    from forwarder.api.metrics import Family, Metrics, PluginInfo
    from forwarder.api.sockets import Binding, Bound

Record = dict[str, Any]
"""Field -> value: str, int, float, bool, None, list, dict, and bytes where text is not UTF-8."""


class Context(Protocol):
    """What the engine gives to a plugin. Plugins use the methods of their base class instead."""

    id: str
    """`@id`, or a name made from kind, type and position."""
    type_name: str
    """`@type` as written."""
    argument: str
    """The section's argument, such as the tag pattern."""
    label: str | None
    """`@label`."""
    worker_id: int
    hostname: str
    root_dir: str | None
    dir_permission: int
    """Mode of folders that plugins make (`<system> dir_permission`), 0o755 by default."""
    file_permission: int
    """Mode of files that plugins make (`<system> file_permission`), 0o644 by default."""
    check_only: bool
    """True under `forwarder check` and `--dry-run`: nothing will be started."""

    @property
    def log(self) -> logging.LoggerAdapter[logging.Logger]:
        """Adds the id; obeys `@log_level`."""

    def emit(self, batch: EventBatch) -> None:
        """Hands a batch to the routes behind this plugin (its @label's, or the next ones)."""

    def emit_to_label(self, label: str, batch: EventBatch) -> None:
        """Hands a batch to the start of a label's routes."""

    def admit_to_label(self, label: str, batch: EventBatch) -> None:
        """Raises BufferOverflow where `emit_to_label` would; takes nothing."""

    def emit_error(self, batch: EventBatch, reason: str, detail: str) -> None:
        """Hands events that went wrong to `@ERROR`, or counts them as lost there if there is none."""

    def received(self, count: int) -> None:
        """Books events (lines, datagrams) that an input took from outside, before it emits or drops them.
        Negative: events that went back there."""

    def drop(self, count: int, reason: str) -> None:
        """Names the reason for events that do not go on."""

    def metrics(self) -> Metrics:
        """The books of all plugins, and the state of all buffers, at this instant. From `start` on.

        Raises:
            TimeoutError: an output's delivery has held its lock for seconds.
        """

    def families(self) -> Iterable[Family]:
        """What all plugins measure themselves (`Plugin.measure`)."""

    def plugins(self) -> Sequence[PluginInfo]:
        """All inputs, outputs and filters of the configuration, in the order of Fluentd's monitor."""

    @property
    def process(self) -> Mapping[str, object]:
        """How the process was started: `config_path`, `pid_file`, `plugin_dirs`, `log_path`, `root_dir`;
        empty where no command line started it."""

    def output_for(self, tag: str) -> str | None:
        """The id of the output that takes events with this tag at top level; None: no `<match>` does."""

    def bind(self, binding: Binding) -> Bound:
        """A socket to listen on, which may have been bound long before. The caller closes it.

        Raises:
            OSError: it cannot be had.
        """

    def borrow(self, *, unfinished: bool = False) -> MemoryLoan:
        """For what the plugin keeps in memory beyond the batch at hand, of the process's budget: book it once
        a batch, and take no more while the loan is `full`. `unfinished`: messages whose end has not come."""

    @property
    def keeping_sockets(self) -> bool:
        """While the engine stops: whether the sockets go on elsewhere, so that what waits in them is left to
        that."""

    def check_label(self, label: str) -> None:
        """Raises ConfigError where the label does not exist."""

    def log_repeated(self, message: str, *, count: int = 1, level: str = "warn", **fields: object) -> None:
        """Logs what may happen for every event: `message` at once, then at most one summary line per
        interval with the number of times since. `fields` go with the line that is written."""

    def log_raised(self, message: str, error: BaseException, *, count: int = 1) -> None:
        """Logs what code of a plugin raised: the plugin's type, the error and its stack trace at once, then
        at most one line a minute with the number of events since."""


class Plugin:
    """Base of all; `kind` is set by the bases below."""

    kind: ClassVar[str] = "plugin"
    multi_workers_ready: ClassVar[bool] = True
    """Whether several processes may run it with the same configuration: it has no file of its own. Inputs and
    outputs must say so; one that does not is refused where there are several workers, except in a `<worker>`
    section."""
    flat: ClassVar[Mapping[str, Mapping[str, str]]] = {}
    """Old names of parameters that stand in the plugin's section itself: section -> old name -> its name
    there. Where a section stands here, the names that Fluentd has for it everywhere do not count."""
    context: Context
    share: Section | None = None
    """Parameters of its section that are those of the output around it (`output_sections`)."""
    given: frozenset[str] = frozenset()
    """Names of the parameters and sections that the configuration sets (rather than a default)."""

    def configure(self) -> None:
        """Validates and derives from parameters, without side effects. Raises ConfigError."""

    def start(self) -> None:
        """Acquires what is needed to work (sockets, files, threads)."""

    def stop(self) -> None:
        """Inputs: receives no more, emits what it has. Others: nothing yet."""

    def close(self) -> None:
        """Releases everything; nothing is called after it."""

    def measure(self) -> Iterable[Family]:
        """Numbers of its own for `/metrics`, from any thread, once per scrape: nothing is paid per event.

        The engine's books (`Context.metrics`) are there already. Label them with `plugin_id` where a
        configuration may hold the plugin twice.
        """
        return ()

    def statistics(self) -> Mapping[str, int]:
        """Fields of its own in what `monitor_agent` tells of it, from any thread."""
        return {}

    @property
    def log(self) -> logging.LoggerAdapter[logging.Logger]:
        """The plugin's logger. Keyword arguments become fields: `self.log.warning("lost", count=3)`."""
        return self.context.log

    def log_repeated(self, message: str, *, count: int = 1, level: str = "warn", **fields: object) -> None:
        """Logs what may happen for every event under load; see `Context.log_repeated`."""
        self.context.log_repeated(message, count=count, level=level, **fields)


class Input(Plugin):
    """Takes events from outside: runs its own threads between `start` and `stop`."""

    kind = "input"
    multi_workers_ready = False

    def emit(self, tag: str, stream: EventStream) -> None:
        """Emits one tag's events.

        Raises:
            BufferOverflow: downstream is full and nothing was taken; answer in the protocol's way.
        """
        self.context.emit(EventBatch([(tag, stream)]))

    def emit_batch(self, batch: EventBatch) -> None:
        """Emits several tags' events. Raises as `emit`."""
        self.context.emit(batch)


class Filter(Plugin):
    """Changes or drops events. Override `filter` (per tag) or `filter_batch` (all at once)."""

    kind = "filter"

    def filter(self, tag: str, stream: EventStream) -> EventStream:
        """The stream that goes on; fewer events are booked as dropped by this filter."""
        raise NotImplementedError

    def filter_batch(self, batch: EventBatch) -> EventBatch:
        """The batch that goes on."""
        return EventBatch([(tag, self.filter(tag, stream)) for tag, stream in batch.streams()])


class RecordFilter(Filter):
    """A filter written per record: convenient, and Python for every event.

    A record for which `filter_record` raises goes to `@ERROR` as it came; its neighbours go on.
    """

    def filter_record(self, tag: str, time_ns: int, record: Record) -> Record | None:
        """The record that goes on, or None to drop it."""
        raise NotImplementedError

    def filter(self, tag: str, stream: EventStream) -> EventStream:
        kept: list[tuple[int, Record]] = []
        failed: dict[int, Exception] = {}
        for index, (time_ns, record) in enumerate(stream):
            try:
                changed = self.filter_record(tag, time_ns, record)
            except Exception as error:
                failed[index] = error
                continue
            if changed is not None:
                kept.append((time_ns, changed))
        if failed:
            self._send_to_error(tag, stream, failed)
        return EventStream.from_events(kept)

    def _send_to_error(self, tag: str, stream: EventStream, failed: dict[int, Exception]) -> None:
        error = next(iter(failed.values()))
        self.context.log_raised("filter raised", error, count=len(failed))
        # decoded again: `filter_record` may have changed the record before it raised
        events = [event for index, event in enumerate(stream) if index in failed]
        batch = EventBatch([(tag, EventStream.from_events(events))])
        self.context.emit_error(batch, "filter_error", f"{type(error).__name__}: {error}")


class Parser(Plugin):
    """Text to records. Override `parse`; a parser with a native form also gives `compiled`."""

    kind = "parser"

    def compiled(self) -> CompiledParser | None:
        """The native form, which native inputs and filters call without coming back to Python."""
        return None

    def parse(self, text: bytes) -> Iterable[tuple[int | None, Record]]:
        """The events in `text`: (nanoseconds since the epoch or None, record). None at all: no match."""
        compiled = self.compiled()
        if compiled is None:
            raise NotImplementedError
        events = compiled.parse(text)
        return () if isinstance(events, str) else events


class Formatter(Plugin):
    """Records to bytes. Override `format`; one with a native form gives `compiled`."""

    kind = "formatter"

    def compiled(self) -> CompiledFormatter | None:
        """The native form."""
        return None

    def format(self, tag: str, time_ns: int, record: Record) -> bytes:
        """One event's bytes, its line end included."""
        raise NotImplementedError

    def format_batch(self, batch: EventBatch) -> bytes:
        """All events' bytes, in order."""
        compiled = self.compiled()
        if compiled is not None:
            return compiled.format(batch)
        return b"".join(
            self.format(tag, time_ns, record) for tag, stream in batch.streams() for time_ns, record in stream
        )


class Output(Plugin):
    """Takes events out. Which of these are overridden says how it can run, as in Fluentd:

    `process`/`process_batch`: at once, in the emitting thread. `write`: from a buffer, synchronously.
    `try_write` + `commit`: from a buffer, acknowledged later (with `write` too: where
    `prefer_delayed_commit` says so). With a `<buffer>` section (or where only
    `write` exists) it runs buffered.
    """

    kind = "output"
    multi_workers_ready = False

    buffer_defaults: ClassVar[Mapping[str, Any]] = {}
    """This output's own defaults for `<buffer>` (`chunk_keys`, `timekey`, `flush_mode`, ...)."""
    always_buffered: ClassVar[bool] = False
    """True: runs buffered even without a `<buffer>` section though it could process directly."""

    prefer_delayed_commit: bool = False
    """Which one is used where both `write` and `try_write` exist."""

    only_secondary: ClassVar[bool] = False
    """True: works as a `<secondary>` only."""

    emits: ClassVar[bool] = False
    """True: emits events from its own threads (`context.emit_to_label`); at a stop it is flushed and closed
    before the outputs that may get them."""

    flat_buffer: ClassVar[bool] = False
    """True: parameters of `<buffer>` may stand in the section itself, as before Fluentd 0.14."""

    buffer = section(BufferSection, "How events are collected and delivered.")
    secondary: SectionParam[Output | None] = SectionParam(
        "The output that gets what this one cannot deliver; `@type`: as this one.", section=None,
        kind="output", name="secondary", multiple=False, required=False, init=False, default=None,
    )  # fmt: skip
    slow_flush_log_threshold = float_("Seconds from which a slow flush is logged.", 20.0)
    time_as_integer = boolean(
        "Keep events in the buffer with whole seconds as times, for outputs that take the events themselves; "
        "what an output formats is not changed by it.", False,
    )  # fmt: skip

    chunk_keys: ChunkKeys | None = None
    """Set by the engine before `configure`; a secondary has those of the output it stands in for."""
    as_secondary: bool = False
    """Whether it stands in a `<secondary>`; set with `chunk_keys`."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "buffer_defaults" in vars(cls):
            cls.buffer = section(
                BufferSection, Output.buffer.doc, name="buffer", defaults=with_defaults(cls.buffer_defaults)
            )
            cls.buffer.__set_name__(cls, "buffer")

    def default_buffer_path(self) -> str | None:
        """Where a file buffer lies that has neither a `path` nor an `@id` below a `root_dir`; None: nowhere,
        which is an error. Called after `configure`."""
        return None

    def process(self, tag: str, stream: EventStream) -> None:
        """Delivers at once; raises where it cannot."""
        raise NotImplementedError

    def process_batch(self, batch: EventBatch) -> None:
        """Delivers at once; by default one tag after the other."""
        for tag, stream in batch.streams():
            self.process(tag, stream)

    def format_batch(self, batch: EventBatch) -> bytes | None:
        """What the buffer keeps of a batch; None (the default): the entries themselves."""
        return None

    def write(self, chunk: Chunk) -> None:
        """Delivers a chunk. An exception means retry; UnrecoverableError means do not; PartialWrite means
        retry with what is left. Events given to `context.emit_error` or `drop` do not count as delivered."""
        raise NotImplementedError

    def try_write(self, chunk: Chunk) -> None:
        """Starts to deliver a chunk; `commit(chunk.id)` follows once the destination has it, or
        `rollback(chunk.id, error)` once it is clear that it has not."""
        raise NotImplementedError

    def commit(self, chunk_id: bytes) -> None:
        """Says that a chunk of `try_write` has arrived. The engine replaces this per instance."""
        raise ConfigError("commit is only available to a buffered output")

    def rollback(self, chunk_id: bytes, error: Exception) -> None:
        """Says that a chunk of `try_write` has not arrived; it is retried. The engine replaces this per
        instance. A chunk without `commit` and `rollback` is retried after `delayed_commit_timeout`."""
        raise ConfigError("rollback is only available to a buffered output")

    def admit(self, batch: EventBatch) -> None:
        """Raises BufferOverflow where `deliver` of this batch has no room now; takes nothing.

        The engine replaces this per instance for buffered outputs. An output that hands batches on (to
        `<store>`s, to a label) overrides it and asks those.
        """

    def deliver(self, batch: EventBatch, *, to_error: bool = True) -> bool:
        """Hands a batch that was admitted to this output's own delivery: for outputs that hold outputs.

        False where a direct output failed: the events are counted there, logged, and sent to `@ERROR`
        unless `to_error` is False. The engine replaces this per instance.
        """
        raise ConfigError("deliver is only available inside a running engine")

    def placeholder_validate(self, name: str, template: str) -> None:
        """Raises ConfigError where the placeholders in `template` (the value of parameter `name`) do not
        fit the chunk keys. For `configure`."""
        from forwarder.api import placeholders  # noqa: PLC0415  (only outputs with a path need it)

        placeholders.validate(name, template, self._keys())

    def extract_placeholders(self, template: str, chunk: Chunk) -> str:
        """`template` with `${tag}`, `${tag[1]}`, `${chunk_id}`, `${field}` and time directives filled in.

        Raises:
            UnrecoverableError: a value would lead out of a directory.
        """
        from forwarder.api import placeholders  # noqa: PLC0415

        return placeholders.extract(template, chunk, self._keys(), self.log_repeated)

    def _keys(self) -> ChunkKeys:
        return self.buffer.keys() if self.chunk_keys is None else self.chunk_keys
