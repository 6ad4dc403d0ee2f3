"""Gives every event to several outputs, its `<store>`s.

Delivery: each store has its own delivery and its own books; a store that fails costs the others nothing.
Before anything is taken, all stores are asked for room: where one is full, none gets the batch, and the
input is told. A store with `ignore_error` is not asked: what it has no room for is counted as its loss.

Differs from Fluentd: a direct store that fails without `ignore_error` does not keep the events from the
stores behind it (there they are lost, or come twice after a retry of the sender). Copying costs nothing
because events are never changed in place, so `copy_mode` has no effect.
"""

from __future__ import annotations

from forwarder.api import BufferOverflow, ConfigError, EventBatch, Output, boolean, enum, output_sections


class CopyOutput(Output):
    """`@type copy`."""

    multi_workers_ready = True

    deep_copy = boolean("No effect.", False, deprecated="use copy_mode")
    copy_mode = enum(
        "No effect: events are never changed in place.", ("no_copy", "shallow", "deep", "marshal"), "no_copy"
    )
    stores = output_sections(
        "An output; `ignore_error` and `ignore_if_prev_success` as argument.", name="store"
    )

    def configure(self) -> None:
        self._ignores_error = ["ignore_error" in store.context.argument for store in self.stores]
        self._only_after_failure = [
            "ignore_if_prev_success" in store.context.argument for store in self.stores
        ]
        if self._only_after_failure[0]:
            raise ConfigError(
                "ignore_if_prev_success needs a <store> before it: use it in the second or later <store>",
                param="store",
            )
        if all(self._ignores_error) and not any(self._only_after_failure):
            self.log.warning("ignore_error is set in every <store>, but ignore_if_prev_success in none")

    def admit(self, batch: EventBatch) -> None:
        for store, ignore in zip(self.stores, self._ignores_error, strict=True):
            if not ignore:
                store.admit(batch)

    def process_batch(self, batch: EventBatch) -> None:
        before = False
        for store, ignore, only_after_failure in zip(
            self.stores, self._ignores_error, self._only_after_failure, strict=True
        ):
            if only_after_failure and before:
                # not asked; as in Fluentd, this does not count as a success for the next store
                before = False
                continue
            before = self._store(store, batch, ignore_error=ignore)

    def _store(self, store: Output, batch: EventBatch, *, ignore_error: bool) -> bool:
        if not ignore_error:
            return store.deliver(batch)
        try:
            store.admit(batch)
            return store.deliver(batch, to_error=False)
        except BufferOverflow as full:
            store.context.received(len(batch))
            store.context.drop(len(batch), full.reason)
            self.log_repeated("store has no room", count=len(batch), level="error", error=full)
            return False
