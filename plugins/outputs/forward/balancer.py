"""Which server gets the next chunk: weighted round robin over those that are available."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from functools import reduce
from logging import Logger, LoggerAdapter
from math import gcd
from threading import Lock
from typing import Final, Generic, Protocol, TypeVar

_TURNS: Final = 6
"""Turns of each server in a round, at least: so the chunks of one that fails spread over all others."""


class Balanced(Protocol):
    """What the balancer needs to know of a server."""

    @property
    def name(self) -> str: ...
    @property
    def weight(self) -> int: ...
    @property
    def standby(self) -> bool: ...
    @property
    def available(self) -> bool: ...


N = TypeVar("N", bound=Balanced)


class LoadBalancer(Generic[N]):
    """Weighted round robin. Thread-safe."""

    def __init__(self, log: LoggerAdapter[Logger]) -> None:
        self._log = log
        self._seed = random.random()
        self._round: list[N] = []
        self._next = 0
        self._standing_in: frozenset[str] = frozenset()
        self._lock = Lock()

    def rebalance(self, nodes: Sequence[N]) -> None:
        """Takes these servers. Standby ones are used for as much weight as the others have lost."""
        regular = [node for node in nodes if node.weight > 0 and not node.standby]
        lost = sum(node.weight for node in regular if not node.available)
        standing_in = []
        for node in nodes:
            if lost <= 0:
                break
            if node.weight > 0 and node.standby and node.available:
                standing_in.append(node)
                lost -= node.weight
        names = frozenset(node.name for node in standing_in)
        for name in sorted(names - self._standing_in):
            self._log.warning("using standby node", server=name)
        used = regular + standing_in
        made: list[N] = []
        if used:
            divisor = reduce(gcd, (node.weight for node in used))
            made = [node for node in used for _ in range(node.weight // divisor)]
            made *= max(1, len(used) * _TURNS // len(made))
            random.Random(self._seed).shuffle(made)
        else:
            self._log.warning("no nodes are available")
        with self._lock:
            self._round = made
            self._standing_in = names

    def candidates(self) -> Iterator[N]:
        """The servers to try for one chunk, one after the other: each available one once."""
        tried: set[int] = set()
        for _ in range(len(self._round)):
            with self._lock:
                if not self._round:
                    return
                self._next %= len(self._round)
                node = self._round[self._next]
                self._next += 1
            if id(node) not in tried and node.available:
                tried.add(id(node))
                yield node
