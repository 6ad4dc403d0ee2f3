"""The promise "Python per batch, native per event", counted: the interpreter runs the same number of
functions, lines and calls into C for a batch of ten events as for one of two thousand."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from bulk_server import BulkServer, failure

from forwarder._native import EventBatch, EventStream
from forwarder.api import Chunk, Plugin
from forwarder.api.http_message import Head
from forwarder.api.testing import run
from forwarder.plugins.outputs.elasticsearch import delivery
from forwarder.plugins.outputs.out_elasticsearch import ElasticsearchOutput

LINE = (
    '203.0.113.7 - alice [23/Nov/2026:18:00:00 +0000] "GET /index.html?page={} HTTP/1.1" 200 2326 '
    '"http://www.example.com/" "curl/8.5"'
)

REGEXP = r"""@type regexp
    expression /^(?<client>\S+) \S+ (?<user>\S+) \[(?<time>[^\]]+)\] "(?<verb>\S+) (?<path>\S+) [^"]+" (?<code>\d+) (?<size>\d+)/
    time_format %d/%b/%Y:%H:%M:%S %z
    types code:integer,size:integer"""  # noqa: E501

GROK = """@type grok
    grok_pattern %{COMBINEDAPACHELOG}"""

FILE = """@type file
  path {folder}/out
  append true
  <format>
    @type {format}
  </format>
  <buffer {keys}>
    @type memory
    flush_mode lazy
  </buffer>"""


def config(parse: str, match: str) -> str:
    return f"""
<filter t.**>
  @type parser
  key_name message
  reserve_data true
  <parse>
    {parse}
  </parse>
</filter>
<match t.**>
  {match}
</match>
"""


def batch_of(events: int, tags: int) -> EventBatch:
    """`events` events in runs of one tag each."""
    per_tag = events // tags
    return EventBatch(
        [
            (
                f"t.{tag}",
                EventStream.from_events(
                    (1_700_000_000_000_000_000, {"message": LINE.format(number)}) for number in range(per_tag)
                ),
            )
            for tag in range(tags)
        ]
    )


class Counter:
    """Counts what the interpreter does in this thread."""

    def __init__(self) -> None:
        self.lines = 0
        self.calls = 0

    def _trace(self, frame: Any, event: str, _arg: Any) -> Any:
        self.lines += event == "line"
        return self._trace

    def _profile(self, _frame: Any, event: str, _arg: Any) -> None:
        self.calls += event in {"call", "c_call"}

    def __enter__(self) -> Counter:
        self.lines = self.calls = 0
        self._before = sys.gettrace(), sys.getprofile()
        sys.setprofile(self._profile)
        sys.settrace(self._trace)
        return self

    def __exit__(self, *_: object) -> None:
        trace, profile = self._before
        sys.settrace(trace)
        sys.setprofile(profile)


@pytest.mark.parametrize(
    ("parse", "match"),
    [
        (REGEXP, "@type null"),
        (GROK, "@type null"),
        (REGEXP, FILE.replace("{format}", "json").replace("{keys}", "[]")),
        (GROK, FILE.replace("{format}", "out_file").replace("{keys}", "time")),
        (REGEXP, FILE.replace("{format}", "hash").replace("{keys}", "[]")),
    ],
)
def test_the_work_of_python_does_not_grow_with_the_batch(parse: str, match: str, tmp_path: Path) -> None:
    with run(config(parse, match.replace("{folder}", str(tmp_path)))) as driver:
        work = {}
        for events in (10, 2_000):
            batch = batch_of(events, tags=5)
            driver.emit_batch(batch)  # tags, caches and the chunk are known from here on
            counter = Counter()
            with counter:
                driver.emit_batch(batch)
            work[events] = (counter.lines, counter.calls)
        driver.stop()
        assert not driver.metrics().unbalanced()
    assert work[10] == work[2_000], work
    assert 0 < work[10][1] < 200, "the counter counts, and a batch is not expensive"


@pytest.mark.parametrize(
    "parameters",
    [
        "index_name x",
        "logstash_format true\ninclude_tag_key true\ndeterministic_id true",
        "id_key user\nflatten_hashes true\nremove_keys message\ncompression_level best_speed",
    ],
)
@pytest.mark.parametrize("outcome", [None, failure(400, "mapper_parsing_exception"), failure(429, "busy")])
def test_the_work_of_python_does_not_grow_with_the_chunk(
    parameters: str, outcome: dict[str, Any] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the input to the server and back: the encoder, the request, the answer and what it rejects."""
    monkeypatch.setattr(delivery, "WAITS", ())
    plugins: dict[tuple[str, str], type[Plugin]] = {("output", "counted"): Counted}
    with BulkServer(rule=lambda _action, _doc: outcome) as server:
        where = f"@type counted\nhost 127.0.0.1\nport {server.port}\n{parameters}"
        buffer = "<buffer tag>\nflush_mode lazy\nretry_wait 0.01\nretry_max_times 0\n</buffer>"
        errors = "<label @ERROR>\n<match **>\n@type null\n</match>\n</label>"
        with run(config(REGEXP, f"{where}\n{buffer}") + errors, plugins=plugins) as driver:
            output = driver.plugin("out_counted")
            work = {}
            for events in (10, 2_000):
                for _ in range(2):  # the first one connects
                    driver.emit_batch(batch_of(events, tags=1))
                    driver.flush()
                    before = len(output.work)
                    driver.wait_for(lambda before=before: len(output.work) > before)
                work[events] = output.work[-1]
    # 10 or 2,000 events are read from the socket by the standard library, in as many pieces as came
    (small_lines, small_calls), (large_lines, large_calls) = work[10], work[2_000]
    assert large_lines - small_lines < 300, work
    assert large_calls - small_calls < 200, work
    assert 0 < small_calls < 3_000, "the counter counts"


class Counted(ElasticsearchOutput):
    """Counts what the interpreter does in `write`."""

    def __init__(self) -> None:
        self.work: list[tuple[int, int]] = []

    def write(self, chunk: Chunk) -> None:
        counter = Counter()
        try:
            with counter:
                super().write(chunk)
        finally:
            self.work.append((counter.lines, counter.calls))


@pytest.mark.parametrize(
    "kind", ["application/json", "application/x-ndjson", "application/x-www-form-urlencoded"]
)
def test_the_work_of_python_does_not_grow_with_a_request(kind: str) -> None:
    """From the request's head and body to the answer of in_http."""
    source = "<source>\n@type http\nport 0\nadd_http_headers true\n</source>"
    with run(source + config(REGEXP, "@type null")) as driver:
        plugin, work = driver.plugin("in_http"), {}
        head = Head("POST", "/t/1?time=1", ((b"content-type", kind.encode()), (b"host", b"h")), "127.0.0.1")
        for events in (10, 2_000):
            text = "\n".join(json.dumps({"message": LINE.format(number)}) for number in range(events))
            body = text if "nd" in kind else "ndjson=" + quote(text) if "form" in kind else f"[{text}]"
            body = body.replace("\n", ",") if kind == "application/json" else body
            plugin.answer(head, body.encode())  # tags and caches are known from here on
            counter = Counter()
            with counter:
                assert plugin.answer(head, body.encode()).status == 200
            work[events] = (counter.lines, counter.calls)
        assert driver["out_null"].delivered == 2 * 2_010
    assert work[10] == work[2_000], work
    assert 0 < work[10][1] < 300, "the counter counts"


def test_the_counter_sees_python_per_event() -> None:
    """The test above could fail: a filter written per record makes the numbers grow."""
    from forwarder.api import Record, RecordFilter  # noqa: PLC0415 - only here

    class Upper(RecordFilter):
        def filter_record(self, tag: str, time_ns: int, record: Record) -> Record | None:
            return record

    counts = []
    for events in (10, 1000):
        batch, counter = batch_of(events, tags=5), Counter()
        with counter:
            Upper().filter_batch(batch)
        counts.append(counter.calls)
    assert counts[1] > counts[0] + 900
