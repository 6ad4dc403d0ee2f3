"""What must hold after any fault."""

from __future__ import annotations

from itertools import pairwise

from daemon import PER_MESSAGE, Daemon, Sender

MEMORY_KIB = 150 * 1024


def advance(daemon: Daemon, sender: Sender) -> None:
    """Waits until more is acknowledged."""
    reached = len(sender.acknowledged)
    daemon.wait(lambda: len(sender.acknowledged) > reached + 20)


def end(daemon: Daemon, sender: Sender) -> None:
    """After the fault: everything arrives, whole and in order, in little memory, and the daemon stops."""
    advance(daemon, sender)
    sender.stop()
    daemon.wait(lambda: not missing(daemon, sender))
    assert_order(daemon, sender)
    assert daemon.status_kib("VmHWM") < MEMORY_KIB
    assert daemon.stop() == 0
    assert "Traceback" not in daemon.log


def missing(daemon: Daemon, sender: Sender) -> set[int]:
    """Acknowledged and not delivered."""
    return set(sender.acknowledged).difference(*daemon.delivered(sender.tag))


def assert_order(daemon: Daemon, sender: Sender, per_message: int = PER_MESSAGE) -> None:
    """Within a chunk events follow each other; a message that was sent again starts again."""
    for chunk in daemon.delivered(sender.tag):
        for before, after in pairwise(chunk):
            assert after == before + 1 or after % per_message == 0, (before, after)
