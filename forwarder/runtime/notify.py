"""What systemd is told: readiness, reloads, the watchdog.

Source: sd_notify(3): datagrams of `NAME=value` lines to the Unix socket in `NOTIFY_SOCKET`.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping


class Notifier:
    """Speaks to the service manager; where there is none, to nobody."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._path = environment.get("NOTIFY_SOCKET", "")
        microseconds, pid = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID", "")
        ours = self._path and microseconds.isdecimal() and pid in ("", str(os.getpid()))
        self.watchdog_seconds = int(microseconds) / 1e6 if ours else None
        """The manager ends us if it hears nothing for so long; None: it does not watch."""

    def ready(self, status: str) -> None:
        """Started, or reloaded."""
        self._send(f"READY=1\nSTATUS={status}")

    def reloading(self) -> None:
        """A reload begins; `ready` ends it."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self) -> None:
        """The stop begins."""
        self._send("STOPPING=1\nSTATUS=stopping")

    def alive(self) -> None:
        """To the watchdog."""
        self._send("WATCHDOG=1")

    def _send(self, text: str) -> None:
        if not self._path:
            return
        # @ stands for the zero byte of the abstract name space
        path = f"\0{self._path[1:]}" if self._path.startswith("@") else self._path
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            try:
                sock.connect(path)
                sock.send(text.encode(), socket.MSG_NOSIGNAL)
            except OSError:
                pass  # the manager is gone: nothing that would help it
