"""Gives each batch of events to one of several outputs, its `<store>`s, in turn; `weight` says how often.

*Delivery*: each store has its own delivery and its own books. A store whose buffer is full is passed over;
the input is told that there is no room where all are full.

*Differs from Fluentd*: a store that is full is passed over (Fluentd tells the input). With weights the order
is even (weights 3 and 1: A A B A) rather than random. A weight of 0 takes a store out of turn; at least one
must be more.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence

from forwarder.api import BufferOverflow, ConfigError, EventBatch, Output, Section, integer, output_sections


class Share(Section):
    """What a `<store>` has for roundrobin."""

    weight = integer("How often the store gets a batch, compared with the others; negative is 0.", 1)


class RoundRobinOutput(Output):
    """`@type roundrobin`."""

    multi_workers_ready = True

    stores = output_sections("An output, with its `weight`.", name="store", section=Share)

    def configure(self) -> None:
        weights = [max(store.share.weight, 0) for store in self.stores if isinstance(store.share, Share)]
        if not any(weights):
            raise ConfigError("at least one <store> needs a weight above 0", param="store")
        self._order = _evenly(weights)
        self._next = 0
        self._lock = threading.Lock()

    def admit(self, batch: EventBatch) -> None:
        self._offer(lambda store: store.admit(batch), advance=False)

    def process_batch(self, batch: EventBatch) -> None:
        def take(store: Output) -> None:
            store.admit(batch)
            store.deliver(batch)

        self._offer(take, advance=True)

    def _offer(self, take: Callable[[Output], None], *, advance: bool) -> None:
        """To one store after the other, until one has room. Raises BufferOverflow: none has."""
        for store in self._from_next(advance=advance):
            try:
                return take(store)
            except BufferOverflow as error:
                if error.taken:
                    raise
                full = error
        try:
            raise full
        finally:
            del full  # it has a traceback, which has this frame, which has the batch

    def _from_next(self, *, advance: bool) -> Iterator[Output]:
        """All stores, from the one on whose turn it is."""
        with self._lock:
            start = self._next
            if advance:
                self._next = (start + 1) % len(self._order)
        seen: set[int] = set()
        for number in self._order[start:] + self._order[:start]:
            if number not in seen:
                seen.add(number)
                yield self.stores[number]


def _evenly(weights: Sequence[int]) -> list[int]:
    """Which store's turn it is, for one round: as often as its weight says, spread over the round."""
    turns = [
        ((turn + 0.5) / weight, number) for number, weight in enumerate(weights) for turn in range(weight)
    ]
    return [number for _, number in sorted(turns)]
