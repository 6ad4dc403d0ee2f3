"""Whether a server is alive, judged by how regularly it was heard of.

The phi accrual failure detector (Hayashibara et al., 2004) in the form that Fluentd gives it: intervals
between signs of life, the later ones with more weight, and an exponential law for how unlikely silence is.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Final

_SAMPLES: Final = 1000
_FACTOR: Final = 1 / math.log(10)


class FailureDetector:
    """The signs of life of one server. Times in seconds of one clock; intervals in whole microseconds."""

    def __init__(self, heartbeat_interval: float, hard_timeout: float, now: float) -> None:
        self._interval = heartbeat_interval
        self._hard_timeout = hard_timeout
        self._last = now
        self._first = int(heartbeat_interval * 1e6)
        self._gaps = deque([self._first], maxlen=_SAMPLES)

    @property
    def samples(self) -> int:
        """Number of intervals known."""
        return len(self._gaps)

    def add(self, now: float) -> None:
        """Books a sign of life."""
        self._gaps.append(int((now - self._last) * 1e6) if self._gaps else self._first)
        self._last = now

    def hard_timeout(self, now: float) -> bool:
        """Whether the server was silent for longer than `hard_timeout`."""
        return now - self._last > self._hard_timeout

    def phi(self, now: float) -> float:
        """How sure it is that the server is gone: -log10 of the probability that it is not."""
        if not self._gaps:
            return 0.0
        weighted = sum(gap * weight for weight, gap in enumerate(self._gaps, 1))
        mean = weighted // (len(self._gaps) * (len(self._gaps) + 1) // 2) / 1e6
        # intervals count as if heartbeats came every second
        return _FACTOR * (now - self._last - self._interval + 1) / (mean - self._interval + 1)

    def clear(self) -> None:
        """Forgets everything: the server has to be heard of again for a while."""
        self._gaps.clear()
        self._last = -math.inf
