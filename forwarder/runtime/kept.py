"""Sockets that the supervisor keeps for its workers: the worker binds, the supervisor holds descriptors.

A worker asks for a key. It gets descriptors, or the word to bind; then it sends descriptors of what it has
bound. Who asks meanwhile waits. The supervisor knows nothing about sockets but the file of a Unix-domain
socket, which it removes.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from forwarder.runtime.channel import Channel

if TYPE_CHECKING:
    from forwarder.api.sockets import Bound


class KeptSockets:
    """The supervisor's side."""

    def __init__(self) -> None:
        self._kept: dict[str, tuple[list[int], tuple[int, int] | None]] = {}
        self._binding: dict[str, Channel] = {}
        self._waiting: dict[str, list[Channel]] = {}
        self.used: dict[Channel, set[str]] = {}
        """By worker: the keys that it has asked for."""

    def serve(self, worker: Channel) -> bool:
        """Answers one request; False: the worker is gone."""
        received = worker.receive()
        if received is None:
            self.gone(worker)
            return False
        message, files = received
        key = message["key"]
        if files:
            self._kept[key] = (files, message["file"])
            self._binding.pop(key, None)
            for other in self._waiting.pop(key, []):
                self._answer(other, key)
        elif message["do"] == "take":
            self.used.setdefault(worker, set()).add(key)
            self._take(worker, key)
        else:
            self._give_up(key)
        return True

    def _take(self, worker: Channel, key: str) -> None:
        if key in self._kept or key not in self._binding:
            self._answer(worker, key)
        else:
            self._waiting.setdefault(key, []).append(worker)

    def _answer(self, worker: Channel, key: str) -> None:
        kept = self._kept.get(key)
        if kept is None:
            self._binding[key] = worker
            worker.send({"found": False})
        else:
            worker.send({"found": True, "file": kept[1]}, kept[0])

    def _give_up(self, key: str) -> None:
        self._binding.pop(key, None)
        waiting = self._waiting.pop(key, [])
        for other in waiting:
            self._take(other, key)

    def gone(self, worker: Channel) -> None:
        """A worker has ended."""
        self.used.pop(worker, None)
        for waiting in self._waiting.values():
            if worker in waiting:
                waiting.remove(worker)
        for key in [key for key, binder in self._binding.items() if binder is worker]:
            self._give_up(key)

    def retain(self, workers: list[Channel]) -> None:
        """Closes what none of these workers has asked for."""
        used = {key for worker in workers for key in self.used.get(worker, ())}
        for key in [key for key in self._kept if key not in used]:
            files, place = self._kept.pop(key)
            if place is not None:
                path = key.partition(":")[2]
                with suppress(OSError):
                    found = os.lstat(path)
                    if (found.st_dev, found.st_ino) == place:
                        os.unlink(path)
            for file in files:
                os.close(file)

    def close(self) -> None:
        """In a forked child: gives up the descriptors, without any effect on the sockets."""
        for files, _ in self._kept.values():
            for file in files:
                os.close(file)
        self._kept.clear()


class RemoteKeeper:
    """The worker's side: a `forwarder.api.sockets.Keeper`."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def take(self, key: str) -> Bound | None:
        """As `Keeper`. Raises OSError: the supervisor is gone."""
        from forwarder.api.sockets import Bound  # noqa: PLC0415 - the supervisor does without

        message, files = self._ask({"do": "take", "key": key})
        if not message["found"]:
            return None
        place = message["file"]
        drops = files[1] if len(files) > 1 else None
        return Bound(socket.socket(fileno=files[0]), drops, None if place is None else tuple(place))

    def keep(self, key: str, bound: Bound) -> None:
        """As `Keeper`."""
        files = [bound.socket.fileno(), *([] if bound.drops is None else [bound.drops])]
        self._channel.send({"do": "keep", "key": key, "file": bound.file}, files)

    def give_up(self, key: str) -> None:
        """As `Keeper`."""
        self._channel.send({"do": "give up", "key": key})

    def _ask(self, message: dict[str, Any]) -> tuple[dict[str, Any], list[int]]:
        self._channel.send(message)
        answer = self._channel.receive()
        if answer is None:
            raise ConnectionError("the supervisor is gone")
        return answer
