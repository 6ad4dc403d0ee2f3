"""Metadata of pods by name, asked for in a thread of its own so that no event waits for a dead API server."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple

from forwarder.plugins.filters.kubernetes.client import ApiError, Client

Name = tuple[str, str]
"""(namespace, pod)"""

_LEAST_PAUSE: Final = 0.5
_MOST_PAUSE: Final = 30.0
_AGAIN_SECONDS: Final = 10.0
"""After which a pod is asked for again that was not there, or had not the container."""


class Found(NamedTuple):
    """What the API server said."""

    pod: dict[str, Any] | None
    namespace: dict[str, Any] | None
    at: float


class Lookups:
    """A cache of pods and the thread that fills it."""

    def __init__(
        self,
        client: Client,
        *,
        size: int,
        ttl: float,
        with_namespace: bool,
        log: Callable[[str], None],
    ) -> None:
        self._client = client
        self._size = size
        self._ttl = ttl
        self._with_namespace = with_namespace
        self._log = log
        self._changed = threading.Condition()
        self._found: OrderedDict[Name, Found] = OrderedDict()
        self._wanted: dict[Name, None] = {}
        self._stopped = False
        self.down = False
        """The last lookup failed: nobody waits until one succeeds."""
        self.answered = self.failed = 0
        self._thread = threading.Thread(target=self._work, name="kubernetes", daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread; one that waits for the API server ends when that has answered."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        self._thread.join(1.0)

    def get(self, names: Iterable[Name], wait: float) -> dict[Name, Found]:
        """What is known of pods. Those that are not are asked for, and waited for at most `wait` seconds."""
        deadline = time.monotonic() + wait
        wanted = list(names)
        with self._changed:
            missing = [name for name in wanted if self._known(name) is None]
            self._want(missing)
            while missing and not self.down and not self._stopped:
                left = deadline - time.monotonic()
                if left <= 0:
                    break
                self._changed.wait(left)
                missing = [name for name in missing if self._known(name) is None]
            return {name: known for name in wanted if (known := self._known(name)) is not None}

    def refresh(self, name: Name) -> None:
        """Asks again where what is known is not of just now."""
        with self._changed:
            known = self._found.get(name)
            if known is None or time.monotonic() - known.at >= _AGAIN_SECONDS:
                self._want([name])

    def _known(self, name: Name) -> Found | None:
        known = self._found.get(name)
        if known is None:
            return None
        age = time.monotonic() - known.at
        if (self._ttl >= 0 and age >= self._ttl) or (known.pod is None and age >= _AGAIN_SECONDS):
            # asked for again, and used on until there is something newer
            self._want([name])
        self._found.move_to_end(name)
        return known

    def _want(self, names: Iterable[Name]) -> None:
        for name in names:
            if name not in self._wanted and len(self._wanted) < self._size:
                self._wanted[name] = None
                self._changed.notify_all()

    def _work(self) -> None:
        pause = _LEAST_PAUSE
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._wanted or self._stopped)
                if self._stopped:
                    break
                name = next(iter(self._wanted))
            try:
                found = self._ask(name)
            except ApiError as error:
                self._log(str(error))
                with self._changed:
                    self.down = True
                    self.failed += 1
                    # the others have their turn
                    self._wanted.pop(name, None)
                    self._wanted[name] = None
                    self._changed.notify_all()
                    self._changed.wait_for(lambda: self._stopped, pause)
                pause = min(_MOST_PAUSE, pause * 2)
                continue
            pause = _LEAST_PAUSE
            with self._changed:
                self.down = False
                self.answered += 1
                self._wanted.pop(name, None)
                self._found[name] = found
                self._found.move_to_end(name)
                while len(self._found) > self._size:
                    self._found.popitem(last=False)
                self._changed.notify_all()
        self._client.close()

    def _ask(self, name: Name) -> Found:
        namespace, pod = name
        answer = self._client.pod(namespace, pod)
        around = self._client.namespace(namespace) if self._with_namespace else None
        return Found(answer, around, time.monotonic())
