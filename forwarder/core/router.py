"""From tags to pipelines: the filters that precede a match in the file, then the first match.

A batch is looked up as a whole, natively (`TagRoutes`): Python runs once per pipeline, and per tag only
when the tag is new.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import TYPE_CHECKING, Final

from forwarder._native import TagRoutes
from forwarder.api.errors import BufferOverflow
from forwarder.config.patterns import TagPattern
from forwarder.core.pipeline import FilterNode, OutputNode, Pipeline

if TYPE_CHECKING:
    from forwarder._native import EventBatch
    from forwarder.core.context import PluginContext
    from forwarder.telemetry.ledger import Counters

_CACHED_TAGS: Final = 16384
"""Beyond so many distinct tags the cache starts anew: tags may come from outside."""


class NoMatch(OutputNode):
    """Where events go that no match wants: counted and logged, summarised."""

    def __init__(self, context: PluginContext) -> None:
        self.context = context
        self.quiet = False
        """For `<label @FLUENT_LOG>`: such events are not worth a line of the log they come from."""

    def admit(self, batch: EventBatch) -> None:
        """Always has room."""

    def deliver(self, batch: EventBatch, *, to_error: bool = True) -> bool:
        """Counts."""
        count = len(batch)
        self.context.counters.take(count)
        self.context.counters.lose(count, "no_match")
        tag = batch.tags[0]
        if not self.quiet and not tag.startswith("fluent."):
            self.context.log_repeated("no patterns matched", count=count, tag=tag)
        return True


class Router:
    """The `<filter>`s and `<match>`es of one label, in file order."""

    def __init__(self, no_match: NoMatch) -> None:
        self.no_match = no_match
        self._rules: list[tuple[Callable[[str], object] | None, FilterNode | OutputNode]] = []
        self._numbers: dict[tuple[int, ...], int] = {}
        self._pipelines: list[Pipeline] = []
        self._routes = TagRoutes(_CACHED_TAGS)
        self._lock = Lock()
        self._only: Pipeline | None = None
        self._only_known = False

    def add(self, pattern: str, node: FilterNode | OutputNode) -> None:
        """Adds the next section. Raises ConfigError for a pattern that cannot be read."""
        # None: all tags match
        matches = None if "**" in pattern.split() else TagPattern(pattern).matches
        self._rules.append((matches, node))
        self._routes = TagRoutes(_CACHED_TAGS)
        self._only_known = False

    @property
    def outputs(self) -> list[OutputNode]:
        """The outputs, in file order."""
        return [node for _, node in self._rules if isinstance(node, OutputNode)]

    def outputs_of(self, tag: str) -> list[OutputNode]:
        """The outputs whose pattern takes this tag, in file order; the first one gets its events."""
        rules = self._rules
        found = (node for matches, node in rules if matches is None or matches(tag))
        return [node for node in found if isinstance(node, OutputNode)]

    def matches(self, tag: str) -> bool:
        """Whether some `<match>` takes this tag."""
        return self.find(tag).output is not self.no_match

    def find(self, tag: str) -> Pipeline:
        """The pipeline of a tag."""
        return self._pipelines[self._resolve(tag)]

    def _resolve(self, tag: str) -> int:
        chosen: list[int] = []
        for index, (matches, node) in enumerate(self._rules):
            if matches is None or matches(tag):
                chosen.append(index)
                if isinstance(node, OutputNode):
                    break
        return self._number(tuple(chosen))

    def _number(self, chosen: tuple[int, ...]) -> int:
        # tags with the same filters and the same match share a pipeline, so that they stay one batch
        number = self._numbers.get(chosen)
        if number is None:
            with self._lock:
                number = self._numbers.get(chosen)
                if number is None:
                    nodes = [self._rules[index][1] for index in chosen]
                    output = nodes[-1] if nodes and isinstance(nodes[-1], OutputNode) else self.no_match
                    filters = tuple(node for node in nodes if isinstance(node, FilterNode))
                    number = len(self._pipelines)
                    self._pipelines.append(Pipeline(filters, output))
                    self._numbers[chosen] = number
        return number

    def _single(self) -> Pipeline | None:
        """The pipeline that all tags take, where the patterns leave no choice."""
        if not self._only_known:
            chosen: list[int] = []
            for index, (matches, node) in enumerate(self._rules):
                if matches is not None:
                    break
                chosen.append(index)
                if isinstance(node, OutputNode):
                    self._only = self._pipelines[self._number(tuple(chosen))]
                    break
            self._only_known = True
        return self._only

    def _split(self, batch: EventBatch) -> list[tuple[Pipeline, EventBatch]]:
        only = self._only if self._only_known else self._single()
        if only is not None:
            return [(only, batch)]
        pipelines = self._pipelines
        return [(pipelines[number], part) for number, part in self._routes.split(batch, self._resolve)]

    def admit(self, batch: EventBatch) -> None:
        """Raises BufferOverflow where `route` would; takes nothing."""
        for pipeline, part in self._split(batch):
            pipeline.output.admit(part)

    def route(self, batch: EventBatch) -> None:
        """Sends a batch through its pipelines.

        Raises:
            BufferOverflow: an output has no room. Nothing of the batch was taken by any, unless a disk
            refused what `admit` had let pass: then some of it may be there already, and comes twice when it
            is sent again.
        """
        parts = self._split(batch)
        for pipeline, part in parts:
            pipeline.output.admit(part)
        taken = 0
        for pipeline, part in parts:
            try:
                pipeline.run(part)
            except BufferOverflow as error:
                error.taken = taken + len(part) - error.refused
                raise
            taken += len(part)

    def hand_on(self, batch: EventBatch, counters: Counters) -> None:
        """As `route`, with the books of whoever emits: before anything further down has its own."""
        count = len(batch)
        counters.offer(count)
        try:
            self.route(batch)
        except BaseException as error:
            counters.withdraw(count, error.taken if isinstance(error, BufferOverflow) else 0)
            raise
        counters.emit(count)
        if counters.sized and counters.kind == "input":
            counters.weigh(batch.nbytes)
