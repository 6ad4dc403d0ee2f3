"""The process: `forwarder run` from its start to its end."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from forwarder_process import children
from waiting import wait_for

PLUGIN = '''
from threading import Thread
from forwarder.api import EventStream, Input, Output, string


class OnceInput(Input):
    """Emits one event at its start."""

    def start(self):
        self.emit("once", EventStream.from_events([(0, {"i": 1})]))
'''
OUTPUT = '''
from forwarder.api import Output, string


class LinesOutput(Output):
    """Appends the records of a chunk to a file."""

    path = string("File.")

    def write(self, chunk):
        with open(self.path, "a") as file:
            for _, record in chunk.stream():
                file.write(repr(record) + "\\n")
'''


class Process:
    def __init__(self, *args: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "forwarder.cli.main", "run", *args],
            stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.lines: list[str] = []

    def wait_for_line(self, text: str) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line)
            if text in line:
                return
        raise AssertionError(f"{text!r} never came; log:\n{''.join(self.lines)}")

    def finish(self, number: int | None = None) -> tuple[int, str]:
        """Sends a signal, waits for the end; gives status and log."""
        if number is not None:
            self.process.send_signal(number)
        _, rest = self.process.communicate(timeout=20)
        return self.process.returncode, "".join(self.lines) + rest


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    (tmp_path / "in_once.py").write_text(PLUGIN)
    (tmp_path / "out_lines.py").write_text(OUTPUT)
    path = tmp_path / "fluent.conf"
    path.write_text(
        f"<source>\n@type once\n</source>\n"
        f"<match once>\n@type lines\npath {tmp_path}/out\n<buffer>\nflush_interval 1h\n</buffer>\n</match>\n"
    )
    return path


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_gracefully_and_flushes(conf: Path, number: int) -> None:
    process = Process("-c", str(conf), "-p", str(conf.parent))
    process.wait_for_line("forwarder is now running")
    status, log = process.finish(number)
    assert status == 0, log
    assert (conf.parent / "out").read_text() == "{'i': 1}\n"
    assert "Traceback" not in log
    assert "closing balance received=1 added=0 recovered=0 delivered=1 buffered=0 filtered=0 lost=0" in log
    assert "unaccounted" not in log


def test_the_closing_balance_says_where_everything_went(tmp_path: Path) -> None:
    (tmp_path / "in_once.py").write_text(PLUGIN)
    conf = tmp_path / "fluent.conf"
    conf.write_text(
        "<source>\n@type once\n</source>\n"
        "<match once>\n@type null\nnever_flush true\n<buffer>\n</buffer>\n</match>\n"
    )
    process = Process("-c", str(conf), "-p", str(tmp_path))
    process.wait_for_line("forwarder is now running")
    status, log = process.finish(signal.SIGTERM)
    assert status == 0, log
    assert re.search(r"closing balance received=1 .* delivered=0 .* lost=1 lost_shutdown=1$", log, re.M), log


def test_sigusr1_flushes(conf: Path) -> None:
    process = Process("-c", str(conf), "-p", str(conf.parent))
    process.wait_for_line("forwarder is now running")
    process.process.send_signal(signal.SIGUSR1)
    wait_for((conf.parent / "out").exists)
    assert process.finish(signal.SIGTERM)[0] == 0


def test_a_second_signal_stops_at_once(tmp_path: Path) -> None:
    (tmp_path / "out_hang.py").write_text(
        OUTPUT.replace("LinesOutput", "HangOutput").replace(
            "with open", "import threading; threading.Event().wait()\n        with open"
        )
    )
    (tmp_path / "in_once.py").write_text(PLUGIN)
    path = tmp_path / "fluent.conf"
    path.write_text(
        "<source>\n@type once\n</source>\n<match once>\n@type hang\npath x\n<buffer>\n</buffer>\n</match>\n"
    )
    process = Process("-c", str(path), "-p", str(tmp_path), "--stop-timeout", "60")
    process.wait_for_line("forwarder is now running")
    process.process.send_signal(signal.SIGTERM)
    process.wait_for_line("stopping")
    status, log = process.finish(signal.SIGTERM)
    assert status == 1
    assert "second signal" in log


@pytest.mark.parametrize(
    ("text", "mentions"),
    [
        ("<match **>\n@type relabel\n</match>\n", ["label", "fluent.conf:1"]),
        ("<match **>\n", ["match"]),
        ("<match **>\n@type nosuch\n</match>\n", ["nosuch", "fluent.conf:2"]),
        (None, ["No such file"]),
    ],
)
def test_a_bad_configuration_is_refused_with_its_place(
    tmp_path: Path, text: str | None, mentions: list[str]
) -> None:
    path = tmp_path / "fluent.conf"
    if text is not None:
        path.write_text(text)
    status, log = Process("-c", str(path)).finish()
    assert status == 1
    assert "Traceback" not in log
    for word in mentions:
        assert word in log


def test_dry_run_starts_nothing(conf: Path) -> None:
    status, log = Process("-c", str(conf), "-p", str(conf.parent), "--dry-run").finish()
    assert status == 0
    assert "finished dry run" in log
    assert not (conf.parent / "out").exists()


def test_inline_configuration_log_file_and_json(conf: Path) -> None:
    log_path = conf.parent / "log"
    extra = (
        f"<match other>\n@type lines\n@id extra\npath {conf.parent}/x\n<buffer>\nflush_interval 1h\n"
        "</buffer>\n</match>"
    )
    process = Process(
        "-c", str(conf), "-p", str(conf.parent), "-i", extra, "-o", str(log_path), "--log-format", "json",
        "--no-supervisor", "--suppress-config-dump", "-v",
    )  # fmt: skip
    wait_for(lambda: log_path.exists() and "now running" in log_path.read_text())
    assert process.finish(signal.SIGTERM)[0] == 0
    entries = [json.loads(line) for line in log_path.read_text().splitlines()]
    assert {"info"} <= {entry["level"] for entry in entries}
    assert entries[0]["pid"] == process.process.pid


def test_an_input_that_cannot_start_ends_the_process(tmp_path: Path) -> None:
    (tmp_path / "in_once.py").write_text(
        PLUGIN.replace("self.emit(", "raise OSError('port in use')\n        (")
    )
    path = tmp_path / "fluent.conf"
    path.write_text("<source>\n@type once\n</source>\n<match **>\n@type null\n</match>\n")
    status, log = Process("-c", str(path), "-p", str(tmp_path)).finish()
    assert status == 1
    assert "port in use" in log
    assert "Traceback" not in log


def test_idle_memory_is_small(conf: Path) -> None:
    process = Process("-c", str(conf), "-p", str(conf.parent))
    process.wait_for_line("forwarder is now running")
    (worker,) = children(process.process.pid)
    with open(f"/proc/{worker}/status", encoding="ascii") as file:
        resident = next(int(line.split()[1]) for line in file if line.startswith("VmRSS"))
    assert process.finish(signal.SIGTERM)[0] == 0
    assert resident < 25 * 1024
    assert os.path.exists(conf.parent / "out")


def test_system_section_and_flags_of_the_process(conf: Path) -> None:
    included = conf.parent / "conf.d" / "deeper"
    included.mkdir(parents=True)
    (included / "a.conf").write_text("<source>\n@type once\n@id added\n</source>\n")
    conf.write_text(
        f"<system>\nprocess_name logs\nconfig_include_dir {conf.parent}/conf.d\n<log>\n"
        f"path {conf.parent}/log/own.log\ntime_format T%Y\n</log>\n</system>\n" + conf.read_text()
    )
    os.rename(conf, conf.parent / "plain")
    process = Process("-c", str(conf.parent / "plain"), "-p", str(conf.parent), "--umask", "077")
    log = conf.parent / "log" / "own.log"
    wait_for(lambda: log.exists() and "now running" in log.read_text())
    pid = process.process.pid
    (worker,) = children(pid)
    assert Path(f"/proc/{pid}/comm").read_text() == "super:logs\n"
    assert Path(f"/proc/{worker}/comm").read_text() == "worker:logs\n"
    assert process.finish(signal.SIGTERM)[0] == 0
    assert log.read_text().startswith("T20")
    assert (conf.parent / "out").read_text() == "{'i': 1}\n" * 2
    assert (conf.parent / "out").stat().st_mode & 0o777 == 0o600


def test_yaml_by_flag(conf: Path) -> None:
    conf.write_text("config:\n- source:\n    $type: once\n- match:\n    $type: 'null'\n")
    options = ("-c", str(conf), "-p", str(conf.parent), "--dry-run")
    assert "at top level is not used" in Process(*options).finish()[1]
    status, log = Process(*options, "--config-file-type", "yaml").finish()
    assert (status, "not used" in log) == (0, False)


def test_flags_of_fluentd_for_ruby_and_encodings(conf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    conf.write_bytes("<source>\n@type once\n# \u00e9\n</source>\n".encode("latin-1"))
    monkeypatch.setenv("FLUENT_CONF", str(conf))
    status, log = Process(
        "-p", str(conf.parent), "-p", "/no/such/plugins", "-I", "/x", "-r", "json", "-g", "x", "-G", "/x",
        "--log-event-verbose", "--conf-encoding", "latin-1", "--log-rotate-age", "5", "--dry-run",
        "-i", r"<match **>\n@type null\n<inline>\n</inline>\n</match>",
    ).finish()  # fmt: skip
    assert status == 0, log
    assert "plugin folder /no/such/plugins: there is none" in log
    assert "<inline>" in log


@pytest.mark.parametrize(
    ("options", "mention"),
    [
        (("--conf-encoding", "nope"), "nope"),
        (("--log-rotate-age", "yearly"), "--log-rotate-age"),
        (("--user", "no-such-user"), "no-such-user"),
        (("--strict-config-value",), "flush_interval"),
        (("--workers", "0"), "--workers"),
        (("--workers", "2"), "does not support multi workers"),
        (("--workers", "2", "--no-supervisor"), "does not support multi workers"),
    ],
)
def test_flags_that_cannot_be_followed(conf: Path, options: tuple[str, ...], mention: str) -> None:
    conf.write_text(conf.read_text().replace("1h", "soon"))
    status, log = Process("-c", str(conf), "-p", str(conf.parent), *options).finish()
    assert status != 0
    assert mention in log
    assert "Traceback" not in log
