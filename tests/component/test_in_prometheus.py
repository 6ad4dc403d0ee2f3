"""`@type prometheus`: what a scrape shows, that its books balance while events flow, and the probes."""

from __future__ import annotations

import gzip
import itertools
import json
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from forwarder.api import (
    BufferOverflow,
    Chunk,
    EventBatch,
    EventStream,
    Filter,
    Input,
    Output,
    PartialWrite,
    UnrecoverableError,
)
from forwarder.api.metrics import FLUSH_BUCKETS, Family, Sample
from forwarder.api.testing import Capture, Driver, run
from forwarder.config import InvalidConfiguration

SOURCE = """
<source>
  @type prometheus
  port 0
</source>
"""
LOST_AND_FOUND = """
<label @ERROR>
  <match **>
    @type test
    @id error
  </match>
</label>
"""

Numbers = dict[tuple[str, frozenset[tuple[str, str]]], float]


class Scrape:
    """The numbers of one page."""

    def __init__(self, text: str) -> None:
        self.kinds: dict[str, str] = {}
        self.numbers: Numbers = {}
        for family in text_string_to_metric_families(text):
            self.kinds[family.name] = family.type
            for sample in family.samples:
                key = sample.name, frozenset(sample.labels.items())
                assert key not in self.numbers, f"twice on the page: {key}"
                self.numbers[key] = sample.value

    def __getitem__(self, name: str) -> float:
        """Of the samples without labels."""
        return self.numbers["forwarder_" + name, frozenset()]

    def of(self, plugin_id: str, name: str, **labels: str) -> float:
        """Of a plugin; 0 where the page has none."""
        wanted = {"plugin_id": plugin_id, **labels}.items()
        return sum(
            value
            for (each, found), value in self.numbers.items()
            if each == "forwarder_" + name and wanted <= found
        )


def fetch(driver: Driver, path: str) -> tuple[int, bytes, dict[str, str]]:
    url = f"http://127.0.0.1:{driver.plugin('in_prometheus').bound_port}{path}"
    try:
        with urllib.request.urlopen(url, timeout=10) as response:
            return response.status, response.read(), dict(response.headers)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read(), dict(error.headers)


def scrape(driver: Driver) -> Scrape:
    status, body, headers = fetch(driver, "/metrics")
    assert (status, headers["Content-Type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    return Scrape(body.decode())


def balance(page: Scrape) -> float:
    """What the page leaves unexplained, but for the events in flight."""
    came = sum(page[f"ledger_{name}_events_total"] for name in ("received", "added", "recovered"))
    went = sum(page[f"ledger_{name}_events_total"] for name in ("delivered", "filtered", "lost", "rejected"))
    return came - went - page["ledger_buffered_events"]


def test_a_page_shows_each_plugin() -> None:
    with run(
        SOURCE
        + """
        <source>
          @type syslog
          @id in
          port 0
          tag s
          <parse>
            @type syslog
            with_priority true
          </parse>
        </source>
        <filter s.**>
          @type parser
          @id parse
          key_name message
          <parse>
            @type regexp
            expression /^(?<number>\\d+)$/
          </parse>
        </filter>
        <match s.**>
          @type test
          @id out
          <buffer>
            flush_interval 3600s
          </buffer>
        </match>
        """
        + LOST_AND_FOUND
    ) as driver:
        line = "<13>Nov 23 18:00:00 host app: {}"
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            for text in (line.format(1), line.format(2), line.format("x"), "no syslog"):
                sock.sendto(text.encode(), ("127.0.0.1", driver.plugin("in").bound_port))
        driver.wait_for(lambda: driver["in"].received == 4 and driver["out"].received == 2)
        page = scrape(driver)
        assert page.of("in", "received_events_total") == 4
        assert page.of("in", "emitted_events_total") == 3
        assert page.of("in", "lost_events_total", reason="unmatched", type="syslog", category="input") == 1
        assert page.of("parse", "received_events_total") == 3
        assert page.of("parse", "error_label_events_total", reason="unmatched") == 1
        assert page.of("out", "buffer_events") == 2
        assert page.of("out", "buffer_chunks", state="staged") == 1
        assert page.of("out", "buffer_bytes") > 10
        assert 0 < page.of("out", "buffer_oldest_chunk_age_seconds") < 60
        assert page.of("out", "delivered_events_total") == 0
        assert page.of("error", "delivered_events_total") == 1
        assert (balance(page), page["ledger_in_flight_events"]) == (0, 0)
        driver.flush()
        driver.wait_for(lambda: driver["out"].delivered == 2)
        page = scrape(driver)
        assert page.of("out", "delivered_events_total") == 2
        assert page.of("out", "flushes_total") == 1
        assert page.of("out", "flush_duration_seconds_count") == 1
        assert page.of("out", "flush_duration_seconds_bucket", le="+Inf") == 1
        assert page.of("out", "flush_duration_seconds_bucket", le=repr(FLUSH_BUCKETS[-1])) == 1
        assert page.of("out", "flush_duration_seconds_sum") < 60
        assert page.of("out", "buffer_oldest_chunk_age_seconds") == 0
        assert page.kinds["forwarder_flush_duration_seconds"] == "histogram"
        assert page.kinds["forwarder_received_events"] == "counter"
        assert page.kinds["forwarder_buffer_bytes"] == "gauge"
        assert page.numbers["process_resident_memory_bytes", frozenset()] > 1e6


class Burst(Input):
    """Emits batches as fast as it can, from two threads, until it is stopped."""

    def start(self) -> None:
        self._stopping = threading.Event()
        self.batch = EventBatch(
            [(f"t.{tag}", EventStream.from_events([(0, {"n": n}) for n in range(50)])) for tag in range(4)]
        )
        self._threads = [threading.Thread(target=self._run, args=(books,)) for books in (True, False)]
        for thread in self._threads[: 1 if self.context.id == "books" else 2]:
            thread.start()

    def _run(self, books: bool) -> None:
        books = books and self.context.id == "books"
        tries = 0
        while not self._stopping.is_set():
            if books:
                self.context.received(len(self.batch))
            while True:
                tries += 1
                try:
                    self.emit_batch(self.batch)
                except BufferOverflow:
                    if tries % 3 == 0 or self._stopping.is_set():
                        self.context.drop(len(self.batch), "overflow")
                        break
                else:
                    break

    def stop(self) -> None:
        self._stopping.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join()


class Half(Filter):
    """Leaves out half of a stream, or doubles it."""

    def filter(self, tag: str, stream: EventStream) -> EventStream:
        return stream + stream if tag == "t.0" else EventStream(bytes(stream)[: stream.nbytes // 2])


class Flaky(Output):
    """Fails every third time; some chunks for good, some in part."""

    calls = 0

    def write(self, chunk: Chunk) -> None:
        self.calls += 1
        stream = chunk.stream()
        rest = EventStream.from_events(list(stream)[len(stream) // 2 :])
        if self.calls % 2 == 0:
            self.context.drop(1, "mapping")
        if self.calls % 5 == 0:
            self.context.emit_error(EventBatch([("t", rest)]), "bad", "half of it")
        if self.calls % 14 == 0:
            raise UnicodeError("for good")  # halved: its events go to @ERROR
        if self.calls % 7 == 0:
            raise UnrecoverableError("for good", whole=True)
        if self.calls % 3 == 0 and self.calls % 5 and self.calls % 2:
            raise PartialWrite("half of it", bytes(rest), len(rest))
        if self.calls % 4 == 0:
            raise OSError("later")


def test_the_books_balance_in_every_scrape_while_events_flow() -> None:
    """received + added = delivered + buffered + filtered + lost + rejected + in flight, and what is in
    flight is never negative nor more than the threads hold: so nothing is counted twice or not at all."""
    config = (
        SOURCE
        + """
        <source>
          @type burst
          @id books
        </source>
        <source>
          @type burst
          @id keeps_none
          @label @SECOND
        </source>
        <filter **>
          @type half
        </filter>
        <match t.1>
          @type relabel
          @label @SECOND
        </match>
        <match **>
          @type copy
          <store>
            @type null
          </store>
          <store>
            @type flaky
            @id flaky
            <buffer>
              flush_mode immediate
              flush_thread_count 2
              total_limit_size 64k
              overflow_action drop_oldest_chunk
              retry_wait 0.01
              retry_max_times 2
            </buffer>
          </store>
        </match>
        <label @SECOND>
          <match t.2>
            @type null
          </match>
        </label>
        <label @ERROR>
          <match **>
            @type null
          </match>
        </label>
        """
    )
    with run(
        config,
        plugins={("input", "burst"): Burst, ("filter", "half"): Half, ("output", "flaky"): Flaky},
    ) as driver:
        threads, batch = 3, 200
        node = next(placed.node for placed in driver.engine.plugins if placed.context.id == "flaky")
        append, calls = node.buffer.append_all, itertools.count()

        def append_all(*arguments: Any, **options: Any) -> bool:
            if next(calls) % 11 == 0:
                raise OSError("the disk is full")
            return bool(append(*arguments, **options))

        node.buffer.append_all = append_all
        # each batch may be doubled by the filter and again by the copy; a flush thread holds a chunk
        most = threads * batch * 4 + 2 * 200
        flying, received = set(), -1.0
        for _ in range(60):
            page = scrape(driver)
            in_flight = page["ledger_in_flight_events"]
            assert balance(page) == in_flight
            assert 0 <= in_flight <= most
            assert page["ledger_received_events_total"] >= received
            received = page["ledger_received_events_total"]
            flying.add(in_flight)
            for (name, labels), value in page.numbers.items():
                assert name != "forwarder_in_flight_events" or value >= 0, labels
        assert received > 10 * batch, "events flowed"
        assert max(flying) > 0, "some scrapes met events in flight"
        driver.stop()
        totals = driver.metrics().totals()
        assert (totals.in_flight, totals.buffered) == (0, 0)
        assert min(totals.added, totals.filtered, totals.delivered, totals.lost, totals.rejected) > 0
        assert driver["flaky"].dropped_chunks > 0
        assert driver["flaky"].refused > 0


FLOOD = """
import socket, sys
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.connect(("127.0.0.1", int(sys.argv[1])))
line = b"<13>Nov 23 18:00:00 host app[1]: the quick brown fox"
for number in range(int(sys.argv[2])):
    sock.send(line if number % 10 else b"no syslog")
"""


def test_the_books_balance_in_a_flood_that_the_kernel_drops_a_part_of() -> None:
    """What was sent over UDP is what the page says was received; nothing of it is without an account."""
    config = (
        SOURCE
        + """
        <source>
          @type syslog
          @id in
          port 0
          tag s
          <transport udp>
            receive_buffer_size 4096
          </transport>
        </source>
        <match s.**>
          @type null
          @id out
          <buffer>
            flush_mode immediate
          </buffer>
        </match>
        """
    )
    count = 30_000
    with run(config) as driver:
        port = str(driver.plugin("in").bound_port)
        with subprocess.Popen([sys.executable, "-c", FLOOD, port, str(count)]) as flood:
            while flood.poll() is None:
                page = scrape(driver)
                assert balance(page) == page["ledger_in_flight_events"] >= 0
        assert flood.returncode == 0
        driver.wait_for(lambda: driver["in"].received == count)
        driver.wait_for(lambda: scrape(driver)["ledger_buffered_events"] == 0)
        page = scrape(driver)
        dropped = page.of("in", "lost_events_total", reason="kernel_drop")
        unmatched = page.of("in", "lost_events_total", reason="unmatched") + page.of(
            "in", "lost_events_total", reason="no_priority"
        )
        assert dropped > 0, "the receive buffer is tiny"
        assert unmatched > 0
        assert page["ledger_received_events_total"] == count
        assert page["ledger_delivered_events_total"] == count - dropped - unmatched
        assert page["ledger_in_flight_events"] == 0


def test_counters_never_fall() -> None:
    config = SOURCE + "<source>\n@type burst\n</source>\n<match **>\n@type copy\n" + (
        "<store>\n@type null\n</store>\n" * 2 + "</match>\n"
    )  # fmt: skip
    with run(config, plugins={("input", "burst"): Burst}) as driver:
        before: Numbers = {}
        for _ in range(25):
            page = scrape(driver)
            for (name, labels), value in page.numbers.items():
                if name.endswith("_total"):
                    assert value >= before.get((name, labels), 0), (name, labels)
            before = page.numbers


def test_an_input_holds_what_a_full_buffer_refuses() -> None:
    config = (
        SOURCE
        + """
        <match **>
          @type test
          <buffer>
            total_limit_size 1
            chunk_limit_size 1k
            flush_mode lazy
          </buffer>
        </match>"""
    )
    with run(config) as driver:
        driver.emit("t", {"a": 1})
        with pytest.raises(Exception, match="full"):
            driver.emit("t", {"a": 2}, {"a": 3})
        page = scrape(driver)
        assert page.of("out_test", "buffer_refuses") == 1
        # what a caller keeps for another try is in its hands
        assert (page.of("@engine", "received_events_total"), page["ledger_in_flight_events"]) == (3, 2)
        assert balance(page) == 2


def test_what_a_file_buffer_keeps_is_recovered(tmp_path: Path) -> None:
    config = (
        SOURCE
        + f"""
        <match **>
          @type test
          <buffer>
            @type file
            path {tmp_path}/buffer
            flush_mode lazy
          </buffer>
        </match>"""
    )
    with run(config) as driver:
        driver.emit("t", {"a": 1}, {"a": 2})
        assert balance(scrape(driver)) == 0
    with run(config) as driver:
        driver.emit("t", {"a": 3})
        page = scrape(driver)
        assert page.of("out_test", "recovered_events_total") == 2
        assert page.of("out_test", "buffer_events") == 3
        assert page.of("out_test", "buffer_bytes") > 0
        assert (balance(page), page["ledger_in_flight_events"]) == (0, 0)
        driver.flush()
        driver.wait_for(lambda: driver["out_test"].delivered == 3)
        assert balance(scrape(driver)) == 0


def test_readyz_and_healthz() -> None:
    config = (
        SOURCE.replace("port 0", "port 0\n  not_ready_after 0.2")
        + """
        <match **>
          @type test
          <buffer>
            flush_mode immediate
            total_limit_size 100
            chunk_limit_size 60
            retry_wait 0.05
            retry_max_times 1000
            retry_type periodic
          </buffer>
        </match>"""
    )
    with run(config) as driver:
        output: Capture = driver.plugin("out_test")
        assert fetch(driver, "/readyz")[:2] == (200, b"ok\n")
        output.fail_with = lambda _: OSError("down")
        driver.emit("t", {"a": 1})
        driver.wait_for(lambda: fetch(driver, "/readyz")[0] == 503)
        assert b"out_test: nothing was delivered for" in fetch(driver, "/readyz")[1]
        page = scrape(driver)
        assert page["ready"] == 0
        assert page.of("out_test", "failing_seconds") > 0.2
        assert page.of("out_test", "retrying_chunks") == 1
        assert fetch(driver, "/healthz")[:2] == (200, b"ok\n"), "failing is no reason for a restart"
        driver.emit("t", {"a": "x" * 90})
        assert b"out_test: the buffer is full, or its disk takes nothing" in fetch(driver, "/readyz")[1]
        output.fail_with = lambda _: None
        driver.wait_for(lambda: fetch(driver, "/readyz")[0] == 200)
        assert scrape(driver)["ready"] == 1


def test_not_ready_after_a_chunk_was_given_up() -> None:
    config = (
        SOURCE
        + """
        <match **>
          @type test
          <buffer>
            flush_mode immediate
            retry_wait 0
            retry_max_times 1
          </buffer>
        </match>"""
    )
    with run(config) as driver:
        output: Capture = driver.plugin("out_test")
        output.fail_with = lambda _: OSError("down")
        driver.emit("t", {"a": 1})
        driver.wait_for(lambda: driver["out_test"].lost)
        assert fetch(driver, "/readyz")[:2] == (
            503,
            b"out_test: a chunk was given up, and none was delivered since\n",
        )
        output.fail_with = lambda _: None
        driver.emit("t", {"a": 1})
        driver.wait_for(lambda: fetch(driver, "/readyz")[0] == 200)


class Slow(Input):
    """Takes its time to start, and looks at /readyz meanwhile."""

    seen: tuple[int, bytes] = (0, b"")

    def start(self) -> None:
        driver = self.peers[0]  # set by the test
        type(self).seen = fetch(driver, "/readyz")[:2]

    peers: list[Driver] = []


def test_not_ready_while_plugins_start_and_while_they_stop() -> None:
    driver = run(
        SOURCE + "<source>\n@type slow\n</source>\n<match **>\n@type test\n<buffer>\n</buffer>\n</match>",
        plugins={("input", "slow"): Slow},
        start=False,
    )
    Slow.peers[:] = [driver]
    driver.engine.start()
    assert Slow.seen == (503, b"starting\n")
    assert fetch(driver, "/readyz")[0] == 200
    seen = []
    output: Capture = driver.plugin("out_test")
    output.fail_with = lambda _: seen.append(fetch(driver, "/readyz")[:2])  # the last flush, in the stop
    driver.emit("t", {"a": 1})
    driver.stop()
    assert seen == [(503, b"stopping\n")]
    Slow.peers.clear()


def test_healthz_sees_a_lock_that_is_stuck_and_a_thread_that_has_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("forwarder.core.delivery._LOCK_SECONDS", 0.05)
    with run(SOURCE + "<match **>\n@type test\n<buffer>\n</buffer>\n</match>") as driver:
        node = next(placed.node for placed in driver.engine.plugins if placed.context.id == "out_test")
        with node._work:
            for path in ("/healthz", "/readyz"):
                status, body, _ = fetch(driver, path)
                assert (status, b"out_test: the delivery has held its lock" in body) == (503, True)
            assert fetch(driver, "/metrics")[0] == 500
        assert fetch(driver, "/healthz")[0] == 200
        node._threads.append(threading.Thread())
        assert fetch(driver, "/healthz")[:2] == (503, b"out_test: a flush thread has ended\n")
        node._threads.pop()


def test_gzip_and_paths() -> None:
    source = SOURCE.replace("port 0", "port 0\n metrics_path /m\n content_encoding gzip")
    with run(source + "<match **>\n@type test\n</match>") as driver:
        status, body, headers = fetch(driver, "/m")
        assert (status, headers["Content-Encoding"]) == (200, "gzip")
        page = Scrape(gzip.decompress(body).decode())
        assert page.of("out_test", "received_events_total") == 0
        assert fetch(driver, "/aggregated_metrics")[0] == 200
        assert fetch(driver, "/metrics")[0] == 404


class Measured(Output):
    """Has a number of its own."""

    def process(self, tag: str, stream: EventStream) -> None:
        pass

    def measure(self) -> list[Family]:
        if self.context.id == "broken":
            raise RuntimeError("no number")
        labels = {"plugin_id": self.context.id, "path": 'a"b\\c\nd'}
        return [Family("my_files_open", "gauge", "Open files.", [Sample(3, labels)])]


def test_plugins_add_numbers_of_their_own() -> None:
    store = "<store>\n@type measured\n@id {}\n</store>\n"
    stores = "".join(store.format(name) for name in ("one", "two", "broken"))
    config = SOURCE + f"<match **>\n@type copy\n{stores}</match>"
    with run(config, plugins={("output", "measured"): Measured}) as driver:
        page = scrape(driver)
        found = {labels for name, labels in page.numbers if name == "my_files_open"}
        assert found == {frozenset({("plugin_id", name), ("path", 'a"b\\c\nd')}) for name in ("one", "two")}
        assert "cannot measure" in driver.log


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("port 65536", "expected 0 to 65535"),
        ("metrics_path metrics", "a path starts with /"),
        ("content_encoding br", "content_encoding"),
        ("<transport tls>\n</transport>", "TLS needs a certificate"),
        ("<ssl>\nenable true\n</ssl>", "certificate_path and private_key_path"),
        ('<ssl>\nextra_conf {"a":"b"}\n</ssl>', "WEBrick"),
    ],
)
def test_wrong_configuration(line: str, message: str) -> None:
    with pytest.raises(InvalidConfiguration, match=message):
        run(SOURCE.replace("port 0", line), start=False)


def test_a_configuration_without_it_imports_nothing_of_it() -> None:
    code = """
import json, sys
from forwarder.api.testing import run
with run(sys.argv[1]) as driver:
    pass
print(json.dumps([name for name in ("h11", "prometheus_client", "ssl") if name in sys.modules]))
"""
    for source, expected in (("", []), (SOURCE, ["h11"])):
        config = source + "<match **>\n@type null\n</match>"
        out = subprocess.run([sys.executable, "-c", code, config], capture_output=True, check=True)
        assert json.loads(out.stdout) == expected
