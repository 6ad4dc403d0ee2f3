"""in_unix: the forward protocol over a Unix-domain socket, for programs on the same host.

*Delivery*: as in_forward; acknowledgements are sent to those who ask.

*Differs from Fluentd*: there are acknowledgements and compressed payloads, which its in_unix ignores. The
socket's file is removed at the end. Where one is there already it is replaced only if it is a socket.
"""

from __future__ import annotations

import os
import socket
import stat

from forwarder._native import ForwardRules, ForwardServer
from forwarder.api import ConfigError, Input, files, integer, string
from forwarder.api.server import Reception, max_connections


class UnixInput(Input):
    """Receives events over a Unix-domain socket."""

    path = string("Path of the socket.", "/var/run/fluent/fluent.sock")
    backlog = integer("Connections that may wait to be accepted.", None)
    tag = string("Tag of all events, instead of their own.", None)

    def configure(self) -> None:
        if len(os.fsencode(self.path)) > 107:
            raise ConfigError("a socket's path may have at most 107 bytes", param="path")
        self._rules = ForwardRules(tag=self.tag, skip_invalid_event=False)

    def start(self) -> None:
        listener = self._listen()
        try:
            receiver = ForwardServer(
                self._rules, listener=listener.fileno(), max_connections=max_connections()
            )
        finally:
            listener.close()  # the server has a descriptor of its own
        self.log.info(f"listening fluent socket on {self.path}")
        self._reception = Reception(self, receiver, waits=True, emitted=receiver.acknowledge)
        self._reception.start()

    def stop(self) -> None:
        self._reception.stop()
        try:
            found = os.stat(self.path)
            if (found.st_dev, found.st_ino) == self._identity:  # another process may have its own there now
                os.unlink(self.path)
        except FileNotFoundError:
            pass

    def _listen(self) -> socket.socket:
        try:
            existing = os.lstat(self.path)
        except FileNotFoundError:
            files.make_folders(os.path.dirname(self.path), self.context.dir_permission)
        else:
            if not stat.S_ISSOCK(existing.st_mode):
                raise FileExistsError(f"{self.path} is there already and is no socket")
            self.log.warning(f"found existing {self.path}, which is removed")
            os.unlink(self.path)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listener.bind(self.path)
            listener.listen(1024 if self.backlog is None else self.backlog)
            listener.setblocking(False)
            found = os.stat(self.path)
        except OSError:
            listener.close()
            raise
        self._identity = (found.st_dev, found.st_ino)
        return listener
