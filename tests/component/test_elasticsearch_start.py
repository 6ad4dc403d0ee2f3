"""The elasticsearch output's start, which server it finds, how it answers push-back, and what may be
ignored."""

from __future__ import annotations

from collections.abc import Iterator
from threading import Lock
from typing import Any

import pytest
from bulk_server import BulkServer, Request, failure

from forwarder.api import ConfigError
from forwarder.api.testing import Driver, run
from forwarder.plugins.outputs.elasticsearch import clusters, delivery

OUTPUT = "out_elasticsearch"
CONFIG = """
<match **>
  @type elasticsearch
  host 127.0.0.1
  port {port}
  {parameters}
  <buffer tag>
    flush_mode lazy
    flush_thread_interval 0.01
    retry_wait 0.01
    retry_randomize false
    {buffer}
  </buffer>
</match>
"""


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "WAITS", (0.001, 0.001, 0.001))


@pytest.fixture
def server() -> Iterator[BulkServer]:
    with BulkServer() as server:
        yield server


def config(server: BulkServer, parameters: str = "", buffer: str = "") -> str:
    return CONFIG.format(port=server.port, parameters=parameters, buffer=buffer)


def settled(driver: Driver) -> None:
    def done() -> bool:
        books = driver[OUTPUT]
        gone = books.delivered + books.to_error + sum(books.lost.values()) + sum(books.rejected.values())
        return gone == books.received

    driver.wait_for(done)


def figures(driver: Driver) -> dict[str, float]:
    """The output's own numbers on the metrics page."""
    return {family.name: family.samples[0].value for family in driver.plugin(OUTPUT).measure()}


# ------------------------------------------------------------ the start


def test_a_start_that_waits(server: BulkServer, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 6:
            server.info = (200, {"version": {"number": "8.0.0"}})

    monkeypatch.setattr(clusters.time, "sleep", wait)
    server.info = (503, b"starting")
    with run(config(server, "max_retry_get_es_version 10")) as driver:
        assert len(server.requests) == 7
        assert waits == [2, 4, 8, 16, 30, 30]
        assert "the start waits for the cluster" in driver.log


@pytest.mark.parametrize("retries", [0, 2])
def test_a_start_that_fails(server: BulkServer, monkeypatch: pytest.MonkeyPatch, retries: int) -> None:
    monkeypatch.setattr(clusters.time, "sleep", lambda _: None)
    server.info = (401, {"error": {"type": "security_exception", "reason": "unable to authenticate"}})
    with (
        pytest.raises(ConfigError, match=f"answers 401 .* user and password.*tried {retries + 1} times"),
        run(config(server, f"max_retry_get_es_version {retries}")),
    ):
        pass
    assert len(server.requests) == retries + 1


def test_a_start_that_goes_on_with_the_default(server: BulkServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clusters.time, "sleep", lambda _: None)
    server.info = (403, b"")
    more = "fail_on_detecting_es_version_retry_exceed false\ndefault_elasticsearch_version 8"
    with run(config(server, f"max_retry_get_es_version 1\n{more}")) as driver:
        driver.emit("t", {"n": 1})
        driver.flush()
        settled(driver)
    assert server.bulks[0].pairs() == [({"index": {"_index": "fluentd"}}, {"n": 1})]


@pytest.mark.parametrize(
    "info",
    [{"number": "10.0.0"}, {"number": "2.4.6"}, {"number": "4.0.0", "distribution": "opensearch"}],
)
def test_a_server_that_is_too_new_or_too_old(server: BulkServer, info: dict[str, str]) -> None:
    server.info = (200, {"version": info})
    with run(config(server)) as driver:
        driver.emit("t", {"n": 1})
        driver.flush()
        settled(driver)
        line = next(line for line in driver.log.splitlines() if "is made for" in line)
        assert info["number"] in line
        assert f"http://127.0.0.1:{server.port}" in line
    server.requests.clear()
    with pytest.raises(ConfigError, match="made for Elasticsearch 5 to 9 and OpenSearch 1 to 3"):
        run(config(server, "validate_client_version true\nmax_retry_get_es_version 0")).__enter__()
    with run(config(server, "validate_client_version true")) as driver:
        driver.emit("t", {"n": 2})
        driver.flush()
        driver.wait_for(lambda: driver[OUTPUT].failures >= 1)
        assert "validate_client_version" in driver.log
    assert not server.bulks


# ------------------------------------------------------------ push-back


class Narrow(BulkServer):
    """Takes so many requests at once, and answers further ones with 429."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room = room
        self.inside = self.most = self.refused = 0
        self.guard = Lock()

    def answer(self, request: Request) -> Any:
        if request.method == "GET":
            return self.info
        with self.guard:
            self.inside += 1
            self.most = max(self.most, self.inside)
            room = self.inside <= self.room
            self.refused += not room
        try:
            self.closing.wait(0.005)
            return super().answer(request) if room else (429, b"{}")
        finally:
            with self.guard:
                self.inside -= 1


def test_fewer_at_once_while_the_cluster_pushes_back_and_more_afterwards() -> None:
    with Narrow(1) as server:
        buffer = "flush_thread_count 8\nchunk_limit_records 5\nflush_mode immediate"
        with run(config(server, "deterministic_id true", buffer)) as driver:
            for tag in range(8):
                driver.emit(f"t{tag}", *({"n": n} for n in range(100)))
            driver.wait_for(lambda: server.refused)
            settled(driver)
            found = figures(driver)
            assert server.most > 1
            assert found["forwarder_elasticsearch_pushbacks_total"] >= server.refused
            assert found["forwarder_elasticsearch_chunks_limit"] < 8
            assert found["forwarder_elasticsearch_chunks_in_flight"] == 0
            assert "fewer chunks are sent at once" in driver.log
            assert len(server.taken) == 800
            # most went through alone, instead of running against the wall eight at a time
            assert server.refused < 80
            server.room = 100
            for tag in range(8):
                driver.emit(f"t{tag}", *({"n": n} for n in range(100)))
            settled(driver)
            assert figures(driver)["forwarder_elasticsearch_chunks_limit"] == 8
            assert len(server.taken) == 1600


@pytest.mark.parametrize("how", ["item", "late"])
def test_what_counts_as_push_back(server: BulkServer, how: str) -> None:
    if how == "late":
        server.answers = ["hang"]
    else:
        held = [failure(429, "es_rejected_execution_exception")]
        server.rule = lambda *_: held.pop() if held else None
    with run(config(server, "request_timeout 0.3\ndeterministic_id true", "flush_thread_count 4")) as driver:
        driver.emit("t", {"n": 1})
        driver.flush()
        settled(driver)
        assert figures(driver)["forwarder_elasticsearch_pushbacks_total"] == 1
    assert server.taken == [{"n": 1}]


@pytest.mark.parametrize("answer", [(503, b""), (400, {"error": "no"}), "close"])
def test_what_does_not(server: BulkServer, answer: Any) -> None:
    server.answers = [answer]
    with run(config(server)) as driver:
        driver.emit("t", {"n": 1})
        driver.flush()
        settled(driver)
        assert figures(driver)["forwarder_elasticsearch_pushbacks_total"] == 0


# ------------------------------------------------------------ ignore_exceptions


@pytest.mark.parametrize(
    ("name", "answer", "matches"),
    [
        ("Elastic::Transport::Transport::Errors::ServiceUnavailable", (503, b""), True),
        ("Elasticsearch::Transport::Transport::Errors::ServiceUnavailable", (503, b""), True),
        ("Elastic::Transport::Transport::ServerError", (400, {"error": "no"}), True),
        ("Elastic::Transport::Transport::Errors::NotFound", (503, b""), False),
        ("Faraday::ConnectionFailed", "close", True),
        ("Faraday::ConnectionFailed", "hang", False),
        ("Faraday::TimeoutError", "hang", True),
        ("Faraday::Error", "hang", True),
        ("Faraday::ConnectionFailed", (503, b""), False),
        ("StandardError", "close", True),
        ("Elastic::Transport::Transport::Errors::TooManyRequests", (429, b""), True),
    ],
)
@pytest.mark.parametrize("backup", [True, False])
def test_failures_that_end_a_chunk(
    server: BulkServer, name: str, answer: Any, matches: bool, backup: bool
) -> None:
    server.answers = [answer] * 4 if answer == (429, b"") else [answer]
    parameters = f"""ignore_exceptions ["{name}"]
  exception_backup {str(backup).lower()}
  request_timeout 0.3
  deterministic_id true"""
    with run(config(server, parameters)) as driver:
        driver.emit("t", {"n": 1}, {"n": 2})
        driver.flush()
        settled(driver)
        books = driver[OUTPUT]
        if not matches:
            assert books.delivered == 2
        elif backup:
            assert (books.rejected, books.lost) == ({"unrecoverable": 2}, {})
        else:
            assert (books.lost, books.delivered) == ({"ignored": 2}, 0)
