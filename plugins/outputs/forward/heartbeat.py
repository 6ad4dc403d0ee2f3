"""Signs of life: one thread per server, so that one that does not answer holds up no other."""

from __future__ import annotations

import socket
from dataclasses import replace
from logging import Logger, LoggerAdapter
from threading import Event, Thread
from typing import Final

from forwarder.api.forward_client import ForwardError, Link
from forwarder.plugins.outputs.forward.node import Node, Settings

_CONNECT_SECONDS: Final = 5.0
"""How long a heartbeat waits for a connection at most, where `connect_timeout` is not set."""


class Heartbeat:
    """Asks one server once per interval whether it is there, until `stop`."""

    def __init__(self, node: Node, settings: Settings, log: LoggerAdapter[Logger], *, udp: bool) -> None:
        self._node = node
        self._interval = settings.heartbeat_interval
        self._log = log
        self._beat = self._datagram if udp else self._connection
        self._link: Link = replace(
            settings.link,
            connect_timeout=settings.link.connect_timeout or min(settings.hard_timeout, _CONNECT_SECONDS),
        )
        self._stopped = Event()
        Thread(target=self._run, name=f"heartbeat {node.name}", daemon=True).start()

    def stop(self) -> None:
        """Returns at once; the thread ends after the heartbeat at hand."""
        self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.wait(self._interval):
            try:
                self._beat()
            except (OSError, ForwardError) as error:
                self._log.debug("heartbeat failed", server=self._node.name, error=error)
            except Exception as error:
                self._log.error("heartbeat failed", server=self._node.name, error=error)
            if not self._stopped.is_set():
                self._node.tick()
                self._node.purge()

    def _connection(self) -> None:
        """A connection with all that belongs to it, and no data: what every server understands."""
        self._node.connect(self._link).close()
        self._node.alive(recovers=True)

    def _datagram(self) -> None:
        """One zero byte, which the server sends back."""
        address = self._node.resolve()
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.settimeout(self._interval)
            sock.connect((address, self._node.service.port))
            sock.send(b"\0")
            sock.recv(16)
        self._node.alive(recovers=True)
