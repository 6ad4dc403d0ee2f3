"""`forwarder replay`: what the s3 output wrote comes back, through a real store."""

from __future__ import annotations

import gzip
import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from store import KEYS, Bucket
from waiting import wait_for

from forwarder.api.testing import run
from forwarder.cli.main import main

pytestmark = pytest.mark.filterwarnings("default")  # the server's own
T0 = 1_700_000_000
INTO = """
<filter app.**>
  @type record_transformer
  <record>
    again yes
  </record>
</filter>
<match app.**>
  @type file
  path {folder}/app
  append true
  <format>
    @type out_file
    time_type float
  </format>
  <buffer []>
    @type memory
    flush_mode interval
    flush_interval 1h
  </buffer>
</match>
<label @AGAIN>
  <match **>
    @type file
    path {folder}/again
    append true
    <format>
      @type out_file
      time_type float
    </format>
    <buffer []>
      @type file
      path {folder}/buffer
      flush_mode interval
      flush_interval 1h
    </buffer>
  </match>
</label>
"""


@pytest.fixture(autouse=True)
def _keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEYS["aws_access_key_id"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", KEYS["aws_secret_access_key"])


@pytest.fixture
def bucket(endpoint: str) -> Bucket:
    return Bucket(endpoint).create()


@pytest.fixture
def into(tmp_path: Path) -> Path:
    path = tmp_path / "into.conf"
    path.write_text(INTO.format(folder=tmp_path))
    return path


def words(bucket: Bucket, *more: str, prefix: str = "logs/") -> list[str]:
    store = ["--endpoint", bucket.endpoint, "--path-style"]
    return ["replay", f"s3://{bucket.name}/{prefix}", *store, *more]


def lines(count: int, tag: str = "app.a", start: int = 0) -> bytes:
    return b"".join(
        b'%d.%09d\t%b\t{"n":%d}\n' % (T0 + n, n, tag.encode(), n) for n in range(start, start + count)
    )


def replayed(capfd: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, list[dict[str, Any]], str]:
    """Status, the JSON lines, standard error."""
    capfd.readouterr()
    status = main(list(arguments))
    out, err = capfd.readouterr()
    return status, [json.loads(line) for line in out.splitlines()], err


def out_lines(folder: Path, name: str) -> list[str]:
    return [line for path in sorted(folder.glob(f"{name}*.log")) for line in path.read_text().splitlines()]


FORMS = {
    "columns": ("@type out_file\ntime_type float", ""),
    "columns, text": ("@type out_file\ntime_format %d.%m.%Y %H:%M:%S.%N\ntimezone Asia/Tokyo", ""),
    "nanoseconds": ("@type json", "tag_key t\ntime_key when\ntime_type unixtime_nanos"),
    "text": (
        "@type json",
        "tag_key t\ntime_key when\ntime_type string\ntime_format %FT%T.%N%:z\ntimezone +02:00",
    ),
    "no zone": ("@type json", "tag_key t\ntime_key when\ntime_type string\ntime_format %s.%N"),
}


@pytest.mark.parametrize(
    ("name", "store_as"),
    [*((name, "gzip") for name in FORMS), *(("columns", store_as) for store_as in ("zstd", "lzma2", "text"))],
)
def test_what_was_archived_comes_back(
    bucket: Bucket, tmp_path: Path, capfd: pytest.CaptureFixture[str], name: str, store_as: str
) -> None:
    form, inject = FORMS[name]
    section = f"store_as {store_as}" + (f"\n<inject>\n{inject}\n</inject>" if inject else "")
    config = bucket.config(section, form=form)
    (tmp_path / "written.conf").write_text(config)
    record = {"n": 1, "text": 'ä "\n\\', "deep": {"time": "x", "t": [1.5, None, True]}, "big": 1 << 63}
    with run(config) as driver:
        for tag in ("app", "db"):
            driver.emit(tag, *((T0 * 10**9 + n, record | {"n": n}) for n in (0, 1, 123_456_789)))
    status, events, err = replayed(
        capfd, "replay", f"s3://{bucket.name}/logs/", "--store", str(tmp_path / "written.conf")
    )
    assert status == 0, err
    layout = ("when", "t") if inject else ("time", "tag")
    found = [(each.pop(layout[0]), each.pop(layout[1]), each) for each in events]
    assert found == [
        (f"2023-11-14T22:13:20.{n:09}Z", tag, record | {"n": n})
        for tag in ("app", "db") for n in (0, 1, 123_456_789)
    ]  # fmt: skip
    assert "2 objects, read 6, matched 6, delivered 6" in err


def test_which_events(bucket: Bucket, capfd: pytest.CaptureFixture[str]) -> None:
    bucket.put("logs/1.txt", lines(10))
    bucket.put("logs/2.txt", lines(10, "db.b"))
    bucket.put("other/3.txt", lines(10))
    asked = ["--from", "2023-11-14T22:13:22Z", "--to", "2023-11-14T23:13:28+01:00", "--grep", '"n":[2-5]']
    status, events, err = replayed(capfd, *words(bucket, *asked, "--grep", "[^3]}", "--tag", "{app,web}.*"))
    assert (status, [each["n"] for each in events]) == (0, [2, 4, 5])
    assert "2 objects, read 20, matched 3, delivered 3" in err


def test_members_one_after_the_other(bucket: Bucket, capfd: pytest.CaptureFixture[str]) -> None:
    body = b"".join(gzip.compress(lines(1000, start=start)) for start in range(0, 5000, 1000))
    bucket.put("logs/x", body)
    status, events, _ = replayed(capfd, *words(bucket))
    assert (status, [each["n"] for each in events]) == (0, list(range(5000)))


def test_through_filters_and_outputs(
    bucket: Bucket, tmp_path: Path, into: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    bucket.put("logs/1.txt", lines(3))
    status, _, err = replayed(capfd, *words(bucket, "--into", str(into)))
    assert status == 0, err
    assert out_lines(tmp_path, "app") == [
        f'{T0 + n}.{n:09}\tapp.a\t{{"n":{n},"again":"yes"}}'.replace(".000000000", ".00000000")
        for n in range(3)
    ]
    assert "read 3, matched 3, delivered 3, filtered 0, lost 0, unreadable 0" in err


def test_a_label_and_a_file_buffer(
    bucket: Bucket, tmp_path: Path, into: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    bucket.put("logs/1.txt", lines(3, "db"))
    status, _, err = replayed(capfd, *words(bucket, "--into", str(into), "--label", "@AGAIN"))
    assert (status, len(out_lines(tmp_path, "again"))) == (0, 3), err
    status, _, err = replayed(capfd, *words(bucket, "--into", str(into), "--label", "@NONE"))
    assert status == 1
    assert "no label @NONE; it has @AGAIN, @ROOT" in err


def test_what_no_match_wants_is_not_lost_silently(
    bucket: Bucket, into: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    bucket.put("logs/1.txt", lines(3, "db"))
    state = tmp_path / "state"
    status, _, err = replayed(capfd, *words(bucket, "--into", str(into), "--state", str(state)))
    assert status == 1
    assert "events were lost: @ROOT: 3 (no_match)" in err
    assert not state.exists()


@pytest.mark.parametrize(
    ("body", "options", "said"),
    [
        (b'{"tag":"a","n":1}\n', [], "1 lines have no time (--time-key"),
        (b'{"time":1,"n":1}\n', [], "1 lines have no tag (--tag-key"),
        (b'{"time":1,"n":1}\n', ["--default-tag", "old"], None),
        (b'{"ts":1,"app":"a","n":1}\n', ["--time-key", "ts", "--tag-key", "app"], None),
        (b"just text\n", [], "neither a record nor time, tag and record; line 1: just text"),
        (b"\x1f\x8b\x08 no gzip", [], "is broken"),
        (gzip.compress(lines(5), mtime=0)[:-9], [], "is broken: the compressed data ends too early"),
        (b"PAR1....", [], "is broken"),
    ],
)  # fmt: skip
def test_objects_that_cannot_be_replayed(
    bucket: Bucket, capfd: pytest.CaptureFixture[str], body: bytes, options: list[str], said: str | None
) -> None:
    bucket.put("logs/x", body)
    status, _, err = replayed(capfd, *words(bucket, *options))
    assert status == (0 if said is None else 1), err
    assert said is None or said in err


def test_a_bad_line_costs_only_itself(bucket: Bucket, capfd: pytest.CaptureFixture[str]) -> None:
    bucket.put("logs/x", lines(2) + b"bad\n" + lines(2, start=2))
    status, events, err = replayed(capfd, *words(bucket))
    assert (status, len(events)) == (1, 4)
    assert "1 lines are neither a record nor time, tag and record; line 3: bad" in err
    assert "unreadable 1" in err


def test_whole_seconds_are_told(bucket: Bucket, capfd: pytest.CaptureFixture[str]) -> None:
    bucket.put("logs/x", b"".join(b"%d\tapp\t{}\n" % (T0 + n) for n in range(20)))
    status, _, err = replayed(capfd, *words(bucket))
    assert status == 0
    assert "all times are whole seconds" in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["replay", "http://x/y"], "expected s3://BUCKET/PREFIX"),
        (["replay", "s3://b/", "--grep", "("], "invalid regexp"),
        (["replay", "s3://b/", "--time-format", "%Q%"], "%"),
        (["replay", "s3://b/", "--store", "/none"], "/none"),
    ],
)
def test_what_is_refused(capfd: pytest.CaptureFixture[str], arguments: list[str], said: str) -> None:
    status, _, err = replayed(capfd, *arguments)
    assert status == 1
    assert said in err


def test_a_time_that_is_none(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["replay", "s3://b/", "--from", "soon"])
    assert "expected a time" in capfd.readouterr().err


def test_a_store_without_the_bucket(endpoint: str, capfd: pytest.CaptureFixture[str]) -> None:
    status, _, err = replayed(capfd, *words(Bucket(endpoint)))
    assert status == 1
    assert "cannot list s3://bucket-" in err


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_replay_that_is_ended_goes_on(
    bucket: Bucket, tmp_path: Path, into: Path, capfd: pytest.CaptureFixture[str], number: int
) -> None:
    """Ended in the middle of the second object: what was noted as done does not come again after SIGTERM, and
    at most the last seconds after SIGKILL; nothing is missing."""
    for key in range(3):
        bucket.put(f"logs/{key}", gzip.compress(lines(200_000, start=key * 200_000)))
    state = tmp_path / "state"
    arguments = words(bucket, "--into", str(into), "--state", str(state), "--label", "@AGAIN")
    command = [sys.executable, "-m", "forwarder.cli.main", *arguments, "--checkpoint", "0"]
    with subprocess.Popen(command) as process:
        wait_for(lambda: state.exists() and json.loads(state.read_text())["done"], process=process)
        process.send_signal(number)
        status = process.wait()
    assert status == (130 if number == signal.SIGTERM else -signal.SIGKILL)
    known = json.loads(state.read_text())
    assert not known["finished"]
    status, _, err = replayed(capfd, *arguments)
    assert status == 0, err
    numbers = [int(line.rpartition(":")[2][:-1]) for line in out_lines(tmp_path, "again")]
    assert sorted(set(numbers)) == list(range(600_000))
    if number == signal.SIGTERM:
        assert len(numbers) == 600_000
    status, _, err = replayed(capfd, *arguments)
    assert status == 1
    assert "is finished" in err


def test_a_state_belongs_to_one_replay(
    bucket: Bucket, tmp_path: Path, into: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    bucket.put("logs/1", lines(3))
    state = tmp_path / "state"
    arguments = words(bucket, "--into", str(into), "--state", str(state))
    assert replayed(capfd, *arguments)[0] == 0
    status, _, err = replayed(capfd, *arguments, "--tag", "db")
    assert status == 1
    assert "of another replay" in err
    state.write_text("[]")
    assert "not the state of a replay" in replayed(capfd, *arguments)[2]


def test_progress(bucket: Bucket, into: Path, capfd: pytest.CaptureFixture[str]) -> None:
    bucket.put("logs/1", lines(3))
    _, _, err = replayed(capfd, *words(bucket, "--into", str(into), "--progress"))
    assert "object 1 of 1" in err
    bucket.put("logs/1", lines(100_000))
    _, _, err = replayed(capfd, *words(bucket, "--into", str(into), "--progress"))
    assert re.search(r"\s[1-9]\d?%  object 1 of 1", err)  # in the middle of it
    assert "\r" not in replayed(capfd, *words(bucket))[2]


def test_only_an_archive_can_be_asked(bucket: Bucket, into: Path, capfd: pytest.CaptureFixture[str]) -> None:
    status, _, err = replayed(capfd, "replay", f"s3://{bucket.name}/", "--store", str(into))
    assert status == 1
    assert "no output there writes to the bucket" in err
