"""A real Elasticsearch and a real OpenSearch in trouble: nothing is stuck, nothing is lost silently, nothing
is doubled.

What a node does not do on demand a proxy in front of it does.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from threading import Event, Lock, Thread
from typing import Any

import pytest
import search_output
from searchnode import Answer, Node, Proxy

from forwarder.api.testing import Driver, run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400), pytest.mark.xdist_group("search")]


def config(
    node: Node, index: str, settings: str = "", *, url: str = "", keys: str = "tag", buffer: str = ""
) -> str:
    return search_output.config(node, f"index_name {index}\n  {settings}", url=url, keys=keys, buffer=buffer)


def settle(driver: Driver, count: int, seconds: float = 60) -> None:
    """Waits until `count` events are delivered or rejected."""

    def settled() -> bool:
        books = driver["es"]
        return books.delivered + books.to_error + sum(books.lost.values()) >= count

    driver.wait_for(settled, seconds)


def numbers(node: Node, index: str) -> list[int]:
    return [hit["_source"]["n"] for hit in node.documents(index, "n")]


def figure(driver: Driver, name: str) -> float:
    """One of the output's own numbers on the metrics page."""
    families = {family.name: family.samples[0].value for family in driver.plugin("es").measure()}
    return families[f"forwarder_elasticsearch_{name}"]


# ------------------------------------------------------------------ documents


def test_a_mapping_conflict_harms_no_neighbours(tight_node: Node, index: str) -> None:
    with run(config(tight_node, index)) as driver:
        driver.emit("app", {"n": 0, "code": 200})
        settle(driver, 1)
        driver.emit("app", *({"n": n, "code": "many" if n in (3, 7) else n} for n in range(1, 11)))
        settle(driver, 11)
        assert driver.records("rejected") == [{"n": 3, "code": "many"}, {"n": 7, "code": "many"}]
        books = driver["es"]
        assert list(books.error_reasons.values()) == [2]
        assert books.failures == 0
        (line,) = [line for line in driver.log.splitlines() if "documents are rejected" in line]
        assert "(field code)" in line
        assert "failed to parse field [code] of type [long]" in line
        assert "many" in line
        assert "times=2" in line
    assert numbers(tight_node, index) == [0, 1, 2, 4, 5, 6, 8, 9, 10]


def test_an_explosion_of_fields_stops_at_the_limit(tight_node: Node, index: str) -> None:
    settings = {"settings": {"index.mapping.total_fields.limit": 5}}
    assert tight_node.request("PUT", f"/{index}", settings).status == 200
    with run(config(tight_node, index)) as driver:
        driver.emit("app", {"n": 0})
        settle(driver, 1)
        driver.emit("app", {"n": 1}, {"n": 2, **{f"f{n}": n for n in range(50)}}, {"n": 3})
        settle(driver, 4)
        assert [record["n"] for record in driver.records("rejected")] == [2]
        assert driver["es"].failures == 0, "it is no reason to send anything again"
        assert "Limit of total fields [5] has been exceeded" in driver.log
    assert numbers(tight_node, index) == [0, 1, 3]


def test_a_body_that_is_too_large_is_divided(tight_node: Node, index: str) -> None:
    records = [{"n": n, "text": "x" * 30_000} for n in range(20)]
    records.insert(10, {"n": 99, "text": "y" * 150_000})
    with run(config(tight_node, index)) as driver:
        driver.emit("app", *records)
        settle(driver, 21)
        books = driver["es"]
        assert (books.delivered, books.to_error) == (20, 1)
        assert [record["n"] for record in driver.records("rejected")] == [99]
        assert "413" in driver.log
    assert numbers(tight_node, index) == list(range(20))


# ------------------------------------------------------------------ a busy cluster


@contextmanager
def others(node: Node, index: str) -> Iterator[None]:
    """Other senders, who keep the queue full."""
    line = json.dumps({"text": " ".join(f"w{n}" for n in range(200))})
    body = f'{{"index":{{"_index":"{index}"}}}}\n{line}\n'.encode() * 90
    stop = Event()

    def send() -> None:
        while not stop.is_set():
            node.bulk(body)

    threads = [Thread(target=send) for _ in range(6)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join(60)


def test_a_full_queue_delays_and_loses_nothing(tight_node: Node, index: str) -> None:
    buffer = "flush_thread_count 8\n    chunk_limit_records 20"
    count = 0
    with run(config(tight_node, f"{index}-${{tag}}", "deterministic_id true", buffer=buffer)) as driver:
        deadline = time.monotonic() + 60
        with others(tight_node, f"other-{index}"):
            while "429" not in driver.log:
                assert time.monotonic() < deadline, "the queue was never full"
                for tag in range(8):
                    driver.emit(f"t{tag}", *({"n": count + n} for n in range(20)))
                    count += 20
                driver.wait_for(lambda: driver["es"].buffer.events < 1000, 60)  # type: ignore[union-attr]
        settle(driver, count, 200)
        assert driver["es"].delivered == count
        assert "rejected_execution_exception" in driver.log
        assert figure(driver, "pushbacks_total") > 0
    assert numbers(tight_node, f"{index}-*") == list(range(count)), "nothing lost, nothing doubled"


BUSY = {
    "error": {
        "type": "es_rejected_execution_exception",
        "reason": "rejected execution of coordinating operation [coordinating_and_primary_bytes=53687091]",
    },
    "status": 429,
}


def test_requests_at_once_follow_what_the_cluster_takes(tight_node: Node, index: str) -> None:
    buffer = "flush_thread_count 8\n    chunk_limit_records 10"
    with Proxy(tight_node.port) as proxy:
        room = 1
        proxy.rule = lambda *_: Answer(429, BUSY) if proxy.in_flight > room else None
        text = config(tight_node, index, "deterministic_id true", url=proxy.url, buffer=buffer)
        with run(text) as driver:
            for start in range(0, 400, 10):
                driver.emit(f"t{start // 10 % 8}", *({"n": n} for n in range(start, start + 10)))
            driver.wait_for(lambda: figure(driver, "pushbacks_total") > 0, 30)
            driver.wait_for(lambda: figure(driver, "chunks_limit") <= 2, 30)
            settle(driver, 400, 120)
            room, proxy.most = 100, 0
            for start in range(400, 800, 10):
                driver.emit(f"t{start // 10 % 8}", *({"n": n} for n in range(start, start + 10)))
            settle(driver, 800, 120)
            assert driver["es"].delivered == 800
            assert proxy.most > 1, "more again, now that there is room"
            assert "the cluster pushes back" in driver.log
    assert numbers(tight_node, index) == list(range(800))


# ------------------------------------------------------------------ indices that take nothing


def test_a_write_block_passes(tight_node: Node, index: str) -> None:
    with run(config(tight_node, f"{index}-${{tag}}", "deterministic_id true")) as driver:
        driver.emit("a", {"n": 0})
        settle(driver, 1)
        block = {"index.blocks.read_only_allow_delete": True}
        assert tight_node.request("PUT", f"/{index}-a/_settings", block).status == 200
        driver.emit("a", {"n": 1}, {"n": 2})
        driver.emit("b", {"n": 3})
        driver.wait_for(lambda: driver["es"].delivered == 2 and "cluster_block_exception" in driver.log, 30)
        assert driver["es"].buffer.events == 2  # type: ignore[union-attr]
        block = {"index.blocks.read_only_allow_delete": None}  # type: ignore[dict-item]
        assert tight_node.request("PUT", f"/{index}-a/_settings", block).status == 200
        settle(driver, 4)
        assert (driver["es"].delivered, driver["es"].to_error) == (4, 0)
    assert numbers(tight_node, f"{index}-*") == [0, 1, 2, 3]


def test_a_red_index_harms_no_others(tight_node: Node, index: str) -> None:
    """Its documents wait; those of other indices in the same request are taken, and not sent again."""
    nowhere = {"settings": {"index.routing.allocation.require._name": "nowhere"}}
    assert (
        tight_node.request("PUT", f"/{index}-red?wait_for_active_shards=0&timeout=1s", nowhere).status == 200
    )
    assert tight_node.request("PUT", f"/{index}-green").status == 200
    assert tight_node.request("GET", f"/_cluster/health/{index}-red").body["status"] == "red"
    settings = "target_index_key to\n  request_timeout 3s"  # no ids: what is sent twice would be there twice
    heal = {"index.routing.allocation.require._name": None}
    with ExitStack() as stack:
        # a node with a red index is never ready when it starts again
        stack.callback(tight_node.request, "PUT", f"/{index}-red/_settings", heal)
        driver = stack.enter_context(run(config(tight_node, f"{index}-green", settings)))
        to = [None, f"{index}-red", None, f"{index}-red"]
        driver.emit("app", *({"n": n, **({"to": name} if name else {})} for n, name in enumerate(to)))
        driver.wait_for(lambda: driver["es"].delivered == 2 and driver["es"].failures >= 1, 60)
        assert driver["es"].buffer.events == 2  # type: ignore[union-attr]
        assert "503 unavailable_shards_exception" in driver.log
        assert numbers(tight_node, f"{index}-green") == [0, 2]
        assert tight_node.request("PUT", f"/{index}-red/_settings", heal).status == 200
        settle(driver, 4, 60)
        assert driver["es"].delivered == 4
    assert numbers(tight_node, f"{index}-green") == [0, 2]
    assert numbers(tight_node, f"{index}-red") == [1, 3]


# ------------------------------------------------------------------ who we are


def test_an_api_key_that_has_expired(tight_node: Node, index: str) -> None:
    """These distributions have no users: the proxy says what a node with them says."""
    expired = {
        "error": {
            "type": "security_exception",
            "reason": "unable to authenticate with provided credentials and anonymous access is not allowed",
            "additional_unsuccessful_credentials": "API key: api key is expired",
        },
        "status": 401,
    }
    seen: set[str] = set()
    valid = True

    def rule(_method: str, _path: str, headers: Mapping[str, str]) -> Answer | None:
        seen.add(headers.get("authorization", ""))
        return None if valid else Answer(401, expired, {"WWW-Authenticate": "ApiKey"})

    with Proxy(tight_node.port) as proxy:
        proxy.rule = rule
        with run(config(tight_node, index, "api_key id:hunter2", url=proxy.url)) as driver:
            driver.emit("app", {"n": 0})
            settle(driver, 1)
            valid = False
            driver.emit("app", {"n": 1})
            driver.wait_for(lambda: driver["es"].failures >= 2, 30)
            (line, *_) = [line for line in driver.log.splitlines() if "answers 401" in line]
            assert "see user and password, api_key" in line
            assert "unable to authenticate" in line
            assert driver["es"].buffer.events == 1  # type: ignore[union-attr]
            valid = True
            settle(driver, 2)
            assert driver["es"].delivered == 2
            assert "hunter2" not in driver.log
    assert len(seen) == 1
    assert seen.pop().startswith("ApiKey ")
    assert numbers(tight_node, index) == [0, 1]


# ------------------------------------------------------------------ connections


def test_a_load_balancer_that_closes(tight_node: Node, index: str) -> None:
    """Idle connections, requests that nobody gets, answers that end in the middle, and nodes that it cannot
    reach."""
    faults = ["close", "swallow", Answer(502), Answer(503, b"<html>no backend</html>"), Answer(504)]
    kinds = [each for fault in faults for each in (fault, None)]
    lock = Lock()
    met: list[Any] = []

    def rule(_method: str, path: str, _headers: Mapping[str, str]) -> Any:
        if "_bulk" not in path:
            return None
        with lock:
            met.append(kinds[len(met) % len(kinds)])
            return met[-1]

    with Proxy(tight_node.port) as proxy:
        proxy.rule = rule
        proxy.closes = True
        buffer = "flush_thread_count 2\n    chunk_limit_records 20"
        text = config(tight_node, index, "deterministic_id true", url=proxy.url, buffer=buffer)
        with run(text) as driver:
            for start in range(0, 200, 20):
                driver.emit("app", *({"n": n} for n in range(start, start + 20)))
            settle(driver, 200, 120)
            books = driver["es"]
            assert (books.delivered, books.to_error, books.lost) == (200, 0, {})
            assert books.failures > 0
    assert set(map(str, met)) == set(map(str, kinds)), "all of them happened"
    assert numbers(tight_node, index) == list(range(200)), "nothing lost, nothing doubled"


def test_a_killed_node_costs_nothing(tight_node: Node, index: str) -> None:
    buffer = "flush_thread_count 4\n    chunk_limit_records 50"
    settings = "deterministic_id true\n  request_timeout 10s"
    count = 0
    with run(config(tight_node, index, settings, buffer=buffer)) as driver:

        def emit(until: int) -> None:
            nonlocal count
            while count < until:
                driver.emit("app", *({"n": count + n} for n in range(50)))
                count += 50

        emit(2000)
        driver.wait_for(lambda: driver["es"].delivered > 0, 60)
        tight_node.kill()  # with requests on their way, answered and not
        emit(4000)
        driver.wait_for(lambda: "cannot reach" in driver.log, 60)
        tight_node.start()
        emit(6000)
        settle(driver, count, 120)
        assert driver["es"].delivered == count
    assert numbers(tight_node, index) == list(range(count)), "nothing lost, nothing doubled"
