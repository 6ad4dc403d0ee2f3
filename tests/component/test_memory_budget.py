"""One budget for what is kept in memory: spill, push back, shed, and the books balance."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import msgpack
import pytest
from forwarder_process import ForwarderProcess, free_port
from waiting import wait_for

from forwarder.api import BufferOverflow, Plugin
from forwarder.api.testing import Capture, Driver
from forwarder.runtime.control_client import ask

MIB = 1 << 20
SYSTEM = "<system>\nmemory_limit_size {size}\n</system>\n"
RECORD = {"m": "x" * 1000}


class Down(Capture):
    """A destination that is down until `up`."""

    up = False

    def __init__(self) -> None:
        super().__init__()
        self.fail_with = lambda _: None if Down.up else RuntimeError("down")


PLUGINS: dict[tuple[str, str], type[Plugin]] = {("output", "down"): Down}


@pytest.fixture(autouse=True)
def _down() -> None:
    Down.up = False


def match(tag: str, buffer: str = "") -> str:
    return (
        f"<match {tag}>\n@type down\n@id {tag}\n<buffer>\nflush_interval 0.05\nretry_wait 0.05\n"
        f"retry_forever true\nretry_max_interval 0.1\nchunk_limit_size 64k\n{buffer}\n</buffer>\n</match>\n"
    )


def fill(driver: Driver, tag: str) -> BufferOverflow:
    """Emits until nothing more is taken."""
    for _ in range(100_000):
        try:
            driver.emit(tag, *[RECORD] * 20)
        except BufferOverflow as error:
            return error
    raise AssertionError("there is no end to it")


def test_a_buffer_that_grows_leaves_the_others_their_part() -> None:
    with Driver(SYSTEM.format(size="4m") + match("a") + match("b"), plugins=PLUGINS) as driver:
        full = fill(driver, "a")
        assert full.reason == "memory"
        assert "memory_limit_size" in str(full)
        memory = driver.metrics().memory
        assert memory.limit_bytes == 4 * MIB
        assert 2.9 * MIB < memory.by_plugin["a"] < 3.1 * MIB
        assert driver.metrics()["a"].buffer.refuses  # type: ignore[union-attr]
        assert fill(driver, "b").reason == "memory"
        assert 0.9 * MIB < driver.metrics().memory.by_plugin["b"] < 1.1 * MIB
        assert driver.metrics().memory.used_bytes < 4.2 * MIB
        Down.up = True
        wait_for(lambda: driver.metrics().memory.used_bytes < MIB)
        driver.emit("a", RECORD)


def test_a_file_buffer_takes_what_memory_has_no_room_for(tmp_path: Path) -> None:
    spilled = match("a", f"@type file\npath {tmp_path}/buffer")
    with Driver(SYSTEM.format(size="1m") + spilled + match("b"), plugins=PLUGINS) as driver:
        assert fill(driver, "b").reason == "memory"
        for _ in range(200):
            driver.emit("a", *[RECORD] * 20)
        buffer = driver.metrics()["a"].buffer
        assert buffer is not None
        assert buffer.size_bytes > 3 * MIB
        assert driver.metrics().memory.used_bytes < 1.3 * MIB
        Down.up = True
        wait_for(lambda: driver.metrics()["a"].delivered == 4000)


def test_chunks_are_no_larger_than_memory_allows(tmp_path: Path) -> None:
    given = f"@type file\npath {tmp_path}/b\nflush_at_shutdown true"
    config = match("a", given).replace("64k", "256m")
    Down.up = True
    with Driver(SYSTEM.format(size="1m") + config, plugins=PLUGINS) as driver:
        assert "chunk_limit_size 268435456 is more than there is memory for: 262144 is used" in str(
            [str(warning) for warning in driver.diagnostics.warnings]
        )
        for _ in range(40):
            driver.emit("a", *[RECORD] * 20)
        driver.stop()
        out = driver.plugin("a")
        assert isinstance(out, Down)
        assert max(chunk.size_bytes for chunk in out.chunks) <= 256 << 10
        assert sum(chunk.count for chunk in out.chunks) == 800


def test_the_oldest_chunk_makes_room_in_memory() -> None:
    config = SYSTEM.format(size="1m") + match("a", "overflow_action drop_oldest_chunk\nretry_wait 60")
    with Driver(config, plugins=PLUGINS) as driver:
        for _ in range(200):
            driver.emit("a", *[RECORD] * 20)
        assert driver.metrics()["a"].lost["memory"] > 1000
        assert driver.metrics().memory.used_bytes < 1.3 * MIB
        Down.up = True


def test_an_input_waits_for_memory_that_another_buffer_gives_back() -> None:
    import threading  # noqa: PLC0415

    config = SYSTEM.format(size="1m") + match("a", "overflow_action block") + match("b")
    with Driver(config, plugins=PLUGINS) as driver:
        fill(driver, "b")

        def emit() -> None:
            for _ in range(60):
                driver.emit("a", *[RECORD] * 20)

        thread = threading.Thread(target=emit)
        thread.start()
        wait_for(lambda: "buffer is full: input waits" in driver.log)
        Down.up = True
        thread.join(20)
        assert not thread.is_alive()


UDP = (
    "<source>\n@type udp\n@id in\nbind 127.0.0.1\nport {port}\ntag a\n"
    "<parse>\n@type none\n</parse>\n</source>\n"
)
FORWARD = "<source>\n@type forward\n@id in\nbind 127.0.0.1\nport {port}\n</source>\n"
FAILING = (
    "<match **>\n@type forward\nheartbeat_type none\n<server>\nhost 127.0.0.1\nport {nobody}\n</server>\n"
    "<buffer>\n"
    "flush_interval 0.1\nretry_forever true\nretry_max_interval 1\nchunk_limit_size 1m\n</buffer>\n</match>\n"
)
LIMIT = 32 * MIB


@pytest.fixture
def process(tmp_path: Path) -> Callable[[str], ForwarderProcess]:
    def make(source: str) -> ForwarderProcess:
        config = SYSTEM.format(size="32m") + source + FAILING.format(nobody=free_port())
        options = ("--no-supervisor", "--control-socket", str(tmp_path / "control"))
        return ForwarderProcess(tmp_path, config, options=options)

    return make


def resident(process: ForwarderProcess) -> int:
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def source(state: dict[str, Any]) -> dict[str, Any]:
    return next(each for each in state["sources"] if each["id"] == "in")


def status(process: ForwarderProcess) -> dict[str, Any]:
    (answer,) = ask(str(process.folder / "control"), {"do": "status"})
    found = answer["status"]
    assert isinstance(found, dict)
    return found


def test_udp_sheds_and_counts(process: Callable[[str], ForwarderProcess]) -> None:
    port = free_port()
    with (
        process(UDP.format(port=port)) as running,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
    ):
        before = resident(running)
        sent = 0
        state: dict[str, Any] = {}
        while True:
            for _ in range(2000):
                sender.sendto(b"y" * 4000, ("127.0.0.1", port))
            sent += 2000
            state = status(running)
            if source(state)["lost"].get("memory", 0) > 40_000:
                break
            assert sent < 2_000_000
        assert "in memory" in "".join(_rendered(state))
        assert state["memory"]["used_bytes"] < LIMIT * 1.5
        assert resident(running) - before < LIMIT + 64 * MIB

        def balanced() -> bool:
            totals = status(running)["totals"]
            assert isinstance(totals, dict)
            return bool(
                source(status(running))["received"] == sent
                and totals["in_flight"] == 0
                and totals["received"] + totals["added"] == totals["buffered"] + totals["lost"]
            )

        wait_for(balanced, lambda: str(status(running)["totals"]), 5)


def _rendered(state: dict[str, Any]) -> list[str]:
    from forwarder.cli.status import rendered  # noqa: PLC0415

    return rendered(state)


def connections(port: int, count: int, stack: ExitStack) -> list[socket.socket]:
    found = [stack.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(count)]
    for each in found:
        each.settimeout(0.5)
    return found


def test_forward_senders_wait(process: Callable[[str], ForwarderProcess]) -> None:
    port = free_port()
    with process(FORWARD.format(port=port)) as running, ExitStack() as stack:
        before = resident(running)
        message = msgpack.packb(["a", [[1, {"m": "z" * 10_000}]] * 100, {"chunk": "c"}])
        for sender in connections(port, 4, stack):
            with suppress(TimeoutError):
                for _ in range(1000):
                    sender.sendall(message)
                raise AssertionError("it is not made to wait")
        state = status(running)
        assert source(state)["lost"] == {}
        assert state["memory"]["used_bytes"] < LIMIT * 1.5
        assert resident(running) - before < LIMIT + 64 * MIB


def test_many_unfinished_messages_cost_some_connections(process: Callable[[str], ForwarderProcess]) -> None:
    """They could wait for each other's end for ever."""
    port = free_port()
    with process(FORWARD.format(port=port)) as running, ExitStack() as stack:
        before = resident(running)
        head = b"\x92\xa1a\xc6" + (3 * MIB).to_bytes(4, "big")
        for sender in connections(port, 16, stack):
            with suppress(OSError):
                sender.sendall(head + b"\x92\x01\x80" * (2 * MIB // 3))
        running.wait(lambda: "too much of unfinished messages" in running.log)
        assert resident(running) - before < LIMIT + 64 * MIB
        stack.close()
        wait_for(lambda: status(running)["memory"]["by_plugin"]["in"] == 0)
