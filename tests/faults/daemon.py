"""A real `forwarder run` for fault tests: forward in, forward out, a file buffer between."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import msgpack
from forward_peer import Peer

PATIENCE = 30.0
PER_MESSAGE = 7
CONFIG = """
<source>
  @type forward
  bind 127.0.0.1
  port {port}
</source>
<match **>
  @type forward
  require_ack_response true
  heartbeat_type none
  <server>
    host 127.0.0.1
    port {peer}
  </server>
  <buffer tag>
    @type file
    path {folder}/buffer
    flush_interval {flush_interval}
    chunk_limit_size 20k
    retry_wait 0.05
    retry_max_interval 0.2
    retry_forever true
    {more}
  </buffer>
</match>
"""


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class Daemon:
    """Started and killed again and again on the same folder; `peer` gets what comes out."""

    def __init__(
        self, folder: Path, *, more: str = "", flush_interval: str = "0.02",
        env: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        self.folder = folder
        self.port = free_port()
        self.peer = Peer()
        self.env = {**os.environ, **(env or {})}
        self._log = folder / "log"
        config = CONFIG.format(
            port=self.port, peer=self.peer.port, folder=folder, flush_interval=flush_interval, more=more
        )
        (folder / "fluent.conf").write_text(config)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [
            sys.executable,
            "-m",
            "forwarder.cli.main",
            "run",
            "--no-supervisor",
            "-c",
            str(self.folder / "fluent.conf"),
        ]
        before = self.log.count("forwarder is now running")
        with open(self._log, "ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=self.env)
        self.wait(lambda: self.log.count("forwarder is now running") > before)

    def kill(self) -> None:
        """As the out-of-memory killer does it."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        assert self.process is not None
        self.process.terminate()
        assert self.process.wait(PATIENCE) == 0, self.log

    def wait(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert self.process is None or self.process.poll() is None, f"it died:\n{self.log}"
            assert time.monotonic() < deadline, f"not within {PATIENCE} s; log:\n{self.log[-5000:]}"
            time.sleep(0.01)

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def delivered(self, tag: str) -> list[list[int]]:
        """The numbers that came out, chunk by chunk; each event must be what was sent."""
        chunks = []
        for message in list(self.peer.messages):
            if message.tag == tag:
                for _, record in message.events:
                    assert record == event(tag, record["i"]), "a corrupt event"
                chunks.append([record["i"] for _, record in message.events])
        return chunks


def event(tag: str, number: int) -> dict[str, object]:
    return {"i": number, "text": f"{tag}-{number}-" + "x" * (number % 97)}


class Sender:
    """Sends numbered events with `chunk`, and notes which were acknowledged: what is not, it sends again over
    a new connection, as forward outputs do."""

    def __init__(self, port: int, tag: str, *, per_message: int = PER_MESSAGE) -> None:
        self.tag = tag
        self.acknowledged: list[int] = []
        self._port = port
        self._per_message = per_message
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> Sender:
        self._thread.start()
        return self

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        first = 0
        for connection in self._connections():
            with suppress(OSError), connection:
                unpacker = msgpack.Unpacker()
                while not self._stopping.is_set():
                    numbers = range(first, first + self._per_message)
                    events = [
                        [1_700_000_000, {"i": i, "text": f"{self.tag}-{i}-" + "x" * (i % 97)}]
                        for i in numbers
                    ]
                    option = {"chunk": f"{self.tag}-{first}"}
                    connection.sendall(msgpack.packb([self.tag, events, option]))
                    if not self._confirmed(connection, unpacker, option["chunk"]):
                        break
                    self.acknowledged.extend(numbers)
                    first += self._per_message

    def _confirmed(self, connection: socket.socket, unpacker: msgpack.Unpacker, chunk: str) -> bool:
        while data := connection.recv(4096):
            unpacker.feed(data)
            for answer in unpacker:
                assert answer == {"ack": chunk}
                return True
        return False

    def _connections(self) -> Iterator[socket.socket]:
        while not self._stopping.is_set():
            try:
                connection = socket.create_connection(("127.0.0.1", self._port), timeout=0.5)
                connection.settimeout(5)
            except OSError:
                time.sleep(0.005)
                continue
            yield connection
