"""Nodes that forward to each other, and what becomes of events when one of them dies, moves or is cut off.

The sender runs in the test, whose books it can read; the receivers are processes. They write what comes to a
file before `emit` returns, so that what they acknowledge survives `kill -9`.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from forwarder_process import ForwarderProcess, free_port
from waiting import wait_for

from forwarder.api.testing import Driver, run

WRITER = '''
import os
from forwarder.api import Output, string


class LogOutput(Output):
    """Numbers of the events, a line each, in a file, before process returns."""

    path = string("File.")

    def process(self, tag, stream):
        text = "".join(f"{record['n']}\\n" for _, record in stream)
        fd = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(fd, text.encode())
        os.close(fd)
'''

RELAY = """
<source>
  @type forward
  bind 127.0.0.1
  port {port}
</source>
<match **>
  @type forward
  require_ack_response true
  keepalive true
  <server>
    host 127.0.0.1
    port {target}
  </server>
  <buffer>
    flush_interval 0.05
  </buffer>
</match>
"""


class Receiver(ForwarderProcess):
    """Forward in, numbers into a file."""

    def __init__(self, folder: Path, name: str, *, host: str = "127.0.0.1", namespace: str = "") -> None:
        self.host, self.port = host, 24224 if namespace else free_port()
        self.file = folder / f"{name}.out"
        plugins, own = folder / "plugins", folder / name
        for made in (plugins, own):
            made.mkdir(exist_ok=True)
        (plugins / "out_numbers.py").write_text(WRITER)
        super().__init__(
            own, self._text(), options=["--no-supervisor", "-p", str(plugins)],
            prefix=["ip", "netns", "exec", namespace] if namespace else [],
        )  # fmt: skip
        self.start()

    def _text(self) -> str:
        return (
            f"<source>\n@type forward\nbind {self.host}\nport {self.port}\n</source>\n"
            f"<match t.**>\n@type numbers\npath {self.file}\n</match>\n"
        )

    def kill(self) -> None:
        """kill -9."""
        self.send(signal.SIGKILL)
        self.ended()

    def move(self) -> None:
        """Starts again under another port."""
        self.port = free_port()
        self.config.write_text(self._text())
        self.start()

    @property
    def numbers(self) -> list[int]:
        return [int(line) for line in self.file.read_text().split()] if self.file.exists() else []


@pytest.fixture
def receivers(tmp_path: Path) -> Iterator[Callable[..., Receiver]]:
    made: list[Receiver] = []

    def make(name: str, **options: Any) -> Receiver:
        made.append(Receiver(tmp_path, name, **options))
        return made[-1]

    yield make
    for receiver in made:
        receiver.stop()


def server(receiver: Receiver) -> str:
    return f"<server>\nhost {receiver.host}\nport {receiver.port}\n</server>\n"


def sender(servers: str, options: str) -> str:
    return f"""
        <match t.**>
          @type forward
          @id out
          heartbeat_interval 0.1
          recover_wait 0.5
          hard_timeout 3
          connect_timeout 1
          keepalive true
          {options}
          {servers}
          <buffer tag>
            flush_interval 0.02
            flush_thread_count 2
            retry_wait 0.1
            retry_max_interval 0.5
          </buffer>
        </match>
    """


class Stream:
    """Emits numbers, ten at a time, until `stop`."""

    def __init__(self, driver: Driver) -> None:
        self.count = 0
        self._driver = driver
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._stopping.wait(0.001):
            self._driver.emit("t.n", *({"n": n} for n in range(self.count, self.count + 10)))
            self.count += 10

    def more(self, count: int = 1000) -> None:
        """Waits until so many more were emitted."""
        target = self.count + count
        wait_for(lambda: self.count >= target, "the stream stands still")

    def stop(self) -> int:
        self._stopping.set()
        self._thread.join(10)
        return self.count


ACKS = "require_ack_response true\nack_response_timeout 2"


def test_killed_with_acks_nothing_is_lost(receivers: Callable[..., Receiver]) -> None:
    a, b = receivers("a"), receivers("b")
    with run(sender(server(a) + server(b), ACKS)) as driver:
        stream = Stream(driver)
        wait_for(lambda: a.numbers and b.numbers, "both get something")
        a.kill()
        stream.more()
        a.start()
        seen = len(a.numbers)
        wait_for(lambda: len(a.numbers) > seen, "it is used again")
        stream.more()
        total = stream.stop()
        driver.wait_for(lambda: driver["out"].delivered == total, 30)
        assert driver["out"].lost == {}
    assert set(a.numbers) | set(b.numbers) == set(range(total))


@pytest.mark.slow
def test_killed_without_acks_the_loss_is_what_the_books_say(receivers: Callable[..., Receiver]) -> None:
    a, b = receivers("a"), receivers("b")
    with run(sender(server(a) + server(b), "")) as driver:
        stream = Stream(driver)
        wait_for(lambda: a.numbers and b.numbers, "both get something")
        a.kill()
        wait_for(lambda: "not available" in driver.log or "detached" in driver.log, "the death is noticed")
        noticed = stream.count
        stream.more()
        total = stream.stop()
        driver.wait_for(lambda: driver["out"].delivered == total, 30)
        assert driver["out"].lost == {}
        # once the sender knows, nothing is lost, and b has all of it
        wait_for(lambda: set(range(noticed, total)) <= set(b.numbers), "all that came after it arrives")
        got = Counter(a.numbers + b.numbers)
    lost = set(range(total)) - set(got)
    assert driver["out"].delivered - len(got) == len(lost)  # sent minus received: at most once
    assert max(got.values()) == 1
    assert all(n < noticed for n in lost)


def test_moved_to_another_address_by_service_discovery(
    receivers: Callable[..., Receiver], tmp_path: Path
) -> None:
    a = receivers("a")
    path = tmp_path / "servers.json"

    def publish() -> None:
        new = path.with_suffix(".new")
        new.write_text(json.dumps([{"host": a.host, "port": a.port, "name": "a"}]))
        os.replace(new, path)

    publish()
    discovery = f"<service_discovery>\n@type file\npath {path}\n</service_discovery>\n"
    with run(sender(discovery, ACKS)) as driver:
        stream = Stream(driver)
        wait_for(lambda: a.numbers, "it gets something")
        a.kill()
        a.move()
        stream.more(200)
        publish()
        stream.more()
        total = stream.stop()
        driver.wait_for(lambda: driver["out"].delivered == total, 30)
        assert driver["out"].lost == {}
        assert "server is gone" in driver.log
    assert set(a.numbers) == set(range(total))


def test_cat_into_a_chain_of_three(receivers: Callable[..., Receiver], tmp_path: Path) -> None:
    """cat -> relay -> relay -> file: counts and order per sender are kept."""
    last = receivers("last")
    with ExitStack() as stack:
        target = last.port
        for name in ("middle", "first"):
            (tmp_path / name).mkdir()
            port = free_port()
            relay = RELAY.format(port=port, target=target)
            stack.enter_context(ForwarderProcess(tmp_path / name, relay))
            target = port
        text = "".join(f'{{"n":{n}}}\n' for n in range(5000))
        done = subprocess.run(
            [sys.executable, "-m", "forwarder.cli.main", "cat", "t.n", "--port", str(target)],
            input=text, text=True, capture_output=True, timeout=30, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")
        wait_for(lambda: len(last.numbers) == 5000, "all of them arrive")
        assert last.numbers == list(range(5000))


@pytest.fixture
def namespace(tools: Any) -> Iterator[str]:
    """NAME/DEVICE/NET of a network namespace with the address NET.2, joined to NET.1 here."""
    ip = tools.need("ip")
    number = os.getpid()
    name, here, there = f"fwd{number}", f"fa{number}", f"fb{number}"
    net = f"10.{200 + number % 50}.{number // 50 % 250}"  # several tests may run at the same time

    def call(*arguments: str) -> None:
        subprocess.run([ip, *arguments], check=True, capture_output=True, text=True)

    if os.geteuid() != 0:
        tools.unavailable("root (for network namespaces)")
    try:
        call("netns", "add", name)
    except subprocess.CalledProcessError as error:
        tools.unavailable(f"a network namespace ({error.stderr.strip()})")
    try:
        call("link", "add", here, "type", "veth", "peer", "name", there, "netns", name)
        call("addr", "add", f"{net}.1/24", "dev", here)
        call("link", "set", here, "up")
        call("-n", name, "addr", "add", f"{net}.2/24", "dev", there)
        call("-n", name, "link", "set", there, "up")
        yield f"{name}/{there}/{net}"
    finally:
        call("netns", "del", name)


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("acks", [True, False])
def test_cut_off_and_healed(namespace: str, receivers: Callable[..., Receiver], acks: bool) -> None:
    name, device, net = namespace.split("/")
    a = receivers("a", host=f"{net}.2", namespace=name)

    def link(state: str) -> None:
        subprocess.run(["ip", "-n", name, "link", "set", device, state], check=True)

    with run(sender(server(a), ACKS if acks else "send_timeout 2")) as driver:
        stream = Stream(driver)
        wait_for(lambda: a.numbers, "it gets something")
        link("down")
        driver.wait_for(lambda: "not available" in driver.log or "detached" in driver.log, 30)
        stream.more()
        link("up")
        driver.wait_for(lambda: "recovered forwarding server" in driver.log, 30)
        stream.more()
        total = stream.stop()
        driver.wait_for(lambda: driver["out"].delivered == total, 60)
        assert driver["out"].lost == {}
        if acks:
            assert set(a.numbers) == set(range(total))
            return
        # at most once: what the cut swallowed is sent minus received, and what came after it is there
        wait_for(lambda: total - 1 in a.numbers, "the last one arrives")
    got = Counter(a.numbers)
    assert max(got.values()) == 1
    assert driver["out"].delivered - len(got) == len(set(range(total)) - set(got))
