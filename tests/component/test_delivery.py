"""Buffers, retries, secondaries and the end, through configuration text."""

from __future__ import annotations

import gc
import os
import time
import weakref
from threading import Event as Flag
from threading import Thread

import pytest

from forwarder.api import (
    BufferOverflow,
    Chunk,
    EventBatch,
    EventStream,
    Output,
    PartialWrite,
    Record,
    RecordFilter,
    UnrecoverableError,
)
from forwarder.api.testing import Capture, Driver, run
from forwarder.core.delivery import BufferedOutput

FAST = "retry_wait 0.01\nretry_randomize false\nflush_mode immediate"


def buffered(parameters: str, keys: str = "", more: str = "", type_name: str = "test") -> str:
    return f"<match **>\n@type {type_name}\n<buffer {keys}>\n{parameters}\n</buffer>\n{more}</match>"


def capture(driver: Driver, plugin_id: str = "out_test") -> Capture:
    found = driver.plugin(plugin_id)
    assert isinstance(found, Capture)
    return found


def fail_times(output: Capture, times: int, error: BaseException) -> None:
    output.fail_with = lambda _: error if output.attempts <= times else None


def test_events_wait_for_their_interval_or_the_end() -> None:
    with run(buffered("flush_interval 60s", "tag")) as driver:
        driver.emit("a", {"i": 1})
        driver.emit("b", {"i": 2})
        driver.emit("a", {"i": 3})
        buffer = driver["out_test"].buffer
        assert buffer is not None
        assert (buffer.events, buffer.staged_chunks, driver.events()) == (3, 2, [])
    assert sorted((event.tag, event.record["i"]) for event in driver.events()) == [
        ("a", 1),
        ("a", 3),
        ("b", 2),
    ]
    assert [chunk.count for chunk in capture(driver).chunks] == [2, 1]


@pytest.mark.parametrize(
    ("parameters", "keys", "due"),
    [
        ("flush_mode interval", "tag", 60.0),
        ("flush_mode interval\nflush_interval 5", "tag", 5.0),
        ("flush_mode lazy", "tag", None),  # when it is full, or at the end
        ("", "tag", 60.0),
        ("timekey 100", "time", None),  # when the slot is over
        ("timekey 100\nflush_mode interval\nflush_interval 5", "time", 5.0),
        ("flush_mode immediate", "tag", None),
    ],
)
def test_flush_mode_says_at_which_age_chunks_are_due(parameters: str, keys: str, due: float | None) -> None:
    with run(buffered(parameters, keys)) as driver:
        (placed,) = [placed for placed in driver.engine.plugins if isinstance(placed.node, BufferedOutput)]
        assert isinstance(placed.node, BufferedOutput)
        assert placed.node.limits.flush_seconds == due
        driver.emit("a", {"i": 1}, time_ns=time.time_ns())
        if parameters == "flush_mode immediate":
            driver.wait_for_events(1)
        else:
            assert driver["out_test"].buffer.staged_chunks == 1  # type: ignore[union-attr]


def test_a_short_interval_flushes_by_itself() -> None:
    with run(buffered("flush_interval 0.05")) as driver:
        driver.emit("a", {"i": 1})
        driver.wait_for_events(1)
        driver.emit("a", {"i": 2})
        driver.wait_for_events(2)


def test_old_time_slots_flush_and_new_ones_wait() -> None:
    with run(buffered("timekey 60\ntimekey_wait 0", "time")) as driver:
        driver.emit("a", {"i": "now"}, time_ns=time.time_ns() + 3600 * 10**9)
        driver.emit("a", {"i": "old"})
        assert [event.record["i"] for event in driver.wait_for_events(1)] == ["old"]
        (chunk,) = capture(driver).chunks
        assert chunk.key.timekey == 1_699_999_980
    assert len(driver.events()) == 2


def test_flush_at_once_on_request() -> None:
    with run(buffered("flush_mode lazy")) as driver:
        driver.emit("a", {"i": 1})
        driver.flush()
        driver.wait_for_events(1)


class Lines(Output):
    """Formats one line per event, and keeps what it wrote."""

    def __init__(self) -> None:
        self.chunks: list[list[bytes]] = []

    def format_batch(self, batch: EventBatch) -> bytes:
        return b"".join(record["m"].encode() + b"\n" for _, stream in batch.streams() for _, record in stream)

    def write(self, chunk: Chunk) -> None:
        self.chunks.append(list(chunk.blocks()))


class Content(list[bytes]):
    """Can be watched, other than a list."""


class Keeping(Output):
    """Fails, with the error in a variable, as one does that tries several servers: a cycle with its frame."""

    def __init__(self) -> None:
        self.held: list[weakref.ref[Content]] = []

    def write(self, chunk: Chunk) -> None:
        content = Content(chunk.blocks())
        self.held.append(weakref.ref(content))
        last = OSError("no server takes it")
        raise last


def test_the_content_of_a_chunk_that_failed_is_not_kept() -> None:
    gc.disable()  # which would end cycles some time
    try:
        config = buffered("retry_wait 1000\nflush_mode immediate", type_name="keeping")
        with run(config, plugins={("output", "keeping"): Keeping}) as driver:
            driver.emit("a", {"i": 1})
            driver.wait_for(lambda: driver["out_keeping"].failures == 1)
            output = driver.plugin("out_keeping")
            assert isinstance(output, Keeping)
            driver.wait_for(lambda: [ref() for ref in output.held] == [None])
    finally:
        gc.enable()


def test_a_batch_larger_than_a_chunk_is_cut_at_events() -> None:
    config = buffered("chunk_limit_size 100\nflush_thread_count 1", type_name="lines")
    with run(config, plugins={("output", "lines"): Lines}) as driver:
        driver.emit("a", *({"m": f"{i:09}"} for i in range(55)), {"m": "x" * 200}, {"m": "y"})
    chunks = driver.plugin("out_lines").chunks
    lines = b"".join(b"".join(blocks) for blocks in chunks).split()
    assert sorted(lines) == sorted([*(b"%09d" % i for i in range(55)), b"x" * 200, b"y"])
    sizes = [sum(map(len, blocks)) for blocks in chunks]
    assert [size for size in sizes if size > 100] == [201]
    assert driver["out_lines"].oversized == 1
    assert "larger than chunk_limit_size" in driver.log


def test_chunk_limit_records() -> None:
    with run(buffered("chunk_limit_records 10\nflush_mode lazy")) as driver:
        driver.emit("a", *({"i": i} for i in range(25)))
    assert sorted(record["i"] for record in driver.records()) == list(range(25))
    assert max(chunk.count for chunk in capture(driver).chunks) <= 10


@pytest.mark.parametrize("times", [1, 3])
def test_a_failed_chunk_is_retried_with_the_same_id(times: int) -> None:
    with run(buffered(FAST)) as driver:
        output = capture(driver)
        seen: list[bytes] = []

        def fail(chunk: object) -> OSError | None:
            seen.append(chunk.id)  # type: ignore[attr-defined]
            return OSError("down") if len(seen) <= times else None

        output.fail_with = fail
        driver.emit("a", {"i": 1})
        driver.wait_for_events(1)
        assert len(set(seen)) == 1
        driver.wait_for(lambda: driver["out_test"].flushes)
        metrics = driver["out_test"]
        assert (metrics.failures, metrics.retries, metrics.delivered) == (times, times, 1)
        assert "failed to flush a chunk" in driver.log
        assert "retry succeeded" in driver.log


def test_a_chunk_is_given_up_after_its_retries_and_the_next_goes_on() -> None:
    with run(buffered(FAST + "\nretry_max_times 2")) as driver:
        output = capture(driver)
        output.fail_with = lambda chunk: OSError("poison") if b"bad" in chunk.read() else None  # type: ignore
        driver.emit("a", {"i": "bad"})
        driver.emit("a", {"i": "good"})
        driver.wait_for(lambda: driver["out_test"].lost)
        assert driver["out_test"].lost == {"retry_limit": 1}
        driver.wait_for_events(1)
        assert output.attempts == 3 + 1
        assert "hit limit for retries" in driver.log


@pytest.mark.parametrize(
    "error", [UnrecoverableError("bad data"), TypeError("bug"), UnicodeError("bad text")]
)
def test_unrecoverable_errors_are_not_retried(error: Exception) -> None:
    with run(buffered(FAST)) as driver:
        fail_times(capture(driver), 1, error)
        driver.emit("a", {"i": 1})
        driver.wait_for(lambda: driver["out_test"].rejected)
        driver.emit("a", {"i": 2})
        driver.wait_for_events(1)
        assert driver["out_test"].rejected == {"unrecoverable": 1}
    assert driver.records() == [{"i": 2}]


class Other(Capture):
    """Another output type, for secondaries."""


SECONDARY = "<secondary>\n@type other\n@id second\n</secondary>\n"


def test_unrecoverable_chunks_go_to_the_secondary() -> None:
    config = buffered(FAST, "tag", SECONDARY)
    with run(config, plugins={("output", "other"): Other}) as driver:
        fail_times(capture(driver), 1, UnrecoverableError("bad data"))
        driver.emit("a", {"i": 1})
        assert driver.wait_for_events(1, "second")[0].tag == "a"
        driver.wait_for(lambda: driver["out_test"].flushes)
        metrics = driver["out_test"]
        assert (metrics.delivered, metrics.by_secondary, metrics.rejected) == (1, 1, {})


def test_the_secondary_takes_over_after_its_share_of_the_retries() -> None:
    config = buffered(FAST + "\nretry_max_times 3\nretry_secondary_threshold 0.3", "", SECONDARY)
    with run(config, plugins={("output", "other"): Other}) as driver:
        output = capture(driver)
        output.fail_with = lambda _: OSError("down")
        driver.emit("a", {"i": 1})
        driver.wait_for_events(1, "second")
        driver.wait_for(lambda: driver["out_test"].flushes)
        assert driver["out_test"].by_secondary == 1
        assert 1 <= output.attempts <= 3


def test_a_failing_secondary_loses_nothing_uncounted() -> None:
    config = buffered(FAST + "\nretry_max_times 2", "", SECONDARY)
    with run(config, plugins={("output", "other"): Other}) as driver:
        for plugin_id in ("out_test", "second"):
            capture(driver, plugin_id).fail_with = lambda _: OSError("down")
        driver.emit("a", {"i": 1})
        driver.wait_for(lambda: driver["out_test"].lost)
        assert driver["out_test"].lost == {"retry_limit": 1}


class Confirming(Output):
    """Delivers with `try_write`; the test confirms."""

    def __init__(self) -> None:
        self.tried: list[Chunk] = []

    def try_write(self, chunk: Chunk) -> None:
        self.tried.append(chunk)


def test_a_chunk_is_kept_until_it_is_confirmed() -> None:
    config = buffered("flush_mode immediate", type_name="confirming")
    with run(config, plugins={("output", "confirming"): Confirming}) as driver:
        output = driver.plugin("out_confirming")
        driver.emit("a", {"i": 1})
        driver.wait_for(lambda: output.tried)
        buffer = driver["out_confirming"].buffer
        assert buffer is not None
        assert (buffer.events, buffer.flying_chunks) == (1, 1)
        output.commit(b"some other id")
        output.commit(output.tried[0].id)
        output.commit(output.tried[0].id)
        assert driver["out_confirming"].delivered == 1


def test_a_chunk_that_is_not_confirmed_in_time_is_sent_again() -> None:
    config = buffered(FAST + "\ndelayed_commit_timeout 0.05", type_name="confirming")
    with run(config, plugins={("output", "confirming"): Confirming}) as driver:
        output = driver.plugin("out_confirming")
        driver.emit("a", {"i": 1})
        driver.wait_for(lambda: len(output.tried) >= 2)
        assert output.tried[0].id == output.tried[1].id
        # by the time of the confirmation the chunk may wait for its next try
        driver.wait_for(lambda: output.commit(output.tried[0].id) or driver["out_confirming"].delivered)
    assert driver["out_confirming"].delivered == 1


class Twice(RecordFilter):
    """Doubles `i`."""

    def filter_record(self, tag: str, time_ns: int, record: Record) -> Record:
        return {"i": record["i"] * 2}


SMALL = "flush_mode lazy\ntotal_limit_size 100\n"


def fill(driver: Driver) -> int:
    """Emits until the buffer is full; how many events it took."""
    for number in range(100):
        buffer = driver["out_test"].buffer
        assert buffer is not None
        if buffer.size_bytes >= 100:
            return number
        driver.emit("a", {"i": number})
    raise AssertionError("never full")


def test_overflow_throw_exception_tells_the_input() -> None:
    with run(buffered(SMALL)) as driver:
        count = fill(driver)
        with pytest.raises(BufferOverflow, match="out_test"):
            driver.emit("a", {"i": "too much"})
        driver.flush()
        driver.wait_for_events(count)
        driver.wait_for(lambda: driver["out_test"].flushes)
        driver.emit("a", {"i": "again"})
    assert driver.records()[-1] == {"i": "again"}


def test_overflow_goes_to_the_error_label_where_there_is_one() -> None:
    """Filtered, as the output would have got it; the store beside the full one gets its events."""
    config = f"""
        <filter **>
          @type twice
        </filter>
        <match **>
          @type copy
          <store>
            @type test
            @id full
            <buffer>
              {SMALL}
            </buffer>
          </store>
          <store>
            @type test
            @id beside
          </store>
        </match>
        <label @ERROR>
          <match **>
            @type test
            @id error
          </match>
        </label>
    """
    with run(config, plugins={("filter", "twice"): Twice}) as driver:
        for number in range(40):
            driver.emit("a", {"i": number})
        assert len(driver.events("beside")) == 40
        caught = driver.records("error")
        assert caught[-1] == {"i": 78}
        assert 0 < len(caught) < 40
    assert driver["full"].to_error == len(caught)
    assert len(driver.events("full")) == 40 - len(caught)


def test_an_error_label_without_room_tells_the_input() -> None:
    config = buffered(SMALL) + (
        "\n"
        f"<label @ERROR>\n<match **>\n@type test\n@id error\n<buffer>\n{SMALL}\n</buffer>\n</match>\n</label>"
    )
    with run(config) as driver:
        for number in range(100):
            try:
                driver.emit("a", {"i": number})
            except BufferOverflow:
                break
        else:
            raise AssertionError("the input was never told")
        driver.flush()
        driver.wait_for_events(2, "error")


def test_overflow_drop_oldest_chunk_counts_what_it_drops() -> None:
    with run(buffered(SMALL + "overflow_action drop_oldest_chunk\nchunk_limit_records 1")) as driver:
        output = capture(driver)
        gate = Flag()
        output.fail_with = lambda _: gate.wait(10) and None
        for number in range(50):
            driver.emit("a", {"i": number})
        gate.set()
    lost = driver["out_test"].lost["overflow"]
    assert lost > 0
    assert len(driver.records()) == 50 - lost
    assert {"i": 49} in driver.records()


def test_overflow_block_makes_the_input_wait_until_there_is_room() -> None:
    with run(buffered(SMALL + "overflow_action block")) as driver:
        count = fill(driver)
        done = Flag()
        thread = Thread(target=lambda: (driver.emit("a", {"i": "waited"}), done.set()))
        thread.start()
        driver.wait_for(lambda: "input waits" in driver.log)
        assert not done.is_set()
        driver.flush()
        assert done.wait(10)
        thread.join()
        assert len(driver.wait_for_events(count)) >= count
    assert driver.records()[-1] == {"i": "waited"}


def test_overflow_block_ends_at_the_stop() -> None:
    driver = run(buffered(SMALL + "overflow_action block\nflush_at_shutdown false"))
    fill(driver)
    raised: list[BaseException] = []

    def emit() -> None:
        try:
            driver.emit("a", {})
        except BufferOverflow as error:
            raised.append(error)

    thread = Thread(target=emit)
    thread.start()
    driver.wait_for(lambda: "input waits" in driver.log)
    driver.stop()
    thread.join(10)
    assert not thread.is_alive()
    assert len(raised) == 1


def test_what_is_left_at_the_stop_is_counted_and_named() -> None:
    driver = run(buffered("retry_wait 100\nflush_mode immediate"))
    output = capture(driver)
    output.fail_with = lambda _: OSError("down")
    driver.emit("a", {"i": 1}, {"i": 2})
    driver.wait_for(lambda: driver["out_test"].failures)
    driver.stop()
    assert output.attempts == 2  # one more try, without the wait
    metrics = driver["out_test"]
    assert (metrics.lost, metrics.balance) == ({"shutdown": 2}, 0)
    assert "#out_test events left in the memory buffer at shutdown are lost events=2" in driver.log


def test_a_hanging_output_cannot_hold_up_the_stop() -> None:
    driver = run(buffered("flush_mode immediate"))
    gate = Flag()
    capture(driver).fail_with = lambda _: gate.wait(30) and None
    driver.emit("a", {"i": 1})
    driver.wait_for(lambda: capture(driver).attempts)
    driver.stop(0.2)
    assert driver["out_test"].lost == {"shutdown": 1}
    gate.set()


def test_no_flush_at_shutdown_loses_what_it_says() -> None:
    with run(buffered("flush_mode lazy\nflush_at_shutdown false")) as driver:
        driver.emit("a", {"i": 1})
    assert driver["out_test"].lost == {"shutdown": 1}
    assert "flush_at_shutdown false" in driver.diagnostics.warnings[0].message


def test_several_flush_threads_write_at_the_same_time() -> None:
    with run(buffered("flush_mode immediate\nflush_thread_count 4", "tag")) as driver:
        output = capture(driver)
        gate = Flag()
        output.fail_with = lambda _: gate.wait(10) and None
        for tag in "abcd":
            driver.emit(tag, {"i": tag})
        driver.wait_for(lambda: output.attempts == 4)
        gate.set()
    assert sorted(record["i"] for record in driver.records()) == list("abcd")


def test_many_threads_emit_and_nothing_is_lost_or_doubled() -> None:
    parameters = "flush_interval 0.01\nchunk_limit_size 2k\nflush_thread_count 2\nretry_wait 0.01"
    with run(buffered(parameters, "tag")) as driver:
        output = capture(driver)
        # every tenth attempt fails
        output.fail_with = lambda _: OSError("now and then") if output.attempts % 10 == 0 else None

        def emit(name: str) -> None:
            for start in range(0, 500, 10):
                driver.emit(name, *({"n": name, "i": start + i} for i in range(10)))

        threads = [Thread(target=emit, args=(name,)) for name in "abcd"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        driver.wait_for_events(2000)
        driver.wait_for(lambda: driver["out_test"].delivered == 2000)
    found = sorted((record["n"], record["i"]) for record in driver.records())
    assert found == [(name, i) for name in "abcd" for i in range(500)]


class Formatless(Lines):
    def format_batch(self, batch: EventBatch) -> bytes:
        if any(record.get("bad") for _, stream in batch.streams() for _, record in stream):
            raise ValueError("cannot format this")
        return b"ok\n"


def test_a_batch_that_cannot_be_formatted_costs_only_itself() -> None:
    config = buffered("", type_name="lines") + "\n<label @ERROR>\n<match **>\n@type test\n</match>\n</label>"
    with run(config, plugins={("output", "lines"): Formatless}) as driver:
        driver.emit("a", {"m": "x"})
        driver.emit("a", {"bad": True})
    assert driver.records() == [{"bad": True}]
    assert (driver["out_lines"].delivered, driver["out_lines"].to_error) == (1, 1)


def test_flush_threads_sleep_when_there_is_nothing_to_do() -> None:
    """Idle: the process's threads are not scheduled for as long as nothing is due."""

    def switches() -> int:
        total = 0
        for task in os.listdir("/proc/self/task"):
            if int(task) != main:
                with open(f"/proc/self/task/{task}/status", encoding="ascii") as file:
                    total += sum(int(line.split()[1]) for line in file if "ctxt_switches" in line)
        return total

    main = os.getpid()
    with run(buffered("flush_thread_count 4\nflush_interval 60")) as driver:
        driver.emit("a", {"i": 1})
        flag = Flag()
        flag.wait(0.3)
        before = switches()
        flag.wait(1.0)
        assert switches() - before <= 5


def test_streams_are_the_events_as_they_came() -> None:
    stream = EventStream.from_events([(1, {"i": 1, "b": b"\xff"})])
    with run(buffered("flush_mode immediate", "tag")) as driver:
        driver.emit_batch(EventBatch([("a", stream)]))
        driver.wait_for_events(1)
    assert capture(driver).chunks[0].read() == bytes(stream)


class Picky(Output):
    """Takes even numbers, sends those that are divisible by 3 to @ERROR, and the others back, once each."""

    def __init__(self) -> None:
        self.written: list[list[int]] = []

    def write(self, chunk: Chunk) -> None:
        events = list(chunk.stream())
        self.written.append([record["i"] for _, record in events])
        bad = [event for event in events if event[1]["i"] % 3 == 0]
        self.context.emit_error(EventBatch([("a", EventStream.from_events(bad))]), "bad", "divisible by 3")
        rest = [event for event in events if event[1]["i"] % 2 and event not in bad]
        if len(self.written) == 1:
            raise PartialWrite("odd", bytes(EventStream.from_events(rest)), len(rest))


@pytest.mark.parametrize("error_label", [True, False])
def test_only_the_rest_of_a_partly_written_chunk_is_tried_again(error_label: bool) -> None:
    config = buffered("retry_wait 0.01\nretry_randomize false\nflush_mode lazy", type_name="picky")
    if error_label:
        config += "\n<label @ERROR>\n<match **>\n@type test\n@id errors\n</match>\n</label>"
    with run(config, plugins={("output", "picky"): Picky}) as driver:
        driver.emit("a", *({"i": i} for i in range(1, 9)))
        driver.flush()
        driver.wait_for(lambda: driver["out_picky"].flushes == 1)
        books = driver["out_picky"]
        assert driver.plugin("out_picky").written == [[1, 2, 3, 4, 5, 6, 7, 8], [1, 5, 7]]
        assert (books.delivered, books.failures, books.retries) == (6, 1, 1)
        assert (books.to_error, books.lost) == ((2, {}) if error_label else (0, {"bad": 2}))
        assert [event.record["i"] for event in driver.events()] == ([3, 6] if error_label else [])


class Confused(Output):
    """Names a reason for its events, and fails all the same, once."""

    failure: Exception = RuntimeError("later")
    attempts = 0

    def write(self, chunk: Chunk) -> None:
        self.attempts += 1
        self.context.emit_error(EventBatch([("a", chunk.stream())]), "bad", "no")
        if self.attempts == 1:
            raise self.failure


@pytest.mark.parametrize("failure", [RuntimeError("later"), UnrecoverableError("never")])
@pytest.mark.parametrize("secondary", ["", "<secondary>\n@type test\n</secondary>\n"])
def test_the_books_balance_when_a_write_explains_events_and_fails(failure: Exception, secondary: str) -> None:
    config = buffered(
        "retry_wait 0.01\nretry_randomize false\nflush_mode lazy", more=secondary, type_name="confused"
    )
    with run(config, plugins={("output", "confused"): Confused}) as driver:
        driver.plugin("out_confused").failure = failure
        driver.emit("a", {"i": 1}, {"i": 2})
        driver.flush()
        driver.wait_for(lambda: driver["out_confused"].buffer.events == 0)


def test_what_a_secondary_rejects_is_in_its_own_books() -> None:
    config = buffered(
        "retry_wait 0.01\nretry_randomize false\nflush_mode lazy\nretry_max_times 2",
        more="<secondary>\n@type confused\n@id second\n</secondary>\n",
    )
    with run(config, plugins={("output", "confused"): Confused}) as driver:
        capture(driver).fail_with = lambda _: UnrecoverableError("never")
        driver.plugin("second").attempts = 1
        driver.emit("a", {"i": 1}, {"i": 2})
        driver.flush()
        driver.wait_for(lambda: driver["out_test"].delivered == 2)
        assert driver["second"].lost == {"bad": 2}


def test_a_secondary_that_explains_events_and_fails_leaves_the_books_balanced() -> None:
    config = buffered(
        "retry_wait 0.01\nretry_randomize false\nflush_mode lazy\nretry_max_times 5\n"
        "retry_secondary_threshold 0.01",
        more="<secondary>\n@type confused\n@id second\n</secondary>\n",
    )
    with run(config, plugins={("output", "confused"): Confused}) as driver:
        capture(driver).fail_with = lambda _: OSError("down")
        driver.emit("a", {"i": 1}, {"i": 2})
        driver.flush()
        driver.wait_for(
            lambda: driver.metrics().totals().in_flight >= 0 and driver["out_test"].delivered == 2
        )
        totals = driver.metrics().totals()
        assert (totals.in_flight, totals.added, totals.lost) == (0, 2, 4)


def test_a_chunk_that_always_fails_does_not_keep_younger_ones_from_being_queued() -> None:
    fast = "flush_interval 0.02\nflush_thread_interval 0.01\nretry_wait 0.01\nretry_max_interval 0.02"
    with run(buffered(fast, "tag")) as driver:
        output = capture(driver)
        output.fail_with = lambda chunk: OSError("no") if chunk.key.tag == "bad" else None  # type: ignore[union-attr]
        driver.emit("bad", {"i": 1})
        driver.wait_for(lambda: driver["out_test"].failures >= 3)
        driver.emit("good", {"i": 2})
        driver.wait_for_events(1)
        output.fail_with = lambda _: None
        driver.wait_for_events(2)


def test_while_everything_fails_most_chunks_grow_instead_of_being_queued() -> None:
    fast = "flush_interval 0.01\nflush_thread_interval 0.01\nretry_type periodic\nretry_wait 0.01"
    with run(buffered(fast, "tag")) as driver:
        output = capture(driver)
        output.fail_with = lambda _: OSError("no")
        for number in range(40):
            driver.emit(f"t{number}", {"i": number})
        driver.wait_for(lambda: driver["out_test"].failures >= 100)
        buffer = driver["out_test"].buffer
        assert buffer is not None
        assert buffer.staged_chunks >= 40 - 16 - 2
        output.fail_with = lambda _: None
        driver.wait_for_events(40)


def test_chunks_that_always_fail_do_not_hold_up_the_others() -> None:
    parameters = "retry_wait 0\nretry_type periodic\nretry_forever true\nflush_mode immediate"
    with run(buffered(parameters, "tag")) as driver:
        output = capture(driver)
        output.fail_with = lambda chunk: OSError("poison") if b"bad" in chunk.read() else None  # type: ignore
        for number in range(3):
            driver.emit(f"bad{number}", {"i": "bad"})
        for number in range(20):
            driver.emit(f"good{number}", {"i": number})
        driver.wait_for_events(20)
        output.fail_with = lambda _: None
        driver.wait_for_events(23)


def test_a_destination_that_is_down_is_asked_by_one_chunk_at_a_time() -> None:
    """Two different chunks have failed in a row: the third one waits, however long it has not been tried."""
    with run(buffered("retry_wait 1000\nretry_randomize false\nflush_mode immediate", "tag")) as driver:
        output = capture(driver)
        output.fail_with = lambda _: OSError("down")
        for number in range(5):
            driver.emit(f"t{number}", {"i": number})
            if number < 2:
                driver.wait_for(lambda number=number: driver["out_test"].failures == number + 1)
        buffer = driver["out_test"].buffer
        assert buffer is not None
        assert (buffer.queued_chunks, buffer.retry.chunks) == (5, 2)
        output.fail_with = lambda _: None
    assert output.attempts == 2 + 5  # the stop gives each one more
    assert sorted(record["i"] for record in driver.records()) == list(range(5))


def reject(output: Capture, marker: bytes) -> None:
    output.fail_with = lambda chunk: UnrecoverableError("odd") if marker in chunk.read() else None  # type: ignore


@pytest.mark.parametrize("to", ["error label", "secondary", "backup"])
def test_only_the_bad_events_of_a_rejected_chunk_are_put_aside(to: str) -> None:
    config = buffered(FAST.replace("immediate", "lazy"), "tag", SECONDARY if to == "secondary" else "")
    if to == "error label":
        config += "\n<label @ERROR>\n<match **>\n@type test\n@id second\n</match>\n</label>"
    with run(config, plugins={("output", "other"): Other}) as driver:
        reject(capture(driver), b"bad")
        driver.emit("a", *({"i": "bad" if i in (3, 77) else str(i)} for i in range(100)))
        driver.flush()
        driver.wait_for(lambda: driver["out_test"].buffer.events == 0)  # type: ignore[union-attr]
        good = [record["i"] for record in driver.records("out_test")]
        assert good == [str(i) for i in range(100) if i not in (3, 77)]
        books = driver["out_test"]
        if to == "backup":
            assert (books.delivered, books.rejected) == (98, {"unrecoverable": 2})
        else:
            assert [record["i"] for record in driver.records("second")] == ["bad", "bad"]
            assert (books.by_secondary, books.to_error) == ((2, 0) if to == "secondary" else (0, 2))
        assert driver.metrics().totals().in_flight == 0


def test_a_destination_that_goes_down_within_a_rejected_chunk_gets_the_rest_later() -> None:
    with run(buffered(FAST.replace("immediate", "lazy"), "tag")) as driver:
        output = capture(driver)

        def fail(chunk: Chunk | EventBatch) -> BaseException | None:
            if output.attempts == 3:
                return OSError("down")
            return UnrecoverableError("odd") if b"bad" in chunk.read() else None  # type: ignore[union-attr]

        output.fail_with = fail
        driver.emit("a", *({"i": "bad" if i == 60 else str(i)} for i in range(100)))
        driver.flush()
        driver.wait_for(lambda: driver["out_test"].buffer.events == 0)  # type: ignore[union-attr]
        good = [record["i"] for record in driver.records("out_test")]
        assert good == [str(i) for i in range(100) if i != 60]
        assert driver["out_test"].rejected == {"unrecoverable": 1}
        assert driver["out_test"].retries == 1


@pytest.mark.parametrize(
    ("parameter", "times"),
    [("", [1_700_000_000_250_000_000]), ("time_as_integer true", [1_700_000_000 * 10**9])],
)
def test_whole_seconds_in_chunks(parameter: str, times: list[int]) -> None:
    with run(buffered("flush_mode immediate", more=f"{parameter}\n")) as driver:
        driver.emit("t", {"a": 1}, time_ns=1_700_000_000_250_000_000)
        driver.wait_for_events(1)
        assert [event.time_ns for event in driver.events()] == times
        [chunk] = capture(driver).chunks
        # an integer on the wire, not an EventTime of a whole second
        assert (chunk.read()[1] == 0xCE) is (parameter != "")
