"""One UDP receiver under load: start, send, drain, read the figures, stop."""

import contextlib
import json
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench import tools as native
from bench.process import LOAD_CORE, Process, RunError, scratch
from bench.receivers import Launch, Receiver, Work
from bench.tools import CountingSink, Tools


@dataclass(frozen=True, slots=True)
class Sent:
    """What the load generator says: messages, achieved rate (1/s), seconds."""

    count: int
    rate: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """One burst through a receiver.

    Attributes:
        sent: what was offered.
        dropped: by the kernel at the receiver's sockets.
        delivered: what the sink got of it; without a counting sink, what was not dropped.
        cpu_seconds: of all its threads and processes, from before the first datagram until it is idle again.
        rss_peak_kib: VmHWM at that time, summed over its processes.
        backlog_seconds: CPU it still needed after the last datagram was sent.
    """

    sent: Sent
    dropped: int
    delivered: int
    cpu_seconds: float
    backlog_seconds: float
    rss_peak_kib: int

    @property
    def us_per_event(self) -> float:
        """CPU microseconds per event that came through (= CPU seconds per million)."""
        return self.cpu_seconds * 1e6 / max(1, self.delivered)


def free_ports(count: int) -> tuple[int, ...]:
    """`count` consecutive ports that nobody has bound, for UDP or TCP (the forward protocol takes both)."""
    for base in range(21000, 31000, 16):
        with contextlib.ExitStack() as stack:
            try:
                for port in range(base, base + count):
                    for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
                        probe = stack.enter_context(socket.socket(socket.AF_INET, kind))
                        probe.bind(("0.0.0.0", port))
            except OSError:
                continue
            return tuple(range(base, base + count))
    raise RunError("no free ports")


def udp_sockets(ports: tuple[int, ...]) -> dict[int, tuple[int, int]]:
    """port -> (bytes queued, datagrams dropped), summed over the sockets bound to it, from /proc/net/udp."""
    found: dict[int, tuple[int, int]] = {}
    for name in ("/proc/net/udp", "/proc/net/udp6"):
        with contextlib.suppress(FileNotFoundError), open(name) as table:
            next(table)
            for line in table:
                columns = line.split()
                port = int(columns[1].rpartition(":")[2], 16)
                if port in ports:
                    queued, dropped = found.get(port, (0, 0))
                    found[port] = (
                        queued + int(columns[4].rpartition(":")[2], 16),
                        dropped + int(columns[12]),
                    )
    return found


class Running(Process):
    """A started receiver, pinned to its core; `sink` is where it delivers, if that counts."""

    def __init__(
        self, name: str, work: Work, launch: Launch, folder: Path, *, tools: Tools, sink: CountingSink | None
    ) -> None:
        super().__init__(
            name, launch.argv, folder, launch.environment,
            stdout="stdout" if work.sink == "stdout" else "log",
        )  # fmt: skip
        self.work, self.ports, self.sink, self.tools = work, launch.ports, sink, tools
        self._outputs = launch.outputs
        self._through = 0

    def dropped(self) -> int:
        sockets = udp_sockets(self.ports)
        if len(sockets) < len(self.ports):
            raise RunError(f"{self.name} stopped: {self.log_tail()}")
        return sum(dropped for _, dropped in sockets.values())

    def send(
        self, rate: float, count: int, first: int = 0, *, priorities: int = 1, segments: bool = True
    ) -> Outcome:
        """Offers `count` messages at `rate`/s, numbered from `first`, and waits until all is done.

        `segments`: lines of the same length go down the stack in one call.
        """
        dropped, cpu = self.dropped(), self.cpu_seconds()
        done = subprocess.run(
            [self.tools["loadgen"], "--port", ",".join(map(str, self.ports)), "--rate", str(int(rate)),
             "--count", str(count), "--first", str(first), "--mode", self.work.lines,
             "--priorities", str(priorities), "--core", str(LOAD_CORE),
             "--segments", "on" if segments else "off"],
            check=False, capture_output=True, text=True,
        )  # fmt: skip
        if done.returncode:
            raise RunError(done.stderr.strip())
        said = json.loads(done.stdout)
        sent = Sent(said["sent"], said["rate"], said["seconds"])
        at_end = self.cpu_seconds()
        idle = self.wait_idle(self._queued)
        lost = self.dropped() - dropped
        delivered = sent.count - lost
        if self.sink is not None:
            through = self.sink.stats()["unique"]
            delivered, self._through = through - self._through, through
        return Outcome(sent, lost, delivered, idle - cpu, idle - at_end, self.status_kib("VmHWM"))

    def _queued(self) -> bool:
        return any(queued for queued, _ in udp_sockets(self.ports).values())

    def counts(self, expect: int) -> dict[str, int] | None:
        """Exact counts of what came out of the numbers below `expect`; None where the sink cannot tell."""
        if self.sink is not None:
            return self.sink.stats(expect)
        if self.work.sink == "file":
            found = [p for p in self.folder.glob(self._outputs) if p.is_file() and not p.is_symlink()]
            return native.count_sequences(self.tools, found, expect)
        return None


@contextlib.contextmanager
def running(receiver: Receiver, work: Work, tools: Tools, ports: int = 1) -> Iterator[Running]:
    """A started receiver, stopped and its files removed at the end."""
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(scratch(receiver.name))
        sink = stack.enter_context(CountingSink(tools, "bulksink")) if work.sink == "bulk" else None
        launch = receiver.prepare(folder, work, free_ports(ports), sink.port if sink else 0)
        process = Running(receiver.name, work, launch, folder, tools=tools, sink=sink)
        stack.callback(process.stop)
        process.wait_ready(lambda: len(udp_sockets(process.ports)) == len(process.ports))
        yield process
