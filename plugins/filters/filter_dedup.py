"""Filter `dedup`: an event whose key was among the last ones of its tag does not go on.

*Delivery*: duplicates are lost on purpose, counted as `duplicate`. Events without the key go on, with a
warning.

*Differs from Fluentd* (fluent-plugin-dedup, whose output of this name emits with `dedup.` before the tag):
it is a filter, tags stay. The key may be a record accessor. `file` is this plugin's own format; a worker
after the first adds its number to the name.
"""

from __future__ import annotations

import json
import os
import time

from forwarder import _native
from forwarder.api import ConfigError, EventBatch, Filter, integer, size, string


class DedupFilter(Filter):
    """Drops events that were seen."""

    key = string("The field that tells events apart: a name, or a record accessor such as `$.a.b`.")
    cache_per_tag = size("How many of the last keys count, per tag.", 1)
    cache_ttl = integer("Seconds after which a key counts no more; 0: it stays.", 0)
    file = string("Where the keys are kept over a restart; not set: they are not.", None)

    def configure(self) -> None:
        """Raises ConfigError."""
        super().configure()
        if self.cache_per_tag < 1:
            raise ConfigError("must be at least 1", param="cache_per_tag")
        if self.cache_ttl < 0:
            raise ConfigError("must not be negative", param="cache_ttl")
        try:
            self._native = _native.Dedup(self.key, self.cache_per_tag, self.cache_ttl)
        except ValueError as error:
            raise ConfigError(str(error), param="key") from None

    def start(self) -> None:
        """Reads the file. One that cannot be read is logged, and what it had is forgotten."""
        path = self._path()
        if path is None or not os.path.exists(path):
            return
        try:
            with open(path, encoding="utf-8") as file:
                state = {tag: [bytes.fromhex(key) for key in keys] for tag, keys in json.load(file).items()}
        except (OSError, ValueError, TypeError, AttributeError) as error:
            self.log.error("cannot read the keys that were seen, starting without", path=path, error=error)
            return
        now = time.monotonic()
        for tag, keys in state.items():
            self._native.restore(tag, keys, now)

    def filter_batch(self, batch: EventBatch) -> EventBatch:
        """The events that were not seen."""
        kept, keyless = self._native.apply(batch, time.monotonic())
        if keyless:
            self.log_repeated(f"events without the key {self.key} go on", count=keyless)
        if kept is None:
            return batch
        self.context.drop(len(batch) - len(kept), "duplicate")
        return kept

    def close(self) -> None:
        """Writes the file."""
        path = self._path()
        if path is None:
            return
        state = {tag: [key.hex() for key in keys] for tag, keys in self._native.state().items()}
        new = f"{path}.new"
        try:
            with open(
                os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, self.context.file_permission), "w"
            ) as file:
                json.dump(state, file)
            os.replace(new, path)
        except OSError as error:
            self.log.error("cannot write the keys that were seen", path=path, error=error)

    def _path(self) -> str | None:
        if self.file is None or not self.context.worker_id:
            return self.file
        return f"{self.file}.worker{self.context.worker_id}"
