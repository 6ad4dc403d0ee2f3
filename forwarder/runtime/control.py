"""The control socket: what a running instance tells about itself, and the few things that it lets be done.

A Unix socket, mode 0600. A client sends lines of JSON and gets a line for each (`export`: several)::

    {"do": "status"}
    {"do": "buffers"}                     all chunks
    {"do": "show", "chunk": "5f3a"}       an id, or the start of one
    {"do": "export", "chunk": "5f3a"}     {"ok": true, "blocks": 2, ...}, then a line of base64 a block
    {"do": "retry", "chunk": "5f3a"}      due at once; without "chunk": all
    {"do": "drop", "chunk": "5f3a"}       given up, counted as lost (`operator`)

Answers have `"ok": true`, or `"ok": false` and `"error"`. One thread, which sleeps in `accept`; clients are
served one after the other, and one that says nothing for a while is left. Nothing of the way of events waits
for it: it asks for the locks of deliveries as `/metrics` does.
"""

from __future__ import annotations

import json
import os
import socket
import struct
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import suppress
from threading import Thread
from typing import TYPE_CHECKING, Any, Final

from forwarder.core.delivery import BufferedOutput
from forwarder.runtime import control_path
from forwarder.runtime.status import status

if TYPE_CHECKING:
    from forwarder.buffer.chunk import BufferChunk
    from forwarder.core.engine import Engine
    from forwarder.telemetry.log import PluginLog

_SECONDS: Final = 5.0
"""How long a client may keep the others waiting."""
_LONGEST: Final = 64 << 10
_CREDENTIALS: Final = struct.Struct("iII")
"""Process, user, group (unix(7), SO_PEERCRED)."""

Answer = dict[str, Any]


class Control:
    """Serves requests about an engine."""

    def __init__(
        self, engine: Callable[[], Engine], log: PluginLog, path: str | None = None, *, siblings: bool = False
    ) -> None:
        """`engine`: gives the present one. `path`: None: the default place. `siblings`: other children of
        this process's parent, a supervisor, give way: after a reload they are about to leave.
        """
        self._engine = engine
        self._log = log
        self._wanted = path
        self._siblings = siblings
        self.path: str | None = None
        """Of the socket; None: there is none."""
        self._file: tuple[int, int] | None = None
        self._socket: socket.socket | None = None
        self._thread: Thread | None = None

    def start(self) -> None:
        """Makes the socket and the thread. What goes wrong is logged: events flow without it."""
        path = self._wanted
        if path is None:
            folder = control_path.usable_folder()
            if folder is None:
                self._log.info("no control socket: no folder for it; see --control-socket")
                return
            path = os.path.join(folder, f"{os.getpid()}{control_path.SUFFIX}")
        try:
            self._socket = _bound(path, siblings=self._siblings)
        except OSError as error:
            self._log.warning("no control socket", path=path, error=error)
            return
        self.path, self._file = path, _file(path)
        self._thread = Thread(target=self._run, args=(self._socket,), name="control", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Takes the socket away."""
        if self._socket is None:
            return
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # ends the wait in `accept`
        if self._thread is not None:
            self._thread.join(_SECONDS)
        self._socket.close()
        # the worker after a reload may have replaced it
        if self.path is not None and _file(self.path) == self._file:
            with suppress(OSError):
                os.unlink(self.path)

    def _run(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            with client, suppress(OSError):
                client.settimeout(_SECONDS)
                self._serve(client)

    def _serve(self, client: socket.socket) -> None:
        with client.makefile("rb") as lines:
            while line := lines.readline(_LONGEST):
                try:
                    request = json.loads(line)
                    for answer in self._answers(request):
                        client.sendall(_line(answer))
                except OSError:
                    raise
                except Exception as error:  # the request's, or what a chunk's content has come to
                    client.sendall(_line({"ok": False, "error": f"{type(error).__name__}: {error}"}))

    def _answers(self, request: Answer) -> Iterator[Answer]:
        action = request["do"]
        engine = self._engine()
        if action == "status":
            try:
                yield {"ok": True, "status": status(engine)}
            except TimeoutError as error:  # from the books, not from the connection
                yield {"ok": False, "error": str(error)}
            return
        nodes = [node for placed in engine.plugins if isinstance(node := placed.node, BufferedOutput)]
        if request.get("id"):
            nodes = [node for node in nodes if node.context.id == request["id"]]
        if action == "buffers":
            yield {"ok": True, "buffers": [node.operator.listed() for node in nodes]}
        elif action in ("retry", "drop"):
            name = request.get("chunk", "")
            done = [
                chunk
                for node in nodes
                for chunk in (node.operator.hasten if action == "retry" else node.operator.drop)(name)
            ]
            yield {"ok": True, "chunks": done}
        elif action in ("show", "export"):
            chunk = _only(nodes, str(request["chunk"]))
            yield from _shown(chunk) if action == "show" else _exported(chunk)
        else:
            yield {"ok": False, "error": f"unknown request {action!r}"}


def _only(nodes: list[BufferedOutput], name: str) -> BufferChunk:
    found = [chunk for node in nodes for chunk in node.operator.find(name)]
    if len(found) != 1:
        raise LookupError(f"{len(found)} chunks have an id that starts with {name!r}")
    return found[0]


def _shown(chunk: BufferChunk) -> Iterator[Answer]:
    from forwarder.buffer.view import shown  # noqa: PLC0415 - only where somebody asks

    yield {"ok": True, "chunk": shown(chunk)}


def _exported(chunk: BufferChunk) -> Iterator[Answer]:
    from forwarder.buffer.view import plain  # noqa: PLC0415

    blocks = chunk.blocks()
    yield {"ok": True, "chunk": plain(chunk), "created_at": chunk.created_at, "blocks": len(blocks)}
    for block in blocks:
        yield {"ok": True, "data": b64encode(block).decode()}


def _line(answer: Answer) -> bytes:
    return json.dumps(answer, default=repr).encode() + b"\n"


def _file(path: str) -> tuple[int, int] | None:
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _bound(path: str, *, siblings: bool) -> socket.socket:
    """A listening socket. One that nobody listens on any more is replaced, and (`siblings`) that of another
    child of this process's parent. Raises OSError."""
    temporary = f"{path}.{os.getpid()}"
    with suppress(FileNotFoundError):
        os.unlink(temporary)
    with control_path.short(path) as near:
        if _answers_there(near, siblings=siblings):
            raise FileExistsError(f"another instance listens on {path}")
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            near_temporary = f"{near}.{os.getpid()}"
            listener.bind(near_temporary)
            os.chmod(temporary, 0o600)
            listener.listen(8)
            os.rename(temporary, path)  # with its mode, and instead of what a killed instance has left
        except BaseException:
            listener.close()
            with suppress(OSError):
                os.unlink(temporary)
            raise
    return listener


def _answers_there(path: str, *, siblings: bool) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(path)
        except TimeoutError:
            return True
        except OSError:
            return False
        credentials = probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        listener = _CREDENTIALS.unpack(credentials)[0]
    return not (siblings and _parent(listener) == os.getppid())


def _parent(pid: int) -> int | None:
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return int(file.read().rpartition(")")[2].split()[1])
    except (OSError, ValueError, IndexError):
        return None
