"""Connections of a forward client over TLS."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from forwarder.api.forward_client import READ_BYTES, Connection, Link

_WRITE_BYTES: Final = 262_144
"""Small blocks are joined up to this size: each write is at least one TLS record."""
_NO_TLS: Final = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE")


class TlsConnection(Connection):
    """A connection to a server over TLS."""

    def __init__(self, sock: ssl.SSLSocket, peer: str, link: Link) -> None:
        super().__init__(sock, peer, link)
        self._talk = sock

    def _write(self, pieces: Sequence[bytes]) -> None:
        self._talk.settimeout(self._link.send_timeout)
        small: list[bytes] = []
        size = 0
        try:
            for piece in pieces:
                small.append(piece)
                size += len(piece)
                if size >= _WRITE_BYTES:
                    self._talk.sendall(b"".join(small) if len(small) > 1 else small[0])
                    small, size = [], 0
            if small:
                self._talk.sendall(b"".join(small))
        except ssl.SSLWantWriteError:
            raise TimeoutError from None

    def _read(self) -> None:
        self._talk.settimeout(0)
        with suppress(ssl.SSLWantReadError):
            while True:  # OpenSSL may hold bytes that no `select` sees
                self._take(self._talk.recv(READ_BYTES))

    def close(self) -> None:
        """Says goodbye in TLS too, and does not wait for the peer's."""
        with suppress(OSError, ValueError):
            self._talk.settimeout(0)
            self._talk.unwrap()
        super().close()


def wrap(sock: socket.socket, tls: ssl.SSLContext, name: str, peer: str, seconds: float) -> ssl.SSLSocket:
    """Makes a TLS connection of `sock` within `seconds`; the certificate must be one for `name`.

    Raises:
        OSError: says why there is none.
    """
    sock.settimeout(seconds)
    try:
        return tls.wrap_socket(sock, server_hostname=name)
    except ssl.SSLCertVerificationError as error:
        raise ConnectionError(f"{peer}: its certificate is not accepted: {error.verify_message}") from None
    except ssl.SSLError as error:
        hint = " (does it speak TLS?)" if error.reason in _NO_TLS else ""
        raise ConnectionError(f"{peer}: no TLS connection: {error.reason or error}{hint}") from None
