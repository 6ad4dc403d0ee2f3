"""in_sample (also `dummy`): makes events from samples, at a rate; for trying out and load tests.

*Delivery*: what a full buffer refuses is dropped and counted (`overflow`), as if it had never been made.

The counter of `auto_increment_key` goes on after a restart where `<storage>` keeps it; after a crash it may
repeat the numbers of `autosave_interval`.

*Differs from Fluentd*: `reuse_record` and `suspend` have no effect (records are encoded once and never
change; Fluentd ignores `suspend` too). `persistent` saves after each batch.
"""

from __future__ import annotations

import json
import threading
import time
from typing import Any, Final

from forwarder._native import Sampler
from forwarder.api import BufferOverflow, ConfigError, Input, boolean, integer, section, string
from forwarder.api.shared_sections import Storage
from forwarder.api.storage import LocalStorage

SLOTS: Final = 10
"""Emits per second."""
MAX_BATCH: Final = 20_000
"""Events of one batch."""
_COUNTER: Final = "auto_increment_value"
"""In the storage, as in Fluentd's: the last number that was used."""


class SampleInput(Input):
    """Emits sample events."""

    multi_workers_ready = True

    tag = string("Tag of the events.")
    size = integer("Events per emit.", 1)
    rate = integer("Emits per second.", 1)
    auto_increment_key = string("Field that counts the events, from 0.", None)
    suspend = boolean("Has no effect.", False, deprecated="this parameter is ignored")
    reuse_record = boolean("Has no effect: records are always reused.", False)
    sample = string(
        "The record, or an array of records to emit in turn, as JSON.",
        '[{"message":"sample"}]',
        alias="dummy",
    )
    storage = section(Storage, "Where the counter is kept.")

    def configure(self) -> None:
        for name in ("size", "rate"):
            if getattr(self, name) < 0:
                raise ConfigError("must not be negative", param=name)
        self._sampler = Sampler(self.tag, self._records(), self.auto_increment_key)
        self._stopping = threading.Event()
        self._storage: LocalStorage | None = None
        if "storage" in self.given:
            if "type" not in self.storage.given:
                raise ConfigError("@type is required in <storage>", param="storage")
            LocalStorage(self, self.storage, has_id=True)  # to find out early what cannot be used

    def _records(self) -> list[dict[str, Any]]:
        try:
            parsed = json.loads(self.sample)
        except ValueError as error:
            raise ConfigError(f"expected JSON: {error}", param="sample") from None
        records = parsed if isinstance(parsed, list) else [parsed]
        for index, record in enumerate(records):
            if not isinstance(record, dict):
                raise ConfigError(f"{index}th element of sample, {record!r}, is not a hash", param="sample")
        if not records:
            raise ConfigError("at least one record is needed", param="sample")
        return records

    def start(self) -> None:
        if self.auto_increment_key is not None:
            has_id = any(
                "@id" in info.config for info in self.context.plugins() if info.id == self.context.id
            )
            self._storage = LocalStorage(self, self.storage, has_id=has_id)
            kept = self._storage.get(_COUNTER)
            first = kept + 1 if isinstance(kept, int) and kept >= 0 else 0
            self._sampler = Sampler(self.tag, self._records(), self.auto_increment_key, first)
        self._thread = threading.Thread(target=self._run, name=f"in:{self.context.id}", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()
        if self._storage is not None:
            self._storage.close()

    def _run(self) -> None:
        # as in Fluentd: a tenth of the rate in each tenth of a second, what is left over at its end
        share, rest = divmod(self.rate, SLOTS)
        second = time.monotonic()
        while True:
            for slot in range(SLOTS):
                self._make(share * self._group)
                pause = second + (slot + 1) / SLOTS - time.monotonic()
                if self._stopping.wait(max(0.0, pause)):
                    return
            self._make(rest * self._group)
            second = max(second + 1.0, time.monotonic() - 1.0)  # never catches up more than a second

    @property
    def _group(self) -> int:
        return max(1, self.size)

    def _make(self, count: int) -> None:
        while count > 0 and not self._stopping.is_set():
            batch = self._sampler.take(min(count, MAX_BATCH))
            count -= len(batch)
            if self._storage is not None:
                self._storage.put(_COUNTER, self._sampler.counter - 1)
            self.context.received(len(batch))
            try:
                self.emit_batch(batch)
            except BufferOverflow as error:
                self.context.drop(len(batch), error.reason)
                self.log_repeated("buffer full, events dropped", count=len(batch), error=str(error))
            except Exception as error:
                self.context.drop(len(batch), "emit_error")
                self.log_repeated("emitting failed", level="error", count=len(batch), error=repr(error))
