"""When a chunk is tried again, when the secondary takes over, and when it is given up.

Fluentd's rules (`PluginHelper::RetryState`), but one clock per chunk: a chunk that cannot be delivered does
not use up the tries of the others. Times are seconds of any clock that only goes forward.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from forwarder.api.buffering import BufferSection

_JITTER = 0.125
_LONGEST = 1e9  # seconds; an exponential stays finite


class RetryPolicy(NamedTuple):
    """The retry parameters of `<buffer>`, in seconds."""

    exponential: bool = True
    wait: float = 1.0
    base: float = 2.0
    max_interval: float | None = None
    timeout: float = 72 * 3600.0
    max_times: int | None = None
    forever: bool = False
    randomize: bool = True
    secondary: bool = False
    """Whether there is a `<secondary>`."""
    secondary_threshold: float = 0.8

    @classmethod
    def of(cls, buffer: BufferSection, *, secondary: bool) -> RetryPolicy:
        """From a bound `<buffer>`."""
        return cls(
            buffer.retry_type == "exponential_backoff", buffer.retry_wait,
            buffer.retry_exponential_backoff_base, buffer.retry_max_interval,
            buffer.retry_timeout, buffer.retry_max_times, buffer.retry_forever,
            buffer.retry_randomize, secondary, buffer.retry_secondary_threshold,
        )  # fmt: skip

    def interval(self, number: int) -> float:
        """The wait after retry `number` (from 0), before jitter."""
        if not self.exponential:
            return self.wait
        try:
            interval = self.wait * self.base**number
        except OverflowError:
            interval = _LONGEST
        return min(interval, _LONGEST if self.max_interval is None else self.max_interval)

    def longest(self) -> float:
        """How long retries can go on, from the first failure."""
        if self.max_times is None:
            return self.timeout
        total = 0.0
        for number in range(self.max_times):
            total += self.interval(number)
            if total >= self.timeout:
                return self.timeout
        return total


class RetryState:
    """The clock of one chunk; made when its first attempt has failed."""

    __slots__ = (
        "_policy", "_random", "_secondary_from", "_secondary_steps", "_timed_out", "_timeout_at",
        "_timeout_reached", "next_time", "since", "steps",
    )  # fmt: skip

    def __init__(
        self, policy: RetryPolicy, now: float, randomness: Callable[[], float] = random.random
    ) -> None:
        self._policy = policy
        self._random = randomness
        self.since = now
        """When the first attempt failed."""
        self.steps = 0
        """Retries that have failed."""
        self.next_time = now + policy.wait
        self._timeout_at = now + policy.timeout
        self._timeout_reached = self._timed_out = False
        self._secondary_from = now + policy.longest() * policy.secondary_threshold
        self._secondary_steps: int | None = None

    def fail(self, now: float) -> None:
        """Books a failed retry."""
        self.steps += 1
        policy = self._policy
        switches = policy.secondary and not policy.forever
        if switches and self._secondary_steps is None and now >= self._secondary_from:
            self._secondary_steps = self.steps
        # the secondary starts with the short waits again
        number = self.steps - (self._secondary_steps or 0)
        interval = policy.interval(number)
        if policy.randomize:
            interval += interval * _JITTER * (2 * self._random() - 1)
        self.next_time = now + interval
        if switches and self._secondary_steps is None:
            self.next_time = min(self.next_time, self._secondary_from)
        elif not policy.forever:
            self.next_time = min(self.next_time, self._timeout_at)
        if not policy.forever and self.next_time >= self._timeout_at:
            # the attempt at the very end of the time is made; only the failure after it ends the chunk
            self._timed_out, self._timeout_reached = self._timeout_reached, True

    def secondary(self, now: float) -> bool:
        """Whether the secondary is to write the chunk now."""
        if not self._policy.secondary or self._policy.forever:
            return False
        return self._secondary_steps is not None or now >= self._secondary_from

    @property
    def exhausted(self) -> bool:
        """Whether the chunk is to be given up."""
        if self._policy.forever:
            return False
        return self._timed_out or (
            self._policy.max_times is not None and self.steps >= self._policy.max_times
        )
