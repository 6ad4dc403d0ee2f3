"""in_exec, out_exec and out_exec_filter with real commands."""

from __future__ import annotations

import os
import signal
import urllib.request
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from forwarder_process import ForwarderProcess, free_port
from waiting import wait_for

from forwarder.api.testing import Event, run
from forwarder.config import InvalidConfiguration

NS = 1_000_000_000


WITHOUT_TAG = "<match **>\n@type exec_filter\ncommand cat\nout_keys a\nin_keys a\n</match>"
NONE = "<parse>\n@type none\n</parse>"


def in_exec(command: str, parameters: str) -> str:
    return f"""
<source>
  @type exec
  command {command}
  {parameters}
</source>
<match **>
  @type test
</match>
"""


def living(name: str, *, program: bool = False) -> list[int]:
    """Processes by a text in their command line, or (`program`) at its start."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            text = path.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
            if text.startswith(name) if program else name in text:
                found.append(int(path.parent.name))
    return [pid for pid in found if pid != os.getpid()]


def zombies() -> list[int]:
    """Children of this process that have ended and are not waited for."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = path.read_text().rpartition(") ")[2].split()
            if fields[0] == "Z" and int(fields[1]) == os.getpid():
                found.append(int(path.parent.name))
    return found


@pytest.mark.parametrize(
    ("command", "parameters", "events"),
    [
        (
            "printf 'x\\t1\\ny\\t2'",
            "tag t\n<parse>\nkeys a,b\n</parse>",
            [("t", None, {"a": "x", "b": "1"}), ("t", None, {"a": "y", "b": "2"})],
        ),
        ("printf 'x\\t1\\n'", "tag t\nkeys a,b", [("t", None, {"a": "x", "b": "1"})]),
        (
            "printf '5.5\\tq\\tx\\n'",
            "<parse>\nkeys at,who,a\n</parse>\n<extract>\ntag_key who\ntime_key at\n</extract>",
            [("q", 5_500_000_000, {"a": "x"})],
        ),
        (
            "printf '5.5\\tq\\tx\\n'",
            "tag_key who\ntime_key at\nkeys at,who,a",
            [("q", 5_500_000_000, {"a": "x"})],
        ),
        (
            "echo 1970-01-02 x",
            "tag t\n<parse>\n@type regexp\nexpression /(?<d>\\S+) (?<a>.)/\n</parse>\n<extract>\ntime_key d\n"
            "time_format %Y-%m-%d\nutc true\nkeep_time_key true\n</extract>",
            [("t", 86400 * NS, {"d": "1970-01-02", "a": "x"})],
        ),
        (
            "printf '{\"a\":\\n1}{\"a\":2}\\n[{\"a\":3}]'",
            "tag t\n<parse>\n@type json\n</parse>",
            [("t", None, {"a": 1}), ("t", None, {"a": 2}), ("t", None, {"a": 3})],
        ),
        (
            "printf 'caf\\351\\n'",
            "tag t\nencoding iso-8859-1\n" + NONE,
            [("t", None, {"message": "café"})],
        ),
        ("printf 'caf\\351\\n'", "tag t\n" + NONE, [("t", None, {"message": b"caf\xe9"})]),
        (
            "echo oops >&2",
            "tag t\nconnect_mode read_with_stderr\n" + NONE,
            [("t", None, {"message": "oops"})],
        ),
    ],
)  # fmt: skip
def test_in_exec_reads_what_the_command_writes(
    command: str, parameters: str, events: list[tuple[str, int | None, dict[str, Any]]]
) -> None:
    with run(in_exec(command, parameters)) as driver:
        got = driver.wait_for_events(len(events))
        assert [(event.tag, event.record) for event in got] == [(tag, record) for tag, _, record in events]
        for event, (_, time_ns, _) in zip(got, events, strict=True):
            assert event.time_ns == time_ns or (time_ns is None and event.time_ns > 10**18)
    assert zombies() == []


def test_in_exec_repeats_and_books_what_is_no_record(tmp_path: Path) -> None:
    script = "echo run >> F; echo '{\"a\":1}'; echo no; echo warned >&2; exit 3".replace(
        "F", str(tmp_path / "runs")
    )
    with run(in_exec(script, "tag t\nrun_interval 0.05\n<parse>\n@type json\n</parse>")) as driver:
        driver.wait_for_events(3)
        assert driver["in_exec"].lost["unmatched"] >= 2
    assert "standard error of the command line=warned" in driver.log
    assert "the command failed" in driver.log
    assert "status=3" in driver.log
    runs = len((tmp_path / "runs").read_text().splitlines())
    assert len(driver.events()) in (runs, runs - 1)
    assert zombies() == []


def test_in_exec_does_not_start_a_command_twice_at_a_time() -> None:
    config = in_exec("sleep 0.31; echo x", "tag t\nrun_interval 0.1\n" + NONE)
    with run(config) as driver:
        driver.wait_for_events(2)
        assert "still running" in driver.log


def test_in_exec_ends_a_command_that_takes_too_long() -> None:
    config = in_exec("sleep 1111", "tag t\nrun_interval 0.1\ncommand_timeout 0.2\n" + NONE)
    with run(config) as driver:
        driver.wait_for(lambda: driver.log.count("takes too long") >= 2)
        assert len(living("sleep 1111")) <= 2  # the shell may stand beside it
    assert living("sleep 1111") == []


def test_at_the_stop_the_command_and_all_it_has_started_end() -> None:
    """One that ignores SIGTERM too, and what it says last is taken."""
    script = "trap 'echo last' TERM; sleep 2222 & sleep 2222 & echo first; wait; wait"
    with run(in_exec(f'"{script}"', "tag t\n" + NONE)) as driver:
        driver.wait_for_events(1)
        driver.wait_for(lambda: len(living("sleep 2222", program=True)) == 2)
        driver.stop()
        assert [record["message"] for record in driver.records()] == ["first", "last"]
    assert living("sleep 2222") == []


def test_a_full_buffer_makes_the_command_wait() -> None:
    config = in_exec("seq 1 20000", "tag t\n" + NONE).replace(
        "@type test",
        "@type test\n<buffer>\nflush_mode immediate\nchunk_limit_size 8k\ntotal_limit_size 16k\n"
        "retry_wait 0.01\nretry_max_interval 0.01\n</buffer>",
    )
    with run(config, start=False) as driver:
        output = driver.plugin("out_test")
        output.fail_with = lambda _: OSError("away")
        driver.engine.start()
        driver.wait_for(lambda: "reading stopped" in driver.log)
        output.fail_with = lambda _: None
        events = driver.wait_for_events(20000)
        assert Counter(event.record["message"] for event in events) == Counter(map(str, range(1, 20001)))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (in_exec("true", "keys a"), "tag"),
        (in_exec("true", "tag t\nkeys a\nencoding klingon"), "klingon"),
        (in_exec("true", "tag t\nkeys a\nrun_interval 0"), "run_interval"),
        (in_exec("true", "tag t\nkeys a\nconnect_mode write"), "connect_mode"),
        (WITHOUT_TAG, "tag"),
        (WITHOUT_TAG.replace("command", "tag t\nchild_respawn x\ncommand"), "child_respawn"),
        (WITHOUT_TAG.replace("command", "tag t\nnum_children 0\ncommand"), "num_children"),
    ],
)  # fmt: skip
def test_wrong_configurations(config: str, message: str) -> None:
    with pytest.raises(InvalidConfiguration, match=message):
        run(config)


# ------------------------------------------------------------ out_exec


def out_exec(command: str, parameters: str = "") -> str:
    return f"""
<match **>
  @type exec
  command {command}
  {parameters}
  <format>
    @type json
  </format>
  <buffer tag>
    flush_mode immediate
    retry_wait 0.01
    retry_max_interval 0.01
  </buffer>
</match>
"""


def test_out_exec_gives_a_file_to_the_command(tmp_path: Path) -> None:
    got = tmp_path / "got"
    inject = "<inject>\ntag_key t\ntime_key at\n</inject>"
    with run(out_exec(f"cat >> {got} <", inject)) as driver:
        driver.emit("a", {"n": 1}, {"n": 2}, time_ns=0)
        driver.wait_for(lambda: driver["out_exec"].delivered == 2)
    first = '{"n":1,"t":"a","at":"1970-01-01T00:00:00Z"}\n'
    assert got.read_text() == first + first.replace('"n":1', '"n":2')
    assert zombies() == []


def test_out_exec_tries_again_and_the_command_speaks_to_our_log(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text(
        f"#!/bin/sh\necho complaint >&2\necho x >> {tmp_path}/tries\n"
        f"[ $(wc -l < {tmp_path}/tries) -ge 3 ] && cat $1 >> {tmp_path}/got\n"
    )
    script.chmod(0o755)
    with run(out_exec(str(script))) as driver:
        driver.emit("a", {"n": 1})
        driver.wait_for(lambda: driver["out_exec"].delivered == 1)
        assert driver["out_exec"].failures == 2
    assert (tmp_path / "got").read_text() == '{"n":1}\n'
    assert "line=complaint" in driver.log
    assert "status 1" in driver.log


def test_out_exec_ends_a_command_that_takes_too_long() -> None:
    with run(out_exec("sleep 3333; true", "command_timeout 0.1")) as driver:
        driver.emit("a", {"n": 1})
        driver.wait_for(lambda: driver["out_exec"].failures >= 2)
        assert "signal 9" in driver.log
        driver.plugin("out_exec").command = "true"
        driver.wait_for(lambda: driver["out_exec"].delivered == 1)
    assert living("sleep 3333") == []
    assert zombies() == []


# ------------------------------------------------------------ out_exec_filter


def exec_filter(command: str, parameters: str = "tag out", more: str = "") -> str:
    return f"""
<match in.**>
  @type exec_filter
  command {command}
  {parameters}
  <format>
    @type json
  </format>
  <parse>
    @type json
  </parse>
  <buffer>
    flush_mode immediate
    retry_wait 0.01
    retry_max_interval 0.01
  </buffer>
  {more}
</match>
<match **>
  @type test
</match>
"""


def test_exec_filter_events_go_through_the_command() -> None:
    sections = "<inject>\ntag_key t\ntime_key at\n</inject>\n<extract>\ntag_key t\ntime_key at\n</extract>"
    parameters = "remove_prefix in\nadd_prefix new\n" + sections
    with run(exec_filter("sed -u s/x/y/", parameters)) as driver:
        driver.emit("in.a", {"m": "x"}, {"m": "z"}, time_ns=7 * NS)
        events = driver.wait_for_events(2)
        assert events == [Event("new.a", 7 * NS, {"m": "y"}), Event("new.a", 7 * NS, {"m": "z"})]
        driver.wait_for(lambda: driver["out_exec_filter"].delivered == 2)
    assert zombies() == []


def test_exec_filter_old_parameters() -> None:
    config = """
<match in>
  @type exec_filter
  command cat
  in_keys time,tag,a
  out_keys time,tag,a
  tag_key tag
  time_key time
  time_format %Y-%m-%d %H:%M:%S
  flush_interval 0.05
</match>
<match **>
  @type test
</match>
"""
    with run(config.replace("<match in>", "<match in>\nremove_prefix in\nadd_prefix out")) as driver:
        driver.emit("in", {"a": "x"}, time_ns=1_700_000_000 * NS)
        assert driver.wait_for_events(1) == [Event("out.in", 1_700_000_000 * NS, {"a": "x"})]


def test_exec_filter_what_is_buffered_at_the_stop_comes_out(tmp_path: Path) -> None:
    """The command answers only when its input ends."""
    config = exec_filter("sort -r").replace("flush_mode immediate", "flush_interval 1h")
    with run(config) as driver:
        driver.emit("in.a", {"m": 1}, {"m": 2}, {"m": 3})
        driver.stop()
        assert [record["m"] for record in driver.records()] == [3, 2, 1]
    assert zombies() == []


def test_exec_filter_children_in_turn_and_respawned() -> None:
    """A child that is killed is started again; chunks go to the others meanwhile."""
    command = 'perl -e \'$|=1; while (<>) { chomp; s/}$/,"pid":$$}/; print "$_\\n" }\''
    with run(exec_filter(command, "tag out\nnum_children 2\nchild_respawn inf")) as driver:
        for number in range(4):
            driver.emit("in.a", {"n": number})
            driver.wait_for_events(number + 1)
        pids = [record["pid"] for record in driver.records()]
        assert sorted(Counter(pids).values()) == [2, 2]
        os.kill(pids[0], signal.SIGKILL)
        driver.wait_for(lambda: "respawning child process" in driver.log)
        number = 4
        while len({record["pid"] for record in driver.records()}) < 3:
            driver.emit("in.a", {"n": number})
            number += 1
            driver.wait_for_events(number)
    assert zombies() == []


def test_exec_filter_without_children_tries_again() -> None:
    with run(exec_filter("head -n 1", "tag out\nchild_respawn 2")) as driver:
        for number in range(3):
            driver.emit("in.a", {"n": number})
            driver.wait_for_events(number + 1)
            # not before: what a dying command still takes is lost, as the module says
            driver.wait_for(lambda: driver.log.count("child process exits") == number + 1)  # noqa: B023
        driver.emit("in.a", {"n": 3})
        driver.wait_for(lambda: "no healthy child processes exist" in driver.log)
        driver.stop(0.2)
        assert driver["out_exec_filter"].lost == {"shutdown": 1}


def test_exec_filter_output_that_gives_no_event_is_counted() -> None:
    with run(exec_filter("sed -u 's/^.*bad.*$/no event/'")) as driver:
        driver.emit("in.a", {"m": "bad"}, {"m": "good"})
        driver.wait_for_events(1)
        (family,) = driver.plugin("out_exec_filter").measure()
        assert [sample.value for sample in family.samples] == [1]
        assert "pattern not matched" in driver.log


def test_exec_filter_a_child_that_does_not_read_ends_with_us() -> None:
    with run(exec_filter("sleep 4444")) as driver:
        driver.emit("in.a", {"m": "x" * 300_000})
        driver.wait_for(driver.plugin("out_exec_filter")._workers[0]._writing.locked)
        driver.stop(0.5)
    assert living("sleep 4444") == []
    assert zombies() == []


def test_killed_with_commands_running_and_started_again(tmp_path: Path) -> None:
    """After SIGKILL of the process its commands find their pipes closed, and a new process starts its own."""
    port = free_port()
    process = ForwarderProcess(
        tmp_path,
        f"""
<source>
  @type http
  port {port}
  bind 127.0.0.1
</source>
<match in>
  @type exec_filter
  command sed -u s/secret/hidden/
  tag out
  <format>
    @type json
  </format>
  <parse>
    @type json
  </parse>
  <buffer>
    @type file
    path {tmp_path}/buffer
    flush_interval 0.05
    flush_at_shutdown true
  </buffer>
</match>
<match out>
  @type file
  path {tmp_path}/got
  append true
  <format>
    @type json
  </format>
  <buffer []>
    flush_interval 0.05
    flush_at_shutdown true
  </buffer>
</match>
""",
        options=("--no-supervisor",),
    )
    got = tmp_path / "got.log"

    def post(word: str) -> None:

        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/in",
            b'{"m":"secret %s"}' % word.encode(),
            {"Content-Type": "application/json"},
        )
        urllib.request.urlopen(request).close()

    with process:
        post("one")
        process.wait(lambda: got.exists() and "hidden one" in got.read_text())
        assert process.process is not None
        process.process.kill()
        process.ended()
        wait_for(lambda: living("s/secret/hidden/") == [])
        process.start()
        post("two")
        process.wait(lambda: "hidden two" in got.read_text())
        assert process.stop() == 0
    assert living("s/secret/hidden/") == []
