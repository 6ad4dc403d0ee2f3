"""`forwarder buffer` on a running instance, over its control socket: its memory buffers too."""

from __future__ import annotations

import argparse
import os
from base64 import b64decode
from collections.abc import Iterable
from typing import Any

from forwarder.api.errors import ForwarderError
from forwarder.runtime import control_path
from forwarder.runtime.control_client import NotRunningError, ask


def listed(path: str) -> list[dict[str, Any]]:
    """The buffers of an instance, with their chunks."""
    (answer,) = ask(path, {"do": "buffers"})
    found: list[dict[str, Any]] = answer["buffers"]
    return found


def change(path: str, action: str, names: Iterable[str], plugin_id: str | None) -> int:
    """Has chunks retried or dropped; "" names all. Gives 1 where one is not found, or is being written."""
    missing = False
    for name in names:
        request = {"do": action, "chunk": name, **({"id": plugin_id} if plugin_id else {})}
        (answer,) = ask(path, request)
        for chunk in answer["chunks"]:
            done = "are tried now" if action == "retry" else "dropped"
            print(f"{chunk['id']}: {chunk['events']} events {done}")
        if not answer["chunks"] and name:
            print(f"no chunk {name} that is not being written")
            missing = True
    return int(missing)


def show(path: str, name: str) -> dict[str, Any]:
    """A chunk with its first events."""
    (answer,) = ask(path, {"do": "show", "chunk": name})
    found: dict[str, Any] = answer["chunk"]
    return found


def export(args: argparse.Namespace, path: str, name: str) -> None:
    """Writes the bare content of a chunk to a file."""
    answers = ask(path, {"do": "export", "chunk": name}, more="blocks")
    chunk = next(answers)["chunk"]
    os.makedirs(args.to, exist_ok=True)
    target = os.path.join(args.to, f"{chunk['id']}.bin")
    with open(target, "wb") as file:
        file.writelines(b64decode(answer["data"]) for answer in answers)
    print(f"{chunk['id']}: {chunk['events']} events to {target}")


def socket_of(process: str, given: str | None, folder: str) -> str:
    """The control socket of the process that uses a buffer. Raises ForwarderError: it has none."""
    path = given or (control_path.of_process(process) if process else None)
    if given is None and path is not None:
        try:
            listed(path)
        except NotRunningError:
            path = None  # left by a killed process that had the same number
    if path is None:
        raise ForwarderError(
            f"buffer path {folder!r} is in use by process {process or '(unknown)'}, whose control "
            "socket is not found: give it with --socket, or stop the process first"
        )
    return path
