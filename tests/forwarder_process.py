"""A real `forwarder run` with a log file, for tests that signal, kill and reload it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from waiting import PATIENCE, wait_for

RUNNING = "forwarder is now running"
ALL_RUNNING = "all workers are running"


def free_port() -> int:
    """A port that is free for TCP and for UDP."""
    while True:
        with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
            tcp.bind(("127.0.0.1", 0))
            with suppress(OSError):
                udp.bind(("127.0.0.1", tcp.getsockname()[1]))
                return int(tcp.getsockname()[1])


def children(pid: int) -> list[int]:
    """The processes that `pid` has started and that live."""
    try:
        return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []


class ForwarderProcess:
    """Started on `folder`/fluent.conf; may be started again after its end. `with` ends it."""

    def __init__(
        self, folder: Path, config: str | None = None, *, options: Sequence[str] = (),
        env: Mapping[str, str] | None = None, prefix: Sequence[str] = (),
    ) -> None:  # fmt: skip
        self.folder = folder
        self.config = folder / "fluent.conf"
        if config is not None:
            self.config.write_text(config)
        self._options = options
        self._env = {**os.environ, **(env or {})}
        self._prefix = prefix
        self._log = folder / "log"
        self.output = folder / "output"
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> ForwarderProcess:
        return self if self.process is not None and self.process.poll() is None else self.start()

    def __exit__(self, *_: object) -> None:
        if self.process is not None and self.process.poll() is None:
            workers = self.workers
            self.process.kill()
            self.process.wait()
            for pid in workers:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def start(self, *, wait: bool = True) -> ForwarderProcess:
        command = [sys.executable, "-m", "forwarder.cli.main", "run", "-c", str(self.config), *self._options]
        running = RUNNING if "--no-supervisor" in self._options else ALL_RUNNING
        before = self.log.count(running)
        with open(self._log, "ab") as log, open(self.output, "ab") as output:
            self.process = subprocess.Popen(
                [*self._prefix, *command], stdout=output, stderr=log, env=self._env
            )
        if wait:
            self.wait(lambda: self.log.count(running) > before)
        return self

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def workers(self) -> list[int]:
        return children(self.pid)

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def send(self, number: int) -> None:
        os.kill(self.pid, number)

    def reload(self) -> None:
        """Reloads, and waits until it is done."""
        before = self.log.count("]: reloaded")
        self.send(signal.SIGHUP)
        self.wait(lambda: self.log.count("]: reloaded") > before)

    def stop(self) -> int:
        """Ends it; gives the status."""
        assert self.process is not None
        if self.process.poll() is None:
            self.send(signal.SIGTERM)
        return self.ended()

    def ended(self) -> int:
        """Waits for its end; gives the status."""
        assert self.process is not None
        return self.process.wait(PATIENCE)

    def wait(self, condition: Callable[[], object], seconds: float = PATIENCE) -> None:
        wait_for(condition, lambda: self.log[-5000:], seconds, process=self.process)
