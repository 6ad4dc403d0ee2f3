"""What a plugin can ask of the engine."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from forwarder._native import MemoryBudget
from forwarder.api.errors import BufferOverflow, ConfigError
from forwarder.telemetry.ledger import Counters, Metrics
from forwarder.telemetry.log import Log, PluginLog

if TYPE_CHECKING:
    from forwarder._native import EventBatch, MemoryLoan
    from forwarder.api.metrics import Family, PluginInfo
    from forwarder.api.sockets import Binding, Bound
    from forwarder.core.engine import Engine
    from forwarder.core.router import Router


class Routes:
    """The routers of an engine by label."""

    def __init__(self, memory: MemoryBudget | None = None) -> None:
        self.by_label: dict[str, Router] = {}
        self.memory = MemoryBudget() if memory is None else memory
        self.engine: Engine | None = None
        """Set as soon as there is one."""

    def find(self, label: str) -> Router:
        """A label's router. Raises ConfigError where there is none."""
        router = self.by_label.get(label)
        if router is None:
            known = ", ".join(sorted(name for name in self.by_label if name != "@ROOT")) or "none"
            raise ConfigError(f"label {label!r} is not defined; labels are: {known}", param="@label")
        return router

    @property
    def error(self) -> Router | None:
        """Where `@ERROR` events go."""
        return self.by_label.get("@ERROR")


class PluginContext:
    """One plugin's `Context`."""

    def __init__(
        self, *, plugin_id: str, type_name: str, argument: str, label: str | None, home: str, log: PluginLog,
        sink: Log, counters: Counters, routes: Routes, worker_id: int, hostname: str, root_dir: str | None,
        dir_permission: int, file_permission: int,
        check_only: bool,
    ) -> None:  # fmt: skip
        self.id = plugin_id
        self.type_name = type_name
        self.argument = argument
        self.label = label
        self.home = home
        """The label in which the plugin stands."""
        self.log = log
        self.worker_id = worker_id
        self.hostname = hostname
        self.root_dir = root_dir
        self.dir_permission = dir_permission
        self.file_permission = file_permission
        self.check_only = check_only
        self.counters = counters
        self.place = 0
        """Order in the configuration."""
        self.config: Mapping[str, str | None] = {}
        """The section's parameters as written, secrets masked."""
        self._sink = sink
        self._routes = routes
        self._target: Router | None = None
        self._diverted: Mapping[str, Router] = {}

    def emit(self, batch: EventBatch) -> None:
        """Hands a batch to the routes behind this plugin."""
        if not batch:
            return
        if self._target is None:
            self._target = self._routes.find(self.label or self.home)
        self._target.hand_on(batch, self.counters)

    def divert(self, routers: Mapping[str, Router] | None) -> None:
        """What this plugin emits goes to these routers, by label, instead of the routes; None: no longer."""
        self._diverted = routers or {}
        label = self.label or self.home
        # not None: a thread in `emit` would put the old one back
        self._target = self._diverted.get(label) or self._routes.find(label)

    def emit_to_label(self, label: str, batch: EventBatch) -> None:
        """Hands a batch to the start of a label's routes."""
        if batch:
            self._routes.find(label).hand_on(batch, self.counters)

    def admit_to_label(self, label: str, batch: EventBatch) -> None:
        """Raises BufferOverflow where `emit_to_label` would."""
        if batch:
            self._routes.find(label).admit(batch)

    def emit_error(self, batch: EventBatch, reason: str, detail: str) -> None:
        """Hands events that went wrong to `@ERROR`, or counts them as lost."""
        count = len(batch)
        if not count:
            return
        self.counters.explain(count)
        self.fail(batch, reason, detail)

    def fail(self, batch: EventBatch, reason: str, error: str | BaseException) -> None:
        """As `emit_error`, for the engine: the caller has done the books of the batch."""
        count = len(batch)
        router = self._error
        if router is not None and self.has_error_label:
            try:
                router.route(batch)
            except BufferOverflow as full:
                self.log_repeated("@ERROR has no room", count=count, level="error")
                if full.taken:
                    self.counters.error(full.taken, reason)
                    count -= full.taken
            else:
                self.counters.error(count, reason)
                self.log_repeated("send events to @ERROR", count=count, reason=reason, error=error)
                return
        self.counters.lose(count, reason)
        self.log_repeated("events are lost by an error", count=count, reason=reason, error=error)

    @property
    def _error(self) -> Router | None:
        return self._diverted.get("@ERROR") or self._routes.error

    @property
    def has_error_label(self) -> bool:
        """Whether what goes wrong here goes to `@ERROR`; what goes wrong inside @ERROR ends there."""
        return self._routes.error is not None and self.home != "@ERROR"

    def error_admits(self, batch: EventBatch) -> bool:
        """Whether there is an `@ERROR` for this plugin that has room for `batch`."""
        router = self._error
        if router is None or not self.has_error_label:
            return False
        try:
            router.admit(batch)
        except BufferOverflow:
            return False
        return True

    def received(self, count: int) -> None:
        """Books events that an input took from outside."""
        self.counters.take(count)

    def drop(self, count: int, reason: str) -> None:
        """Names the reason for events that do not go on."""
        self.counters.explain(count)
        self.counters.lose(count, reason)

    def metrics(self) -> Metrics:
        """The books of all plugins at this instant."""
        return self._engine.metrics()

    def families(self) -> Iterable[Family]:
        """What plugins measure themselves."""
        return self._engine.families()

    def plugins(self) -> Sequence[PluginInfo]:
        """All plugins of the configuration."""
        return self._engine.describe()

    def output_for(self, tag: str) -> str | None:
        """The id of the output that takes this tag at top level."""
        return self._engine.output_for(tag)

    @property
    def process(self) -> Mapping[str, object]:
        """How the process was started."""
        return self._engine.process

    def bind(self, binding: Binding) -> Bound:
        """A socket to listen on. Raises OSError."""
        return self._engine.sockets.bind(binding)

    def borrow(self, *, unfinished: bool = False) -> MemoryLoan:
        """Of the process's memory budget."""
        return self._routes.memory.borrow(self.id, unfinished=unfinished)

    @property
    def keeping_sockets(self) -> bool:
        """Whether the sockets go on elsewhere."""
        return self._engine.keeping_sockets

    @property
    def _engine(self) -> Engine:
        if self._routes.engine is None:
            raise RuntimeError("there is no engine yet: ask from `start` on")
        return self._routes.engine

    def check_label(self, label: str) -> None:
        """Raises ConfigError where the label does not exist."""
        self._routes.find(label)

    def log_repeated(self, message: str, *, count: int = 1, level: str = "warn", **fields: object) -> None:
        """Logs `message` at once, then at most once per interval with a count."""
        self._sink.repeats.log(self.log, message, count, level, fields)

    def log_raised(self, message: str, error: BaseException, *, count: int = 1) -> None:
        """Logs what a plugin raised, with its stack trace, at most once a minute and with a count."""
        fields: dict[str, object] = {"plugin": self.type_name, "error": f"{type(error).__name__}: {error}"}
        self._sink.raised.log(self.log, message, count, "error", fields, trace=error)
