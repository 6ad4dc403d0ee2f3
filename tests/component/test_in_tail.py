"""`<source> @type tail`: parameters, tags, limits, encodings, events of several lines."""

from __future__ import annotations

import os
import time
from itertools import pairwise
from pathlib import Path

import pytest
from tail_files import append, messages, positions, tail, wait_for, wait_for_position

from forwarder.api import Chunk, EventBatch, Parser
from forwarder.api.testing import run
from forwarder.config.diagnostics import InvalidConfiguration

FAST = "refresh_interval 0.05"
HEAD = "read_from_head true"


def test_only_new_lines_unless_read_from_head(tmp_path: Path) -> None:
    (tmp_path / "in.log").write_text("old\n")
    with tail(tmp_path) as driver:
        append(tmp_path / "in.log", "new\n")
        wait_for(driver, "new")
        wait_for_position(driver, tmp_path, "in.log", 8)
        assert driver["in_tail"].received == 1


def test_lines_come_whole(tmp_path: Path) -> None:
    log = tmp_path / "in.log"
    log.write_text("one\r\n\n tw")
    with tail(tmp_path, HEAD) as driver:
        wait_for(driver, "one", "")
        wait_for_position(driver, tmp_path, "in.log", 6)
        append(log, "o \nthree")
        wait_for(driver, "one", "", " two ")
        append(log, b"\n\xff\xfe\n")
        driver.wait_for_events(5)
        assert driver.records()[3:] == [{"message": "three"}, {"message": b"\xff\xfe"}]


def test_a_file_that_is_new_is_read_from_its_head(tmp_path: Path) -> None:
    with tail(tmp_path, FAST, path="*.log,fixed") as driver:
        (tmp_path / "a.log").write_text("a\n")
        driver.wait_for_events(1)
        (tmp_path / "fixed").write_text("b\n")
        wait_for(driver, "a", "b")
        (tmp_path / "a.log").unlink()
        # its entry says so, and goes with the next start
        driver.wait_for(lambda: driver.plugin("in_tail")._tailer.counts[4] == 1)


@pytest.mark.parametrize(
    ("tag", "expected"),
    [("x", "x"), ("*", "{path}"), ("pre.*", "pre.{path}"), ("pre.*.post", "pre.{path}.post"),
     ("*.post", "{path}.post"), ("a.*.b.*.c", "a.{path}.b.")],
)  # fmt: skip
def test_tags(tmp_path: Path, tag: str, expected: str) -> None:
    (tmp_path / "in.log").write_text("x\n")
    with tail(tmp_path, HEAD, "path_key from", tag=tag) as driver:
        (event,) = driver.wait_for_events(1)
        assert event.tag == expected.format(path=f"{tmp_path}/in.log".replace("/", ".").lstrip("."))
        assert event.record == {"message": "x", "from": f"{tmp_path}/in.log"}


def test_path_key_gives_way_to_a_field_of_the_record(tmp_path: Path) -> None:
    (tmp_path / "in.log").write_text('{"from":"x"}\n{"from":null,"b":1}\n{"a":1}\nbad\n')
    path = f"{tmp_path}/in.log"
    with tail(tmp_path, HEAD, "path_key from", "emit_unmatched_lines true", parse="@type json") as driver:
        driver.wait_for_events(4)
        assert driver.records() == [
            {"from": "x"}, {"from": path, "b": 1}, {"a": 1, "from": path},
            {"unmatched_line": "bad", "from": path},
        ]  # fmt: skip


def test_unmatched_lines_are_counted(tmp_path: Path) -> None:
    (tmp_path / "in.log").write_text('{"a":1}\nbad\n{"a":2}\n')
    with tail(tmp_path, HEAD, parse="@type json") as driver:
        driver.wait_for_events(2)
        driver.wait_for(lambda: driver["in_tail"].lost == {"unmatched": 1})
        assert driver["in_tail"].received == 3
        assert "pattern not matched" in driver.log


def test_which_files(tmp_path: Path) -> None:
    for name in ("a.log", "b.log", "c.txt", "sub/d.log"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"{name}\n")
    with tail(tmp_path, HEAD, f'exclude_path ["{tmp_path}/b*"]', path="**/*.log") as driver:
        wait_for(driver, "a.log", "sub/d.log")
    with tail(
        tmp_path, HEAD, "glob_policy extended", "path_delimiter |", path="[ab].log", pos=False
    ) as driver:
        wait_for(driver, "a.log", "b.log")
    with tail(
        tmp_path, HEAD, "glob_policy always", "path_delimiter |", path="{a.log|c}.*", pos=False
    ) as driver:
        assert driver.events() == []


def test_dates_in_paths(tmp_path: Path) -> None:
    name = time.strftime("in.%Y%m%d.log", time.gmtime())
    (tmp_path / name).write_text("today\n")
    with tail(tmp_path, HEAD, "path_timezone +00:00", path="in.%Y%m%d.log") as driver:
        wait_for(driver, "today")


def test_only_files_modified_recently(tmp_path: Path) -> None:
    for name in ("old.log", "new.log"):
        (tmp_path / name).write_text(f"{name}\n")
    os.utime(tmp_path / "old.log", (0, 0))
    with tail(tmp_path, HEAD, "limit_recently_modified 60", path="*.log") as driver:
        wait_for(driver, "new.log")


def test_skip_refresh_on_startup(tmp_path: Path) -> None:
    (tmp_path / "in.log").write_text("old\n")
    with tail(tmp_path, "skip_refresh_on_startup true", "refresh_interval 0.2") as driver:
        assert driver.plugin("in_tail")._tailer.counts[4] == 0
        driver.wait_for(lambda: driver.plugin("in_tail")._tailer.counts[4] == 1)
        append(tmp_path / "in.log", "new\n")
        wait_for(driver, "new")


@pytest.mark.parametrize("extra", ["enable_stat_watcher false", "enable_watch_timer false",
                                   "open_on_every_update true"])  # fmt: skip
def test_ways_to_notice(tmp_path: Path, extra: str) -> None:
    log = tmp_path / "in.log"
    log.write_text("one\n")
    with tail(tmp_path, HEAD, extra) as driver:
        wait_for(driver, "one")
        append(log, "two\n")
        wait_for(driver, "one", "two")


def test_longer_lines_are_skipped(tmp_path: Path) -> None:
    log = tmp_path / "in.log"
    log.write_text("12345678\n123456789\nok\n" + "x" * 200_000)
    with tail(tmp_path, HEAD, "max_line_size 9") as driver:
        wait_for(driver, "12345678", "ok")
        wait_for_position(driver, tmp_path, "in.log", 22)
        append(log, "end\nlast\n")
        wait_for(driver, "12345678", "ok", "last")
        assert driver["in_tail"].lost == {"line_limit": 2}


def test_read_bytes_limit(tmp_path: Path) -> None:
    line = "x" * 65_535 + "\n"
    (tmp_path / "in.log").write_text(line * 3)
    with tail(tmp_path, HEAD, "read_bytes_limit_per_second 64k") as driver:
        driver.wait_for_events(1)
        assert driver.plugin("in_tail")._tailer.counts[3] >= 1
        driver.wait_for_events(3)
    times = [event.time_ns for event in driver.events()]
    # the clock of the events is that of the limit
    assert min(after - before for before, after in pairwise(times)) > 900_000_000


def test_groups_share_a_limit(tmp_path: Path) -> None:
    for name in ("free.log", "app.log", "never.log"):
        (tmp_path / name).write_text(f"{name}\n" * 40_000)
    group = r"""
      <group>
        pattern /(?<name>[a-z]+)\.log$/
        rate_period 60
        <rule>
          match {"name": "/^app/"}
          limit 10
        </rule>
        <rule>
          match {"name": "/^never/"}
          limit 0
        </rule>
      </group>"""
    with tail(tmp_path, HEAD, group, path="*.log") as driver:
        driver.wait_for(lambda: messages(driver).count("free.log") == 40_000)
        driver.wait_for(lambda: driver.plugin("in_tail")._tailer.counts[3] >= 2)
        # a limit is looked at after each block of 64 KiB
        assert messages(driver).count("app.log") == 65_536 // 8
        assert messages(driver).count("never.log") == 0


@pytest.mark.parametrize(
    ("extra", "text", "expected"),
    [
        ("encoding utf-8\nfrom_encoding euc-jp", "日本\n".encode("euc-jp"), "日本"),
        ("encoding utf-8\nfrom_encoding utf-16le", "日本\n".encode("utf-16-le"), "日本"),
        ("encoding utf-8\nfrom_encoding ascii-8bit", b"te\x86st\n", "te\ufffdst"),
        ("encoding utf-8", b"te\x86st\n", b"te\x86st"),
        ("encoding binary", b"te\x86st\n", b"te\x86st"),
        # Fluentd's JSON and MessagePack have UTF-8 whatever the encoding is
        ("encoding shift_jis", "日本\n".encode("cp932"), "日本"),
        ("encoding iso-8859-1", b"\xe9t\xe9\n", "été"),
        ("encoding utf-16le", "日本\n".encode("utf-16-le"), "日本"),
        ("encoding euc-jp\nfrom_encoding utf-8", "日本\N{GRINNING FACE}\n".encode(), "日本?"),
    ],
)  # fmt: skip
def test_encodings(tmp_path: Path, extra: str, text: bytes, expected: str | bytes) -> None:
    (tmp_path / "in.log").write_bytes(text * 2)
    with tail(tmp_path, HEAD, extra) as driver:
        driver.wait_for_events(2)
        assert driver.records() == [{"message": expected}] * 2
        wait_for_position(driver, tmp_path, "in.log", 2 * len(text))


MULTILINE = "@type multiline\nformat_firstline /^>/\nformat1 /^>(?<message>.*)/"


def test_events_of_several_lines(tmp_path: Path) -> None:
    log = tmp_path / "in.log"
    log.write_text("garbage\n>1\n a\n>2\n")
    with tail(tmp_path, HEAD, parse=MULTILINE) as driver:
        wait_for(driver, "1\n a")
        # the event that may go on is not safe
        wait_for_position(driver, tmp_path, "in.log", 14)
        append(log, " b\n>3\n")
        wait_for(driver, "1\n a", "2\n b")
        assert driver["in_tail"].lost == {"no_first_line": 1}
    wait_for(driver, "1\n a", "2\n b", "3")  # at the stop, as in Fluentd
    assert positions(tmp_path)["in.log"][0] == log.stat().st_size


def test_events_of_several_lines_are_flushed(tmp_path: Path) -> None:
    log = tmp_path / "in.log"
    log.write_text(">1\n a\n")
    with tail(tmp_path, HEAD, "multiline_flush_interval 0.2", parse=MULTILINE) as driver:
        wait_for(driver, "1\n a")
        append(log, ">2\n")
        wait_for(driver, "1\n a", "2")
        wait_for_position(driver, tmp_path, "in.log", 9)


def test_events_of_several_lines_without_a_first_line(tmp_path: Path) -> None:
    (tmp_path / "in.log").write_text("a\nb\nc\na\nb\nc\n")
    parse = "@type multiline\nformat1 /^a\\n/\nformat2 /^(?<message>b)\\n/\nformat3 /^c/"
    with tail(tmp_path, HEAD, parse=parse) as driver:
        wait_for(driver, "b", "b")


def test_cut_lines_of_containers(tmp_path: Path) -> None:
    log = tmp_path / "in.log"
    start = "2024-01-02T03:04:05.678901234Z"
    log.write_text(f"{start} stdout P   one \n{start} stderr F err\n")
    with tail(tmp_path, HEAD, parse="@type cri") as driver:
        driver.wait_for_events(1)
        wait_for_position(driver, tmp_path, "in.log", 0)
        append(log, f"2024-01-02T03:04:06Z stdout F two\n{start} stdout F plain\n")
        driver.wait_for_events(3)
        assert driver.events()[1] == (
            "t", 1_704_164_645_678_901_234,
            {"stream": "stdout", "logtag": "F", "message": "  one two", "time": start},
        )  # fmt: skip
        wait_for_position(driver, tmp_path, "in.log", log.stat().st_size)
        append(log, f"{start} stdout P half")
        append(log, "\n")
    # read again by the next start, together with its end
    append(log, f"{start} stdout F  done\n")
    with tail(tmp_path, HEAD, parse="@type cri") as driver:
        wait_for(driver, "half done")


def test_cut_lines_of_docker(tmp_path: Path) -> None:
    lines = [
        r'{"log":"one ","stream":"stdout","time":"2024-01-02T03:04:05.5Z"}',
        r'{"log":"err\r\n","stream":"stderr","time":"2024-01-02T03:04:06Z"}',
        r'{"log":"\"two\"\n","stream":"stdout","time":"2024-01-02T03:04:07Z"}',
    ]
    (tmp_path / "in.log").write_text("\n".join([*lines, ""]))
    with tail(tmp_path, HEAD, parse="@type docker") as driver:
        first, second = driver.wait_for_events(2)
        assert first.record == {"log": "err", "stream": "stderr"}
        assert second == ("t", 1_704_164_645_500_000_000, {"log": 'one "two"', "stream": "stdout"})


def test_a_parser_in_python(tmp_path: Path) -> None:
    class Words(Parser):
        def parse(self, text: bytes) -> list[tuple[int | None, dict[str, object]]]:
            return [(None, {"message": text.decode().upper()})]

    (tmp_path / "in.log").write_text("a b\nc\n")
    plugins = {("parser", "words"): Words}
    with tail(tmp_path, HEAD, parse="@type words", plugins=plugins) as driver:
        wait_for(driver, "A B", "C")


BUFFERED = """
<source>
  @type tail
  path {folder}/in.log
  pos_file {folder}/pos
  tag t
  read_from_head true
  <parse>
    @type none
  </parse>
</source>
<match **>
  @type test
  <buffer>
    chunk_limit_size 64k
    total_limit_size 256k
    flush_interval 0.01
    retry_wait 0.05
    retry_forever true
    retry_type periodic
  </buffer>
</match>
"""


def test_a_full_buffer_stops_reading_and_loses_nothing(tmp_path: Path) -> None:
    log = tmp_path / "in.log"
    log.write_text("".join(f"{number:06d}{'x' * 100}\n" for number in range(20_000)))
    with run(BUFFERED.format(folder=tmp_path), start=False) as driver:
        blocked = [True]

        def fails(_: Chunk | EventBatch) -> BaseException | None:
            return OSError("down") if blocked[0] else None

        driver.plugin("out_test").fail_with = fails
        driver.engine.start()
        driver.wait_for(lambda: "reading stopped" in driver.log)
        assert 0 < positions(tmp_path)["in.log"][0] < log.stat().st_size
        # files are found all the same
        log.rename(tmp_path / "in.log.1")
        log.write_text("after\n")
        driver.wait_for(lambda: "detected rotation" in driver.log)
        blocked[0] = False
        driver.wait_for_events(20_001)
        expected = [f"{number:06d}" for number in range(20_000)]
        # chunks that are tried again take turns: order holds within each, not between them
        assert sorted(text[:6] for text in messages(driver)) == [*expected, "after"]


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        (["enable_watch_timer false", "enable_stat_watcher false"], "either of enable_watch_timer"),
        (["from_encoding utf-8"], "from_encoding needs encoding"),
        (["encoding nonsense"], "unknown encoding name"),
        (["glob_policy always"], "path_delimiter"),
        (["path_delimiter *"], "reserved"),
        (["path_timezone nowhere"], "unsupported timezone"),
        (["read_bytes_limit_per_second 1m", "enable_watch_timer false"], "needs enable_watch_timer"),
        (["<group>\n</group>"], "rule"),
        (["<group>\n<rule>\nlimit -2\n</rule>\n</group>"], "-1 or more"),
    ],
)
def test_what_is_refused(tmp_path: Path, extra: list[str], words: str) -> None:
    with pytest.raises(InvalidConfiguration, match=words):
        tail(tmp_path, *extra)


def test_follow_inodes_needs_a_position_file(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfiguration, match="follow_inodes needs pos_file"):
        tail(tmp_path, "follow_inodes true", pos=False)
