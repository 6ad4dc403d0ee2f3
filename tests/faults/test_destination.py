"""A destination that is down, slow, closes half of the connection, says nothing, or says what is wrong."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable

import pytest
from check import advance, end, missing
from daemon import Daemon, Sender
from forward_peer import Message, Peer


@pytest.fixture
def daemon(make_daemon: Callable[..., Daemon]) -> Daemon:
    made = make_daemon()
    made.start()
    return made


@pytest.mark.parametrize("fault", ["close", "half-close", False, "another"])
def test_a_destination_that_does_not_confirm(daemon: Daemon, fault: str | bool) -> None:
    sender = Sender(daemon.port, "a").start()
    advance(daemon, sender)
    daemon.peer.ack = lambda _: fault
    daemon.wait(lambda: "failed to flush a chunk" in daemon.log)
    advance(daemon, sender)  # events are taken meanwhile
    daemon.peer.ack = lambda _: True
    end(daemon, sender)


def test_a_destination_that_fails_now_and_then(daemon: Daemon) -> None:
    answers = itertools.cycle([True, "close", True, "half-close", "another", True])
    daemon.peer.ack = lambda _: next(answers)
    sender = Sender(daemon.port, "a").start()
    for _ in range(5):
        advance(daemon, sender)
    daemon.peer.ack = lambda _: True
    end(daemon, sender)


def test_a_slow_destination(daemon: Daemon) -> None:
    def slow(_: Message) -> bool:
        time.sleep(0.1)
        return True

    daemon.peer.ack = slow
    sender = Sender(daemon.port, "a").start()
    advance(daemon, sender)
    end(daemon, sender)


def test_a_destination_that_is_down(daemon: Daemon) -> None:
    sender = Sender(daemon.port, "a").start()
    advance(daemon, sender)
    gone = daemon.peer
    gone.close()
    daemon.wait(lambda: "failed to flush a chunk" in daemon.log)
    advance(daemon, sender)
    assert missing(daemon, sender)
    daemon.peer = Peer(port=gone.port)
    daemon.peer.messages[:0] = gone.messages
    end(daemon, sender)
