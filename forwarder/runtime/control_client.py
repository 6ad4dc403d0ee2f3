"""Asking a running instance over its control socket (`forwarder.runtime.control`)."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from typing import Any, Final

from forwarder.api.errors import ForwarderError
from forwarder.runtime import control_path

_SECONDS: Final = 30.0


class NotRunningError(ForwarderError):
    """Nobody listens on a control socket."""


def ask(path: str, request: dict[str, Any], *, more: str = "") -> Iterator[dict[str, Any]]:
    """The answers to a request. `more`: the field of the first answer that says how many others follow.

    Raises:
        NotRunningError: nobody listens there. ForwarderError: the instance says no, or nothing.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(_SECONDS)
        try:
            with control_path.short(path) as near:
                connection.connect(near)
        except OSError as error:
            raise NotRunningError(f"{path}: no instance listens there ({error})") from error
        try:
            connection.sendall(json.dumps(request).encode() + b"\n")
            connection.shutdown(socket.SHUT_WR)
            with connection.makefile("rb") as lines:
                first = _read(path, lines.readline())
                yield first
                for _ in range(first.get(more, 0)):
                    yield _read(path, lines.readline())
        except OSError as error:
            raise ForwarderError(f"{path}: no answer: {error}") from error


def _read(path: str, line: bytes) -> dict[str, Any]:
    if not line:
        raise ForwarderError(f"{path}: the connection ended without an answer")
    answer: dict[str, Any] = json.loads(line)
    if not answer.get("ok"):
        raise ForwarderError(str(answer.get("error")))
    return answer
