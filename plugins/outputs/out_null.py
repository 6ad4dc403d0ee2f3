"""Throws events away.

Delivery: everything counts as delivered. With `never_flush` nothing is: each event of a direct output is
lost with a logged error, each chunk of a buffered one is retried until it is given up.

Differs from Fluentd: nothing.
"""

from __future__ import annotations

from typing import ClassVar

from forwarder.api import Chunk, EventBatch, Output, boolean


class NullOutput(Output):
    """`@type null`. Direct; buffered with a `<buffer>` section."""

    multi_workers_ready = True

    buffer_defaults: ClassVar = {
        "chunk_keys": ["tag"],
        "chunk_limit_size": 10 * 1024,
        "flush_at_shutdown": True,
    }

    never_flush = boolean("Fail always, to try out what happens then.", False)

    def process_batch(self, batch: EventBatch) -> None:
        self._fail_if_wanted()

    def write(self, chunk: Chunk) -> None:
        self._fail_if_wanted()

    def _fail_if_wanted(self) -> None:
        if self.never_flush:
            raise RuntimeError("failed to flush: never_flush is set")
