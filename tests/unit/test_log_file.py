"""The own log's file: rotation by size and by period, as Ruby's Logger does it; reopening."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from forwarder.telemetry.log_file import LogFile

DAY = 86_400


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_without_limits_nothing_is_rotated(tmp_path: Path) -> None:
    log = LogFile(str(tmp_path / "sub/log"))
    for _ in range(100):
        log.write("x" * 1000 + "\n")
    log.close()
    assert names(tmp_path / "sub") == ["log"]


def test_by_size_with_so_many_files(tmp_path: Path) -> None:
    log = LogFile(str(tmp_path / "log"), "3", 100)
    for number in range(10):
        log.write(f"{number}" * 60 + "\n")
    log.close()
    assert names(tmp_path) == ["log", "log.0", "log.1"]
    texts = [(tmp_path / name).read_text() for name in ("log.1", "log.0", "log")]
    lines = "".join(texts).splitlines()
    assert lines == [f"{number}" * 60 for number in range(10 - len(lines), 10)]
    assert all(len(text) > 100 for text in texts[:2])


@pytest.mark.parametrize(
    ("period", "began", "name"),
    [
        ("daily", "2026-03-10 23:59", "20260310"),
        ("weekly", "2026-03-11 12:00", "20260314"),  # a Wednesday: the week ends with Saturday
        ("monthly", "2026-02-03 12:00", "20260228"),
    ],
)
def test_by_period(tmp_path: Path, period: str, began: str, name: str) -> None:
    path = tmp_path / "log"
    log = LogFile(str(path), period)
    for expected in (name, f"{name}.1"):
        log.write("old\n")
        seconds = time.mktime(time.strptime(began, "%Y-%m-%d %H:%M"))
        os.utime(path, (seconds, seconds))
        log.write("new\n")
        assert (tmp_path / f"log.{expected}").read_text().endswith("old\n")
        assert path.read_text() == "new\n"
    log.close()


def test_the_same_period_goes_on_in_the_same_file(tmp_path: Path) -> None:
    log = LogFile(str(tmp_path / "log"), "monthly")
    log.write("a\n")
    log.write("b\n")
    log.close()
    assert names(tmp_path) == ["log"]


def test_writers_that_rotate_one_file_lose_no_line(tmp_path: Path) -> None:
    """As several workers do."""
    logs = [LogFile(str(tmp_path / "log"), "1000", 2000) for _ in range(4)]

    def write(number: int) -> None:
        for line in range(200):
            logs[number].write(f"{number}-{line}\n")

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for log in logs:
        log.close()
    lines = [line for path in tmp_path.iterdir() for line in path.read_text().splitlines()]
    assert sorted(lines) == sorted(f"{number}-{line}" for number in range(4) for line in range(200))
    assert len(names(tmp_path)) > 2


def test_reopened_after_it_was_moved(tmp_path: Path) -> None:
    log = LogFile(str(tmp_path / "log"))
    log.write("a\n")
    (tmp_path / "log").rename(tmp_path / "old")
    log.write("b\n")
    log.reopen()
    log.write("c\n")
    log.close()
    assert ((tmp_path / "old").read_text(), (tmp_path / "log").read_text()) == ("a\nb\n", "c\n")
