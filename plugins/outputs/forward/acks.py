"""Waiting for acknowledgements: one thread for all connections of an output."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable
from logging import Logger, LoggerAdapter
from threading import Condition, Thread
from typing import Final, NamedTuple

from forwarder.api.forward_client import Connection, ForwardError, ack_of
from forwarder.plugins.outputs.forward.node import Node

UNACKNOWLEDGED: Final = 64
"""Chunks that may wait for their ack at a time; the next one waits for one of them."""


class _Waiting(NamedTuple):
    connection: Connection
    node: Node
    chunk_id: bytes
    deadline: float


class AckReader:
    """Reads acks. Every connection waits for one ack at a time, so a late one cannot be taken for another's.

    `arrived(chunk_id)` and `failed(chunk_id, error)` are called from its thread.
    """

    def __init__(
        self,
        timeout: float,
        arrived: Callable[[bytes], None],
        failed: Callable[[bytes, Exception], None],
        log: LoggerAdapter[Logger],
    ) -> None:
        """`timeout` in seconds."""
        self._timeout = timeout
        self._arrived = arrived
        self._failed = failed
        self._log = log
        self._waiting: dict[int, _Waiting] = {}  # by descriptor, the oldest first
        self._changed = Condition()
        self._epoll = select.epoll()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll.register(self._wake, select.EPOLLIN)
        self._stopping = False
        self._thread = Thread(target=self._run, name="forward-acks", daemon=True)
        self._thread.start()

    def room(self) -> None:
        """Waits until another chunk may be sent. Raises TimeoutError after the ack timeout."""
        with self._changed:
            free = self._changed.wait_for(
                lambda: len(self._waiting) < UNACKNOWLEDGED or self._stopping, self._timeout
            )
        if not free:
            raise TimeoutError(f"{UNACKNOWLEDGED} chunks wait for acks already")

    def expect(self, connection: Connection, node: Node, chunk_id: bytes) -> None:
        """Waits for the ack of a chunk just sent; the connection is given back to the node after it."""
        entry = _Waiting(connection, node, chunk_id, time.monotonic() + self._timeout)
        fd = connection.fileno()
        with self._changed:
            first = not self._waiting
            self._waiting[fd] = entry
            self._epoll.register(fd, select.EPOLLIN)
        if first:
            os.eventfd_write(self._wake, 1)  # the thread sleeps without a deadline

    def stop(self) -> None:
        """Waits no more; the connections are closed."""
        self._stopping = True
        os.eventfd_write(self._wake, 1)
        self._thread.join()
        with self._changed:
            waiting = list(self._waiting.values())
            self._waiting.clear()
            self._changed.notify_all()
        for entry in waiting:
            entry.connection.abort()
        self._epoll.close()
        os.close(self._wake)

    def _run(self) -> None:
        while not self._stopping:
            for fd, _ in self._epoll.poll(self._patience()):
                if fd == self._wake:
                    os.eventfd_read(self._wake)
                    continue
                with self._changed:
                    entry = self._waiting.get(fd)
                if entry is not None:
                    self._read(fd, entry)
            self._expire()

    def _patience(self) -> float | None:
        with self._changed:
            for entry in self._waiting.values():
                return max(0.0, entry.deadline - time.monotonic())
        return None

    def _read(self, fd: int, entry: _Waiting) -> None:
        try:
            answers = entry.connection.answers()
            if not answers:
                return
            got = answers[0].get("ack") if isinstance(answers[0], dict) else None
            expected = ack_of(entry.chunk_id)
            if got not in (expected, expected.encode()) or len(answers) > 1:
                raise ForwardError(f"{entry.connection.peer} acknowledges what was not sent there: {got!r}")
        except (ForwardError, OSError) as error:
            self._give_up(fd, entry, error)
            return
        self._forget(fd)
        entry.node.give_back(entry.connection)
        self._arrived(entry.chunk_id)

    def _expire(self) -> None:
        now = time.monotonic()
        with self._changed:
            over = [(fd, entry) for fd, entry in self._waiting.items() if entry.deadline <= now]
        for fd, entry in over:
            error = TimeoutError(f"{entry.connection.peer} sent no ack for {self._timeout:g} s")
            self._give_up(fd, entry, error)

    def _give_up(self, fd: int, entry: _Waiting, error: Exception) -> None:
        self._forget(fd)
        entry.connection.abort()
        entry.node.disable(str(error))
        self._failed(entry.chunk_id, error)

    def _forget(self, fd: int) -> None:
        with self._changed:
            del self._waiting[fd]
            self._epoll.unregister(fd)
            self._changed.notify()
