"""Workers below a supervisor: real processes, signals, kills and reloads; what the kernel took is kept."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from forwarder_process import PATIENCE, RUNNING, ForwarderProcess, free_port
from waiting import wait_for

from forwarder.runtime.control_client import ask

UDP = """
<source>
  @type udp
  bind 127.0.0.1
  port {port}
  tag t
  <parse>
    @type none
  </parse>
</source>
"""
MONITOR = """
<source>
  @type prometheus
  bind 127.0.0.1
  port {monitor}
</source>
"""
DIRECT = "<match t>\n@type stdout\n</match>\n<match **>\n@type null\n</match>\n"
FILE = (
    "<match t>\n@type file\npath {folder}/out\nappend true\n<format>\n@type single_value\n</format>\n"
    "<buffer>\n@type file\npath {folder}/buffer\nflush_mode interval\nflush_interval 0.1\n"
    "</buffer>\n</match>\n<match **>\n@type null\n</match>\n"
)


class Load:
    """Numbered datagrams at a steady rate, from a thread."""

    def __init__(self, port: int, per_second: int) -> None:
        self.sent = 0
        self._stopping = threading.Event()
        self._port, self._per_second = port, per_second
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        started = time.monotonic()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.connect(("127.0.0.1", self._port))
            while not self._stopping.wait(0.002):
                due = int((time.monotonic() - started) * self._per_second)
                while self.sent < due:
                    sender.send(b"n%d" % self.sent)
                    self.sent += 1


def numbers(process: ForwarderProcess) -> list[int]:
    """The numbers that came out."""
    texts = [process.output, *sorted(process.folder.glob("out*.log"))]
    found = []
    for path in texts:
        found += [int(number) for number in re.findall(r'\bn(\d+)"?\}?\n', path.read_text(errors="replace"))]
    return found


def send(port: int, *texts: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for text in texts:
            sender.sendto(text.encode(), ("127.0.0.1", port))


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.mark.parametrize("options", [(), ("--no-supervisor",)])
@pytest.mark.parametrize("routes", [DIRECT, FILE])
def test_reload_under_load_loses_no_datagram(
    tmp_path: Path, port: int, options: tuple[str, ...], routes: str
) -> None:
    """`test_reload_rate` does it faster, and longer."""
    config = UDP.format(port=port) + routes.format(folder=tmp_path)
    with ForwarderProcess(tmp_path, config, options=options) as process:
        with Load(port, per_second=2000) as sender:
            for _ in range(3):
                before = sender.sent
                process.wait(lambda before=before: sender.sent > before + 200)
                process.reload()
        assert process.stop() == 0
        if routes == FILE:  # a file buffer keeps what it has at the stop
            process.start()
            process.wait(lambda: len(numbers(process)) >= sender.sent)
            assert process.stop() == 0
        assert sorted(numbers(process)) == list(range(sender.sent))
        assert "Traceback" not in process.log


@pytest.mark.parametrize("options", [(), ("--no-supervisor",)])
@pytest.mark.parametrize("routes", [DIRECT, FILE])
@pytest.mark.parametrize("bad", ["<match", "<match **>\n@type nosuch\n</match>", "cannot start"])
def test_a_bad_reload_keeps_the_old_configuration_running(
    tmp_path: Path, port: int, options: tuple[str, ...], routes: str, bad: str
) -> None:
    config = UDP.format(port=port) + routes.format(folder=tmp_path)
    with (
        ForwarderProcess(tmp_path, config, options=options) as process,
        socket.create_server(("127.0.0.1", 0)) as taken,
    ):
        if bad == "cannot start":
            bad = MONITOR.format(monitor=taken.getsockname()[1])
        process.config.write_text(config + bad)
        process.send(signal.SIGUSR2)
        process.wait(lambda: "reload failed" in process.log)
        send(port, "n1")
        process.wait(lambda: numbers(process) == [1])
        process.config.write_text(config)
        process.reload()
        send(port, "n2")
        process.wait(lambda: sorted(numbers(process)) == [1, 2])
        assert process.stop() == 0


def test_a_killed_worker_is_replaced_and_the_socket_stays_open(tmp_path: Path, port: int) -> None:
    with ForwarderProcess(tmp_path, UDP.format(port=port) + DIRECT) as process:
        (worker,) = process.workers
        os.kill(worker, signal.SIGSTOP)
        process.wait(lambda: Path(f"/proc/{worker}/stat").read_text().rpartition(") ")[2].startswith("T"))
        send(port, *(f"n{number}" for number in range(50)))  # they wait in the socket
        os.kill(worker, signal.SIGKILL)
        process.wait(lambda: len(numbers(process)) == 50)
        assert process.workers != [worker]
        assert "it is started again" in process.log
        assert process.stop() == 0


def test_a_worker_that_is_killed_before_it_ran_ends_the_start(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fluent.conf")  # reading it never ends
    process = ForwarderProcess(tmp_path).start(wait=False)
    wait_for(lambda: process.workers)
    os.kill(process.workers[0], signal.SIGKILL)
    assert process.ended() == 1
    assert "error: worker 0 was ended by signal 9 (Killed) before it ran" in process.log


def test_a_killed_supervisor_takes_its_workers_along(tmp_path: Path, port: int) -> None:
    with ForwarderProcess(tmp_path, UDP.format(port=port) + FILE.format(folder=tmp_path)) as process:
        (worker,) = process.workers
        send(port, "n1")
        process.wait(lambda: numbers(process) == [1])
        assert process.process is not None
        process.process.kill()
        process.process.wait()
        process.start()  # at once: it waits for what the old worker has
        wait_for(lambda: not Path(f"/proc/{worker}").exists())
        send(port, "n2")
        process.wait(lambda: sorted(numbers(process)) == [1, 2])
        assert process.stop() == 0


def test_two_workers_share_ports_and_have_sections_of_their_own(tmp_path: Path, port: int) -> None:
    tcp = UDP.replace("@type udp", "@type tcp").format(port=port)
    config = (
        "<system>\nworkers 2\n</system>\n" + UDP.format(port=port) + tcp
        + "".join(
            f"<worker {number}>\n<source>\n@type sample\ntag own.{number}\n</source>\n</worker>\n"
            for number in range(2)
        )
        + "<match own.*>\n@type stdout\n</match>\n" + DIRECT
    )  # fmt: skip
    with ForwarderProcess(tmp_path, config) as process:
        process.wait(lambda: "all workers are running" in process.log)
        assert len(process.workers) == 2
        send(port, *(f"n{number}" for number in range(100)))
        for number in range(100, 120):
            with socket.create_connection(("127.0.0.1", port)) as sender:
                sender.sendall(b"n%d\n" % number)
        process.wait(lambda: sorted(numbers(process)) == list(range(120)))
        process.wait(lambda: {"own.0", "own.1"} <= set(re.findall(r"own\.\d", process.output.read_text())))
        assert process.stop() == 0


def test_the_number_of_workers_follows_a_reload(tmp_path: Path, port: int) -> None:
    config = UDP.format(port=port) + DIRECT
    with ForwarderProcess(tmp_path, config) as process:
        for workers in (3, 1):
            process.config.write_text(f"<system>\nworkers {workers}\n</system>\n" + config)
            process.reload()
            process.wait(lambda workers=workers: len(process.workers) == workers)
        assert process.stop() == 0


def test_a_plugin_that_is_not_ready_for_several_workers_is_refused(tmp_path: Path) -> None:
    unix = f"<source>\n@type unix\npath {tmp_path}/s\n</source>\n"
    process = ForwarderProcess(tmp_path, "<system>\nworkers 2\n</system>\n" + unix + DIRECT)
    process.start(wait=False)
    assert process.process is not None
    assert process.process.wait(PATIENCE) == 1
    assert "'unix' does not support multi workers" in process.log
    process.config.write_text("<system>\nworkers 2\n</system>\n<worker 1>\n" + unix + "</worker>\n" + DIRECT)
    with process:
        process.wait(lambda: (tmp_path / "s").exists() and "all workers are running" in process.log)
        assert process.stop() == 0
    assert not (tmp_path / "s").exists()


def test_a_second_signal_ends_all_at_once(tmp_path: Path, port: int) -> None:
    (tmp_path / "out_hang.py").write_text(
        "import threading\nfrom forwarder.api import Output\n\n\nclass HangOutput(Output):\n"
        "    def write(self, chunk):\n        threading.Event().wait()\n"
    )
    config = (
        UDP.format(port=port) + "<match t>\n@type hang\n<buffer>\nflush_mode immediate\n</buffer>\n</match>\n"
    )
    options = ("-p", str(tmp_path), "--stop-timeout", "60")
    with ForwarderProcess(tmp_path, config, options=options) as process:
        workers = process.workers
        send(port, "n1")
        process.send(signal.SIGTERM)
        process.wait(lambda: "stopping" in process.log)
        assert process.stop() == 1
        assert "second signal" in process.log
        assert [pid for pid in workers if Path(f"/proc/{pid}/stat").exists()] == []


def test_sigusr1_reopens_the_log(tmp_path: Path, port: int) -> None:
    log = tmp_path / "own.log"
    with ForwarderProcess(tmp_path, UDP.format(port=port) + DIRECT, options=("-o", str(log))).start(
        wait=False
    ) as process:
        process.wait(lambda: log.exists() and "all workers are running" in log.read_text())
        log.rename(tmp_path / "old.log")
        process.send(signal.SIGUSR1)
        process.wait(lambda: log.exists() and "flushing all buffers" in log.read_text())
        assert process.stop() == 0
    assert "stopped" in log.read_text()


@pytest.mark.parametrize("options", [(), ("--no-supervisor",)])
def test_sigcont_writes_the_stacks(tmp_path: Path, port: int, options: tuple[str, ...]) -> None:
    config = UDP.format(port=port) + FILE.format(folder=tmp_path)
    with ForwarderProcess(tmp_path, config, options=options).start() as process:
        pids = process.workers or [process.pid]
        for number in range(1, 31):  # a dump while threads run crashed the process now and then
            send(port, f"n{number}")
            os.kill(pids[0], signal.SIGCONT)
        process.wait(lambda: "Thread MainThread (most recent call last)" in process.log)
        process.wait(lambda: len(numbers(process)) == 30)
        assert process.stop() == 0


def test_a_worker_that_dies_at_once_is_started_again_ever_later(tmp_path: Path, port: int) -> None:
    with ForwarderProcess(tmp_path, UDP.format(port=port) + DIRECT).start() as process:
        for times in range(1, 5):
            process.wait(lambda times=times: process.log.count(RUNNING) == times)
            os.kill(process.workers[0], signal.SIGKILL)
            process.wait(lambda times=times: process.log.count("it is started again") == times)
        pauses = [float(text) for text in re.findall(r"pause_seconds=([0-9.]+)", process.log)]
        assert pauses == [0.0, 0.5, 1.0, 2.0]
        send(port, "n1")
        process.wait(lambda: numbers(process) == [1])
        assert process.stop() == 0


def test_each_worker_has_a_control_socket_also_after_a_reload(tmp_path: Path, port: int) -> None:
    config = "<system>\nworkers 2\n</system>\n" + UDP.format(port=port) + DIRECT
    path = tmp_path / "c.sock"
    with ForwarderProcess(tmp_path, config, options=("--control-socket", str(path))).start() as process:

        def workers() -> list[tuple[int, int]]:
            found = []
            for name in ("c.sock", "c.1.sock"):
                (answer,) = ask(str(tmp_path / name), {"do": "status"})
                found.append((answer["status"]["worker"], answer["status"]["pid"]))
            return found

        process.wait(lambda: "all workers are running" in process.log)
        before = workers()
        assert [number for number, _ in before] == [0, 1]
        process.reload()
        process.wait(lambda: len(process.workers) == 2)
        after = workers()
        assert [number for number, _ in after] == [0, 1]
        assert {pid for _, pid in after} == {*process.workers}
        assert process.stop() == 0
    assert not path.exists()


@pytest.mark.skipif(os.getuid() != 0, reason="only root may change root and user")
@pytest.mark.parametrize("options", [(), ("--no-supervisor",), ("--chroot", "/")])
def test_another_user(tmp_path: Path, port: int, options: tuple[str, ...]) -> None:
    import pwd  # noqa: PLC0415

    found = None
    command = [sys.executable, "-c", "import encodings.idna, forwarder.core.build"]
    with suppress(PermissionError):
        found = subprocess.run(command, user="nobody", cwd="/", capture_output=True, check=False)
    if not found or found.returncode:
        pytest.skip("the interpreter is root's own")
    nobody = pwd.getpwnam("nobody")
    tmp_path.parent.chmod(0o755)
    config = UDP.format(port=port) + DIRECT
    process = ForwarderProcess(tmp_path, config, options=(*options, "--user", "nobody"))
    with process.start() as running:
        for pid in [running.pid, *running.workers]:
            status = Path(f"/proc/{pid}/status").read_text()
            assert re.search(rf"^Uid:\s+{nobody.pw_uid}\s+{nobody.pw_uid}", status, re.M)
            assert re.search(rf"^Gid:\s+{nobody.pw_gid}\s+{nobody.pw_gid}", status, re.M)
        send(port, "n1")
        running.wait(lambda: numbers(running) == [1])
        assert running.stop() == 0


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """What systemd listens on."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.settimeout(PATIENCE)
        yield sock


@pytest.mark.parametrize("options", [(), ("--no-supervisor",)])
def test_systemd_is_told(tmp_path: Path, port: int, manager: socket.socket, options: tuple[str, ...]) -> None:
    def heard(wanted: str) -> str:
        while True:
            text = manager.recv(4096).decode()
            if wanted in text:
                return text

    env = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "300000"}
    config = UDP.format(port=port) + DIRECT
    with ForwarderProcess(tmp_path, config, options=options, env=env).start(wait=False) as process:
        assert heard("READY=1")
        assert heard("WATCHDOG=1")
        process.send(signal.SIGHUP)
        assert "MONOTONIC_USEC=" in heard("RELOADING=1")
        assert heard("READY=1")
        if not options:
            process.wait(lambda: len(process.workers) == 1)  # the one before the reload has ended
            os.kill(process.workers[0], signal.SIGSTOP)  # hangs: the watchdog must hear no more
            manager.settimeout(1.0)
            with pytest.raises(TimeoutError):
                heard("never")
            os.kill(process.workers[0], signal.SIGCONT)
            manager.settimeout(PATIENCE)
        process.send(signal.SIGTERM)
        assert heard("STOPPING=1")
        assert process.ended() == 0


def test_rpc(tmp_path: Path, port: int) -> None:
    rpc = free_port()
    system = f"<system>\nrpc_endpoint 127.0.0.1:{rpc}\nenable_get_dump true\n</system>\n"
    config = system + UDP.format(port=port) + DIRECT

    def call(path: str) -> tuple[int, dict[str, object]]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{rpc}/api/{path}", timeout=PATIENCE) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)

    with ForwarderProcess(tmp_path, config) as process:
        process.wait(lambda: "all workers are running" in process.log)
        assert call("plugins.flushBuffers") == (200, {"ok": True})
        process.wait(lambda: "flushing all buffers" in process.log)
        status, dump = call("config.getDump")
        assert status == 200
        assert f"port {port}" in str(dump["conf"])
        process.config.write_text(config + "<match")
        status, answer = call("config.gracefulReload")
        assert (status, answer["ok"]) == (500, False)
        assert "fluent.conf" in str(answer["error"])
        process.config.write_text(config)
        assert call("config.reload") == (200, {"ok": True})
        process.wait(lambda: "reloaded" in process.log)
        assert call("processes.killWorkers") == (200, {"ok": True})
        assert process.process is not None
        assert process.process.wait(PATIENCE) == 0


def test_in_the_background(tmp_path: Path, port: int) -> None:
    pid_file = tmp_path / "pid"
    config = UDP.format(port=port) + FILE.format(folder=tmp_path)
    process = ForwarderProcess(
        tmp_path, config, options=("-d", str(pid_file), "-o", str(tmp_path / "own.log"))
    )
    process.start(wait=False)
    assert process.process is not None
    assert process.process.wait(PATIENCE) == 0
    pid = int(pid_file.read_text())
    try:
        send(port, "n1")
        wait_for(lambda: numbers(process) == [1])
    finally:
        os.kill(pid, signal.SIGTERM)
    wait_for(lambda: not ("stopped" not in (tmp_path / "own.log").read_text()))
