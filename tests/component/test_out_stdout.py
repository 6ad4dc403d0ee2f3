"""`@type stdout` as output and filter: what arrives on file descriptor 1."""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from forwarder.api import EventBatch, EventStream, Formatter
from forwarder.api.buffering import BufferSection
from forwarder.api.inject import Inject
from forwarder.api.stdout import write_stdout
from forwarder.plugins.filters.filter_stdout import StdoutFilter
from forwarder.plugins.formatters.json import JsonFormatter
from forwarder.plugins.outputs.out_stdout import StdoutOutput

TIME = 1_700_000_000_000_000_000


@contextmanager
def piped() -> Iterator[int]:
    """The reading end of a pipe that is standard output meanwhile.

    No fixture: pytest puts its own file at descriptor 1 between a fixture and its test.
    """
    reading, writing = os.pipe()
    kept = os.dup(1)
    os.dup2(writing, 1)
    os.close(writing)
    try:
        yield reading
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(reading)


class Slow(Formatter):
    """A formatter in Python."""

    def format(self, tag: str, time_ns: int, record: dict[str, Any]) -> bytes:
        return f"{tag} {record['n']}\r\n".encode()


def plugin(cls: type[StdoutOutput] | type[StdoutFilter], formatter: Formatter, **params: Any) -> Any:
    made = cls()
    messages: list[str] = []
    made.context = SimpleNamespace(  # type: ignore[assignment]
        worker_id=0, log_repeated=lambda message, **_: messages.append(message), messages=messages
    )
    if not isinstance(formatter, Slow):
        formatter.configure()
    for name, value in {"format": formatter, "buffer": BufferSection(), **params}.items():
        setattr(made, name, value)
    made.configure()
    return made


def json_formatter(**params: Any) -> JsonFormatter:
    formatter = JsonFormatter()
    for name, value in params.items():
        setattr(formatter, name, value)
    return formatter


def events(count: int) -> EventBatch:
    return EventBatch([("t", EventStream.from_events((TIME, {"n": n}) for n in range(count)))])


def test_one_line_an_event() -> None:
    with piped() as reader:
        plugin(StdoutOutput, json_formatter(add_newline=False)).process_batch(events(2))
        plugin(StdoutOutput, json_formatter(newline="crlf")).process_batch(events(1))
        assert os.read(reader, 1000) == b'{"n":0}\n{"n":1}\n{"n":0}\n'


def test_a_formatter_in_python() -> None:
    with piped() as reader:
        plugin(StdoutOutput, Slow()).process_batch(events(2))
        assert os.read(reader, 1000) == b"t 0\nt 1\n"


def test_one_write_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    with piped():
        sizes: list[int] = []
        real = os.write
        monkeypatch.setattr(os, "write", lambda fd, data: sizes.append(len(data)) or real(fd, data))
        plugin(StdoutOutput, json_formatter()).process_batch(events(100))
        assert len(sizes) == 1


def test_fields_are_injected() -> None:
    with piped() as reader:
        inject = Inject()
        inject.tag_key = "tag"  # type: ignore[assignment]
        inject.configure()
        plugin(StdoutOutput, json_formatter(), inject=inject).process_batch(events(1))
        assert os.read(reader, 1000) == b'{"n":0,"tag":"t"}\n'


def test_the_filter_prints_injected_fields_and_passes_events_on_as_they_are() -> None:
    with piped() as reader:
        inject = Inject()
        inject.tag_key = "tag"  # type: ignore[assignment]
        inject.configure()
        batch = events(1)
        assert plugin(StdoutFilter, json_formatter(), inject=inject).filter_batch(batch) is batch
        assert os.read(reader, 1000) == b'{"n":0,"tag":"t"}\n'


def test_a_reader_that_is_gone_is_an_error_for_the_engine_to_count() -> None:
    reading, writing = os.pipe()
    kept = os.dup(1)
    os.dup2(writing, 1)
    os.close(writing)
    os.close(reading)
    out = plugin(StdoutOutput, json_formatter())
    printing = plugin(StdoutFilter, json_formatter())
    batch = events(3)
    try:
        with pytest.raises(BrokenPipeError):
            out.process_batch(batch)
        passed = printing.filter_batch(batch)
    finally:
        os.dup2(kept, 1)
        os.close(kept)
    assert passed is batch
    assert "Broken pipe" in printing.context.messages[0]


def test_a_full_pipe_that_does_not_block_is_waited_for() -> None:
    with piped() as reader:
        os.set_blocking(1, False)
        text = b"x" * 1_000_000 + b"\n"
        writer = threading.Thread(target=write_stdout, args=((text,),))
        writer.start()
        received = b""
        while len(received) < len(text):
            assert select.select([reader], [], [], 10)[0], "nothing to read"
            received += os.read(reader, 1 << 20)
        writer.join()
        assert received == text


def test_threads_do_not_mix_their_lines() -> None:
    with piped() as reader:
        texts = [bytes([97 + number]) * 200_000 + b"\n" for number in range(4)]
        threads = [threading.Thread(target=write_stdout, args=((text[:9], text[9:]),)) for text in texts]
        for thread in threads:
            thread.start()
        received = b""
        while len(received) < sum(map(len, texts)):
            assert select.select([reader], [], [], 10)[0], "nothing to read"
            received += os.read(reader, 1 << 20)
        for thread in threads:
            thread.join()
        assert sorted(received.splitlines(keepends=True)) == texts
