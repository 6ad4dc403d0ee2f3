"""`<match> @type elasticsearch` against a server that misbehaves on request. What a real cluster does is in
tests/integration."""

from __future__ import annotations

import base64
import json
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bulk_server import BulkServer, Request, failure, fields, path_of

from forwarder.api.testing import Driver, run
from forwarder.config.diagnostics import InvalidConfiguration
from forwarder.plugins.outputs.elasticsearch import delivery

BUFFER = "<buffer {keys}>\nflush_mode lazy\nretry_wait 0.01\nretry_randomize false\n{more}\n</buffer>"
ERRORS = "<label @ERROR>\n<match **>\n@type test\n@id errors\n</match>\n</label>\n"
OUTPUT = "out_elasticsearch"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "WAITS", (0.001, 0.001, 0.001))


@pytest.fixture
def server() -> Iterator[BulkServer]:
    with BulkServer() as server:
        yield server


def config(
    where: BulkServer | int, parameters: str = "", *, keys: str = "tag", buffer: str = "", errors: bool = True
) -> str:
    port = where if isinstance(where, int) else where.port
    text = "" if "hosts " in parameters or "host " in parameters else "host 127.0.0.1\n"
    return (
        f"<match **>\n@type elasticsearch\n{text}port {port}\n{parameters}\n"
        f"{BUFFER.format(keys=keys, more=buffer)}\n</match>\n{ERRORS if errors else ''}"
    )


def send(driver: Driver, *records: dict[str, Any], tag: str = "t") -> None:
    driver.emit(tag, *records)
    driver.flush()


def numbers(*values: int) -> list[dict[str, Any]]:
    return [{"n": value} for value in values]


def settled(driver: Driver) -> None:
    """Waits until nothing is in the buffer, or on the way out of it."""

    def done() -> bool:
        books = driver[OUTPUT]
        gone = books.delivered + books.to_error + sum(books.lost.values())
        return books.buffer is not None and books.buffer.events == 0 and gone == books.received

    driver.wait_for(done)


def documents(server: BulkServer, parameters: str, *records: dict[str, Any], **options: Any) -> Request:
    """The request that `records` make."""
    with run(config(server, parameters, **options)) as driver:
        send(driver, *records)
        settled(driver)
    return server.bulks[-1]


# ------------------------------------------------------------ requests


def test_a_chunk_is_one_request(server: BulkServer) -> None:
    request = documents(server, "index_name Ix-${tag}", {"n": 1}, {"n": 2})
    assert request.pairs() == [
        ({"index": {"_index": "ix-t"}}, {"n": 1}),
        ({"index": {"_index": "ix-t"}}, {"n": 2}),
    ]
    assert path_of(request) == "/_bulk"
    assert request.headers["content-type"] == "application/x-ndjson"
    assert "content-encoding" not in request.headers
    assert "authorization" not in request.headers


@pytest.mark.parametrize("level", ["best_speed", "best_compression", "default_compression"])
def test_bodies_are_compressed_when_asked_for(server: BulkServer, level: str) -> None:
    request = documents(server, f"compression_level {level}", *numbers(*range(1000)))
    assert request.headers["content-encoding"] == "gzip"
    assert fields([request], "n") == [list(range(1000))]
    assert len(request.body) < 10_000


@pytest.mark.parametrize(
    ("parameters", "name", "value"),
    [
        ("user ann\npassword p:w", "authorization", "Basic " + base64.b64encode(b"ann:p:w").decode()),
        ("user ann\npassword %{p@w}", "authorization", "Basic " + base64.b64encode(b"ann:p%40w").decode()),
        ("api_key id:key", "authorization", "ApiKey " + base64.b64encode(b"id:key").decode()),
        ("user a\npassword b\napi_key i:k", "authorization", "ApiKey " + base64.b64encode(b"i:k").decode()),
        ('custom_headers {"X-Tenant":"blue"}', "x-tenant", "blue"),
    ],
)
def test_who_we_are(server: BulkServer, parameters: str, name: str, value: str) -> None:
    assert documents(server, parameters, {"n": 1}).headers[name] == value
    assert {request.headers[name] for request in server.requests} == {value}, (
        "the version is asked for with it too"
    )


def test_paths(server: BulkServer) -> None:
    request = documents(server, "path /es/\ninclude_index_in_url true\nindex_name a b", {"n": 1})
    assert path_of(request) == "/es/a%20b/_bulk"
    assert path_of(server.requests[0]) == "/es/"
    assert request.pairs() == [({"index": {}}, {"n": 1})]


def test_large_chunks_are_several_requests(server: BulkServer) -> None:
    with run(config(server, "bulk_message_request_threshold 500")) as driver:
        send(driver, *numbers(*range(50)))
        settled(driver)
    assert len(server.bulks) > 3
    assert all(len(request.body) <= 500 for request in server.bulks)
    assert [doc["n"] for doc in server.taken] == list(range(50))


def test_the_chunks_keys_may_choose_the_cluster(server: BulkServer) -> None:
    with BulkServer() as other:
        text = config(server, f"hosts 127.0.0.1:${{port}}\nindex_name x\n{CHECK_LATER}", keys="tag, port")
        with run(text) as driver:
            send(driver, {"port": server.port}, {"port": other.port}, {"port": server.port})
            settled(driver)
        assert (len(server.taken), len(other.taken)) == (2, 1)


CHECK_LATER = "verify_es_version_at_startup false\ndefault_elasticsearch_version 8"


def test_connections_are_kept_and_half_closed_ones_are_noticed(server: BulkServer) -> None:
    with run(config(server)) as driver:
        for number in range(3):
            send(driver, {"n": number})
            settled(driver)
        assert server.connections <= 2, "one for the version, which is asked for by another thread"
        server.close_after_answer = True
        for number in range(3, 6):
            send(driver, {"n": number})
            settled(driver)
        assert driver[OUTPUT].failures == 0
    assert [doc["n"] for doc in server.taken] == list(range(6))


def test_the_next_node_gets_what_the_first_cannot(server: BulkServer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        nobody = gone.getsockname()[1]
    with run(config(server, f"hosts 127.0.0.1:{nobody},127.0.0.1:{server.port}")) as driver:
        for number in range(4):
            send(driver, {"n": number})
            settled(driver)
        assert driver[OUTPUT].failures == 0
    assert len(server.taken) == 4


def test_the_first_node_that_works(server: BulkServer) -> None:
    selector = "selector_class_name Fluent::Plugin::ElasticseatchFallbackSelector"
    with BulkServer() as other:
        hosts = f"hosts 127.0.0.1:{server.port},127.0.0.1:{other.port}"
        with run(config(server, f"{hosts}\n{selector}")) as driver:
            for number in range(4):
                send(driver, {"n": number})
                settled(driver)
        assert (len(server.taken), len(other.taken)) == (4, 0)


@pytest.mark.parametrize("client", [True, False])
def test_tls(certificates: Any, client: bool) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.cert, certificates.key)
    context.load_verify_locations(certificates.ca)
    context.verify_mode = ssl.CERT_REQUIRED if client else ssl.CERT_NONE
    server = BulkServer()
    server.context = context
    own = f"client_cert {certificates.client_cert}\nclient_key {certificates.client_key}\n" if client else ""
    versions = "ssl_min_version TLSv1_3\nssl_max_version TLSv1_3"
    with server:
        documents(server, f"scheme https\nca_file {certificates.ca}\n{own}{versions}", {"n": 1})
        assert server.taken == [{"n": 1}]


def test_a_certificate_that_nobody_vouches_for_is_refused(certificates: Any) -> None:
    server = BulkServer()
    server.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.context.load_cert_chain(certificates.cert, certificates.key)
    with server:
        with run(config(server, "scheme https", buffer="retry_max_times 1")) as driver:
            send(driver, {"n": 1})
            settled(driver)
            assert driver[OUTPUT].lost == {"retry_limit": 1}
            assert "certificate verify failed" in driver.log
        assert not server.requests
        documents(server, "scheme https\nssl_verify false", {"n": 2})
        assert server.taken == [{"n": 2}]


# ------------------------------------------------------------ which server it is


@pytest.mark.parametrize(
    ("info", "parameters", "meta"),
    [
        ({"version": {"number": "6.8.0"}}, "type_name mine", {"_type": "mine", "_routing": "r"}),
        ({"version": {"number": "7.17.3"}}, "", {"_type": "_doc", "routing": "r"}),
        ({"version": {"number": "7.17.3"}}, "suppress_type_name true", {"routing": "r"}),
        ({"version": {"number": "8.1.0"}}, "", {"routing": "r"}),
        ({"version": {"number": "9.0.0"}}, "", {"routing": "r"}),
        ({"version": {"number": "2.11.0", "distribution": "opensearch"}}, "", {"routing": "r"}),
        ({"version": {"number": "7.10.2", "distribution": "opensearch"}}, "", {"routing": "r"}),
        ({"tagline": "?"}, "default_elasticsearch_version 6", {"_type": "fluentd", "_routing": "r"}),
        ({}, "verify_es_version_at_startup false", {"_type": "fluentd", "_routing": "r"}),
    ],
)
def test_what_depends_on_the_version(server: BulkServer, info: Any, parameters: str, meta: Any) -> None:
    server.info = (200, info)
    request = documents(server, f"routing_key r\n{parameters}", {"r": "r"})
    ((action, _),) = request.pairs()
    assert action == {"index": {"_index": "fluentd", **meta}}


def test_the_start_does_not_wait_for_the_cluster(server: BulkServer) -> None:
    server.info = (503, b"starting")
    with run(config(server)) as driver:
        send(driver, {"n": 1})
        driver.wait_for(lambda: driver[OUTPUT].failures >= 1)
        assert not server.bulks, "without the version nobody knows what to send"
        server.info = (200, {"version": {"number": "8.0.0"}})
        settled(driver)
    assert server.taken == [{"n": 1}]


def test_after_max_retry_get_es_version_the_default_is_taken(server: BulkServer) -> None:
    server.info = (403, b"{}")
    parameters = "max_retry_get_es_version 1\nfail_on_detecting_es_version_retry_exceed false"
    request = documents(server, f"{parameters}\ndefault_elasticsearch_version 8", {"n": 1})
    assert request.pairs() == [({"index": {"_index": "fluentd"}}, {"n": 1})]


# ------------------------------------------------------------ requests that fail


@pytest.mark.parametrize(
    "answer",
    [(503, b""), (500, b"{}"), (429, b"{}"), "close", (200, b"<html>"), (200, b""), (200, {"errors": True}),
     (302, b""),
     (400, {"error": {"type": "illegal_argument_exception", "reason": "no"}})],
)  # fmt: skip
def test_what_was_not_taken_is_sent_again(server: BulkServer, answer: Any) -> None:
    server.answers = [answer]
    with run(config(server)) as driver:
        send(driver, *numbers(1, 2, 3))
        settled(driver)
        books = driver[OUTPUT]
        assert (books.delivered, books.to_error, books.lost) == (3, 0, {})
    assert server.taken == numbers(1, 2, 3)
    assert len(server.bulks) == 2


@pytest.mark.parametrize(
    ("status", "words"),
    [(401, "user and password, api_key"), (403, "right to create"), (404, "see path"), (406, "newline")],
)
def test_the_log_says_what_to_do(server: BulkServer, status: int, words: str) -> None:
    body = {"error": {"type": "security_exception", "reason": "said the server"}}
    server.answers = [(status, body)]
    with run(config(server, "user ann\npassword hunter2")) as driver:
        send(driver, {"n": 1})
        settled(driver)
        line = next(line for line in driver.log.splitlines() if f"answers {status} to" in line)
        assert words in line
        assert f"http://127.0.0.1:{server.port}" in line
        assert "said the server" in line
        assert "hunter2" not in driver.log


def test_nobody_there(server: BulkServer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    hosts = f"hosts http://ann:hunter2@127.0.0.1:{port}"
    with run(config(port, hosts, buffer="retry_max_times 2")) as driver:
        send(driver, {"n": 1})
        settled(driver)
        assert driver[OUTPUT].lost == {"retry_limit": 1}
        assert f"cannot reach http://127.0.0.1:{port}" in driver.log
        assert "Connection refused" in driver.log
        assert "hunter2" not in driver.log


def test_a_request_without_an_answer_is_sent_again(server: BulkServer) -> None:
    server.answers = ["hang"]
    with run(config(server, "request_timeout 0.2\ndeterministic_id true")) as driver:
        send(driver, {"n": 1}, {"n": 1}, {"n": 2})
        settled(driver)
        assert (driver[OUTPUT].delivered, driver[OUTPUT].lost) == (3, {})
        assert "does not answer in time" in driver.log
    first, second = server.bulks
    assert first.pairs() == second.pairs()
    assert len(server.taken) == 3, "ids keep the second request from doubling"
    assert len(server.ids) == 3, "equal documents of one chunk have different ids"


def test_a_request_that_is_too_large_is_sent_in_parts(server: BulkServer) -> None:
    server.limit_bytes = 1000
    with run(config(server)) as driver:
        send(driver, *numbers(*range(100)), {"n": 100, "huge": "x" * 2000}, {"n": 101})
        settled(driver)
        books = driver[OUTPUT]
        assert (books.delivered, books.to_error) == (101, 1)
        assert books.error_reasons == {"request_too_large": 1}
        assert driver.records("errors") == [{"n": 100, "huge": "x" * 2000}]
        assert "http.max_content_length" in driver.log
        before = len(server.bulks)
        send(driver, *numbers(*range(200, 240)))
        settled(driver)
        refused = [request for request in server.bulks[before:] if len(request.body) > 1000]
        assert not refused, "it is known by now what the server takes"
    assert sorted(doc["n"] for doc in server.taken) == [*range(100), 101, *range(200, 240)]


def test_one_document_for_which_the_whole_request_is_refused(server: BulkServer) -> None:
    refusal = (400, {"error": {"type": "action_request_validation_exception", "reason": "id is too long"}})
    answer = server.answer

    def strict(request: Request) -> Any:
        if request.method == "POST" and any(doc["n"] == 13 for doc in request.docs()):
            return refusal
        return answer(request)

    server.answer = strict  # type: ignore[method-assign]
    with run(config(server)) as driver:
        send(driver, *numbers(*range(20)))
        settled(driver)
        assert driver.records("errors") == [{"n": 13}]
        assert driver[OUTPUT].delivered == 19
    assert [doc["n"] for doc in server.taken] == [n for n in range(20) if n != 13]


# ------------------------------------------------------------ documents that fail


def test_rejected_documents_go_to_the_error_label_and_their_neighbours_are_indexed(
    server: BulkServer,
) -> None:
    reason = "failed to parse field [n] of type [long] in document with id 'x'"
    server.rule = lambda _, doc: (
        failure(400, "document_parsing_exception", reason) if doc["n"] == "x" else None
    )
    with run(config(server)) as driver:
        send(driver, {"n": 1}, {"n": "x"}, {"n": 2}, {"n": "x"})
        settled(driver)
        books = driver[OUTPUT]
        assert driver.records("errors") == [{"n": "x"}, {"n": "x"}]
        assert {event.tag for event in driver.events("errors")} == {"t"}
        assert (books.delivered, books.to_error, books.failures) == (2, 2, 0)
        assert books.error_reasons == {"document_parsing_exception": 2}
        line = next(line for line in driver.log.splitlines() if "documents are rejected" in line)
        assert "400 document_parsing_exception (field n)" in line
        assert "failed to parse field [n] of type [long]" in line
        assert "times=2" in line
    assert server.taken == numbers(1, 2)
    assert len(server.bulks) == 1


def test_without_an_error_label_rejected_documents_are_counted(server: BulkServer) -> None:
    server.rule = lambda _, doc: failure(400, "mapper_parsing_exception") if doc["n"] == 2 else None
    with run(config(server, errors=False)) as driver:
        send(driver, *numbers(1, 2, 3))
        settled(driver)
        assert (driver[OUTPUT].delivered, driver[OUTPUT].lost) == (2, {"mapper_parsing_exception": 1})


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (429, "es_rejected_execution_exception"),
        (503, "node_closed_exception"),
    ],
)
def test_documents_without_room_are_sent_again_alone(server: BulkServer, status: int, kind: str) -> None:
    left = [2, 4, 4]

    def rule(_: Any, doc: dict[str, Any]) -> dict[str, Any] | None:
        if doc["n"] in left:
            left.remove(doc["n"])
            return failure(status, kind)
        return None

    server.rule = rule
    with run(config(server)) as driver:
        send(driver, *numbers(1, 2, 3, 4, 5))
        settled(driver)
        books = driver[OUTPUT]
        assert (books.delivered, books.failures, books.to_error) == (5, 0, 0)
    assert fields(server.bulks, "n") == [[1, 2, 3, 4, 5], [2, 4], [4]]


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (503, "unavailable_shards_exception"),
        (429, "cluster_block_exception"),
        (403, "cluster_block_exception"),
    ],
)
def test_documents_of_an_index_that_takes_nothing_hold_up_nobody(
    server: BulkServer, status: int, kind: str
) -> None:
    blocked = True
    server.rule = lambda _, doc: failure(status, kind) if blocked and doc["n"] % 2 else None
    with run(config(server, "bulk_message_request_threshold 100", buffer="retry_wait 0.2")) as driver:
        send(driver, *numbers(*range(10)))
        driver.wait_for(lambda: driver[OUTPUT].failures >= 1)
        assert [doc["n"] for doc in server.taken] == [0, 2, 4, 6, 8], "those behind the first one went too"
        numbers_sent = [n for each in fields(server.bulks, "n") for n in each]
        assert numbers_sent[:10] == list(range(10)), "none was sent twice in a row"
        blocked = False
        settled(driver)
        assert driver[OUTPUT].delivered == 10
    assert sorted(doc["n"] for doc in server.taken) == list(range(10))


def test_what_is_still_without_room_goes_back_to_the_buffer_alone(server: BulkServer) -> None:
    busy = True
    server.rule = lambda _, doc: failure(429, "busy") if busy and doc["n"] % 2 else None
    with run(config(server)) as driver:
        send(driver, *numbers(1, 2, 3, 4))
        driver.wait_for(lambda: driver[OUTPUT].failures >= 1)
        books = driver[OUTPUT]
        assert books.delivered == 2
        assert books.buffer is not None
        assert books.buffer.events == 2
        busy = False
        settled(driver)
        assert driver[OUTPUT].delivered == 4
    assert server.taken[:2] == numbers(2, 4)
    assert server.taken[2:] == numbers(1, 3)


def test_retries_wait_as_long_as_the_server_says(server: BulkServer, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(delivery.time, "sleep", waits.append)
    server.retry_after = "7"
    server.answers = [(429, b"{}")]
    with run(config(server)) as driver:
        send(driver, {"n": 1})
        driver.wait_for(lambda: server.taken)
        settled(driver)
    assert 7.0 in waits


def test_unrecoverable_error_types_are_not_tried_again(server: BulkServer) -> None:
    server.rule = lambda _, doc: failure(429, "es_rejected_execution_exception") if doc["n"] == 2 else None
    with run(config(server, "unrecoverable_error_types es_rejected_execution_exception")) as driver:
        send(driver, *numbers(1, 2))
        settled(driver)
        assert driver.records("errors") == numbers(2)
    assert len(server.bulks) == 1


def test_the_requests_behind_one_that_failed_wait_too(server: BulkServer) -> None:
    with run(config(server, "bulk_message_request_threshold 200")) as driver:
        send(driver, {"n": 0})
        settled(driver)
        taken = server.take
        calls: list[int] = []

        def second_fails(request: Request) -> Any:
            calls.append(len(request.docs()))
            return (503, b"") if len(calls) == 2 else (200, taken(request))

        server.answer = second_fails  # type: ignore[method-assign]
        send(driver, *numbers(*range(1, 20)))
        settled(driver)
        assert (driver[OUTPUT].failures, driver[OUTPUT].delivered) == (1, 20)
    assert [doc["n"] for doc in server.taken] == list(range(20)), "nothing twice, and in order"


@pytest.mark.parametrize("unknown", [False, True])
def test_equal_documents_of_which_one_was_taken(server: BulkServer, unknown: bool) -> None:
    """Of two equal documents the cluster takes one and has no room for the other, beyond the retries at once.
    What is left must not get the id of its twin."""
    held = [failure(429, "busy")] * 4

    def rule(action: dict[str, Any], _: dict[str, Any]) -> dict[str, Any] | None:
        ((_, meta),) = action.items()
        known = list(dict.fromkeys(seen))
        seen.append(meta["_id"])
        return held.pop() if held and known and meta["_id"] != known[0] else None

    seen: list[str] = []
    server.rule = rule
    if unknown:
        server.answers = ["hang"]
    with run(config(server, "deterministic_id true\nrequest_timeout 0.3")) as driver:
        send(driver, {"n": 1}, {"n": 1})
        settled(driver)
        assert driver[OUTPUT].delivered == 2
    assert server.taken == numbers(1, 1)


def test_ids_of_the_records_own(server: BulkServer) -> None:
    with run(config(server, "id_key id\nwrite_operation create\nremove_keys id")) as driver:
        send(driver, {"n": 1, "id": "a"}, {"n": 2, "id": "a"}, {"n": 3})
        settled(driver)
        assert driver[OUTPUT].delivered == 1
        assert driver[OUTPUT].lost == {"duplicate": 1, "missing_id": 1}
    assert server.taken == numbers(1)


def test_missing_ids_go_to_the_error_label_when_asked_for(server: BulkServer) -> None:
    parameters = "id_key id\nwrite_operation update\nemit_error_for_missing_id true"
    with run(config(server, parameters)) as driver:
        send(driver, {"n": 1, "id": "a"}, {"n": 3})
        settled(driver)
        assert driver.records("errors") == [{"n": 3}]
        assert driver[OUTPUT].error_reasons == {"missing_id": 1}


class Searched(BulkServer):
    """Has two documents; one of them twice."""

    def answer(self, request: Request) -> Any:
        if not request.path.startswith("/logstash-*/_search"):
            return super().answer(request)
        self.queries.append(json.loads(request.body))
        hits = [("b", "logstash-2023.11.09"), ("a", "logstash-2023.11.08"), ("b", "logstash-2023.11.07")]
        return 200, {"hits": {"hits": [{"_id": id_, "_index": index} for id_, index in hits]}}

    @property
    def bulks(self) -> list[Request]:
        return [request for request in super().bulks if path_of(request) == "/_bulk"]


@pytest.mark.parametrize("operation", ["update", "upsert"])
def test_updates_go_where_the_document_is(operation: str) -> None:
    parameters = f"""target_index_affinity true
logstash_format true
id_key $.meta.id
write_operation {operation}"""
    with Searched() as server:
        server.queries = []  # type: ignore[attr-defined]
        records = [{"meta": {"id": id_}} for id_ in ("a", "b", "new", "a", 7)]
        request = documents(server, parameters, *records, {"none": 1})
        (query,) = server.queries  # type: ignore[attr-defined]
    assert sorted(query["query"]["ids"]["values"]) == ["7", "a", "b", "new"]
    assert query["_source"] is False
    assert [(action["update"]["_id"], action["update"]["_index"]) for action, _ in request.pairs()] == [
        ("a", "logstash-2023.11.08"), ("b", "logstash-2023.11.07"), ("new", "logstash-2023.11.14"),
        ("a", "logstash-2023.11.08"), (7, "logstash-2023.11.14"),
    ]  # fmt: skip


def test_conflicts_of_updates_pass(server: BulkServer) -> None:
    conflicts = [failure(409, "version_conflict_engine_exception")]
    server.rule = lambda _action, _doc: conflicts.pop() if conflicts else None
    with run(config(server, "id_key id\nwrite_operation upsert")) as driver:
        send(driver, {"n": 1, "id": "a"})
        settled(driver)
        assert (driver[OUTPUT].delivered, driver[OUTPUT].failures) == (1, 0)
    assert len(server.bulks) == 2


def test_fields_that_are_no_time(server: BulkServer) -> None:
    parameters = "logstash_format true\ntime_key when\ntime_key_format %Y\ntime_parse_error_tag bad.time"
    with run(config(server, parameters)) as driver:
        send(driver, {"when": "never"}, {"when": "2020"})
        settled(driver)
        assert driver[OUTPUT].delivered == 2
        (event,) = driver.events("errors")
        assert (event.tag, event.record["value"]) == ("bad.time", "never")
    indices = [action["index"]["_index"] for action, _ in server.bulks[0].pairs()]
    assert indices == ["logstash-2023.11.14", "logstash-2020.01.01"]


def test_a_chunk_without_anything_to_send(server: BulkServer) -> None:
    with run(config(server, "id_key id\nwrite_operation create")) as driver:
        send(driver, {"n": 3})
        settled(driver)
        assert driver[OUTPUT].lost == {"missing_id": 1}
    assert not server.bulks


# ------------------------------------------------------------ configuration

TEMPLATE = Path(__file__).with_name("index_template.json")
ROLLED = f"template_name x\ntemplate_file {TEMPLATE}"


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ("user ann", "password must be present"),
        ("cloud_id x:y", "cloud_auth must be present"),
        ("cloud_id nonsense\ncloud_auth a:hunter2", "not a Cloud ID"),
        ("hosts ftp://a:hunter2@b", "http:// or https://"),
        ("ssl_min_version TLSv1_2", "must be set together"),
        ("client_key /x", "needs client_cert"),
        ("scheme https\nca_file /nowhere", "/nowhere"),
        ("scheme https\nclient_cert /nowhere", "/nowhere"),
        ("sniffer_class_name Foo::Bar", "Ruby class"),
        ("selector_class_name Foo::Bar", "Ruby class"),
        ("write_operation delete", "index, create, update"),
        ("deterministic_id true\nwrite_operation update", "not for updates"),
        ("max_retry_get_es_version -1", "must not be negative"),
        ("index_prefix x", "logstash_prefix"),
        ("enable_ilm true", "needs template_name and template_file"),
        ("rollover_index true", "needs template_name and template_file"),
        (f"{ROLLED}\nenable_ilm true\ndeflector_alias a", "does not go with enable_ilm"),
        ('ilm_policy {"a":1}\nilm_policies {"b":{"a":1}}', "exclude each other"),
        ("ilm_policy_overwrite true", "requires a non empty ilm_policy"),
        ("template_name x", "must be set together"),
        ("template_name x\ntemplate_file /nowhere.json", "cannot read /nowhere.json"),
        ("template_name x\ntemplate_file /dev/null", "template 'x' is no JSON"),
        ('templates {"x":"/nowhere.json"}', "cannot read /nowhere.json"),
        ('customize_template {"x":"y"}', "needs template_file"),
        ("max_retry_putting_template -1", "must not be negative"),
        ("ignore_exceptions [\"Foo\"]", "Ruby class Foo has no counterpart"),
        ("catch_transport_exception_on_retry false", "tried again"),
        ("time_key x\ninclude_timestamp true\ntime_key_format %!", "%!"),
        ("id_key $[broken", "broken"),
        ("<buffer []>\n</buffer>", "'tag' or '_index'"),
        ("index_name x\n<buffer a>\n</buffer>", "'tag' or '_index'"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(parameters: str, words: str) -> None:
    with pytest.raises(InvalidConfiguration) as caught:
        run(f"<match **>\n@type elasticsearch\n{parameters}\n</match>", start=False)
    assert words in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "parameters",
    [
        "enable_ilm false\nreload_connections false\nreconnect_on_error true\nreload_on_failure true",
        "http_backend typhoeus\nlog_es_400_reason true\nprefer_oj_serializer true\nretry_tag again",
        "sniffer_class_name Fluent::Plugin::ElasticsearchSimpleSniffer\nflush_interval 5s\nreload_after 9",
        "index_name x-%Y.%m.%d\n<buffer time>\ntimekey 1d\n</buffer>",
        "logstash_prefix ${a}\n<buffer a>\n</buffer>",
        "unrecoverable_error_types [\"out_of_memory_error\"]\nuse_legacy_template true",
        f"{ROLLED}\nenable_ilm true\nrollover_index true\nindex_date_pattern \"\"\nilm_policy_id ${{tag}}",
        "target_index_affinity true",
        "validate_client_version true\nmax_retry_get_es_version 3\nexception_backup false",
        "ignore_exceptions [\"Faraday::TimeoutError\",\"Elastic::Transport::Transport::Errors::NotFound\"]",
        f"cloud_id x:{base64.b64encode(b'h$e$k').decode()}\ncloud_auth u:p",
    ],
)  # fmt: skip
def test_configurations_of_fluentd_that_work(parameters: str) -> None:
    run(f"<match **>\n@type elasticsearch\n{parameters}\n</match>", start=False)


def test_opensearch_is_the_same_output(server: BulkServer) -> None:
    server.info = (200, {"version": {"number": "2.11.0", "distribution": "opensearch"}})
    with run(config(server).replace("@type elasticsearch", "@type opensearch")) as driver:
        send(driver, {"n": 1})
        driver.wait_for(lambda: server.taken)
        driver.wait_for(lambda: "OpenSearch 2.11.0" in driver.log)


def test_requests_are_logged_when_asked_for(server: BulkServer) -> None:
    with run(config(server, "with_transporter_log true\nuser ann\npassword hunter2")) as driver:
        send(driver, {"n": 1})
        settled(driver)
        assert f"POST http://127.0.0.1:{server.port}/_bulk" in driver.log
        assert "hunter2" not in driver.log


def test_the_chunks_id(server: BulkServer) -> None:
    request = documents(
        server, "<metadata>\ninclude_chunk_id true\nchunk_id_key c\n</metadata>", *numbers(1, 2)
    )
    first, second = request.docs()
    assert first["c"] == second["c"]
    assert len(bytes.fromhex(first["c"])) == 16
    assert json.dumps(first) != json.dumps(second)


def test_the_example_of_the_documentation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ES_PASSWORD", "hunter2")
    text = (Path(__file__).parents[2] / "docs/elasticsearch.md").read_text().split("```")[1]
    with run(text, start=False) as driver:
        assert [str(node) for node in driver.plugin(OUTPUT)._clusters.nodes("https://es1:9200")] == [
            "https://es1:9200"
        ]
