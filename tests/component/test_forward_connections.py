"""Thousands of forward clients at a running process: what an idle connection costs."""

from __future__ import annotations

import contextlib
import re
import resource
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import msgpack
import pytest

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
    deadline = time.monotonic() + 30
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=30)
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


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
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    path = tmp_path / "fluent.conf"
    path.write_text(CONFIG.format(port=port))
    command = [Path(sys.executable).parent / "forwarder", "run", "--no-supervisor", "-q", "-c", path]
    with contextlib.ExitStack() as stack:
        process = stack.enter_context(subprocess.Popen(command))
        stack.callback(process.send_signal, signal.SIGTERM)
        acknowledged(stack.enter_context(connect(port)))
        before = proportional_kib(process.pid)
        clients = [stack.enter_context(connect(port)) for _ in range(CONNECTIONS)]
        for client in clients:
            acknowledged(client)
        assert (proportional_kib(process.pid) - before) / CONNECTIONS < KIB_EACH
        for client in clients[::500]:
            acknowledged(client)
    assert process.returncode == 0
