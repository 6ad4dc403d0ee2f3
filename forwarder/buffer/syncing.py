"""When a file buffer's segments are written to the disk: the policy `fsync`, and the thread it may need."""

from __future__ import annotations

from threading import Event, Lock, Thread
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from forwarder._native import Segments


class Syncing:
    """Syncs the segments of one buffer. Of several threads that wait, one syncs for all."""

    def __init__(
        self, segments: Segments, policy: str, seconds: float, report: Callable[[str, OSError], None]
    ) -> None:  # fmt: skip
        """`policy`: "never", "chunk", "interval" (every `seconds`), "append". `report`: told of failures that
        nobody waits for."""
        self._segments = segments
        self._policy = policy
        self._seconds = seconds if policy == "interval" else 0.0
        self._report = report
        self._lock = Lock()
        self.reached = 0
        """So many of the bytes that were appended are on the disk."""
        self._failed: tuple[int, OSError] | None = None
        """Up to which byte the last failed sync may have cost what was appended."""
        self._wanted = Event()
        self._stopping = Event()
        self._thread: Thread | None = None

    @property
    def ever(self) -> bool:
        """Whether anything is synced at all."""
        return self._policy != "never"

    def start(self) -> None:
        """Starts the thread, where the policy has one."""
        if self._policy in ("interval", "chunk"):
            self._thread = Thread(target=self._now_and_then, name="buffer-sync", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Ends the thread, and syncs what is left."""
        if self._thread is not None:
            self._stopping.set()
            self._wanted.set()
            self._thread.join()
        if self.ever:
            try:
                self._segments.sync()
            except OSError as error:
                self._report("cannot sync the buffer", error)

    def appended(self) -> None:
        """After an append. Raises OSError with `append`: it is not on the disk."""
        if self._policy == "append":
            self.sync(raises=True)
        elif self.ever:
            self._segments.begin_writing()
            if self._policy == "interval":
                self._wanted.set()

    def closed(self) -> None:
        """After a chunk was closed."""
        if self._policy == "chunk":
            self._wanted.set()

    def confirm(self, end: int) -> None:
        """Waits with `chunk` until the disk has the bytes before `end`; what goes wrong is reported."""
        if self._policy == "chunk":
            self.sync(upto=end)

    def sync(self, *, upto: int | None = None, raises: bool = False) -> None:
        """Writes everything to the disk. Who comes while another syncs shares its work; `upto`: whose data
        end there."""
        written = self._segments.written if upto is None else upto
        with self._lock:
            if self.reached >= written:
                return
            if raises and self._failed is not None and written <= self._failed[0]:
                # it was in the file whose sync has failed, which is not tried again: that would lie
                raise self._failed[1]
            reached = self._segments.written
            try:
                self._segments.sync()
            except OSError as error:
                # nothing more goes to that file; what was appended meanwhile may have
                self._failed = (self._segments.written, error)
                if raises:
                    raise
                self._report("cannot sync the buffer", error)
            else:
                self.reached = reached

    def _now_and_then(self) -> None:
        """The thread; sleeps while there is nothing to sync."""
        while True:
            self._wanted.wait()
            if self._stopping.wait(self._seconds):
                return
            self._wanted.clear()
            self.sync()
