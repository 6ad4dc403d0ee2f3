"""Thousands of forward clients at a running process: what an idle connection costs."""

from __future__ import annotations

import contextlib
import re
import resource
import socket
from pathlib import Path

import msgpack
import pytest
from forwarder_process import ForwarderProcess, free_port

CONNECTIONS = 5000
KIB_EACH = 40
CONFIG = """
<source>
  @type forward
  bind 127.0.0.1
  port {port}
</source>
<match **>
  @type null
</match>
"""


def proportional_kib(pid: int) -> int:
    found = re.search(r"^Pss: +(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1])


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=30)


def acknowledged(sock: socket.socket) -> None:
    sock.sendall(msgpack.packb(["t", 1_700_000_000, {"message": "x" * 500}, {"chunk": "c"}]))
    expected = msgpack.packb({"ack": "c"})
    assert sock.recv(len(expected), socket.MSG_WAITALL) == expected


@pytest.mark.slow
def test_an_idle_connection_costs_little(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = CONNECTIONS * 2
    if hard != resource.RLIM_INFINITY and hard < needed:
        pytest.skip(f"the limit of open files is {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, needed), hard))
    port = free_port()
    daemon = ForwarderProcess(tmp_path, CONFIG.format(port=port), options=["--no-supervisor"])
    with daemon, contextlib.ExitStack() as stack:
        acknowledged(stack.enter_context(connect(port)))
        before = proportional_kib(daemon.pid)
        clients = [stack.enter_context(connect(port)) for _ in range(CONNECTIONS)]
        for client in clients:
            acknowledged(client)
        assert (proportional_kib(daemon.pid) - before) / CONNECTIONS < KIB_EACH
        for client in clients[::500]:
            acknowledged(client)
        assert daemon.stop() == 0
