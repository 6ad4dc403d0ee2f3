"""A disk that is full, broken, or writes half of what it is given: events are refused, and none is lost."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from check import assert_order, missing
from daemon import Daemon, Sender

SOURCE = Path(__file__).with_name("faulty_disk.c")


@pytest.fixture(scope="session")
def shim(tmp_path_factory: pytest.TempPathFactory, tools: Any) -> Path:
    """The library that makes a disk fail."""
    compiler = tools.need("cc")
    library = tmp_path_factory.mktemp("shim") / "faulty_disk.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, SOURCE, "-ldl"], check=True)
    return library


class Faulty(Daemon):
    """A daemon whose buffer lies on a disk that fails when it is told to."""

    def __init__(self, folder: Path, shim: Path, more: str = "") -> None:
        self._plan = folder / "plan"
        self.disk("none")
        env = {
            "LD_PRELOAD": str(shim), "FAULTY_DIR": str(folder / "buffer"), "FAULTY_PLAN": str(self._plan),
        }  # fmt: skip
        super().__init__(folder, more=more, env=env)

    def disk(self, state: str) -> None:
        new = self._plan.with_suffix(".new")
        new.write_text(state)
        os.replace(new, self._plan)


@pytest.fixture
def faulty(tmp_path: Path, shim: Path) -> Iterator[Callable[[str], Faulty]]:
    made: list[Faulty] = []

    def make(more: str = "") -> Faulty:
        made.append(Faulty(tmp_path, shim, more))
        made[-1].start()
        return made[-1]

    yield make
    for daemon in made:
        daemon.peer.close()
        assert daemon.process is not None
        daemon.process.kill()
        daemon.process.wait()


def advance(daemon: Daemon, sender: Sender) -> None:
    reached = len(sender.acknowledged)
    daemon.wait(lambda: len(sender.acknowledged) > reached + 20)


@pytest.mark.parametrize("fault", ["enospc", "eio", "short"])
@pytest.mark.parametrize("then", ["goes on", "is killed"])
def test_a_disk_that_takes_nothing(faulty: Callable[..., Faulty], fault: str, then: str) -> None:
    daemon = faulty()
    sender = Sender(daemon.port, "a").start()
    advance(daemon, sender)
    daemon.disk(fault)
    daemon.wait(lambda: "cannot write to the buffer" in daemon.log)
    if then == "is killed":
        daemon.kill()
        daemon.disk("none")
        daemon.start()
    else:
        reached = len(sender.acknowledged)
        daemon.wait(lambda: not missing(daemon, sender))  # what is in the buffer goes out meanwhile
        assert len(sender.acknowledged) <= reached + 7  # what was on its way when the disk failed
        daemon.disk("none")
    advance(daemon, sender)
    sender.stop()
    daemon.wait(lambda: not missing(daemon, sender))
    assert_order(daemon, sender)
    daemon.stop()
    assert not (daemon.folder / "buffer/quarantine").exists()
    assert "Traceback" not in daemon.log


def test_a_disk_that_does_not_confirm(faulty: Callable[..., Faulty]) -> None:
    daemon = faulty("fsync append")
    sender = Sender(daemon.port, "a").start()
    advance(daemon, sender)
    daemon.disk("sync")
    daemon.wait(lambda: "cannot write to the buffer" in daemon.log)
    daemon.disk("none")
    advance(daemon, sender)
    sender.stop()
    daemon.wait(lambda: not missing(daemon, sender))
    daemon.stop()


def test_a_disk_that_cannot_be_read(faulty: Callable[..., Faulty]) -> None:
    daemon = faulty()
    sender = Sender(daemon.port, "a").start()
    advance(daemon, sender)
    daemon.disk("read")
    daemon.wait(lambda: "Input/output error" in daemon.log)
    daemon.disk("none")
    advance(daemon, sender)
    sender.stop()
    daemon.wait(lambda: not missing(daemon, sender))
    assert_order(daemon, sender)
    daemon.stop()


def test_a_small_disk_that_runs_full(tmp_path: Path, disk: Callable[[int], Path]) -> None:
    (tmp_path / "buffer").symlink_to(disk(1 << 20))
    daemon = Daemon(tmp_path)
    daemon.peer.ack = lambda _: "close"  # nothing goes out: the buffer grows
    daemon.start()
    sender = Sender(daemon.port, "a", per_message=700).start()
    daemon.wait(lambda: "cannot write to the buffer" in daemon.log)
    daemon.peer.ack = lambda _: True
    advance(daemon, sender)
    sender.stop()
    daemon.wait(lambda: not missing(daemon, sender))
    daemon.stop()
    daemon.peer.close()
