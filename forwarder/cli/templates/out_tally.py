"""Output `tally`: counts events by tag, at once."""

from collections import Counter
from threading import Lock

from forwarder.api import EventStream, Output


class TallyOutput(Output):
    """Works in the thread of the input, without a buffer: `process` alone is there."""

    def configure(self) -> None:
        self.counts: Counter[str] = Counter()
        self._lock = Lock()  # several inputs may come at once

    def process(self, tag: str, stream: EventStream) -> None:
        with self._lock:
            self.counts[tag] += len(stream)
