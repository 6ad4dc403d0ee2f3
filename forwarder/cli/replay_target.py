"""Where `forwarder replay` sends events: a configuration's outputs, or standard output."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any, Final, NamedTuple, Protocol

from forwarder._native import EventBatch, Inject, json_formatter
from forwarder.api.errors import BufferOverflow, ConfigError, ForwarderError
from forwarder.api.stdout import write_stdout
from forwarder.core.delivery import BufferedOutput
from forwarder.runtime.options import Options
from forwarder.runtime.worker import Loaded

_POLL_SECONDS: Final = 0.01
_FULL_SECONDS: Final = 0.05
_STOP_SECONDS: Final = 10.0
_BOOKED_SECONDS: Final = 5.0


class Result(NamedTuple):
    """What became of the events."""

    delivered: int
    filtered: int
    lost: int
    details: list[str]


class Target(Protocol):
    """Takes the events."""

    def start(self) -> None:
        """Makes it ready. Raises ForwarderError."""

    def emit(self, batch: EventBatch) -> None:
        """Hands events on; waits where there is no room. Raises ForwarderError."""

    def settle(self) -> None:
        """Waits until what was handed on is safe. Raises ForwarderError: something was lost."""

    def finish(self) -> None:
        """Waits until what was handed on is delivered. Raises ForwarderError."""

    def stop(self) -> bool:
        """Ends it; whether everything was delivered or is safe. Does nothing a second time."""

    def result(self) -> Result:
        """What became of everything."""


class Lines:
    """JSON lines on standard output, which can be replayed themselves."""

    def __init__(self, layout: dict[str, Any]) -> None:
        keys = (layout["time_key"], layout["tag_key"])
        self._inject = None
        if not layout["keep_keys"]:
            time_form = (keys[0], "string", "%Y-%m-%dT%H:%M:%S.%NZ", "UTC")
            self._inject = Inject(tag_key=keys[1], time=time_form)
        self._formatter = json_formatter("oj", "\n")
        self._written = 0

    def start(self) -> None:
        """Nothing to do."""

    def emit(self, batch: EventBatch) -> None:
        """Writes."""
        if self._inject is not None:
            batch = self._inject.apply(batch)
        write_stdout([self._formatter.format(batch)])
        self._written += len(batch)

    def settle(self) -> None:
        """It is written already."""

    finish = settle

    def stop(self) -> bool:
        """Nothing is open."""
        return True

    def result(self) -> Result:
        """All of it was written."""
        return Result(self._written, 0, 0, [])


class Configuration:
    """The outputs, filters and labels of a configuration; its sources are not started."""

    def __init__(self, args: argparse.Namespace, check_stop: Callable[[], None]) -> None:
        """`check_stop` is called while it waits. Raises ConfigError: it cannot run, or has no such label."""
        self._check_stop = check_stop
        options = Options(
            config=args.into,
            plugin_dirs=tuple(args.plugin),
            log_level="info" if args.verbose else "warn",
            without_source=True,
            supervised=False,
            control_socket="none",
        )
        self._label = args.label
        self._engine = Loaded(options).engine
        if args.label not in self._engine.labels:
            known = ", ".join(sorted(self._engine.labels))
            raise ConfigError(f"{args.into} has no label {args.label}; it has {known}")
        self._engine.log_events = False
        self._buffers = [
            placed.node for placed in self._engine.plugins if isinstance(placed.node, BufferedOutput)
        ]
        self._stopped = False

    def start(self) -> None:
        """Starts the outputs. Raises ForwarderError: one cannot start."""
        try:
            self._engine.start()
        except ForwarderError:
            raise
        except Exception as error:
            raise ForwarderError(f"cannot start: {error}") from error

    def emit(self, batch: EventBatch) -> None:
        """Into the label's routes; waits while a buffer is full."""
        while True:
            try:
                self._engine.emit_batch(batch, label=self._label)
                return
            except BufferOverflow:
                self._check_stop()
                self._check()
                time.sleep(_FULL_SECONDS)

    def settle(self) -> None:
        """Memory buffers must be delivered; what a file buffer holds is safe."""
        if not self._stopped:
            self._empty([node for node in self._buffers if not node.persistent])
        self._check()

    def finish(self) -> None:
        """All buffers must be delivered."""
        self._empty(self._buffers)
        self._check()

    def stop(self) -> bool:
        """Stops the engine, which flushes memory buffers once more."""
        if not self._stopped:
            self._stopped = True
            self._engine.stop(_STOP_SECONDS)
        return not self._engine.metrics().totals().lost

    def result(self) -> Result:
        """From the books."""
        metrics = self._engine.metrics()
        totals = metrics.totals()
        details = [
            f"{plugin.id}: delivered {max(0, plugin.delivered - plugin.emitted + plugin.returned)}"
            for plugin in metrics.plugins.values()
            if plugin.kind == "output" and plugin.delivered > plugin.emitted - plugin.returned
        ]
        lost = {place: count for place, count in metrics.lost().items() if place[1] != "filtered"}
        details += [f"{place}: lost {count} ({reason})" for (place, reason), count in lost.items()]
        held = totals.buffered
        if held:
            details.append(f"{held} events are in file buffers, which a later start delivers")
        return Result(totals.delivered, totals.filtered, totals.lost + totals.rejected, details)

    def _empty(self, buffers: list[BufferedOutput]) -> None:
        while any(node.buffered() for node in buffers):
            for node in buffers:
                node.flush()
            self._check_stop()
            self._check()
            time.sleep(_POLL_SECONDS)
        # what has left a buffer is booked a moment later
        deadline = time.monotonic() + _BOOKED_SECONDS
        while self._engine.metrics().totals().in_flight and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)

    def _check(self) -> None:
        lost = {
            f"{place}: {count} ({reason})"
            for (place, reason), count in self._engine.metrics().lost().items()
            if reason != "filtered" and not self._rejected(place, reason)
        }
        if lost:
            raise ForwarderError(f"stopped, because events were lost: {', '.join(sorted(lost))}")

    def _rejected(self, place: str, reason: str) -> bool:
        """What a destination refuses for good, it would refuse again: no reason to stop."""
        return reason in self._engine.metrics().plugins[place].rejected
