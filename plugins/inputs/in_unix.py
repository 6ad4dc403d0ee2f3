"""in_unix: the forward protocol over a Unix-domain socket, for programs on the same host.

*Delivery*: as in_forward; acknowledgements are sent to those who ask.

*Differs from Fluentd*: there are acknowledgements and compressed payloads, which its in_unix ignores. The
socket's file is removed at the end. Where one is there already it is replaced only if it is a socket.
"""

from __future__ import annotations

import os

from forwarder._native import ForwardRules, ForwardServer
from forwarder.api import ConfigError, Input, integer, string
from forwarder.api.server import Reception, max_connections
from forwarder.api.sockets import DEFAULT_BACKLOG, MAX_UNIX_PATH_BYTES, Binding


class UnixInput(Input):
    """Receives events over a Unix-domain socket."""

    path = string("Path of the socket.", "/var/run/fluent/fluent.sock")
    backlog = integer("Connections that may wait to be accepted.", None)
    tag = string("Tag of all events, instead of their own.", None)

    def configure(self) -> None:
        if len(os.fsencode(self.path)) > MAX_UNIX_PATH_BYTES:
            raise ConfigError(f"a socket's path may have at most {MAX_UNIX_PATH_BYTES} bytes", param="path")
        self._rules = ForwardRules(tag=self.tag, skip_invalid_event=False)

    def start(self) -> None:
        backlog = DEFAULT_BACKLOG if self.backlog is None else self.backlog
        binding = Binding("unix", self.path, backlog=backlog, dir_permission=self.context.dir_permission)
        bound = self.context.bind(binding)
        if bound.replaced:
            self.log.warning(f"found existing {self.path}, which is removed")
        with bound.socket as listener:  # the server has a descriptor of its own
            receiver = ForwardServer(self._rules, listener.fileno(), max_connections=max_connections())
        self.log.info(f"listening fluent socket on {self.path}")
        self._reception = Reception(self, receiver, waits=True, emitted=receiver.acknowledge)
        self._reception.start()

    def stop(self) -> None:
        self._reception.stop()
