"""An hour of work, compressed: memory and descriptors stay as they are.

"An hour" is counted in what happens, not in seconds: as many chunks as a flush a second makes, a broken
connection and a failed chunk a minute on both sides, and several segments filled and removed.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from check import assert_order
from daemon import Daemon, Sender
from forward_peer import Message

CHUNKS = 3600
FAILURES = 60
SEGMENTS = 6
PER_MESSAGE = 700
TAGS = ("a", "b", "c")
SLACK_KIB = 12 * 1024


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_an_hour_of_work(make_daemon: Callable[..., Daemon]) -> None:
    # the peer is Python: senders must not run ahead of it by much
    daemon = make_daemon(ack_timeout=60, more="total_limit_size 20m")
    failures = 0
    looked_at = 0
    arrived: dict[str, set[int]] = {tag: set() for tag in TAGS}

    def ack(message: Message) -> bool | str:
        nonlocal failures
        if len(daemon.peer.messages) < (failures + 1) * CHUNKS // FAILURES:
            return True
        failures += 1
        return "close"

    def all_there(sender: Sender) -> bool:
        nonlocal looked_at
        messages = daemon.peer.messages
        while looked_at < len(messages):
            message = messages[looked_at]
            if message.tag in arrived:  # else a line of the log
                arrived[message.tag].update(record["i"] for _, record in message.events)
            looked_at += 1
        there = arrived[sender.tag]
        return len(there) >= len(sender.acknowledged) and there.issuperset(sender.acknowledged)

    daemon.peer.ack = ack
    daemon.start()
    senders = [Sender(daemon.port, tag, per_message=PER_MESSAGE, per_connection=20).start() for tag in TAGS]
    newest = 0
    peaks: list[tuple[int, int]] = []
    for quarter in range(1, 5):

        def reached(quarter: int = quarter) -> bool:
            nonlocal newest
            names = (path.name for path in (daemon.folder / "buffer").glob("segment-*.seg"))
            newest = max([newest, *(int(name.split("-")[1]) for name in names)])
            return len(daemon.peer.messages) >= quarter * CHUNKS // 4

        daemon.wait(reached, 240)
        peaks.append((daemon.status_kib("VmRSS"), len(list(Path(f"/proc/{daemon.pid}/fd").iterdir()))))
    daemon.wait(lambda: (reached(), newest >= SEGMENTS)[1], 120)
    for sender in senders:
        sender.stop()
    for sender in senders:
        assert sender.connections >= FAILURES // 3
        daemon.wait(lambda sender=sender: all_there(sender), 60)
        assert_order(daemon, sender, PER_MESSAGE)
    assert failures >= FAILURES
    memory, descriptors = [peak[0] for peak in peaks], [peak[1] for peak in peaks]
    assert max(memory[1:]) <= memory[0] + SLACK_KIB, memory
    assert max(descriptors[1:]) <= descriptors[0] + 10, descriptors  # connections come and go
    assert daemon.stop() == 0
    assert "Traceback" not in daemon.log
