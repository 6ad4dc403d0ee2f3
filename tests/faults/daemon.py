"""A real `forwarder run` for fault tests: forward in, forward out, a file buffer between."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import msgpack
from forward_peer import Peer
from forwarder_process import ForwarderProcess, free_port
from waiting import PATIENCE

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
  ack_response_timeout {ack_timeout}
  heartbeat_type none
  <server>
    host 127.0.0.1
    port {peer}
  </server>
  <buffer {keys}>
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


class Daemon(ForwarderProcess):
    """Started and killed again and again on the same folder; `peer` gets what comes out."""

    def __init__(
        self, folder: Path, *, more: str = "", flush_interval: str = "0.02", keys: str = "tag",
        ack_timeout: int = 1, env: Mapping[str, str] | None = None, supervised: bool = False,
        prefix: Sequence[str] = (),
    ) -> None:  # fmt: skip
        self.supervised = supervised
        self.port = free_port()
        self.peer = Peer()
        config = CONFIG.format(
            port=self.port, peer=self.peer.port, folder=folder, flush_interval=flush_interval, keys=keys,
            more=more, ack_timeout=ack_timeout,
        )  # fmt: skip
        super().__init__(
            folder, config, options=() if supervised else ("--no-supervisor",), env=env, prefix=prefix
        )

    def kill(self) -> None:
        """As the out-of-memory killer does it."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def status_kib(self, field: str) -> int:
        """A figure of /proc/PID/status."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))

    def cpu_seconds(self) -> float:
        """CPU time of all threads so far."""
        return time.clock_gettime(~self.pid << 3 | 2)

    def delivered(self, tag: str) -> list[list[int]]:
        """The numbers that came out, chunk by chunk; each event must be what was sent."""
        chunks = []
        for message in list(self.peer.messages):
            if message.tag == tag:
                for _, record in message.events:
                    assert record == event(tag, record["i"]), "a corrupt event"
                chunks.append([record["i"] for _, record in message.events])
        return chunks


class Faulty(Daemon):
    """A daemon whose buffer lies on a disk that fails, and whose clock is wrong, when told to."""

    def __init__(self, folder: Path, shim: Path, more: str = "", **options: str) -> None:
        self._plan, self._clock = folder / "plan", folder / "clock"
        self.disk("none")
        self.clock(0)
        env = {
            "LD_PRELOAD": str(shim), "FAULTY_DIR": str(folder / "buffer"), "FAULTY_PLAN": str(self._plan),
            "FAULTY_CLOCK": str(self._clock),
        }  # fmt: skip
        super().__init__(folder, more=more, env=env, **options)

    def disk(self, state: str) -> None:
        _replace(self._plan, state)

    def clock(self, seconds: int) -> None:
        """Makes the wall clock wrong by so much."""
        _replace(self._clock, str(seconds))


def _replace(path: Path, text: str) -> None:
    new = path.with_suffix(".new")
    new.write_text(text)
    os.replace(new, path)


def event(tag: str, number: int) -> dict[str, object]:
    return {"i": number, "text": f"{tag}-{number}-" + "x" * (number % 97)}


class Sender:
    """Sends numbered events with `chunk`, and notes which were acknowledged: what is not, it sends again over
    a new connection, as forward outputs do."""

    def __init__(
        self, port: int, tag: str, *, per_message: int = PER_MESSAGE, per_connection: int = 1 << 62
    ) -> None:  # fmt: skip
        """`per_message`: events; `per_connection`: messages, then it connects anew."""
        self.tag = tag
        self.connections = 0
        self._per_connection = per_connection
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
                self.connections += 1
                for _ in range(self._per_connection):
                    if self._stopping.is_set():
                        break
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
