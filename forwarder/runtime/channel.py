"""Messages between the supervisor and a worker, with descriptors of open files.

A pair of Unix sockets that keep messages apart (SOCK_SEQPACKET). Both ends are the same program, forked, so
`marshal` is safe, and needs no import. The end of a channel is the end of its process.
"""

from __future__ import annotations

import array
import marshal
import os
import socket
from typing import Any, Final

_LONGEST: Final = 1 << 17
_MOST_FILES: Final = 8

Message = dict[str, Any]


class Channel:
    """One end."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock

    @classmethod
    def pair(cls) -> tuple[Channel, Channel]:
        """Both ends of a new one."""
        one, two = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        return cls(one), cls(two)

    def fileno(self) -> int:
        """To poll."""
        return self._socket.fileno()

    def close(self) -> None:
        """Closes this end."""
        self._socket.close()

    def send(self, message: Message, files: list[int] | None = None) -> bool:
        """Sends; False: nobody is at the other end."""
        ancillary = []
        if files:
            ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", files).tobytes())]
        try:
            self._socket.sendmsg([marshal.dumps(message)], ancillary, socket.MSG_NOSIGNAL)
        except OSError:
            return False
        return True

    def receive(self) -> tuple[Message, list[int]] | None:
        """Waits for a message and its open files, which are the caller's now; None: nobody is there."""
        files = array.array("i")
        space = socket.CMSG_SPACE(_MOST_FILES * files.itemsize)
        try:
            data, ancillary, _, _ = self._socket.recvmsg(_LONGEST, space, socket.MSG_CMSG_CLOEXEC)
        except OSError:
            return None
        for level, kind, content in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                files.frombytes(content[: len(content) - len(content) % files.itemsize])
        if not data:
            for file in files:
                os.close(file)
            return None
        return marshal.loads(data), files.tolist()
