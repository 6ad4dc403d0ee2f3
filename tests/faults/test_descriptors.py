"""Very many chunk keys: a chunk each, and no more descriptors than for one."""

from __future__ import annotations

import re
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import msgpack
import pytest
from daemon import Daemon, event

LIMIT = 120
"""More than the connections that wait for confirmations, and far fewer than there are keys."""
_LIMITED = (
    f"import os, resource, sys; resource.setrlimit(resource.RLIMIT_NOFILE, ({LIMIT}, {LIMIT})); "
    "os.execv(sys.argv[1], sys.argv[1:])"
)


def send_all(daemon: Daemon, count: int) -> None:
    """An event for each of `count` tags, acknowledged."""
    unpacker = msgpack.Unpacker()
    with socket.create_connection(("127.0.0.1", daemon.port)) as connection:
        for number in range(count):
            message = [f"t{number}", [[1_700_000_000, event("k", number)]]]
            if number == count - 1:
                message.append({"chunk": "last"})
            connection.sendall(msgpack.packb(message))
        while not list(unpacker):
            unpacker.feed(connection.recv(4096))


@pytest.mark.parametrize("count", [1000, pytest.param(20_000, marks=pytest.mark.slow)])
def test_many_keys_and_few_descriptors(make_daemon: Callable[..., Daemon], count: int) -> None:
    daemon = make_daemon(flush_interval="1h", prefix=(sys.executable, "-c", _LIMITED), ack_timeout=60)
    daemon.start()
    send_all(daemon, count)
    assert len(list(Path(f"/proc/{daemon.pid}/fd").iterdir())) < 40
    daemon.kill()
    daemon.start()
    recovered = re.search(r"buffer recovered chunks=(\d+)", daemon.log)
    assert recovered
    assert int(recovered[1]) >= count  # lines of the log are events too
    daemon.send(signal.SIGUSR1)
    wanted = {f"t{number}" for number in range(count)}
    daemon.wait(
        lambda: (
            len(daemon.peer.messages) >= count
            and wanted <= {message.tag for message in list(daemon.peer.messages)}
        ),
        240,
    )
    assert daemon.stop() == 0
    assert "Traceback" not in daemon.log
    assert "Too many open files" not in daemon.log
