"""`<match> @type file` and what it writes with."""

from __future__ import annotations

import errno
import gzip
import os
import stat
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from forwarder.api import ConfigError, EventBatch, EventStream, files
from forwarder.api.buffering import BufferSection, ChunkKeys
from forwarder.plugins.formatters.json import JsonFormatter
from forwarder.plugins.outputs.out_file import FileOutput, path_template

TIME = 1_700_000_000_000_000_000  # 2023-11-14 22:13:20 UTC
DAY = 1_699_920_000


@pytest.mark.parametrize(
    ("path", "timekey", "append", "expected"),
    [
        ("/d/x", None, True, "/d/x.log"),
        ("/d/x", None, False, "/d/x_**.log"),
        ("/d/x", 86400, False, "/d/x.%Y%m%d_**.log"),
        ("/d/x", 86400, True, "/d/x.%Y%m%d.log"),
        ("/d/x", 3600, True, "/d/x.%Y%m%d%H.log"),
        ("/d/x", 60, True, "/d/x.%Y%m%d%H%M.log"),
        ("/d/x", 10, True, "/d/x.%Y%m%d%H%M%S.log"),
        ("/d/x.*", 86400, True, "/d/x.%Y%m%d"),
        ("/d/x.*.data", 3600, False, "/d/x.%Y%m%d%H_**.data"),
        ("/d/y.%Y-%m-%d_%H", 3600, True, "/d/y.%Y-%m-%d_%H.log"),
        ("/d/%Y/%m/%d/y", 86400, False, "/d/%Y/%m/%d/y_**.log"),
    ],
)
def test_names_are_fluentds(path: str, timekey: int | None, append: bool, expected: str) -> None:
    assert path_template(path, timekey, append=append, suffix=".log", star_suffix="") == expected


@pytest.mark.parametrize(
    ("path", "expected"), [("/d/x", "/d/x.%Y_%m_%d_**.log"), ("/d/%Y.*", "/d/%Y.%Y_%m_%d_**")]
)
def test_time_slice_format_shapes_the_name(path: str, expected: str) -> None:
    found = path_template(path, 86400, append=False, suffix=".log", star_suffix="", slot="%Y_%m_%d")
    assert found == expected


@pytest.mark.parametrize(("path", "timekey", "words"), [("/x.*", None, "'\\*'"), ("/x.%Y", 86400, "%m, %d")])
def test_paths_that_do_not_fit_the_time_slots(path: str, timekey: int | None, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        path_template(path, timekey, append=True, suffix="", star_suffix="")


class FakeChunk:
    """A chunk with one key."""

    def __init__(
        self,
        *blocks: bytes,
        timekey: int | None = None,
        tag: str | None = None,
        variables: tuple[tuple[str, str | None], ...] = (),
        created_at: float = 0.0,
    ) -> None:
        self.id = b"\x01" * 16
        self.key = SimpleNamespace(tag=tag, timekey=timekey, variables=variables)
        self.count = 1
        self.size_bytes = sum(map(len, blocks))
        self.created_at = created_at
        self._blocks = blocks

    def blocks(self) -> Sequence[bytes]:
        return self._blocks

    def read(self) -> bytes:
        return b"".join(self._blocks)

    def stream(self) -> EventStream:
        raise NotImplementedError


def output(
    path: object, keys: tuple[str, ...] = (), *, timekey: float | None = None, **params: Any
) -> FileOutput:
    made = FileOutput()
    messages: list[str] = []
    made.context = SimpleNamespace(  # type: ignore[assignment]
        dir_permission=0o750,
        file_permission=0o640,
        worker_id=0,
        log_repeated=lambda message, **_: messages.append(message),
        messages=messages,
    )
    buffer = BufferSection()
    buffer.chunk_keys = list(keys)  # type: ignore[assignment]
    buffer.timekey = timekey  # type: ignore[assignment]
    buffer.timekey_use_utc = True  # type: ignore[assignment]
    formatter = JsonFormatter()
    formatter.configure()
    settings = {"buffer": buffer, "format": formatter, "path": str(path), **params}
    for name, value in settings.items():
        setattr(made, name, value)
    made.configure()
    return made


def names(folder: Path) -> list[str]:
    return sorted(str(found.relative_to(folder)) for found in folder.rglob("*") if not found.is_dir())


def test_appends(tmp_path: Path) -> None:
    out = output(tmp_path / "a" / "b" / "x", append=True)
    out.write(FakeChunk(b"one\n", b"", b"two\n"))
    out.write(FakeChunk(b"three\n"))
    assert names(tmp_path) == ["a/b/x.log"]
    assert (tmp_path / "a/b/x.log").read_bytes() == b"one\ntwo\nthree\n"
    assert stat.S_IMODE((tmp_path / "a/b").stat().st_mode) == 0o750
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o750
    assert stat.S_IMODE((tmp_path / "a/b/x.log").stat().st_mode) & 0o137 == 0


def test_counts_up_without_append(tmp_path: Path) -> None:
    out = output(tmp_path / "x", ("time",), timekey=86400)
    for text in (b"one\n", b"two\n"):
        out.write(FakeChunk(text, timekey=DAY))
    out.write(FakeChunk(b"three\n", timekey=DAY + 86400))
    assert names(tmp_path) == ["x.20231114_0.log", "x.20231114_1.log", "x.20231115_0.log"]
    (tmp_path / "x.20231114_0.log").unlink()
    out.write(FakeChunk(b"four\n", timekey=DAY))
    assert (tmp_path / "x.20231114_0.log").read_bytes() == b"four\n"


def test_placeholders(tmp_path: Path) -> None:
    out = output(tmp_path / "${tag[0]}" / "${svc}", ("tag", "svc"), append=True)
    out.write(FakeChunk(b"1\n", tag="t.a", variables=(("svc", "web"),)))
    out.write(FakeChunk(b"2\n", tag="t.a", variables=(("svc", None),)))
    assert names(tmp_path) == ["t/.log", "t/web.log"]


@pytest.mark.parametrize("compress", ["gz", "gzip"])
@pytest.mark.parametrize("append", [True, False])
def test_gzip(tmp_path: Path, compress: str, append: bool) -> None:
    out = output(tmp_path / "x", compress=compress, append=append)
    out.write(FakeChunk(b"one\n" * 1000, b"two\n"))
    out.write(FakeChunk(b"three\n"))
    texts = [gzip.decompress((tmp_path / name).read_bytes()) for name in names(tmp_path)]
    expected = [b"one\n" * 1000 + b"two\n", b"three\n"]
    assert texts == ([b"".join(expected)] if append else expected)
    assert names(tmp_path) == (["x.log.gz"] if append else ["x_0.log.gz", "x_1.log.gz"])


def test_zstd(tmp_path: Path) -> None:
    zstd = pytest.importorskip("backports.zstd")
    out = output(tmp_path / "x", compress="zstd", append=True)
    out.write(FakeChunk(b"one\n" * 1000))
    out.write(FakeChunk(b"two\n"))
    assert names(tmp_path) == ["x.log.zstd"]
    assert zstd.decompress((tmp_path / "x.log.zstd").read_bytes()) == b"one\n" * 1000 + b"two\n"


def fail_after(count: int, real: Callable[[int, Any], int]) -> Callable[[int, Any], int]:
    """A `writev` that takes one byte at a time and reports a full disk after `count` bytes."""
    written = 0

    def writev(fd: int, blocks: Sequence[bytes]) -> int:
        nonlocal written
        if written == count:
            raise OSError(errno.ENOSPC, "No space left on device")
        written += 1
        return real(fd, [blocks[0][:1]])

    return writev


@pytest.mark.parametrize("append", [True, False])
def test_a_full_disk_leaves_no_torn_line(
    tmp_path: Path, append: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = output(tmp_path / "x", append=append)
    out.write(FakeChunk(b"before\n"))
    with monkeypatch.context() as patch:
        patch.setattr(os, "writev", fail_after(3, os.writev))
        with pytest.raises(OSError, match="No space"):
            out.write(FakeChunk(b"torn\n", b"line\n"))
    out.write(FakeChunk(b"torn\n", b"line\n"))
    expected = ["x.log"] if append else ["x_0.log", "x_1.log"]
    assert names(tmp_path) == expected
    assert b"".join((tmp_path / name).read_bytes() for name in expected) == b"before\ntorn\nline\n"


def test_short_writes_and_more_blocks_than_one_call_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.writev
    monkeypatch.setattr(os, "writev", lambda fd, blocks: real(fd, [blocks[0][:3]]))
    out = output(tmp_path / "x", append=True)
    out.write(FakeChunk(b"four", b"", b"567", b"8"))
    assert (tmp_path / "x.log").read_bytes() == b"four5678"
    monkeypatch.setattr(os, "writev", real)
    blocks = [f"{number}\n".encode() for number in range(5000)]
    out.write(FakeChunk(*blocks))
    assert (tmp_path / "x.log").read_bytes() == b"four5678" + b"".join(blocks)


def test_threads_that_append_to_one_file_do_not_mix(tmp_path: Path) -> None:
    outs = [output(tmp_path / "x", append=True) for _ in range(2)]
    texts = [bytes([97 + number]) * 50_000 + b"\n" for number in range(8)]
    threads = [
        threading.Thread(target=outs[number % 2].write, args=(FakeChunk(text[:20_000], text[20_000:]),))
        for number, text in enumerate(texts)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted((tmp_path / "x.log").read_bytes().splitlines(keepends=True)) == texts


def test_threads_that_make_files_each_get_their_own(tmp_path: Path) -> None:
    out = output(tmp_path / "x")
    texts = [str(number).encode() for number in range(16)]
    threads = [threading.Thread(target=out.write, args=(FakeChunk(text),)) for text in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert names(tmp_path) == sorted(f"x_{number}.log" for number in range(16))
    assert sorted((tmp_path / name).read_bytes() for name in names(tmp_path)) == sorted(texts)


def test_a_pipe_can_be_the_file(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    try:
        output(fifo, append=True, add_path_suffix=False).write(FakeChunk(b"line\n"))
        assert os.read(reader, 100) == b"line\n"
    finally:
        os.close(reader)


@pytest.mark.parametrize("relative", [False, True])
def test_symlink_points_to_the_newest_slot(tmp_path: Path, relative: bool) -> None:
    link = tmp_path / "links" / "current"
    out = output(
        tmp_path / "x", ("time",), timekey=86400, append=True,
        symlink_path=str(link), symlink_path_use_relative=relative,
    )  # fmt: skip
    out.write(FakeChunk(b"1\n", timekey=DAY))
    assert link.read_bytes() == b"1\n"
    out.write(FakeChunk(b"2\n", timekey=DAY + 86400))
    assert link.read_bytes() == b"2\n"
    out.write(FakeChunk(b"late\n", timekey=DAY))
    assert link.read_bytes() == b"2\n"
    expected = "../x.20231115.log" if relative else str(tmp_path / "x.20231115.log")
    assert os.readlink(link) == expected
    assert names(tmp_path / "links") == ["current"]


def test_a_symlink_that_cannot_be_made_does_not_fail_the_chunk(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    out = output(tmp_path / "x", append=True, symlink_path=str(tmp_path / "taken"))
    out.write(FakeChunk(b"1\n"))
    assert (tmp_path / "x.log").read_bytes() == b"1\n"
    assert "taken" in out.context.messages[0]  # type: ignore[attr-defined]


def test_wrong_configurations_are_named(tmp_path: Path) -> None:
    (tmp_path / "folder.log").mkdir()
    (tmp_path / "file").write_bytes(b"")
    for path, words in [("folder", "it is a folder"), ("file/x", "is not a folder")]:
        with pytest.raises(ConfigError, match=words) as caught:
            output(tmp_path / path, append=True)
        assert caught.value.param == "path"
    with pytest.raises(ConfigError, match="svc"):
        output(tmp_path / "x", ("svc",), append=True)
    with pytest.raises(ConfigError, match="time"):
        output(tmp_path / "x.*", append=True)


def test_as_secondary_it_needs_no_placeholders_for_the_primarys_keys(tmp_path: Path) -> None:
    keys = ChunkKeys(tag=True, fields=("svc",))
    out = output(tmp_path / "x", append=True, chunk_keys=keys, as_secondary=True)
    out.write(FakeChunk(b"1\n", tag="t", variables=(("svc", "web"),)))
    assert names(tmp_path) == ["x.log"]


def test_formats_in_one_native_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_args: object) -> bytes:
        raise AssertionError("format was called for an event")

    monkeypatch.setattr(JsonFormatter, "format", forbidden)
    out = output(tmp_path / "x", append=True)
    events = EventStream.from_events((TIME, {"n": n}) for n in range(3))
    assert out.format_batch(EventBatch([("t", events)])) == b'{"n":0}\n{"n":1}\n{"n":2}\n'


def test_missing_library_for_zstd_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("compression", "compression.zstd", "backports.zstd"):
        monkeypatch.setitem(__import__("sys").modules, module, None)
    with pytest.raises(ConfigError, match=r"forwarder\[zstd\]"):
        files.packer("zstd")
