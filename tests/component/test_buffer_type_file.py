"""The file buffer through configuration: restarts, Fluentd's chunks, broken files, chunks nobody takes."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack
import pytest

from forwarder.api import (
    BufferOverflow,
    Chunk,
    EventBatch,
    EventStream,
    Output,
    PartialWrite,
    UnrecoverableError,
)
from forwarder.api.testing import Driver, run
from forwarder.buffer.place import place
from forwarder.cli.main import main
from forwarder.config import InvalidConfiguration

FAST = "retry_wait 0.01\nretry_randomize false\nflush_mode immediate"


def buffered(
    parameters: str, keys: str = "", more: str = "", system: str = "", type_name: str = "test"
) -> str:
    return f"{system}<match **>\n@type {type_name}\n{more}<buffer {keys}>\n{parameters}\n</buffer>\n</match>"


def held(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def refuse(output: Any, error: BaseException | None) -> None:
    output.fail_with = lambda _: error


def numbers(driver: Driver) -> list[int]:
    return sorted(record["i"] for record in driver.records())


def test_events_outlive_the_process_and_its_chunks_keep_their_ids(tmp_path: Path) -> None:
    config = buffered(f"@type file\npath {tmp_path}/b\nflush_mode lazy", "tag, host")
    with run(config) as driver:
        driver.emit("a", {"i": 1, "host": "x"}, {"i": 2})
        driver.emit("b", {"i": 3, "host": "x"})
        buffer = driver["out_test"].buffer
        assert buffer is not None
        assert (buffer.events, buffer.staged_chunks, driver.events()) == (3, 3, [])
        ids = {chunk.key: chunk.id for chunk in driver.engine.plugins[0].node.buffer.chunks()}  # type: ignore[union-attr]
    assert "events stay in the buffer for the next start" in driver.log
    with run(config) as driver:
        assert "buffer recovered" in driver.log
        assert driver["out_test"].recovered == 3
        driver.emit("a", {"i": 4, "host": "x"})
        driver.flush()
        driver.wait_for_events(4)
        chunks = driver.plugin("out_test").chunks
        assert {chunk.key: chunk.id for chunk in chunks} == ids
        assert sorted(chunk.count for chunk in chunks) == [1, 1, 2]
        driver.wait_for(lambda: driver["out_test"].delivered == 4)
    assert held(tmp_path / "b") == []


def test_flush_at_shutdown(tmp_path: Path) -> None:
    with run(buffered(f"@type file\npath {tmp_path}/b\nflush_at_shutdown true")) as driver:
        driver.emit("a", {"i": 1})
    assert numbers(driver) == [1]
    assert held(tmp_path / "b") == []


def test_the_default_path_is_made_from_root_dir_and_id(tmp_path: Path) -> None:
    system = f"<system>\nroot_dir {tmp_path}/root\n</system>\n"
    with run(buffered("@type file", more="@id mine\n", system=system)) as driver:
        driver.emit("a", {"i": 1})
        assert [name[:8] for name in held(tmp_path / "root/worker0/mine/buffer")] == [
            "journal",
            "lock",
            "segment-",
        ]


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (buffered("@type file"), "buffer path is not configured"),
        (buffered("@type file\npath ''"), "buffer path is not configured"),
        (buffered("@type redis"), "unknown buffer type 'redis'"),
        (buffered("@type file\npath /b\nfile_permission 0x44"), "octal"),
        (
            buffered("@type file\npath /b") + "\n" + buffered("@type file\npath /b/"),
            "is used by out_test already",
        ),
        (buffered("@type file_single\npath /b", "a, b"), "2 or more chunk keys"),
        (buffered("@type file_single\npath /b", "tag, a"), "must be tag or one field"),
        (buffered("@type file\npath /b\nfsync sometimes"), "fsync"),
        ("<match **>\n@type secondary_file\ndirectory /tmp\n</match>", "only be used in the <secondary>"),
    ],
)
def test_wrong_configurations(config: str, words: str) -> None:
    with pytest.raises(InvalidConfiguration, match=words):
        run(config, start=False)


def test_what_a_memory_buffer_has_no_use_for_is_warned_of() -> None:
    driver = run(buffered("path /b\nfsync append"), start=False)
    messages = [item.message for item in driver.diagnostics.warnings]
    assert [message.split()[0] for message in messages if "has no effect" in message] == ["path", "fsync"]


def test_a_second_process_is_refused_at_its_start(tmp_path: Path) -> None:
    config = buffered(f"@type file\npath {tmp_path}/b")
    with run(config) as driver:
        driver.emit("a", {"i": 1})
        with pytest.raises(OSError, match=f"in use by process {os.getpid()}"):
            run(config)
        driver.flush()
        driver.wait_for_events(1)


@pytest.mark.parametrize(
    ("path", "single", "store", "leftovers"),
    [
        ("/n/b", False, "/n/b", (("/n/b", "buffer.*.log"),)),
        ("/n/b", True, "/n/b", (("/n/b", "fsb.*.buf"),)),
        ("/n/b.*.x", False, "/n/b.store", (("/n", "b.*.x"),)),
        ("/n/b.*", False, "/n/b.store", (("/n", "b.*.log"),)),
        ("/n/b.*", True, "/n/b.store", (("/n", "b.*.buf"),)),
        ("/n/b.*.x", True, "/n/fsb.store", (("/n", "fsb.*.buf"),)),
        ("/etc/passwd", False, "/etc/passwd.store", (("/etc", "passwd.*.log"),)),
    ],
)
def test_paths_mean_what_they_mean_to_fluentd(
    path: str, single: bool, store: str, leftovers: tuple[tuple[str, str], ...]
) -> None:
    found = place(path, ".log", single=single)
    assert (found.store, found.leftovers) == (store, leftovers)


def test_each_worker_has_a_folder_and_the_first_takes_over() -> None:
    first = place("/n/b", ".log", single=False, workers=2)
    assert (first.store, [folder for folder, _ in first.leftovers]) == (
        "/n/b/worker0",
        ["/n/b", "/n/b/worker0"],
    )
    assert place("/n/b", ".log", single=False, workers=2, worker_id=1).leftovers == (
        ("/n/b/worker1", "buffer.*.log"),
    )  # fmt: skip


# ---------------------------------------------------------------- chunks of Fluentd


def entries(*numbers: int) -> bytes:
    time = msgpack.ExtType(0, (1_700_000_000).to_bytes(4, "big") + bytes(4))
    return b"".join(msgpack.packb([time, {"i": number}]) for number in numbers)


def put_fluentd(
    folder: Path,
    state: str,
    number: int,
    content: bytes,
    *,
    meta: dict[str, Any] | bytes | None,
    old: bool = False,
) -> bytes:
    """A chunk as Fluentd writes it. Gives its id."""
    folder.mkdir(exist_ok=True)
    chunk_id = bytes([number]) * 16
    path = folder / f"buffer.{state}{chunk_id.hex()}.log"
    path.write_bytes(content)
    if isinstance(meta, dict):
        full = {"timekey": None, "tag": None, "variables": None, "seq": 0, "id": chunk_id, "s": 1,
                "c": 1_700_000_000 + number, "m": 1_700_000_000 + number, **meta}  # fmt: skip
        packed = msgpack.packb(full)
        meta = packed if old else b"\xc1\x00" + len(packed).to_bytes(4, "big") + packed
    if meta is not None:
        path.with_name(path.name + ".meta").write_bytes(meta)
    return chunk_id


def test_chunks_of_fluentd_are_delivered_and_only_then_removed(tmp_path: Path) -> None:
    folder = tmp_path / "b"
    first = put_fluentd(folder, "q", 1, entries(1, 2), meta={"tag": "a", "s": 2, "variables": {"host": "x"}})
    second = put_fluentd(folder, "b", 2, entries(3), meta={"tag": "b", "timekey": 60}, old=True)
    put_fluentd(folder, "q", 3, entries(4, 5), meta=None)  # of v0.12, or its metadata are gone
    before = held(folder)
    config = buffered(f"@type file\npath {folder}\nretry_wait 0.01", "tag, host")
    with run(config, start=False) as driver:
        refuse(driver.plugin("out_test"), OSError("down"))
        driver.engine.start()
        driver.wait_for(lambda: driver.plugin("out_test").attempts >= 3)
        assert set(before) <= set(held(folder))
        assert driver["out_test"].recovered == 5
        refuse(driver.plugin("out_test"), None)
        driver.wait_for(lambda: driver["out_test"].delivered == 5)
        assert numbers(driver) == [1, 2, 3, 4, 5]
        chunks = {chunk.id: chunk for chunk in driver.plugin("out_test").chunks}
        assert chunks[first].key == ("a", None, (("host", "x"),))
        assert chunks[first].created_at == 1_700_000_001
        assert chunks[second].key == ("b", 60, (("host", None),))
    assert held(folder) == []


def test_chunks_of_file_single(tmp_path: Path) -> None:
    folder = tmp_path / "b"
    folder.mkdir()
    (folder / f"fsb.a%2Fb.q{'01' * 16}.buf").write_bytes(entries(1, 2))
    (folder / f"fsb.c.b{'02' * 16}.buf").write_bytes(entries(3))
    with run(buffered(f"@type file_single\npath {folder}")) as driver:
        driver.wait_for(lambda: driver["out_test"].delivered == 3)
        assert {chunk.key.tag: chunk.count for chunk in driver.plugin("out_test").chunks} == {
            "a/b": 2,
            "c": 1,
        }
    assert held(folder) == []
    (folder / f"fsb.web.q{'03' * 16}.buf").write_bytes(entries(4))
    with run(buffered(f"@type file_single\npath {folder}\ncalc_num_records false", "svc")) as driver:
        driver.wait_for_events(1)
        (chunk,) = driver.plugin("out_test").chunks
        assert (chunk.key.variables, chunk.count) == ((("svc", "web"),), 0)


def test_compressed_chunks_of_fluentd(tmp_path: Path) -> None:
    put_fluentd(tmp_path / "b", "q", 1, gzip.compress(entries(1)) + gzip.compress(entries(2)), meta={"s": 2})
    with run(buffered(f"@type file\npath {tmp_path}/b\ncompress gzip")) as driver:
        driver.wait_for_events(2)
        driver.emit("a", {"i": 3})
        driver.flush()
        driver.wait_for_events(3)
        driver.wait_for(lambda: driver["out_test"].delivered == 3)
    assert numbers(driver) == [1, 2, 3]


@pytest.mark.parametrize(
    ("content", "meta"), [(b"", {}), (entries(9), b""), (entries(9), b"\xc1\x00\x00"), (entries(9), {"c": 0})]
)
def test_broken_chunks_of_fluentd_hold_nobody_up(tmp_path: Path, content: bytes, meta: Any) -> None:
    put_fluentd(tmp_path / "b", "q", 1, content, meta=meta)
    put_fluentd(tmp_path / "b", "q", 2, entries(2), meta={})
    with run(buffered(f"@type file\npath {tmp_path}/b")) as driver:
        driver.wait_for(lambda: driver["out_test"].delivered == 1)
        assert "broken chunk of Fluentd" in driver.log
    assert numbers(driver) == [2]
    assert f"buffer.q{'01' * 16}.log" in held(tmp_path / "b/quarantine")


def test_a_torn_chunk_of_fluentd_gives_its_whole_events(tmp_path: Path) -> None:
    put_fluentd(tmp_path / "b", "q", 1, entries(1, 2, 3)[:-2], meta={"s": 3})
    with run(buffered(f"@type file\npath {tmp_path}/b")) as driver:
        driver.wait_for(lambda: driver["out_test"].delivered == 2)
        assert driver["out_test"].lost == {"corrupt": 1}
    assert numbers(driver) == [1, 2]


# ---------------------------------------------------------------- what goes wrong


def test_a_full_disk_refuses_events_and_takes_them_again(tmp_path: Path, disk: Callable[[int], Path]) -> None:
    folder = disk(2 << 20)
    config = buffered(f"@type file\npath {folder}/b\nflush_mode lazy", more="@id out\n")
    with run(config + "\n<label @ERROR>\n<match **>\n@type test\n@id errors\n</match>\n</label>") as driver:
        ballast = folder / "ballast"
        ballast.write_bytes(bytes(1 << 20))
        sent = 0

        def fill() -> None:
            nonlocal sent
            while sent < 100:
                driver.emit("a", {"i": sent, "text": "x" * 50_000})
                sent += 1

        with pytest.raises(BufferOverflow):
            fill()
        with pytest.raises(BufferOverflow):  # at once: nothing is tried for a moment
            driver.emit("a", {"i": -1})
        assert sent > 5
        books = driver["out"]
        assert (books.received - books.refused, books.lost, driver.events("errors")) == (sent, {}, [])
        assert "cannot write to the buffer" in driver.log
        ballast.unlink()

        def taken() -> bool:
            try:
                driver.emit("a", {"i": sent})
            except BufferOverflow:
                return False
            return True

        driver.wait_for(taken)
        driver.flush()
        driver.wait_for_events(sent + 1, "out")
        driver.wait_for(lambda: driver["out"].delivered == sent + 1)
    assert numbers(driver) == list(range(sent + 1))


def test_rot_is_counted_and_the_rest_is_delivered(tmp_path: Path) -> None:
    config = buffered(f"@type file\npath {tmp_path}/b\nflush_mode lazy")
    with run(config) as driver:
        for i in range(3):
            driver.emit("a", {"i": i}, {"i": i, "word": f"word{i}"})
    with run(config) as driver:  # which reads what the other one has written
        (segment,) = (tmp_path / "b").glob("*.seg")
        segment.write_bytes(segment.read_bytes().replace(b"word1", b"wurd1"))
        driver.flush()
        driver.wait_for_events(4)
        assert "a chunk is broken" in driver.log
        assert driver["out_test"].lost == {"corrupt": 2}
        driver.wait_for(lambda: driver["out_test"].delivered == 4)
    assert numbers(driver) == [0, 0, 2, 2]
    assert held(tmp_path / "b/quarantine")[0] == "manifest.jsonl"


class Wrapping(Output):
    """Has errors of its own."""

    def __init__(self) -> None:
        self.seen: list[int] = []

    def write(self, chunk: Chunk) -> None:
        try:
            self.seen = [record["i"] for _, record in chunk.stream()]
        except Exception as error:
            raise UnrecoverableError("this chunk is no good") from error


def test_rot_is_seen_behind_an_error_of_the_plugin(tmp_path: Path) -> None:
    config = buffered(f"@type file\npath {tmp_path}/b\nflush_mode lazy", type_name="wrapping")
    with run(config, plugins={("output", "wrapping"): Wrapping}) as driver:
        for i in range(3):
            driver.emit("a", {"i": i, "word": f"word{i}"})
    with run(config, plugins={("output", "wrapping"): Wrapping}) as driver:
        (segment,) = (tmp_path / "b").glob("*.seg")
        segment.write_bytes(segment.read_bytes().replace(b"word1", b"wurd1"))
        driver.flush()
        driver.wait_for(lambda: driver["out_wrapping"].delivered == 2)
        assert driver["out_wrapping"].lost == {"corrupt": 1}
        assert driver.plugin("out_wrapping").seen == [0, 2]


def backups(tmp_path: Path) -> dict[str, bytes]:
    base = tmp_path / "root"
    return {str(path.relative_to(base)): path.read_bytes() for path in base.rglob("*") if path.is_file()}


@pytest.mark.parametrize("kind", ["memory", "file"])
@pytest.mark.parametrize("disabled", [False, True])
def test_what_is_refused_for_good_is_backed_up(tmp_path: Path, kind: str, disabled: bool) -> None:
    system = f"<system>\nroot_dir {tmp_path}/root\n</system>\n"
    parameters = f"@type {kind}\npath {tmp_path}/b\n{FAST}\ndisable_chunk_backup {str(disabled).lower()}"
    with run(buffered(parameters, more="@id my/out\n", system=system)) as driver:
        refuse(driver.plugin("my/out"), UnrecoverableError("no"))
        driver.emit("a", {"i": 1})
        driver.wait_for(lambda: driver["my/out"].rejected)
        assert driver["my/out"].rejected == {"unrecoverable": 1}
        assert ("chunk is thrown away" in driver.log) is disabled
    found = backups(tmp_path)
    if disabled:
        assert found == {}
    else:
        ((path, content),) = found.items()
        assert path.startswith("backup/worker0/my_out/")
        assert path.endswith(".log")
        assert [record for _, record in EventStream(content)] == [{"i": 1}]


def test_a_backup_that_cannot_be_written_costs_no_event(tmp_path: Path) -> None:
    (tmp_path / "root").write_bytes(b"a file where a folder should be")
    system = f"<system>\nroot_dir {tmp_path}/root\n</system>\n"
    with run(buffered(f"@type file\npath {tmp_path}/b\n{FAST}", system=system)) as driver:
        refuse(driver.plugin("out_test"), UnrecoverableError("no"))
        driver.emit("a", {"i": 1})
        driver.wait_for(lambda: "cannot back up a bad chunk" in driver.log)
        refuse(driver.plugin("out_test"), None)
        driver.wait_for_events(1)
        driver.wait_for(lambda: driver["out_test"].delivered == 1)


def test_after_the_retries_a_chunk_is_put_aside_and_can_be_put_back(tmp_path: Path) -> None:
    system = f"<system>\nroot_dir {tmp_path}/root\n</system>\n"
    config = buffered(f"@type file\npath {tmp_path}/b\n{FAST}\nretry_max_times 1", "tag", "@id out\n", system)
    with run(config) as driver:
        refuse(driver.plugin("out"), OSError("down"))
        driver.emit("a", {"i": 1})
        driver.wait_for(lambda: driver["out"].lost)
        assert driver["out"].lost == {"retry_limit": 1}
        assert "chunk is evacuated" in driver.log
    aside = tmp_path / "root/buffer/out"
    assert len(held(aside)) == 2
    assert main(["buffer", "retry", "--path", f"{tmp_path}/b", "--from", str(aside)]) == 0
    assert held(aside) == []
    with run(config) as driver:
        driver.wait_for(lambda: driver["out"].delivered == 1)
        assert driver.events() == [("a", 1_700_000_000_000_000_000, {"i": 1})]
        assert driver["out"].recovered == 1


class Slow(Output):
    """Confirms when it is told to."""

    def __init__(self) -> None:
        self.chunks: list[bytes] = []

    def try_write(self, chunk: Chunk) -> None:
        self.chunks.append(chunk.id)


def test_a_chunk_without_confirmation_comes_again_also_after_a_restart(tmp_path: Path) -> None:
    parameters = f"@type file\npath {tmp_path}/b\n{FAST}\ndelayed_commit_timeout 0.05"
    config = buffered(parameters, type_name="slow")
    plugins = {("output", "slow"): Slow}
    with run(config, plugins=plugins) as driver:
        output = driver.plugin("out_slow")
        driver.emit("a", {"i": 1})
        driver.wait_for(lambda: len(output.chunks) >= 2)
        assert "chunk was not confirmed in time" in driver.log
        driver.stop(0.2)
    with run(config, plugins=plugins) as driver:
        again = driver.plugin("out_slow")
        driver.wait_for(lambda: again.chunks)
        assert {*again.chunks} == {*output.chunks}
        driver.wait_for(lambda: (again.commit(again.chunks[0]), driver["out_slow"].delivered)[1])
    assert held(tmp_path / "b") == []


class Half(Output):
    """Takes the first event of a chunk; the rest once it is told to."""

    def __init__(self) -> None:
        self.seen: list[list[int]] = []
        self.willing = False

    def write(self, chunk: Chunk) -> None:
        events = list(chunk.stream())
        self.seen.append([record["i"] for _, record in events])
        if not self.willing:
            rest = events[1:] or events
            raise PartialWrite("half", bytes(EventStream.from_events(rest)), len(rest))


@pytest.mark.parametrize("more", ["", "compress gzip", "fsync chunk"])
def test_a_part_that_was_delivered_does_not_come_again(tmp_path: Path, more: str) -> None:
    config = buffered(f"@type file\npath {tmp_path}/b\n{more}\n{FAST}", type_name="half")
    plugins = {("output", "half"): Half}
    with run(config, plugins=plugins) as driver:
        output = driver.plugin("out_half")
        driver.emit("a", *({"i": i} for i in range(3)))
        driver.wait_for(lambda: len(output.seen) >= 3)
        assert output.seen[:3] == [[0, 1, 2], [1, 2], [2]]
        driver.stop(1)
        assert driver["out_half"].delivered == 2
    with run(config, plugins=plugins, start=False) as driver:
        again = driver.plugin("out_half")
        again.willing = True
        driver.engine.start()
        driver.wait_for(lambda: driver["out_half"].delivered == 1)
        assert again.seen == [[2]]
    assert held(tmp_path / "b") == []


def test_the_oldest_chunk_makes_room(tmp_path: Path) -> None:
    parameters = "flush_mode lazy\ntotal_limit_size 100\noverflow_action drop_oldest_chunk"
    config = buffered(f"@type file\npath {tmp_path}/b\n{parameters}", "tag")
    with run(config) as driver:
        for name in "abc":
            driver.emit(name, {"i": 1, "text": "x" * 60})
        assert driver["out_test"].lost == {"overflow": 1}
    with run(config) as driver:
        driver.flush()
        driver.wait_for_events(2)
        assert sorted(event.tag for event in driver.events()) == ["b", "c"]


def test_while_queued_chunks_limit_size_is_reached_chunks_grow(tmp_path: Path) -> None:
    parameters = (
        f"@type file\npath {tmp_path}/b\nflush_interval 0.01\nqueued_chunks_limit_size 2\nretry_wait 60"
    )
    with run(buffered(parameters, "tag")) as driver:
        refuse(driver.plugin("out_test"), OSError("down"))
        for name in "abcd":
            driver.emit(name, {"i": 1})

        def state() -> tuple[int, int]:
            buffer = driver["out_test"].buffer
            assert buffer is not None
            return buffer.staged_chunks, buffer.queued_chunks

        driver.wait_for(lambda: state() == (2, 2))
        driver.stop(0.2)


class Lines(Output):
    """Writes lines to the file `path`."""

    def format_batch(self, batch: EventBatch) -> bytes:
        return b"".join(b"%d\n" % record["i"] for _, stream in batch.streams() for _, record in stream)

    def write(self, chunk: Chunk) -> None:
        raise OSError("down")


@pytest.mark.parametrize("compress", ["text", "gzip"])
@pytest.mark.parametrize("append", [False, True])
def test_secondary_file(tmp_path: Path, compress: str, append: bool) -> None:
    secondary = (
        f"<secondary>\n@type secondary_file\ndirectory {tmp_path}/out/${{tag}}\nbasename x\n"
        f"append {str(append).lower()}\ncompress {compress}\n</secondary>\n"
    )
    parameters = f"@type file\npath {tmp_path}/b\n{FAST}\nretry_max_times 3\nretry_secondary_threshold 0.01"
    config = buffered(parameters, "tag", secondary, type_name="lines")
    with run(config, plugins={("output", "lines"): Lines}) as driver:
        for i in range(2):
            driver.emit("a.b", {"i": i})
            driver.wait_for(lambda i=i: driver["out_lines"].by_secondary == i + 1)
    suffix = ".gz" if compress == "gzip" else ""
    names = [f"x{suffix}"] if append else [f"x.0{suffix}", f"x.1{suffix}"]
    folder = tmp_path / "out/a.b"
    assert held(folder) == names
    content = [(folder / name).read_bytes() for name in names]
    text = [gzip.decompress(data) if suffix else data for data in content]
    assert text == ([b"0\n1\n"] if append else [b"0\n", b"1\n"])


@pytest.mark.parametrize(
    ("inside", "words"),
    [
        ("basename a/b", "should not include"),
        ("basename %Y", "remove time formats"),
        ("basename ${tag}", "remove the tag placeholder"),
        ("basename ${host}", "remove the variable placeholder"),
        ("directory /dev/null/x", "should be writable"),
        ("compress zstd", "compress"),
    ],
)
def test_wrong_secondary_files(tmp_path: Path, inside: str, words: str) -> None:
    directory = "" if "directory" in inside else f"directory {tmp_path}\n"
    secondary = f"<secondary>\n@type secondary_file\n{directory}{inside}\n</secondary>\n"
    with pytest.raises(InvalidConfiguration, match=words):
        run(buffered("", more=secondary), start=False)


@pytest.mark.parametrize("method", ["gzip", "zstd"])
def test_memory_buffers_compress_too(method: str) -> None:
    with run(buffered(f"compress {method}\nflush_mode lazy")) as driver:
        for i in range(3):
            driver.emit("a", {"i": i, "text": "again " * 1000})
        buffer = driver["out_test"].buffer
        assert buffer is not None
        assert buffer.size_bytes < 1000
    assert numbers(driver) == [0, 1, 2]


def test_a_block_that_decompresses_to_too_much_is_refused(tmp_path: Path) -> None:
    config = buffered(f"@type file\npath {tmp_path}/b\ncompress gzip\n{FAST}\ndecompression_size_limit 1k")
    with run(config) as driver:
        driver.emit("a", {"i": 1, "text": "again " * 1000})
        driver.wait_for(lambda: driver["out_test"].rejected)
        assert "decompression_size_limit" in driver.log
        driver.emit("a", {"i": 2})
        driver.wait_for_events(1)
