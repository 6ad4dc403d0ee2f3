"""`@type tail` and what happens to its files: every line once, in order, through every rotation."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from forwarder_process import ForwarderProcess
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from tail_files import CONFIG, append, messages, positions, tail, wait_for, wait_for_position
from waiting import wait_for as wait_for_condition

from forwarder.api.testing import Driver

HEAD = ("read_from_head true", "refresh_interval 0.2", "rotate_wait 0.1")


def measured(driver: Driver, name: str) -> float:
    [value] = [
        sample.value
        for family in driver.plugin("tail").measure()
        if family.name == f"forwarder_tail_{name}"
        for sample in family.samples
    ]
    return float(value)


def started(folder: Path, *extra: str, path: str = "in.log", **options: str) -> Driver:
    return tail(folder, "@id tail", *HEAD, *extra, path=path, **options)


@pytest.mark.parametrize("extra", ["", "enable_stat_watcher false", "open_on_every_update true"])
def test_rename(tmp_path: Path, extra: str) -> None:
    file = tmp_path / "in.log"
    append(file, "1\n")
    with started(tmp_path, extra) as driver:
        wait_for(driver, "1")
        append(file, "2\n")
        file.rename(tmp_path / "in.log.1")
        append(file, "3\n")
        wait_for(driver, "1", "2", "3")
        driver.wait_for(lambda: positions(tmp_path).get("in.log") == (2, file.stat().st_ino))
        assert measured(driver, "files_rotated_total") >= 1


def test_lines_that_still_come_after_a_rename(tmp_path: Path) -> None:
    file, old = tmp_path / "in.log", tmp_path / "in.log.1"
    append(file, "1\n")
    with started(tmp_path, "rotate_wait 2") as driver:
        wait_for(driver, "1")
        with file.open("a") as writer:
            file.rename(old)
            append(file, "new\n")
            driver.wait_for(lambda: "new" in messages(driver))
            print("late", file=writer, flush=True)
            driver.wait_for(lambda: "late" in messages(driver))
        assert sorted(messages(driver)) == ["1", "late", "new"]


def test_two_rotations_at_once(tmp_path: Path) -> None:
    file = tmp_path / "in.log"
    append(file, "1\n")
    with started(tmp_path) as driver:
        wait_for(driver, "1")
        append(file, "2\n")
        file.rename(tmp_path / "in.log.2")
        append(file, "3\n")
        driver.wait_for(lambda: "3" in messages(driver))
        append(file, "4\n")
        file.rename(tmp_path / "in.log.1")
        append(file, "5\n")
        wait_for(driver, "1", "2", "3", "4", "5")


@pytest.mark.parametrize("extra", ["", "follow_inodes true", "open_on_every_update true"])
@pytest.mark.parametrize("shifts", [False, True])
def test_many_rotations_in_quick_succession(tmp_path: Path, extra: str, shifts: bool) -> None:
    file = tmp_path / "in.log"
    lines = [str(number) for number in range(150)]
    append(file, "0\n")
    with started(tmp_path, extra) as driver:
        wait_for(driver, "0")
        for number in range(1, 150):
            kept = 5 if shifts else 0
            for old in range(number - kept, number):
                if old > 0:
                    (tmp_path / f"in.log.{old}.{number - old}").rename(
                        tmp_path / f"in.log.{old}.{number - old + 1}"
                    )
            file.rename(tmp_path / f"in.log.{number}.1")
            append(file, f"{number}\n")
        driver.wait_for(lambda: len(messages(driver)) >= len(lines))
        assert sorted(messages(driver), key=int) == lines
        if not extra:
            assert messages(driver) == lines
            driver.wait_for(lambda: positions(tmp_path) == {"in.log": (4, file.stat().st_ino)})


@pytest.mark.slow
def test_many_rotations_and_few_descriptors(tmp_path: Path) -> None:
    limited = (
        "import os, resource, sys; resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128)); "
        "os.execv(sys.argv[1], sys.argv[1:])"
    )
    logs = tmp_path / "logs"
    logs.mkdir()
    file = logs / "in.log"
    append(file, "0\n")
    config = CONFIG.format(
        path=file, tag="t", parse="@type none", extra="rotate_wait 0.5\nread_from_head true",
        pos=f"pos_file {tmp_path}/pos",
    ).replace("<match **>\n  @type test", "<match t>\n  @type stdout")  # fmt: skip
    with ForwarderProcess(tmp_path, config, prefix=(sys.executable, "-c", limited)) as process:

        def found() -> list[int]:
            return [int(each) for each in re.findall(r't: {"message":"(\d+)"}', process.output.read_text())]

        wait_for_condition(lambda: found() == [0])
        for number in range(1, 1000):
            file.rename(logs / f"in.log.{number}")
            append(file, f"{number}\n")
        wait_for_condition(lambda: len(found()) >= 1000)
        assert process.stop() == 0
        assert sorted(found()) == list(range(1000))


def test_what_is_followed_by_another_path_is_not_read_twice(tmp_path: Path) -> None:
    file = tmp_path / "in.log"
    append(file, "0\n")
    with started(tmp_path, "follow_inodes true", path="in.log*") as driver:
        wait_for(driver, "0")
        for number in range(1, 100):
            file.rename(tmp_path / f"in.log.{number}")
            append(file, f"{number}\n")
        driver.wait_for(lambda: len(messages(driver)) >= 100)
        assert sorted(messages(driver), key=int) == [str(number) for number in range(100)]


def test_only_what_had_the_path_is_read(tmp_path: Path) -> None:
    file, old, elsewhere = tmp_path / "in.log", tmp_path / "in.log.1", tmp_path / "elsewhere"
    elsewhere.mkdir()
    append(file, "0\n")
    with started(tmp_path, path="in.log") as driver:
        wait_for(driver, "0")
        for number in range(1, 40):
            file.rename(old)
            old.rename(elsewhere / f"{number}")  # out of sight
            append(old, "another's\n")
            old.unlink()
            append(file, f"{number}\n")
        append(file, "end\n")
        driver.wait_for(lambda: "end" in messages(driver))
        found = messages(driver)
        assert len(set(found)) == len(found)
        assert set(found) <= {str(number) for number in range(40)} | {"end"}


def test_a_file_without_a_new_one_is_read_to_its_end(tmp_path: Path) -> None:
    file = tmp_path / "in.log"
    append(file, "1\n")
    with started(tmp_path) as driver:
        wait_for(driver, "1")
        append(file, "2\n")
        file.rename(tmp_path / "elsewhere")
        append(tmp_path / "elsewhere", "3\n")
        wait_for(driver, "1", "2", "3")


def test_a_deleted_file_is_read_to_its_end_and_comes_back(tmp_path: Path) -> None:
    file = tmp_path / "in.log"
    append(file, "1\n")
    with started(tmp_path) as driver:
        wait_for(driver, "1")
        with file.open("a") as writer:
            file.unlink()
            print("2", file=writer, flush=True)
            wait_for(driver, "1", "2")
        append(file, "3\n")
        wait_for(driver, "1", "2", "3")
        assert measured(driver, "unread_bytes_total") == 0


def test_truncation(tmp_path: Path) -> None:
    file = tmp_path / "in.log"
    append(file, "first line\n")
    with started(tmp_path) as driver:
        wait_for(driver, "first line")
        wait_for_position(driver, tmp_path, "in.log", 11)
        file.write_text("new\n")
        wait_for(driver, "first line", "new")
        wait_for_position(driver, tmp_path, "in.log", 4)
        assert "file was truncated" in driver.log


def test_copytruncate_that_has_grown_beyond_what_was_read(tmp_path: Path) -> None:
    file = tmp_path / "in.log"
    append(file, "one\ntwo\n")
    with started(tmp_path) as driver:
        wait_for(driver, "one", "two")
        shutil.copy(file, tmp_path / "in.log.1")
        with file.open("r+") as writer:
            writer.truncate()
            writer.write("another\nand one\nmore\n")
        wait_for(driver, "one", "two", "another", "and one", "more")


def test_what_is_truncated_away_unread_is_counted_in_bytes(tmp_path: Path) -> None:
    file = tmp_path / "in.log"
    append(file, "x" * 70_000 + "\n" + "y" * 70_000 + "\n")
    limits = ("read_bytes_limit_per_second 65536", "enable_stat_watcher false", "max_line_size 100")
    with started(tmp_path, *limits) as driver:
        # it has read 128 KiB of 140 at most when the rest goes
        driver.wait_for(lambda: measured(driver, "throttled_total") >= 1)
        file.write_text("z\n")
        driver.wait_for(lambda: messages(driver) == ["z"])
        assert 0 < measured(driver, "unread_bytes_total") < 140_002
        assert "went before it was read" in driver.log


def test_a_file_that_was_rotated_while_nobody_looked(tmp_path: Path) -> None:
    file = tmp_path / "in.log"
    append(file, "1\n")
    with started(tmp_path) as driver:
        wait_for(driver, "1")
        wait_for_position(driver, tmp_path, "in.log", 2)
    append(file, "2\n")
    file.rename(tmp_path / "in.log.1")
    append(file, "3\n")
    with started(tmp_path) as driver:
        wait_for(driver, "2", "3")
        driver.wait_for(lambda: positions(tmp_path) == {"in.log": (2, file.stat().st_ino)})


def test_follow_inodes_reads_a_renamed_file_once(tmp_path: Path) -> None:
    file = tmp_path / "in.log"
    append(file, "1\n")
    with started(tmp_path, "follow_inodes true", path="in.log*") as driver:
        wait_for(driver, "1")
        for number in range(3):
            file.rename(tmp_path / f"in.log.{number}")
            append(tmp_path / f"in.log.{number}", f"late {number}\n")
            append(file, f"new {number}\n")
            driver.wait_for(lambda count=3 + 2 * number: len(messages(driver)) >= count)  # type: ignore[misc]
        expected = ["1", *(f"{kind} {number}" for number in range(3) for kind in ("late", "new"))]
        assert sorted(messages(driver)) == sorted(expected)
        inodes = {os.stat(tmp_path / name).st_ino for name in os.listdir(tmp_path) if "log" in name}
        driver.wait_for(lambda: {inode for _, inode in positions(tmp_path).values()} <= inodes)
    with started(tmp_path, "follow_inodes true", path="in.log*") as driver:
        append(file, "after\n")
        wait_for(driver, "after")


def test_entries_of_files_that_are_gone(tmp_path: Path) -> None:
    append(tmp_path / "a.log", "1\n")
    append(tmp_path / "b.log", "2\n")
    with started(tmp_path, "pos_file_compaction_interval 0.2", path="*.log") as driver:
        driver.wait_for(lambda: sorted(messages(driver)) == ["1", "2"])
        (tmp_path / "a.log").unlink()
        driver.wait_for(lambda: list(positions(tmp_path)) == ["b.log"])
        driver.wait_for(lambda: measured(driver, "files_followed") == 1)
        append(tmp_path / "b.log", "3\n")
        wait_for_position(driver, tmp_path, "b.log", 4)


def test_an_entry_of_fluentd_is_taken_over(tmp_path: Path) -> None:
    file = tmp_path / "in.log"
    append(file, "old\nnew\n")
    inode = file.stat().st_ino
    (tmp_path / "pos").write_text(
        f"{tmp_path}/gone.log\t0000000000000009\t0000000000000001\n"
        f"{file}\tffffffffffffffff\t{inode:016x}\n"
        "no entry\n"
        f"{file}\t{4:016X}\t{inode:016X}\n"
    )
    with started(tmp_path) as driver:
        wait_for(driver, "new")
        driver.wait_for(lambda: (tmp_path / "pos").read_text() == f"{file}\t{8:016x}\t{inode:016x}\n")
        assert "unparsable line" in driver.log


class Files(RuleBasedStateMachine):
    """Appends, rotations, deletions in any order; what was written comes out once, and per file in order."""

    start: Callable[[], tuple[Driver, Path]]

    def __init__(self) -> None:
        super().__init__()
        self.driver, self.folder = self.start()
        self.file = self.folder / "in.log"
        self.names = 0
        self.written: list[str] = []
        self.files: list[list[str]] = [[]]

    def line(self) -> str:
        text = f"{len(self.written)}"
        self.written.append(text)
        self.files[-1].append(text)
        return text + "\n"

    def settled(self) -> None:
        self.driver.wait_for(lambda: len(messages(self.driver)) >= len(self.written))

    @rule(count=st.integers(1, 5))
    def appended(self, count: int) -> None:
        append(self.file, "".join(self.line() for _ in range(count)))

    @rule()
    def in_pieces(self) -> None:
        line = self.line()
        append(self.file, line[:-1])
        append(self.file, line[-1:])

    @rule(late=st.booleans())
    def renamed(self, late: bool) -> None:
        if not self.file.exists():
            return
        self.names += 1
        old = self.folder / f"old.{self.names}"
        self.file.rename(old)
        if late:
            append(old, self.line())
        self.files.append([])

    @rule()
    def renamed_and_made(self) -> None:
        self.renamed(late=False)
        append(self.file, self.line())

    @rule()
    def truncated(self) -> None:
        # what is cut away before it was read is lost, so all of it is read first; and nobody can recognise a
        # file that has grown back to its old size before it was looked at
        self.settled()
        if self.file.exists() and self.file.stat().st_size:
            before = measured(self.driver, "files_rotated_total")
            os.truncate(self.file, 0)
            self.driver.wait_for(lambda: measured(self.driver, "files_rotated_total") > before)
            self.files.append([])

    @rule()
    def deleted(self) -> None:
        # as above
        self.settled()
        if self.file.exists():
            self.file.unlink()
            self.files.append([])

    @invariant()
    def nothing_twice(self) -> None:
        found = messages(self.driver)
        assert len(found) == len(set(found))

    def teardown(self) -> None:
        self.settled()
        found = messages(self.driver)
        assert sorted(found, key=int) == self.written
        for lines in self.files:
            assert [line for line in found if line in set(lines)] == lines


@pytest.mark.slow
def test_whatever_happens_to_a_file(tmp_path: Path) -> None:
    drivers: list[Driver] = []

    def start() -> tuple[Driver, Path]:
        for driver in drivers:
            driver.stop()
        drivers.clear()
        folder = tmp_path / str(len(os.listdir(tmp_path)))
        folder.mkdir()
        (folder / "in.log").touch()
        drivers.append(started(folder))
        return drivers[0], folder

    machine = type("Machine", (Files,), {"start": staticmethod(start)})
    rules = settings(
        max_examples=15, stateful_step_count=12, deadline=None, suppress_health_check=list(HealthCheck)
    )
    run_state_machine_as_test(machine, settings=rules)
    for driver in drivers:
        driver.stop()
