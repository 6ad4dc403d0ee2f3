"""What must hold after any fault."""

from __future__ import annotations

from itertools import pairwise

from daemon import PER_MESSAGE, Daemon, Sender


def missing(daemon: Daemon, sender: Sender) -> set[int]:
    """Acknowledged and not delivered."""
    return set(sender.acknowledged).difference(*daemon.delivered(sender.tag))


def assert_order(daemon: Daemon, sender: Sender) -> None:
    """Within a chunk events follow each other; a message that was sent again starts again."""
    for chunk in daemon.delivered(sender.tag):
        for before, after in pairwise(chunk):
            assert after == before + 1 or after % PER_MESSAGE == 0, (before, after)
