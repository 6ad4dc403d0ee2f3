"""A process that is measured: pinned to the receiver's core, its CPU time and memory from /proc."""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

RECEIVER_CORE = 0
LOAD_CORE = 1
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
START_SECONDS = 20.0
DRAIN_SECONDS = 60.0
# Outputs that flush once a second are done only after a whole second without work.
IDLE_SECONDS = 1.3


class RunError(Exception):
    """A run that gives no figure; the message says why."""


class Process:
    """A started program with a folder of its own in memory.

    Raises:
        RunError: it ended, or was not ready in time.
    """

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        folder: Path,
        environment: Mapping[str, str] | None = None,
        stdout: str = "log",
    ) -> None:
        self.name, self.folder = name, folder
        self.started = time.monotonic()
        self.ready_seconds = 0.0
        with (folder / "log").open("wb") as log, (folder / stdout).open("ab") as out:
            self._process = subprocess.Popen(
                ["taskset", "--cpu-list", str(RECEIVER_CORE), *argv],
                env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=log, start_new_session=True,
            )  # fmt: skip

    def wait_ready(self, ready: Callable[[], bool]) -> None:
        """Waits until `ready()`; `ready_seconds` is how long that took from the start."""
        while not ready():
            if self._process.poll() is not None or time.monotonic() - self.started > START_SECONDS:
                raise RunError(f"{self.name} did not start: {self.log_tail() or 'no message'}")
            time.sleep(0.0005)
        self.ready_seconds = time.monotonic() - self.started

    def log_tail(self) -> str:
        return (self.folder / "log").read_text(errors="replace")[-600:].strip()

    def processes(self) -> list[int]:
        """The process and all below it."""
        found = [self._process.pid]
        for pid in found:
            with contextlib.suppress(OSError):
                for task in Path(f"/proc/{pid}/task").iterdir():
                    found += map(int, (task / "children").read_text().split())
        return found

    def cpu_seconds(self) -> float:
        """CPU time of all threads and children so far, ended ones included."""
        total = 0.0
        for pid in self.processes():
            with contextlib.suppress(OSError):
                # The CPU clock of another process (clock_getcpuclockid(3)): exact, with ended threads.
                total += time.clock_gettime(~pid << 3 | 2)
                columns = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                total += sum(map(int, columns[13:15])) / TICKS_PER_SECOND
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

    def wait_idle(self, busy: Callable[[], bool], seconds: float = IDLE_SECONDS) -> float:
        """Waits until it does nothing and `busy()` is false, for `seconds`; returns its CPU time then."""
        deadline = time.monotonic() + DRAIN_SECONDS
        quiet_since, last = time.monotonic(), self.cpu_seconds()
        while time.monotonic() < deadline:
            time.sleep(0.1)
            now = self.cpu_seconds()
            if now - last > 0.005 or busy():
                quiet_since = time.monotonic()
            last = now
            if time.monotonic() - quiet_since > seconds:
                return now
        raise RunError(f"{self.name} was not idle {DRAIN_SECONDS:.0f} s after the last message")

    def alive(self) -> bool:
        return self._process.poll() is None

    def stop(self) -> None:
        """Ends it, as an operator would; leaves its files."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


@contextlib.contextmanager
def scratch(name: str) -> Any:
    """A folder in memory where there is some: the disk of a small virtual machine is not what is measured."""
    where = "/dev/shm" if os.access("/dev/shm", os.W_OK) else tempfile.gettempdir()
    folder = Path(tempfile.mkdtemp(prefix=f"bench-{name}-", dir=where))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
