"""A built configuration and its life: start, flush, stop, and the books."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from threading import Thread
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from forwarder._native import EventBatch, EventStream
from forwarder.api.errors import BufferOverflow
from forwarder.api.metrics import Family, MemoryMetrics, PluginInfo
from forwarder.api.parameters import declarations
from forwarder.api.plugin import Output, Plugin
from forwarder.core.delivery import BufferedOutput
from forwarder.telemetry.ledger import Account, Counters, Metrics, cut
from forwarder.telemetry.log import LEVELS, EventTap, Log

if TYPE_CHECKING:
    from forwarder.api.sockets import Sockets
    from forwarder.core.context import PluginContext, Routes
    from forwarder.core.pipeline import OutputNode
    from forwarder.core.source_only import SourceOnly

ROOT: Final = "@ROOT"
FLUENT_LOG: Final = "@FLUENT_LOG"
STOP_SECONDS: Final = 10.0
"""How long a stop may take before what is left is given up, unless the caller says."""
_START_ORDER: Final = ("parser", "formatter", "output", "filter", "input")


class Placed(NamedTuple):
    """A plugin in its place."""

    plugin: Plugin
    context: PluginContext
    node: OutputNode | None
    """Outputs only; None for a `<secondary>`."""


class Engine:
    """Made by `forwarder.core.build`."""

    def __init__(
        self, plugins: list[Placed], routes: Routes, log: Log, sockets: Sockets | None = None
    ) -> None:
        self.plugins = plugins
        self.log_events = True
        """Whether own log lines become events where a route wants them."""
        self.log_event_verbose = False
        """Whether those of the stop do so too, until the outputs are flushed for the last time."""
        self.source_only: SourceOnly | None = None
        self.process: Mapping[str, object] = {}
        """`Context.process`."""
        self.keeping_sockets = False
        """`Context.keeping_sockets`."""
        self._sockets = sockets
        self._routes = routes
        self._log = log
        self._tap: EventTap | None = None
        self._started: list[Placed] = []
        self._state = "starting"
        self._own = Counters("@engine", "input", "engine")
        """What comes from no input: own log lines, and what a program hands in that runs the engine."""
        routes.engine = self

    # ------------------------------------------------------------ life

    def start(self) -> None:
        """Starts outputs, then filters, then inputs. In source-only mode: the inputs, and the buffers that
        keep what they emit.

        Raises:
            Exception: what a plugin's `start` raised; what was started before it is closed again.
        """
        mode = self.source_only
        inputs = self._of("input")
        if mode is not None and mode.collecting:
            mode.divert(placed.context for placed in inputs)
            self._start_these([*self._of("parser"), *mode.placed])
        else:
            self._start_routes()
        self._start_these(inputs)
        self._state = "running"

    @property
    def collecting(self) -> bool:
        """Whether it runs in source-only mode."""
        return self.source_only is not None and self.source_only.collecting

    def shift(self) -> int | None:
        """Leaves the source-only mode: starts what does not run yet, and hands on what has waited.

        Returns:
            How many events have waited; None: it is not in this mode.

        Raises:
            Exception: what a plugin's `start` raised; the engine has stopped, and the events wait on.
        """
        mode = self.source_only
        if mode is None or not mode.collecting:
            return None
        self._start_routes()
        return mode.end()

    def _start_routes(self) -> None:
        """Starts all that is behind the inputs and does not run yet."""
        kinds = [kind for kind in _START_ORDER if kind != "input"]
        running = {id(placed.plugin) for placed in self._started}
        begun = [placed for kind in kinds for placed in self._of(kind) if id(placed.plugin) not in running]
        self._start_these(begun)
        # what hands on to the routes begins when they all run
        for placed in begun:
            if isinstance(placed.node, BufferedOutput) and placed.node.plugin.emits:
                placed.node.begin()
                if self.source_only is not None and placed in self.source_only.placed:
                    placed.node.flush()  # an earlier process has left it: it has waited long enough
        if self.log_events:
            self._start_tap()

    def _start_these(self, plugins: list[Placed]) -> None:
        for placed in plugins:
            try:
                placed.plugin.start()
                self._started.append(placed)
                if isinstance(placed.node, BufferedOutput):
                    placed.node.start(idle=placed.node.plugin.emits)
            except BaseException as error:
                placed.context.log.error("cannot start", error=error)
                # what others keep or share must stay as it is: another engine may run on it
                shared = self._sockets is not None and self._sockets.shared
                self.stop(1.0, leave=_nothing if shared else None)
                raise

    @property
    def overlaps(self) -> bool:
        """Whether another engine may run at the same time: nothing here has files of its own."""
        return all(
            not (isinstance(node, BufferedOutput) and node.persistent)
            and (plugin.kind not in ("input", "output") or plugin.multi_workers_ready)
            for plugin, _, node in self.plugins
        )

    def stop(self, seconds: float = STOP_SECONDS, *, leave: Callable[[], None] | None = None) -> None:
        """Stops inputs, then flushes, then closes; events that are left after `seconds` are counted as lost
        under `shutdown` and named in the log. Does nothing a second time.

        Args:
            leave: another engine goes on. It finds in the sockets what waits there, and in persistent buffers
            what they hold. Called as soon as it may start; what memory buffers hold is flushed after that.
        """
        self._state = "stopping"
        self.keeping_sockets = leave is not None
        if self._sockets is not None and not self.keeping_sockets:
            self._sockets.close()
        deadline = time.monotonic() + seconds
        if not self.log_event_verbose:
            self._stop_tap()
        started, self._started = self._started, []
        nodes = [placed.node for placed in started if isinstance(placed.node, BufferedOutput)]
        staying = [node for node in nodes if leave is not None and node.persistent]
        for node in staying:
            node.hold(deadline - seconds / 2)  # inputs run on meanwhile
        # An input may sit in `emit` behind a full buffer: it gets half of the time to come out by itself.
        self._stop_all(
            [placed for placed in started if placed.plugin.kind == "input"], deadline - seconds / 2
        )
        self._stop_all([placed for placed in started if placed.plugin.kind != "input"], deadline)
        self._stop_tap()
        for node in staying:
            node.drain(leave=True)
        for node in staying:
            node.join(deadline)
        if leave is not None:
            leave()
        nodes = [node for node in nodes if node not in staying]
        # what emits again comes before those that get it
        emitting = [placed for placed in started if isinstance(placed.plugin, Output) and placed.plugin.emits]
        for placed in emitting:
            if isinstance(placed.node, BufferedOutput) and placed.node in nodes:
                placed.node.drain()
                placed.node.join(deadline)
                nodes.remove(placed.node)
            _close_one(placed)
        for node in nodes:
            node.drain()
        for node in nodes:
            node.join(deadline)
        for placed in reversed(started):
            if placed not in emitting:
                _close_one(placed)
        self._log.repeats.close()
        self._log.raised.close()

    def flush(self) -> None:
        """Queues all buffered events for delivery now."""
        for placed in self.plugins:
            if isinstance(placed.node, BufferedOutput):
                placed.node.flush()

    @property
    def sockets(self) -> Sockets:
        """What inputs listen on."""
        if self._sockets is None:
            from forwarder.api.sockets import Sockets  # noqa: PLC0415 - many configurations have none

            self._sockets = Sockets()
        return self._sockets

    # ------------------------------------------------------------ use

    def emit(self, tag: str, stream: EventStream, *, label: str = ROOT) -> None:
        """Hands events to a label's routes, as an input would. Raises BufferOverflow."""
        self.emit_batch(EventBatch([(tag, stream)]), label=label)

    def emit_batch(self, batch: EventBatch, *, label: str = ROOT) -> None:
        """Hands a batch to a label's routes, as an input would. Raises BufferOverflow."""
        self._routes.find(label).hand_on(batch, self._own)

    def metrics(self) -> Metrics:
        """The books of all plugins at this instant.

        Raises:
            TimeoutError: the lock of an output's delivery cannot be had for seconds.
        """
        accounts = []
        for _, context, node in self.plugins:
            if isinstance(node, BufferedOutput):
                accounts.append(Account(context.counters, node.metrics(), node.buffered))
            else:
                accounts.append(Account(context.counters, None, None))
        for router in self._routes.by_label.values():
            accounts.append(Account(router.no_match.context.counters, None, None))
        plugins = cut([*accounts, Account(self._own, None, None)])
        if not plugins[self._own.id].received:
            del plugins[self._own.id]
        return Metrics(plugins, self._state, self._memory())

    def _memory(self) -> MemoryMetrics:
        budget = self._routes.memory
        by_plugin: dict[str, int] = {}
        for name, used in budget.loans():
            by_plugin[name] = by_plugin.get(name, 0) + used
        return MemoryMetrics(budget.limit_bytes, budget.used_bytes, by_plugin)

    def describe(self) -> list[PluginInfo]:
        """All plugins in the order of Fluentd's monitor: inputs, then the outputs and the filters of the
        top level, then those of each label; the plugins inside of others follow these."""
        order = [ROOT, *(label for label in self._routes.by_label if label != ROOT)]
        infos = []
        for label in order:
            for kind in ("input", "output", "filter"):
                found = [
                    (plugin, context)
                    for plugin, context, node in self.plugins
                    if plugin.kind == kind and context.home == label and (node or kind != "output")
                ]
                infos += [_info(*each) for each in sorted(found, key=lambda each: each[1].place)]
        return infos

    def families(self) -> Iterator[Family]:
        """What plugins measure themselves. One that raises is logged and left out."""
        for plugin, context, _ in self.plugins:
            if type(plugin).measure is not Plugin.measure:
                try:
                    yield from plugin.measure()
                except Exception as error:
                    context.log_repeated("cannot measure", level="error", error=repr(error))

    @property
    def labels(self) -> list[str]:
        """Where events can be handed in: `@ROOT`, and the labels of the configuration."""
        return list(self._routes.by_label)

    def output_for(self, tag: str) -> str | None:
        """The id of the output that takes this tag at top level; those with outputs in them do not count."""
        around = {context.counters.parent for _, context, node in self.plugins if node}
        outputs = self._routes.by_label[ROOT].outputs_of(tag)
        return next((node.context.id for node in outputs if node.context.counters not in around), None)

    # ------------------------------------------------------------ inside

    def _of(self, kind: str) -> list[Placed]:
        return [placed for placed in self.plugins if placed.plugin.kind == kind]

    def _stop_all(self, placed: list[Placed], deadline: float) -> None:
        threads = [(each, Thread(target=_stop_one, args=(each,), daemon=True)) for each in placed]
        for _, thread in threads:
            thread.start()
        for each, thread in threads:
            thread.join(max(0.05, deadline - time.monotonic()))
            if thread.is_alive():
                each.context.log.warning("does not stop in time")

    def _stop_tap(self) -> None:
        if self._tap is not None:
            self._log.tap(None)
            self._tap.stop()
            self._tap = None

    def _start_tap(self) -> None:
        """Own log lines as events, where `<label @FLUENT_LOG>` or a match at top level asks for them."""
        label = FLUENT_LOG if FLUENT_LOG in self._routes.by_label else ROOT
        router = self._routes.by_label[label]
        router.no_match.quiet = label == FLUENT_LOG
        wanted = {f"fluent.{level}" for level in LEVELS if router.matches(f"fluent.{level}")}
        if not wanted:
            return

        def emit(tag: str, time_ns: int, record: dict[str, Any]) -> None:
            if tag in wanted:
                stream = EventStream.from_events([(time_ns, record)])
                try:
                    router.hand_on(EventBatch([(tag, stream)]), self._own)
                except BufferOverflow as error:
                    self._own.lose(1, error.reason)  # the line is in the log all the same

        self._tap = EventTap(emit)
        self._log.tap(self._tap)


def _nothing() -> None:
    """Nobody waits."""


def _info(plugin: Plugin, context: PluginContext) -> PluginInfo:
    parent = context.counters.parent

    def number(name: str) -> int | None:
        value = getattr(plugin, name) if name in declarations(type(plugin)) else None
        return value if isinstance(value, int) else None

    return PluginInfo(
        context.id, plugin.kind, context.type_name, None if parent is None else parent.id, context.home,
        context.config, plugin.statistics, number,
    )  # fmt: skip


def _close_one(placed: Placed) -> None:
    try:
        placed.plugin.close()
    except Exception as error:
        placed.context.log.error("cannot close", error=error)


def _stop_one(placed: Placed) -> None:
    try:
        placed.plugin.stop()
    except Exception as error:
        placed.context.log.error("cannot stop", error=error)
