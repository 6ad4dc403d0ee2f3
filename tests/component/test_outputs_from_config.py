"""out_file, out_stdout and their formatters, by configuration text: from emit to the bytes in a file."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import pytest

from forwarder.api import Formatter
from forwarder.api.testing import run
from forwarder.config import InvalidConfiguration
from forwarder.plugins.formatters.json import JsonFormatter
from forwarder.plugins.formatters.out_file import OutFileFormatter

TIME = 1_700_000_000_000_000_000  # 2023-11-14 22:13:20 UTC


def files(folder: Path) -> dict[str, str]:
    """What was written, by name; not what the buffer keeps beside it."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name not in ("lock", "journal", "journal.tmp") and path.suffix != ".seg":
            data = path.read_bytes()
            text = gzip.decompress(data) if path.suffix == ".gz" else data
            found[str(path.relative_to(folder))] = text.decode()
    return found


# Configuration inside <match>, and the files that Fluentd 1.19.3 makes of the two events below (TZ=UTC).
LINES = '2023-11-14T22:13:20Z\tt.a\t{"a":1,"svc":"web"}\n2023-11-14T22:13:20Z\tt.b\t{"a":2}\n'
FORMAT = "<format>\n utc true\n </format>"
UTC = "timekey_use_utc true"
CASES = [
    (f"path @/x\n {FORMAT}\n <buffer time>\n timekey 1d\n {UTC}\n</buffer>", {"x.20231114_0.log": LINES}),
    (
        f"path @/x\n append true\n {FORMAT}\n <buffer time>\n timekey 1d\n {UTC}\n</buffer>",
        {"x.20231114.log": LINES},
    ),
    (
        f"path @/y.%Y-%m-%d_%H\n append true\n {FORMAT}\n <buffer time>\n timekey 1h\n {UTC}\n</buffer>",
        {"y.2023-11-14_22.log": LINES},
    ),
    (
        f"path @/x.*.data\n append true\n {FORMAT}\n <buffer time>\n timekey 1m\n {UTC}\n</buffer>",
        {"x.202311142213.data": LINES},
    ),
    (f"path @/x\n append true\n {FORMAT}\n <buffer []>\n</buffer>", {"x.log": LINES}),
    (
        f"path @/x\n append true\n {FORMAT}\n <buffer []>\n flush_mode immediate\n</buffer>",
        {"x.log": LINES},
    ),
    (f"path @/x\n compress gzip\n {FORMAT}\n <buffer []>\n</buffer>", {"x_0.log.gz": LINES}),
    (
        f"path @/x.txt\n add_path_suffix false\n append true\n {FORMAT}\n <buffer []>\n</buffer>",
        {"x.txt": LINES},
    ),
    (
        "path @/${svc}\n append true\n <format>\n @type json\n </format>\n <buffer svc>\n</buffer>",
        {"web.log": '{"a":1,"svc":"web"}\n', ".log": '{"a":2}\n'},
    ),
    (
        "path @/${tag[1]}/x\n append true\n <format>\n @type json\n </format>\n <buffer tag>\n</buffer>",
        {"a/x.log": '{"a":1,"svc":"web"}\n', "b/x.log": '{"a":2}\n'},
    ),
    (
        "path @/x\n append true\n <format>\n @type json\n </format>\n <buffer []>\n</buffer>\n"
        "<inject>\n tag_key tag\n time_key time\n time_type unixtime\n</inject>",
        {
            "x.log": '{"a":1,"svc":"web","tag":"t.a","time":1700000000}\n'
            '{"a":2,"tag":"t.b","time":1700000000}\n'
        },
    ),
    (
        "path @/x\n append true\n <format>\n @type single_value\n message_key a\n </format>\n"
        "<buffer []>\n</buffer>",
        {"x.log": "1\n2\n"},
    ),
]


@pytest.mark.parametrize(("inside", "expected"), CASES)
def test_files(
    tmp_path: Path, inside: str, expected: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(*_args: object) -> bytes:
        raise AssertionError("format was called for an event")

    monkeypatch.setattr(JsonFormatter, "format", forbidden)
    monkeypatch.setattr(OutFileFormatter, "format", forbidden)
    out = tmp_path / "out"
    with run(f"<match t.**>\n @type file\n {inside.replace('@/', f'{out}/')}\n</match>") as driver:
        driver.emit("t.a", {"a": 1, "svc": "web"}, time_ns=TIME)
        driver.emit("t.b", {"a": 2}, time_ns=TIME)
        driver.flush()
        driver.wait_for(lambda: sum(map(len, files(out).values())) >= sum(map(len, expected.values())))
    assert files(out) == expected


def test_the_default_is_a_file_buffer_which_keeps_events_over_a_restart(tmp_path: Path) -> None:
    config = f"<match **>\n @type file\n path {tmp_path}/x\n append true\n</match>"
    with run(config) as driver:
        driver.emit("t", {"a": 1}, time_ns=TIME)
    assert files(tmp_path) == {}
    assert "events stay in the buffer" in driver.log
    with run(config) as driver:  # the time slot is long over
        driver.wait_for(lambda: files(tmp_path))
        driver.wait_for(lambda: driver["out_file"].delivered)
    ((name, text),) = files(tmp_path).items()
    assert name.startswith("x.2023111")
    assert text.endswith('\tt\t{"a":1}\n')
    assert [path.name for path in (tmp_path / "x").iterdir()] == []


class Upper(Formatter):
    """A formatter in Python."""

    def format(self, tag: str, time_ns: int, record: dict[str, object]) -> bytes:
        return json.dumps(record).upper().encode() + b"\n"


def test_a_formatter_in_python_works_everywhere(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    config = f"""
    <filter **>
      @type stdout
    </filter>
    <match **>
      @type copy
      <store>
        @type stdout
        <format>
          @type upper
        </format>
      </store>
      <store>
        @type file
        path {tmp_path}/x
        append true
        <format>
          @type upper
        </format>
        <buffer []>
          flush_at_shutdown true
        </buffer>
      </store>
    </match>
    """
    with run(config, plugins={("formatter", "upper"): Upper}) as driver:
        driver.emit("t", {"a": "b"}, time_ns=TIME)
    assert files(tmp_path) == {"x.log": '{"A": "B"}\n'}
    shown, upper = capfdbinary.readouterr().out.splitlines()
    assert shown.endswith(b' t: {"a":"b"}')
    assert upper == b'{"A": "B"}'


@pytest.mark.parametrize(
    ("buffer", "lines"),
    [("", 2), ("<buffer>\n flush_mode immediate\n</buffer>", 2), ("<buffer tag>\n</buffer>", 2)],
)
def test_stdout_with_and_without_buffer(
    buffer: str, lines: int, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    with run(f"<match **>\n @type stdout\n <format>\n @type json\n</format>\n {buffer}\n</match>") as driver:
        driver.emit("t", {"a": 1}, {"a": 2}, time_ns=TIME)
    assert capfdbinary.readouterr().out.splitlines() == [b'{"a":1}', b'{"a":2}'][:lines]


def test_a_closed_standard_output_is_counted_and_nothing_stops() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    kept = os.dup(1)
    os.dup2(writing, 1)
    os.close(writing)
    config = "<filter **>\n @type stdout\n</filter>\n<match t>\n @type stdout\n @id out\n</match>"
    try:
        with run(config) as driver:
            driver.emit("t", {"a": 1}, {"a": 2}, time_ns=TIME)
            driver.emit("t", {"a": 3}, time_ns=TIME)
            books = driver["out"]
            log = driver.log
    finally:
        os.dup2(kept, 1)
        os.close(kept)
    assert books.received == 3
    assert books.lost == {"emit_error": 3}
    assert books.delivered == 0
    assert "Broken pipe" in log


@pytest.mark.parametrize(
    ("inside", "words"),
    [
        ("path @/x.*\n<buffer []>\n</buffer>", "chunk key 'time'"),
        ("path @/x.%Y\n<buffer time>\n timekey 1d\n</buffer>", "insufficient timestamp placeholders"),
        ("path @/x\n<buffer svc>\n</buffer>", "svc"),
        ("path /dev/null/x\n<buffer []>\n</buffer>", "not writable"),
        ("path @/x\ncompress lz4\n<buffer []>\n</buffer>", "compress"),
        ("<buffer []>\n</buffer>", "path"),
        (
            "path @/x\n<format>\n@type out_file\ntimezone Nowhere/AtAll\n</format>\n<buffer []>\n</buffer>",
            "Nowhere",
        ),
        ("path @/x\n<inject>\nhostname_key svc\n</inject>\n<buffer svc>\n</buffer>", "hostname_key"),
    ],
)
def test_wrong_configurations_are_refused_by_name(tmp_path: Path, inside: str, words: str) -> None:
    config = f"<match **>\n @type file\n {inside.replace('@/', f'{tmp_path}/')}\n</match>"
    with pytest.raises(InvalidConfiguration, match=words):
        run(config, start=False)
    assert files(tmp_path) == {}
