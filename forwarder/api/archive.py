"""What an output offers whose objects can be read again: `forwarder replay` uses it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol, runtime_checkable

from forwarder.api.errors import ForwarderError


class ArchiveError(ForwarderError):
    """The store, or an object in it, cannot be read. `transient`: it may work in a moment."""

    def __init__(self, message: str, *, transient: bool = False) -> None:
        super().__init__(message)
        self.transient = transient


class ArchivedObject(NamedTuple):
    """One object of an archive."""

    key: str
    size_bytes: int
    written_at: float
    """Seconds since the epoch."""


class ArchiveLayout(NamedTuple):
    """How lines were written; None: the reader's own default."""

    time_key: str | None = None
    tag_key: str | None = None
    time_format: str | None = None
    zone: str | None = None
    """Of times by `time_format` that name none; None: the machine's."""


@runtime_checkable
class Archive(Protocol):
    """An output that can be asked for what it wrote."""

    @property
    def archive_bucket(self) -> str:
        """Name of its bucket."""

    def archive_layout(self) -> ArchiveLayout:
        """How it writes lines."""

    def archived(self, prefix: str) -> Iterator[ArchivedObject]:
        """The objects whose keys start so, in the order of their keys. Raises ArchiveError."""

    def read_archived(self, key: str, on_bytes: Callable[[int], object] = lambda _: None) -> Iterator[bytes]:
        """An object's content, unpacked, in pieces. `on_bytes` is told how many more bytes of it were read.
        Raises ArchiveError, also between two pieces."""
