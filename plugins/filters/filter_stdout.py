"""`<filter> @type stdout`: prints events on standard output and passes them on as they are.

*Delivery*: events always go on. Where standard output is closed, only the print is lost, which is logged.

*Differs from Fluentd*: the lines never pass through the logger (our log goes to standard error).
"""

from __future__ import annotations

from forwarder.api import EventBatch, Filter, formatter_section, optional_section
from forwarder.api.inject import Inject
from forwarder.api.stdout import write_stdout


class StdoutFilter(Filter):
    """Prints what passes."""

    format = formatter_section("How an event is written.", default="stdout")
    inject = optional_section(Inject, "Fields to add to what is printed, not to the events.")

    def configure(self) -> None:
        if self.inject is not None:
            self.inject.bind(self.context)

    def filter_batch(self, batch: EventBatch) -> EventBatch:
        shown = batch if self.inject is None else self.inject.apply(batch)
        text = self.format.format_batch(shown)
        try:
            write_stdout((text,))
        except OSError as error:
            self.log_repeated(f"cannot print events on standard output: {error}", count=len(batch))
        return batch
