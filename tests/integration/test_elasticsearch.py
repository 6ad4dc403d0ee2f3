"""The elasticsearch output with a real Elasticsearch: what the search API shows of what was sent."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from forwarder_process import ForwarderProcess, free_port
from search_output import config
from searchnode import RELEASES, Node

from forwarder.api.testing import Driver, run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400), pytest.mark.xdist_group("search")]

TIME_NS = 1_700_000_000_123_456_789  # 2023-11-14T22:13:20.123456789Z


def send(node: Node, settings: str, *events: Any, keys: str = "tag", tag: str = "app") -> Driver:
    """Sends events through the output and waits until all are delivered or rejected; stops."""
    buffer = "timekey 1d" if "time" in keys else ""
    with run(config(node, settings, output="elasticsearch", keys=keys, buffer=buffer)) as driver:
        driver.emit(tag, *events, time_ns=TIME_NS)
        settle(driver, len(events))
    return driver


def settle(driver: Driver, count: int, seconds: float = 30) -> None:
    """Waits until `count` events are delivered or rejected."""

    def settled() -> bool:
        books = driver["es"]
        return books.delivered + books.to_error + sum(books.lost.values()) >= count

    driver.wait_for(settled, seconds)


def sources(node: Node, index: str, sort: str = "n") -> list[dict[str, Any]]:
    return [hit["_source"] for hit in node.documents(index, sort)]


# ------------------------------------------------------------------ indices, fields and their types


@pytest.mark.parametrize(
    ("settings", "keys", "names"),
    [
        ("index_name {index}", "tag", ["{index}"]),
        ("index_name {index}-${{tag}}", "tag", ["{index}-app.web"]),
        ("index_name {index}-${{tag[1]}}", "tag", ["{index}-web"]),
        ("index_name {index}-${{kind}}", "tag, kind", ["{index}-a", "{index}-b"]),
        ("index_name {index}-${{$.kubernetes.namespace}}", "tag, $.kubernetes.namespace", ["{index}-prod"]),
        (
            "index_name {index}.%Y%m",
            "tag, time",
            ["{index}.202311"],
        ),
        ("logstash_format true\n    logstash_prefix {index}", "tag", ["{index}-2023.11.14"]),
        (
            "logstash_format true\n    logstash_prefix {index}-${{tag}}\n    logstash_prefix_separator _\n"
            "    logstash_dateformat %Y.%V",
            "tag",
            ["{index}-app.web_2023.46"],
        ),
        (
            "target_index_key $.to\n    index_name {index}".replace("$.", ""),
            "tag",
            ["{index}", "{index}-chosen"],
        ),
    ],
)
def test_index_names(elasticsearch: Node, index: str, settings: str, keys: str, names: list[str]) -> None:
    records = [
        {"n": 1, "kind": "a", "kubernetes": {"namespace": "prod"}, "to": f"{index}-chosen"},
        {"n": 2, "kind": "b", "kubernetes": {"namespace": "prod"}},
    ]
    driver = send(elasticsearch, settings.format(index=index), *records, keys=keys, tag="app.web")
    assert driver["es"].delivered == 2
    found = elasticsearch.request("GET", f"/_cat/indices/{index}*?format=json&h=index").body
    assert sorted(each["index"] for each in found) == [name.format(index=index) for name in names]
    assert elasticsearch.count(f"{index}*") == 2


def test_field_types_and_times(elasticsearch: Node, index: str) -> None:
    record = {
        "n": 1, "big": 2**63 - 1, "ratio": 0.5, "ok": True, "none": None, "text": "käse \U0001f9c0 \"'\\",
        "list": [1, 2], "nested": {"deep": {"code": 200}}, "when": "2023-11-14T22:13:20Z",
    }  # fmt: skip
    settings = f"""logstash_format true
    logstash_prefix {index}
    include_tag_key true
    remove_keys secret"""
    send(elasticsearch, settings, {**record, "secret": "x"})
    name = f"{index}-2023.11.14"
    (source,) = sources(elasticsearch, name)
    assert source == {**record, "@timestamp": "2023-11-14T22:13:20.123456789+00:00", "tag": "app"}
    assert elasticsearch.mapping(name) == {
        "@timestamp": "date", "big": "long", "list": "long", "n": "long", "nested": "object", "ok": "boolean",
        "ratio": "float", "tag": "text", "text": "text", "when": "date",
    }  # fmt: skip
    second = {"range": {"@timestamp": {"gte": "2023-11-14T22:13:20.123Z", "lt": "2023-11-14T22:13:20.124Z"}}}
    assert elasticsearch.count(name, second) == 1
    assert elasticsearch.count(name, {"term": {"nested.deep.code": 200}}) == 1
    assert elasticsearch.count(name, {"match": {"text": "käse"}}) == 1


def test_the_time_from_a_field(elasticsearch: Node, index: str) -> None:
    settings = f"""index_name {index}
    include_timestamp true
    time_key at
    time_key_format %d/%b/%Y:%H:%M:%S %z"""
    send(elasticsearch, settings, {"n": 1, "at": "23/Nov/2026:18:00:00 +0100"})
    assert elasticsearch.mapping(index)["@timestamp"] == "date"
    seventeen = {"term": {"@timestamp": "2026-11-23T17:00:00Z"}}
    assert elasticsearch.count(index, seventeen) == 1, sources(elasticsearch, index)


def test_nanoseconds_are_kept_where_the_mapping_asks_for_them(elasticsearch: Node, index: str) -> None:
    mapping = {"mappings": {"properties": {"@timestamp": {"type": "date_nanos"}}}}
    assert elasticsearch.request("PUT", f"/{index}", mapping).status == 200
    events = [(TIME_NS + offset, {"n": offset}) for offset in (2, 0, 1)]
    with run(config(elasticsearch, f"index_name {index}\n  include_timestamp true")) as driver:
        driver.emit("app", *events)
        settle(driver, 3)
    assert [source["n"] for source in sources(elasticsearch, index, "@timestamp")] == [0, 1, 2]


def test_flattened_records(elasticsearch: Node, index: str) -> None:
    settings = f"index_name {index}\n    flatten_hashes true\n    flatten_hashes_separator _"
    send(elasticsearch, settings, {"n": 1, "http": {"code": 200, "of": {"x": "y"}}})
    assert sources(elasticsearch, index) == [{"n": 1, "http_code": 200, "http_of_x": "y"}]


@pytest.mark.parametrize("legacy", [True, False])
@pytest.mark.parametrize("overwrite", [True, False])
def test_an_index_template(
    elasticsearch: Node, index: str, tmp_path: Path, legacy: bool, overwrite: bool
) -> None:
    def template(kind: str, patterns: str) -> dict[str, Any]:
        content = {"mappings": {"properties": {"code": {"type": kind}}}}
        return {"index_patterns": [patterns], **(content if legacy else {"template": content})}

    target = f"/{'_template' if legacy else '_index_template'}/{index}-app"
    file = tmp_path / "template.json"
    file.write_text(json.dumps(template("keyword", "<<index_prefix>>-*"), indent=1))
    settings = f"""index_name {index}-{{name}}
  template_name {index}-${{{{tag}}}}
  template_file {file}
  customize_template {{{{"<<index_prefix>>":"{index.upper()}"}}}}
  use_legacy_template {json.dumps(legacy)}
  template_overwrite {json.dumps(overwrite)}"""
    send(elasticsearch, settings.format(name="one"), {"n": 1, "code": 200})
    assert elasticsearch.mapping(f"{index}-one") == {"code": "keyword", "n": "long"}
    assert elasticsearch.request("PUT", target, template("ip", f"{index}-*")).status == 200
    send(elasticsearch, settings.format(name="two"), {"n": 1, "code": "192.0.2.1"})
    assert elasticsearch.mapping(f"{index}-two")["code"] == ("keyword" if overwrite else "ip")


def test_a_template_that_the_server_refuses(elasticsearch: Node, index: str, tmp_path: Path) -> None:
    file = tmp_path / "template.json"
    file.write_text('{"no such key": 1}')
    settings = f"""index_name {index}
  template_name {index}
  template_file {file}
  max_retry_putting_template 2
  fail_on_putting_template_retry_exceed false"""
    driver = send(elasticsearch, settings, {"n": 1})
    assert driver["es"].delivered == 1
    assert "unknown key [no such key]" in driver.log
    assert "an index template is given up" in driver.log


# ------------------------------------------------------------------ ids, routing, operations


def test_ids_and_routing_from_fields(elasticsearch: Node, index: str) -> None:
    settings = f"index_name {index}\n    id_key id\n    routing_key customer\n    remove_keys id"
    records = [{"n": 1, "id": "one", "customer": "c1"}, {"n": 2, "id": "two", "customer": "c2"}]
    send(elasticsearch, settings, *records)
    hits = elasticsearch.documents(index, "n")
    assert [(hit["_id"], hit["_routing"], hit["_source"]) for hit in hits] == [
        ("one", "c1", {"n": 1, "customer": "c1"}),
        ("two", "c2", {"n": 2, "customer": "c2"}),
    ]


def test_an_ingest_pipeline(elasticsearch: Node, index: str) -> None:
    pipeline = {"processors": [{"set": {"field": "stage", "value": "piped"}}]}
    assert elasticsearch.request("PUT", f"/_ingest/pipeline/{index}", pipeline).status == 200
    send(elasticsearch, f"index_name {index}\n    pipeline {index}", {"n": 1})
    assert sources(elasticsearch, index) == [{"n": 1, "stage": "piped"}]


def test_a_pipeline_that_is_not_there(elasticsearch: Node, index: str) -> None:
    driver = send(elasticsearch, f"index_name {index}\n    pipeline nowhere", {"n": 1})
    assert driver["es"].error_reasons == {"illegal_argument_exception": 1}
    assert "pipeline with id [nowhere] does not exist" in driver.log
    assert driver.records("rejected") == [{"n": 1}]


@pytest.mark.parametrize(
    ("operation", "then"),
    [
        ("index", [{"n": 1, "b": 2}, {"n": 2, "b": 2}]),
        ("create", [{"n": 1, "a": 1}, {"n": 2, "b": 2}]),
        ("update", [{"n": 1, "a": 1, "b": 2}]),
        ("upsert", [{"n": 1, "a": 1, "b": 2}, {"n": 2, "b": 2}]),
    ],
)
def test_write_operations(
    elasticsearch: Node, index: str, operation: str, then: list[dict[str, Any]]
) -> None:
    settings = f"index_name {index}\n    id_key id\n    remove_keys id"
    send(elasticsearch, settings, {"id": "1", "n": 1, "a": 1})
    driver = send(
        elasticsearch,
        f"{settings}\n    write_operation {operation}",
        {"id": "1", "n": 1, "b": 2},
        {"id": "2", "n": 2, "b": 2},
    )
    assert sources(elasticsearch, index) == then
    if operation == "update":
        assert driver["es"].error_reasons == {"document_missing_exception": 1}


def test_an_update_finds_its_document_in_an_older_index(elasticsearch: Node, index: str) -> None:
    settings = f"logstash_format true\n    logstash_prefix {index}\n    id_key id\n    write_operation upsert"
    day_ns = 86_400_000_000_000
    with run(config(elasticsearch, f"{settings}\n    target_index_affinity true")) as driver:
        driver.emit("app", {"id": "1", "n": 1}, {"id": "2", "n": 2}, time_ns=TIME_NS)
        settle(driver, 2)
        elasticsearch.request("POST", f"/{index}-*/_refresh")
        driver.emit("app", {"id": "1", "m": 1}, {"id": "3", "n": 3}, time_ns=TIME_NS + day_ns)
        settle(driver, 4)
    hits = elasticsearch.documents(f"{index}-*", "n")
    assert [(hit["_id"], hit["_index"], hit["_source"].get("m")) for hit in hits] == [
        ("1", f"{index}-2023.11.14", 1), ("2", f"{index}-2023.11.14", None),
        ("3", f"{index}-2023.11.15", None),
    ]  # fmt: skip


# ------------------------------------------------------------------ what the server does not take


def test_a_refused_index_name(elasticsearch: Node, index: str) -> None:
    records = [{"n": 1, "to": f"{index} x"}, {"n": 2}]
    driver = send(elasticsearch, f"index_name {index}\n    target_index_key to", *records)
    assert driver["es"].error_reasons == {"invalid_index_name_exception": 1}
    assert "must not contain the following characters" in driver.log
    assert sources(elasticsearch, index) == [{"n": 2}]


def test_a_body_in_gzip(elasticsearch: Node, index: str) -> None:
    records = [{"n": n, "text": "the same again " * 20} for n in range(500)]
    driver = send(elasticsearch, f"index_name {index}\n    compression_level best_speed", *records)
    assert driver["es"].delivered == 500
    assert [source["n"] for source in sources(elasticsearch, index)] == list(range(500))


# ------------------------------------------------------------------ a node that is slow


@pytest.mark.parametrize("deterministic", [True, False])
def test_an_answer_that_comes_too_late(elasticsearch: Node, index: str, deterministic: bool) -> None:
    assert elasticsearch.request("PUT", f"/{index}").status == 200
    settings = f"""index_name {index}
  deterministic_id {json.dumps(deterministic)}
  request_timeout 1s"""
    with run(config(elasticsearch, settings)) as driver:
        driver.emit("app", {"n": 0})
        settle(driver, 1)
        elasticsearch.pause()  # what is sent now is taken later, when nobody waits for the answer any more
        try:
            driver.emit("app", {"n": 1}, {"n": 1}, {"n": 2})
            driver.wait_for(lambda: driver.log.count("does not answer in time") >= 2, 60)
        finally:
            elasticsearch.resume()
        settle(driver, 4, 120)
        assert driver["es"].delivered == 4
    found = [source["n"] for source in sources(elasticsearch, index)]
    if deterministic:
        assert found == [0, 1, 1, 2]
    else:
        assert sorted(set(found)) == [0, 1, 2]
        assert len(found) > 4  # what deterministic_id is for


# ------------------------------------------------------------------ other servers, and the quickstart


@pytest.mark.parametrize(
    ("release", "output"),
    [("elasticsearch7", "elasticsearch"), ("elasticsearch9", "elasticsearch"), ("opensearch", "opensearch")],
)
def test_other_releases(
    request: pytest.FixtureRequest, search_node: Callable[..., Any], index: str, release: str, output: str
) -> None:
    shared = release == "opensearch"
    with nullcontext(request.getfixturevalue(release)) if shared else search_node(release) as node:
        reply = node.request("GET", "/")
        assert reply.body["version"]["number"] == RELEASES[release].version
        settings = f"""logstash_format true
  logstash_prefix {index}
  suppress_type_name true
  deterministic_id true
  compression_level default_compression"""
        with run(config(node, settings, output=output)) as driver:
            driver.emit("app", {"n": 0}, time_ns=TIME_NS)
            settle(driver, 1)
            driver.emit("app", {"n": 1}, {"n": "two"}, {"n": 3}, time_ns=TIME_NS)
            settle(driver, 4)
            assert driver["es"].to_error == 1
            assert driver.records("rejected") == [{"n": "two"}]
            assert RELEASES[release].version in driver.log
        name = f"{index}-2023.11.14"
        assert [source["n"] for source in sources(node, name)] == [0, 1, 3]
        assert node.mapping(name) == {"@timestamp": "date", "n": "long"}


def test_the_quickstart(elasticsearch: Node, tools: Any, tmp_path: Path) -> None:
    logger = tools.need("logger")
    text = Path(__file__, "../../../docker/quickstart-elasticsearch.conf").resolve().read_text()
    port = free_port()
    line = (
        '203.0.113.7 - alice [23/Nov/2026:18:00:00 +0000] "GET /index.html HTTP/1.1" 200 2326 "-" "curl/8.5"'
    )
    elasticsearch.request("DELETE", "/syslog-*")
    config = text.replace("port 5140", f"port {port}")
    with ForwarderProcess(tmp_path, config, env={"ES_URL": elasticsearch.url}) as forwarder:
        arguments = ["--udp", "--server", "127.0.0.1", "--port", str(port), "--rfc3164", "--tag", "web", line]
        subprocess.run([logger, *arguments], check=True, timeout=30)
        forwarder.wait(lambda: elasticsearch.count("syslog-*") == 1)
        assert forwarder.stop() == 0
    (source,) = sources(elasticsearch, "syslog-*", "@timestamp")
    assert source["message"] == line
    assert source["clientip"] == "203.0.113.7"
    assert source["response"] == "200"
    assert elasticsearch.mapping("syslog-*")["@timestamp"] == "date"
