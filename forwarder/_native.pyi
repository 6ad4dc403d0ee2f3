"""The native crate as Python sees it; `tests/unit/test_native_stub.py` compares it with the module."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, final

@final
class EventStream:
    """One tag's events as bytes: concatenated MessagePack entries `[time, record]`. Immutable."""

    def __new__(cls, data: bytes | None = None) -> EventStream:
        """From the payload of the forward protocol's PackedForward mode, which is checked.

        Raises:
            ValueError: names the byte at which the stream is broken.
        """
    @staticmethod
    def from_events(events: Iterable[tuple[int, dict[str, Any]]]) -> EventStream:
        """From (time_ns, record). Raises TypeError, OverflowError for what MessagePack cannot hold."""
    def __len__(self) -> int: ...
    def __bytes__(self) -> bytes: ...
    def __iter__(self) -> Iterator[tuple[int, dict[str, Any]]]: ...
    def __add__(self, other: EventStream) -> EventStream: ...
    @property
    def nbytes(self) -> int: ...

@final
class EventBatch:
    """Events of one or several tags as one buffer, in order of arrival. Immutable."""

    def __new__(cls, streams: Sequence[tuple[str, EventStream]]) -> EventBatch: ...
    @staticmethod
    def concat(batches: Sequence[EventBatch]) -> EventBatch: ...
    def __len__(self) -> int: ...
    def __bool__(self) -> bool: ...
    def __bytes__(self) -> bytes: ...
    @property
    def nbytes(self) -> int: ...
    @property
    def tags(self) -> tuple[str, ...]:
        """The distinct tags, in order of first appearance."""
    def streams(self) -> list[tuple[str, EventStream]]:
        """Runs of one tag, in order of arrival."""
    def split(self, destinations: Sequence[int], count: int) -> list[EventBatch]:
        """`destinations[i]`: which of `count` batches gets the events of `tags[i]`; -1 leaves them out."""
    def slice(self, start: int, stop: int) -> EventBatch:
        """The events from `start` up to `stop`."""

@final
class CompiledParser:
    """A parser whose work per event is native. Made by the `*_parser` functions."""

    def parse(self, text: bytes | str) -> list[tuple[int | None, dict[str, Any]]] | str:
        """The events in `text`, or the reason why it gave none."""

@final
class CompiledFormatter:
    """A formatter whose work per event is native. Made by the `*_formatter` functions."""

    def format(self, batch: EventBatch) -> bytes:
        """All events' bytes, in order."""

@final
class Partitioner:
    """Chunk keys, compiled: splits a batch by tag, time slot and record fields."""

    def __new__(
        cls, by_tag: bool, timekey: int | None, zone: str | None, fields: Sequence[str]
    ) -> Partitioner:
        """`timekey`: seconds; `zone`: None (local), "UTC", "+09:00", "Asia/Tokyo"; `fields`: record accessors.

        Raises:
            ValueError: names the zone or the field that is wrong.
        """
    def partition(
        self, batch: EventBatch
    ) -> list[tuple[str | None, int | None, tuple[str | None, ...], EventBatch]]:
        """`(tag, start of the time slot, field values as text, events)` per key, in order of appearance.

        Where all events share one key, the batch of the answer is `batch` itself.
        """
