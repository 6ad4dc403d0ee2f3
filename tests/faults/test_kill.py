"""SIGKILL at random moments: every acknowledged event arrives at least once, none is corrupt."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import pytest
from check import assert_order, missing
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
        daemon.kill()
    for sender in senders:
        sender.stop()
    daemon.start()
    for sender in senders:
        assert len(sender.acknowledged) > kills
        daemon.wait(lambda sender=sender: not missing(daemon, sender))
        assert_order(daemon, sender)
    daemon.wait(lambda: not list((daemon.folder / "buffer").glob("segment-*")) or idle(daemon))
    daemon.stop()
    daemon.peer.close()
    assert "Traceback" not in daemon.log


def idle(daemon: Daemon) -> bool:
    """Whether all that is left of the buffer is the segment that grows."""
    return len(list((daemon.folder / "buffer").glob("segment-*"))) <= 1


@pytest.mark.parametrize("more", ["", "fsync append", "compress gzip"])
def test_kill(tmp_path: Path, more: str) -> None:
    kill_and_check(Daemon(tmp_path, more=more), 3, seed=len(more))


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("flush_interval", ["0.02", "1"])
def test_many_kills(tmp_path: Path, flush_interval: str) -> None:
    kill_and_check(Daemon(tmp_path, flush_interval=flush_interval), KILLS // 2, seed=1)
