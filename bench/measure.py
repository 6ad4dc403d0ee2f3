"""One receiver process under load: start, send, drain, read the figures, stop."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.receivers import Receiver, Work

RECEIVER_CORE = 0
LOAD_CORE = 1
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
START_SECONDS = 20.0
DRAIN_SECONDS = 60.0
# Outputs that flush once a second are done only after a whole second without work.
IDLE_SECONDS = 1.3

LOADGEN_CRATE = Path(__file__).resolve().parent / "loadgen"


class RunError(Exception):
    """A run that gives no figure; the message says why."""


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
        cpu_seconds: of all its threads and processes, from before the first datagram until it is idle again.
        rss_peak_kib: VmHWM at that time, summed over its processes.
        backlog_seconds: CPU it still needed after the last datagram was sent.
    """

    sent: Sent
    dropped: int
    cpu_seconds: float
    backlog_seconds: float
    rss_peak_kib: int

    @property
    def us_per_event(self) -> float:
        """CPU microseconds per event received (= CPU seconds per million)."""
        return self.cpu_seconds * 1e6 / max(1, self.sent.count - self.dropped)


def build_tools() -> tuple[Path, Path]:
    """Builds load generator and counting sink; returns their paths."""
    if not shutil.which("cargo"):
        raise RunError("cargo not found: install Rust 1.85 or later (https://rustup.rs)")
    manifest = LOADGEN_CRATE / "Cargo.toml"
    subprocess.run(["cargo", "build", "--release", "--quiet", "--manifest-path", str(manifest)], check=True)
    built = LOADGEN_CRATE / "target" / "release"
    return built / "loadgen", built / "seqcount"


def free_ports(count: int) -> tuple[int, ...]:
    """`count` consecutive UDP ports that nobody has bound."""
    for base in range(21000, 31000, 16):
        with contextlib.ExitStack() as stack:
            try:
                for port in range(base, base + count):
                    probe = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
                    probe.bind(("0.0.0.0", port))
            except OSError:
                continue
            return tuple(range(base, base + count))
    raise RunError("no free UDP ports")


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


class Running:
    """A started receiver, pinned to its core."""

    def __init__(self, receiver: Receiver, work: Work, ports: int, loadgen: Path) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix=f"bench-{receiver.name}-", dir=_scratch()))
        self.work = work
        self.name = receiver.name
        self._loadgen = loadgen
        self._launch = receiver.prepare(self.folder, work, free_ports(ports))
        self.ports = self._launch.ports
        self._log = open(self.folder / "log", "wb")  # noqa: SIM115  closed in stop()
        self.started = time.monotonic()
        stdout: Any = (self.folder / "stdout").open("wb") if work.sink == "stdout" else self._log
        self._process = subprocess.Popen(
            ["taskset", "--cpu-list", str(RECEIVER_CORE), *self._launch.argv],
            env=self._launch.environment, stdin=subprocess.DEVNULL, stdout=stdout, stderr=self._log,
            start_new_session=True,
        )  # fmt: skip
        if stdout is not self._log:
            stdout.close()
        try:
            self.ready_seconds = self._wait_ready()
        except BaseException:
            self.stop()
            shutil.rmtree(self.folder, ignore_errors=True)
            raise

    def _wait_ready(self) -> float:
        while len(udp_sockets(self.ports)) < len(self.ports):
            if self._process.poll() is not None or time.monotonic() - self.started > START_SECONDS:
                raise RunError(f"{self.name} did not start: {self.log_tail() or 'no message'}")
            time.sleep(0.0005)
        return time.monotonic() - self.started

    def log_tail(self) -> str:
        return (self.folder / "log").read_text(errors="replace")[-600:].strip()

    def processes(self) -> list[int]:
        """The receiver's process and all below it."""
        found = [self._process.pid]
        for pid in found:
            with contextlib.suppress(OSError):
                for task in Path(f"/proc/{pid}/task").iterdir():
                    found += map(int, (task / "children").read_text().split())
        return found

    def cpu_seconds(self) -> float:
        """CPU time of all threads and children so far, dead ones included."""
        total = 0.0
        for pid in self.processes():
            with contextlib.suppress(OSError):
                columns = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                by_tick = sum(map(int, columns[11:15])) / TICKS_PER_SECOND
                # Nanoseconds, but of living threads only; the ticks above include those that ended.
                exact = 0
                for task in Path(f"/proc/{pid}/task").iterdir():
                    exact += int((task / "schedstat").read_text().split()[0])
                total += by_tick if by_tick - exact / 1e9 > 2 / TICKS_PER_SECOND else exact / 1e9
        return total

    def status_kib(self, field: str) -> int:
        """A memory figure of /proc/PID/status ("VmHWM", "VmRSS") over all processes."""
        total = 0
        for pid in self.processes():
            with contextlib.suppress(OSError):
                for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                    if line.startswith(field + ":"):
                        total += int(line.split()[1])
        return total

    def dropped(self) -> int:
        sockets = udp_sockets(self.ports)
        if len(sockets) < len(self.ports):
            raise RunError(f"{self.name} stopped: {self.log_tail()}")
        return sum(dropped for _, dropped in sockets.values())

    def send(self, rate: float, count: int, first: int = 0, priorities: int = 1) -> Outcome:
        """Offers `count` messages at `rate`/s, numbered from `first`, and waits until all is done."""
        dropped, cpu = self.dropped(), self.cpu_seconds()
        done = subprocess.run(
            [str(self._loadgen), "--port", ",".join(map(str, self.ports)), "--rate", str(int(rate)),
             "--count", str(count), "--first", str(first), "--mode", self.work.lines,
             "--priorities", str(priorities), "--core", str(LOAD_CORE)],
            check=False, capture_output=True, text=True,
        )  # fmt: skip
        if done.returncode:
            raise RunError(done.stderr.strip())
        said = json.loads(done.stdout)
        sent = Sent(said["sent"], said["rate"], said["seconds"])
        at_end = self.cpu_seconds()
        idle = self._wait_idle()
        return Outcome(sent, self.dropped() - dropped, idle - cpu, idle - at_end, self.status_kib("VmHWM"))

    def _wait_idle(self) -> float:
        """Waits until the sockets are empty and the process does nothing; returns its CPU time then."""
        deadline = time.monotonic() + DRAIN_SECONDS
        quiet_since, last = time.monotonic(), self.cpu_seconds()
        while time.monotonic() < deadline:
            time.sleep(0.1)
            now = self.cpu_seconds()
            if now - last > 0.005 or any(queued for queued, _ in udp_sockets(self.ports).values()):
                quiet_since = time.monotonic()
            last = now
            if time.monotonic() - quiet_since > IDLE_SECONDS:
                return now
        raise RunError(f"{self.name} was not idle {DRAIN_SECONDS:.0f} s after the last message")

    def outputs(self) -> list[Path]:
        return [
            path
            for path in self.folder.glob(self._launch.outputs)
            if path.is_file() and not path.is_symlink()
        ]

    def stop(self) -> None:
        """Ends it, as an operator would; leaves its files."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._log.close()


@contextlib.contextmanager
def running(receiver: Receiver, work: Work, loadgen: Path, ports: int = 1) -> Iterator[Running]:
    """A started receiver, stopped and its files removed at the end."""
    process = None
    try:
        process = Running(receiver, work, ports, loadgen)
        yield process
    finally:
        if process is not None:
            process.stop()
            shutil.rmtree(process.folder, ignore_errors=True)


def count_sequences(seqcount: Path, files: list[Path], expect: int) -> dict[str, int]:
    """What the counting sink says about `files`: unique, doubled, missing, unnumbered, lines."""
    if not files:
        return {"unique": 0, "doubled": 0, "missing": expect, "unnumbered": 0, "lines": 0}
    done = subprocess.run(
        [str(seqcount), "--expect", str(expect), *map(str, files)], check=True, capture_output=True, text=True
    )
    counts: dict[str, int] = json.loads(done.stdout)
    return counts


def _scratch() -> str:
    """Memory where there is some: the disk of a small virtual machine is not what is measured."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else tempfile.gettempdir()
