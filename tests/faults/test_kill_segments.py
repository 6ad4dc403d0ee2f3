"""SIGKILL while small segments take each other's place: in the middle of an append, a renaming, a removal."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from forwarder.buffer.compression import codec
from forwarder.buffer.file import FileBuffer, FileOptions
from forwarder.buffer.limits import Limits
from forwarder.buffer.place import place

_CHILD = """
import random, sys
from forwarder.buffer.chunk import Key
from test_kill_segments import buffer, content

chance = random.Random(int(sys.argv[2]))
number = int(sys.argv[2]) * 1_000_000
now = 0.0
held = buffer(sys.argv[1])
print(held.open(now, 1000.0).bad_bytes, flush=True)
while True:
    now += 1.0
    fresh = range(number, number + chance.randint(1, 4))
    number = fresh.stop
    blocks = [(Key("t", None, ()), content(each, chance.choice([0, 10, 1000, 300_000])), 1) for each in fresh]
    held.append_all(blocks, now, 1000.0 + now, queue=chance.random() < 0.5)
    print("appended", *fresh, flush=True)
    while chance.random() < 0.6 and (chunk := held.take(now)) is not None:
        print("delivered", *(int(block[:12]) for block in chunk.blocks()), flush=True)
        held.remove(chunk)
"""


def buffer(folder: str) -> FileBuffer:
    """With segments of about 1 MB, and nothing kept in memory."""
    where = place(folder, ".log", single=False)
    limits = Limits(chunk_bytes=700_000, total_bytes=1 << 30)
    return FileBuffer(
        limits, FileOptions(where, codec("text"), entries=False, segment_bytes=1_000_000, recent_bytes=0)
    )


def content(number: int, size: int) -> bytes:
    """A block that shows whether it is whole."""
    return b"%012d" % number + bytes([number % 251]) * size


def numbers(said: list[str], word: str) -> set[int]:
    return {int(each) for line in said for each in line.split()[1:] if line.startswith(f"{word} ")}


@pytest.mark.parametrize("kills", [4, pytest.param(100, marks=pytest.mark.slow)])
def test_kill(tmp_path: Path, kills: int) -> None:
    folder = tmp_path / "buffer"
    chance = random.Random(kills)
    said: list[str] = []
    for round_ in range(kills):
        child = subprocess.Popen(
            [sys.executable, "-c", _CHILD, str(folder), str(round_)], stdout=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )  # fmt: skip
        assert child.stdout is not None
        # at most the append that was cut short, not what an older segment has left behind it
        assert int(child.stdout.readline()) <= 4 * 300_100
        time.sleep(chance.uniform(0, 0.05))  # any moment: nothing is waited for
        child.send_signal(signal.SIGKILL)
        # a line that was cut short says nothing: its end may be missing
        said += [line for line in child.stdout.read().splitlines(keepends=True) if line.endswith("\n")]
        child.stdout.close()
        child.wait()
    left = buffer(str(folder))
    found = left.open(0.0, 1000.0)
    assert found.journal_entries == 0
    left.queue_all()
    there = set()
    while (chunk := left.take(1.0)) is not None:
        for block in chunk.blocks():
            number = int(block[:12])
            assert block == content(number, len(block) - 12)
            there.add(number)
        left.remove(chunk)
    left.close()
    appended = numbers(said, "appended")
    assert len(appended) > kills
    assert appended - numbers(said, "delivered") - there == set()
    assert not list(folder.glob("segment-*"))
