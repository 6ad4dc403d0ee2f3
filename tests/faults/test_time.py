"""The wall clock is set, and the process stands still: nothing is lost, hangs or spins."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

import pytest
from check import advance, end, missing
from daemon import Faulty, Sender

HOUR = 3600


@pytest.mark.parametrize("jump", [HOUR, -HOUR, 400 * 24 * HOUR])
@pytest.mark.parametrize("keys", ["tag", "tag,time"])
def test_the_clock_is_set(faulty: Callable[..., Faulty], jump: int, keys: str) -> None:
    slots = "timekey 1\n    timekey_wait 0\n    flush_mode interval" if "time" in keys else ""
    daemon = faulty(slots, keys=keys)
    sender = Sender(daemon.port, "a").start()
    advance(daemon, sender)
    daemon.peer.ack = lambda _: "close"  # retries are being waited for when it happens
    daemon.wait(lambda: "failed to flush a chunk" in daemon.log)
    daemon.clock(jump)
    advance(daemon, sender)
    daemon.peer.ack = lambda _: True
    advance(daemon, sender)
    sender.stop()
    daemon.wait(lambda: not missing(daemon, sender))
    used = daemon.cpu_seconds()
    time.sleep(1)
    assert daemon.cpu_seconds() - used < 0.5  # at rest it is at rest
    again = Sender(daemon.port, "b").start()
    end(daemon, again)


def test_the_daemon_stands_still(faulty: Callable[..., Faulty]) -> None:
    daemon = faulty()
    sender = Sender(daemon.port, "a").start()
    for _ in range(2):
        advance(daemon, sender)
        daemon.send(signal.SIGSTOP)
        time.sleep(1.2)  # longer than it waits for acks
        daemon.send(signal.SIGCONT)
    end(daemon, sender)
