"""Input `count`: emits numbers, up to a limit."""

import threading
import time

from forwarder.api import BufferOverflow, EventStream, Input, duration, integer, string


class CountInput(Input):
    """Has a thread between `start` and `stop`, as every input."""

    tag = string("Tag of the events.")
    upto = integer("Last number.", 10)
    interval = duration("Pause between two events.", 0.01)

    def start(self) -> None:
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        for number in range(1, self.upto + 1):
            self.context.received(1)  # booked before it is emitted
            try:
                self.emit(self.tag, EventStream.from_events([(time.time_ns(), {"number": number})]))
            except BufferOverflow:
                self.context.drop(1, "overflow")  # nobody can wait for a number: it is counted as lost
            if self._stopping.wait(self.interval):
                return
