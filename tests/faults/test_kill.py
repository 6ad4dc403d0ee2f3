"""SIGKILL at random moments: every acknowledged event arrives at least once, none is corrupt."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable

import pytest
from check import MEMORY_KIB, assert_order, missing
from daemon import Daemon, Sender

KILLS = int(os.environ.get("FORWARDER_KILLS", "200"))


def kill_and_check(daemon: Daemon, kills: int, seed: int) -> None:
    chance = random.Random(seed)
    senders = [Sender(daemon.port, tag).start() for tag in ("a", "b", "c")]
    for _ in range(kills):
        daemon.start()
        reached = sum(len(sender.acknowledged) for sender in senders)
        daemon.wait(lambda reached=reached: sum(len(each.acknowledged) for each in senders) > reached)
        time.sleep(chance.uniform(0, 0.15))
        if daemon.supervised and chance.random() < 0.5:
            for pid in daemon.workers:
                os.kill(pid, signal.SIGKILL)
            more = sum(len(each.acknowledged) for each in senders) + 21 * len(senders)
            daemon.wait(lambda more=more: sum(len(each.acknowledged) for each in senders) > more)
        daemon.kill()
    for sender in senders:
        sender.stop()
    daemon.start()
    for sender in senders:
        assert len(sender.acknowledged) > kills
        daemon.wait(lambda sender=sender: not missing(daemon, sender))
        assert_order(daemon, sender)
    daemon.wait(lambda: not list((daemon.folder / "buffer").glob("segment-*")) or idle(daemon))
    assert daemon.status_kib("VmHWM") < MEMORY_KIB
    assert daemon.stop() == 0
    daemon.peer.close()
    assert "Traceback" not in daemon.log


def idle(daemon: Daemon) -> bool:
    """Whether all that is left of the buffer is the segment that grows."""
    return len(list((daemon.folder / "buffer").glob("segment-*"))) <= 1


@pytest.mark.parametrize("more", ["", "fsync append", "compress gzip"])
def test_kill(make_daemon: Callable[..., Daemon], more: str) -> None:
    kill_and_check(make_daemon(more=more), 3, seed=len(more))


def test_kill_of_supervisor_and_worker(make_daemon: Callable[..., Daemon]) -> None:
    kill_and_check(make_daemon(supervised=True), 3, seed=5)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_many_kills_of_supervisor_and_worker(make_daemon: Callable[..., Daemon]) -> None:
    kill_and_check(make_daemon(supervised=True), KILLS // 4, seed=2)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("flush_interval", ["0.02", "1"])
def test_many_kills(make_daemon: Callable[..., Daemon], flush_interval: str) -> None:
    kill_and_check(make_daemon(flush_interval=flush_interval), KILLS // 2, seed=1)
