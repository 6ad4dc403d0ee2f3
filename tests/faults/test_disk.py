"""A disk that is full, broken, or writes half of what it is given: events are refused, and none is lost."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from check import advance, assert_order, end, missing
from daemon import Daemon, Faulty, Sender


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
    assert daemon.stop() == 0
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
    assert daemon.stop() == 0


def test_a_disk_that_cannot_be_read(faulty: Callable[..., Faulty]) -> None:
    daemon = faulty()
    sender = Sender(daemon.port, "a").start()
    advance(daemon, sender)
    daemon.peer.ack = lambda _: "close"  # what has failed once is read from the disk
    daemon.disk("read")
    daemon.wait(lambda: "Input/output error" in daemon.log)
    daemon.disk("none")
    daemon.peer.ack = lambda _: True
    advance(daemon, sender)
    sender.stop()
    daemon.wait(lambda: not missing(daemon, sender))
    assert_order(daemon, sender)
    assert daemon.stop() == 0


def test_a_small_disk_that_runs_full(
    tmp_path: Path, disk: Callable[[int], Path], make_daemon: Callable[..., Daemon]
) -> None:
    (tmp_path / "buffer").symlink_to(disk(1 << 20))
    daemon = make_daemon()
    daemon.peer.ack = lambda _: "close"  # nothing goes out: the buffer grows
    daemon.start()
    sender = Sender(daemon.port, "a", per_message=700).start()
    daemon.wait(lambda: "cannot write to the buffer" in daemon.log)
    daemon.peer.ack = lambda _: True
    advance(daemon, sender)
    sender.stop()
    daemon.wait(lambda: not missing(daemon, sender))
    assert daemon.stop() == 0
    daemon.peer.close()


def test_a_full_disk_at_the_start(faulty: Callable[..., Faulty]) -> None:
    """What is in the buffer goes out all the same, which is what makes room."""
    daemon = faulty()
    daemon.peer.ack = lambda _: "close"
    sender = Sender(daemon.port, "a").start()
    advance(daemon, sender)
    daemon.kill()
    daemon.disk("enospc")
    daemon.peer.ack = lambda _: True
    daemon.start()
    daemon.wait(lambda: not missing(daemon, sender))
    daemon.disk("none")
    end(daemon, sender)


def test_a_disk_that_cannot_be_read_at_the_start(faulty: Callable[..., Faulty]) -> None:
    """What it does not give is kept as it is, and is delivered when it is put back."""
    daemon = faulty()
    daemon.peer.ack = lambda _: "close"
    sender = Sender(daemon.port, "a").start()
    advance(daemon, sender)
    daemon.kill()
    daemon.disk("read")
    daemon.start()
    daemon.wait(lambda: "moved to quarantine" in daemon.log)
    daemon.kill()
    daemon.disk("none")
    buffer = daemon.folder / "buffer"
    kept = list(buffer.glob("quarantine/segment-*.seg"))
    assert kept
    for path in kept:
        path.rename(buffer / path.name)
    daemon.peer.ack = lambda _: True
    daemon.start()
    daemon.wait(lambda: not missing(daemon, sender))
    end(daemon, sender)
