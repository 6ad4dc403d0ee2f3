"""Driving plugins in tests: configuration text in, events out, all in this process.

::

    from forwarder.api.testing import run

    def test_upper():
        with run('''
            <filter **>
              @type upper
              key message
            </filter>
            <match **>
              @type test
            </match>
        ''', plugins={("filter", "upper"): UpperFilter}) as driver:
            driver.emit("app", {"message": "hello"})
            assert driver.records() == [{"message": "HELLO"}]

`@type test` is an output that keeps what it gets: at once, or by way of its buffer if it has a `<buffer>`.
At the end of the `with` block the engine is stopped and its books must balance.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterable, Mapping
from threading import Lock
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple

from forwarder._native import EventBatch, EventStream
from forwarder.api.chunk import Chunk
from forwarder.api.plugin import Output, Plugin, Record

if TYPE_CHECKING:
    from forwarder.telemetry.ledger import Metrics, PluginMetrics

_PATIENCE = 10.0
_NOW_NS = 1_700_000_000_000_000_000


class Event(NamedTuple):
    """One event that came out."""

    tag: str | None
    """None where the output is buffered and tag is no chunk key."""
    time_ns: int
    record: Record


class Capture(Output):
    """`@type test`: keeps events and chunks; `fail_with` makes it fail."""

    multi_workers_ready = True

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.chunks: list[Chunk] = []
        self.attempts = 0
        self.fail_with: Callable[[Chunk | EventBatch], BaseException | None] = lambda _: None
        """Called for each attempt; what it gives is raised."""
        self._lock = Lock()

    def process_batch(self, batch: EventBatch) -> None:
        self._attempt(batch)
        with self._lock:
            for tag, stream in batch.streams():
                self.events.extend(Event(tag, time_ns, record) for time_ns, record in stream)

    def write(self, chunk: Chunk) -> None:
        self._attempt(chunk)
        with self._lock:
            self.chunks.append(chunk)
            self.events.extend(Event(chunk.key.tag, time_ns, record) for time_ns, record in chunk.stream())

    def _attempt(self, what: Chunk | EventBatch) -> None:
        with self._lock:
            self.attempts += 1
        error = self.fail_with(what)
        if error is not None:
            raise error


class Driver:
    """A running engine in a test; made by `run`."""

    def __init__(
        self,
        config: str,
        *,
        plugins: Mapping[tuple[str, str], type[Plugin]] | None = None,
        path: str = "test.conf",
        log_level: str = "debug",
        log_events: bool = False,
        start: bool = True,
    ) -> None:
        """`log_events`: whether the engine's own log lines become events (`fluent.warn`, ...)."""
        from forwarder.config import Diagnostics, parse_text  # noqa: PLC0415 - api imports nothing above it
        from forwarder.core.build import build  # noqa: PLC0415
        from forwarder.core.registry import Registry  # noqa: PLC0415
        from forwarder.telemetry.log import Log  # noqa: PLC0415

        registry = Registry()
        registry.register("output", "test", Capture)
        for (kind, name), cls in (plugins or {}).items():
            registry.register(kind, name, cls)
        self._log = io.StringIO()
        self.diagnostics = Diagnostics()
        root = parse_text(config, path, self.diagnostics)
        log = Log(self._log, level=log_level)
        self.engine = build(root, diagnostics=self.diagnostics, registry=registry, log=log)
        self.engine.log_events = log_events
        if start:
            self.engine.start()

    def __enter__(self) -> Driver:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        if error is None:
            unbalanced = self.metrics().unbalanced()
            assert not unbalanced, f"events without an account: {unbalanced}"

    def emit(
        self, tag: str, *records: Record | tuple[int, Record], label: str = "@ROOT", time_ns: int = _NOW_NS
    ) -> None:
        """Emits records, or (time_ns, record) pairs, as an input would. Raises BufferOverflow."""
        events: Iterable[tuple[int, Record]] = [
            record if isinstance(record, tuple) else (time_ns, record) for record in records
        ]
        self.engine.emit(tag, EventStream.from_events(events), label=label)

    def emit_batch(self, batch: EventBatch, *, label: str = "@ROOT") -> None:
        """Emits a batch as an input would. Raises BufferOverflow."""
        self.engine.emit_batch(batch, label=label)

    def plugin(self, plugin_id: str) -> Any:
        """The plugin with this `@id` (or made-up id: `out_test`, `out_test.2`, `in_udp`).

        Raises:
            KeyError: there is none.
        """
        for placed in self.engine.plugins:
            if placed.context.id == plugin_id:
                return placed.plugin
        raise KeyError(plugin_id)

    def events(self, plugin_id: str | None = None) -> list[Event]:
        """What the `@type test` outputs got, or the one with this id."""
        return [
            event
            for placed in self.engine.plugins
            if isinstance(placed.plugin, Capture) and plugin_id in (None, placed.context.id)
            for event in list(placed.plugin.events)
        ]

    def records(self, plugin_id: str | None = None) -> list[Record]:
        """The records of `events`."""
        return [event.record for event in self.events(plugin_id)]

    def wait_for(self, condition: Callable[[], object], seconds: float = _PATIENCE) -> None:
        """Waits until `condition()` is true. Raises AssertionError with the log after `seconds`."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise AssertionError(f"not true within {seconds} s; log:\n{self.log}")
            time.sleep(0.002)

    def wait_for_events(self, count: int, plugin_id: str | None = None) -> list[Event]:
        """Waits until at least `count` events came out."""
        self.wait_for(lambda: len(self.events(plugin_id)) >= count)
        return self.events(plugin_id)

    def flush(self) -> None:
        """Queues all buffered events now."""
        self.engine.flush()

    def stop(self, seconds: float = _PATIENCE) -> None:
        """Stops the engine; does nothing a second time."""
        self.engine.stop(seconds)

    def metrics(self) -> Metrics:
        """The books of all plugins."""
        return self.engine.metrics()

    def __getitem__(self, plugin_id: str) -> PluginMetrics:
        return self.metrics().plugins[plugin_id]

    @property
    def log(self) -> str:
        """What the engine logged so far."""
        return self._log.getvalue()


def run(config: str, **options: Any) -> Driver:
    """Builds and starts the engine of a configuration text; options as `Driver`.

    Raises:
        InvalidConfiguration: names all that is wrong with it.
    """
    return Driver(config, **options)
