"""How many chunks are on their way to a cluster at once: fewer when it pushes back, more when it does not.

Additive increase and multiplicative decrease, as TCP does it (RFC 5681): a chunk that the cluster had no room
for halves the limit, once for all that were on their way together; every fourth round without one adds one to
it, up to `flush_thread_count`. Who waits before trying again makes room for others, unless the cluster has
said how long it wants to be left alone.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_DECREASE: Final = 0.5
_INCREASE: Final = 0.25
"""Chunks more after a round (as many chunks as the limit allows) that the cluster took."""


class Turn:
    """The right to send one chunk."""

    def __init__(self, pressure: Pressure, round_: int) -> None:
        self._pressure = pressure
        self.round = round_
        """How often the limit had been lowered when this flight began."""
        self.smooth = True
        """The cluster had room for all so far."""

    def push_back(self) -> None:
        """The cluster had no room: fewer at once from now on. The turn goes on, and may be pushed back again
        when it has waited."""
        self.smooth = False
        self.round = self._pressure.shrink(self.round)

    @contextmanager
    def rest(self, quiet_seconds: float) -> Iterator[None]:
        """Lets others go first for the length of a block; nobody for `quiet_seconds`."""
        self._pressure.leave(quiet_seconds)
        try:
            yield
        finally:
            self._pressure.enter()


class Pressure:
    """The limit of one cluster. May be used from several threads."""

    def __init__(self, most: int) -> None:
        """`most`: the limit where nothing is in the way, which it starts with; at least 1."""
        self.most = most
        self.limit = float(most)
        """Chunks at once, at least 1; its whole part counts."""
        self.in_flight = 0
        """Chunks on their way."""
        self.pushbacks = 0
        """How often it had no room."""
        self._round = 0
        self._quiet_until = 0.0
        self._changed = threading.Condition()

    @contextmanager
    def turn(self) -> Iterator[Turn]:
        """Waits until another chunk may be sent. A turn ends with the block; one that raises says nothing
        about the cluster's room, unless `push_back` was called."""
        turn = Turn(self, self.enter())
        smooth = False
        try:
            yield turn
            smooth = turn.smooth
        finally:
            self.leave()
            with self._changed:
                if smooth and turn.round == self._round:
                    self.limit = min(float(self.most), self.limit + _INCREASE / self.limit)
                    self._changed.notify_all()

    def enter(self) -> int:
        """Waits for room, and takes it. Gives the round."""
        with self._changed:
            while True:
                quiet = self._quiet_until - time.monotonic()
                if quiet <= 0 and self.in_flight < int(self.limit):
                    break
                self._changed.wait(quiet if quiet > 0 else None)
            self.in_flight += 1
            return self._round

    def leave(self, quiet_seconds: float = 0.0) -> None:
        """Gives the room back; nobody gets it for `quiet_seconds`."""
        with self._changed:
            self.in_flight -= 1
            self._quiet_until = max(self._quiet_until, time.monotonic() + quiet_seconds)
            self._changed.notify_all()

    def shrink(self, round_: int) -> int:
        """Lowers the limit, unless that was done since the flight of this round began; gives the new
        round."""
        with self._changed:
            self.pushbacks += 1
            if round_ == self._round:
                self._round += 1
                self.limit = max(1.0, self.limit * _DECREASE)
            return self._round
