"""Rollover and lifecycle policies of the elasticsearch output: what a server is asked for. Elasticsearch's
small distribution has no lifecycle management; aliases and templates on real servers are in
tests/integration."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from bulk_server import BulkServer, Request

from forwarder.api.testing import Driver, run

OUTPUT = "out_elasticsearch"
TEMPLATE = Path(__file__).with_name("index_template.json")
CONFIG = """
<match **>
  @type elasticsearch
  host 127.0.0.1
  port {port}
  template_name named
  template_file {template}
  {parameters}
  <buffer {keys}>
    flush_mode lazy
    retry_wait 0.01
    retry_randomize false
  </buffer>
</match>
"""
TIME_NS = 1_700_000_000_000_000_000


class Managed(BulkServer):
    """A server that keeps what is put there."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.kept: dict[str, Any] = {}
        self.puts: list[tuple[str, Any]] = []

    def answer(self, request: Request) -> Any:
        path = unquote(urlsplit(request.path).path)
        if request.method == "PUT":
            body = json.loads(request.body)
            self.puts.append((path, body))
            self.kept[path] = (
                {"policy": body["policy"], "_seq_no": 4, "_primary_term": 2} if "_ism" in path else body
            )
            for alias in body.get("aliases", ()):
                self.kept[f"/_alias/{alias}"] = {}
            return 200, {"acknowledged": True}
        if request.method == "GET" and path != "/":
            return (200, self.kept[path]) if path in self.kept else (404, {})
        return super().answer(request)


OPENSEARCH = (200, {"version": {"number": "2.19.6", "distribution": "opensearch"}})


def text(server: BulkServer, parameters: str, keys: str = "tag") -> str:
    return CONFIG.format(port=server.port, template=TEMPLATE, parameters=parameters, keys=keys)


def send(server: Managed, parameters: str, *tags: str, keys: str = "tag", **record: Any) -> Driver:
    with run(text(server, parameters, keys)) as driver:
        for tag in tags or ("app",):
            driver.emit(tag, {"n": 1, **record}, time_ns=TIME_NS)
        driver.flush()
        driver.wait_for(lambda: driver[OUTPUT].delivered == len(tags or ("app",)))
    return driver


@pytest.mark.parametrize("legacy", [True, False])
def test_lifecycle_management_with_the_default_policy(legacy: bool) -> None:
    with Managed() as server:
        send(server, f"index_name Logs\nenable_ilm true\nuse_legacy_template {str(legacy).lower()}")
    settings = {
        "number_of_shards": 1,
        "index.lifecycle.name": "logstash-policy",
        "index.lifecycle.rollover_alias": "logs",
    }
    policy = {
        "policy": {"phases": {"hot": {"actions": {"rollover": {"max_size": "50gb", "max_age": "30d"}}}}}
    }
    first, template, index = server.puts
    assert first == ("/_ilm/policy/logstash-policy", policy)
    assert template[0] == ("/_template/logs" if legacy else "/_index_template/logs")
    body = template[1]
    assert body["index_patterns"] == ["logs-*"]
    if legacy:
        assert (body["settings"], body["order"]) == (settings, 4)
        assert "template" not in body
    else:
        assert (body["template"]["settings"], body["priority"]) == (settings, 101)
    assert index == ("/<logs-default-{now/d}-000001>", {"aliases": {"logs": {"is_write_index": True}}})
    ((action, _),) = server.bulks[0].pairs()
    assert action == {"index": {"_index": "logs"}}


def test_with_logstash_format_every_day_has_its_alias() -> None:
    parameters = "logstash_format true\nlogstash_prefix Web\napplication_name Shop\nenable_ilm true"
    with Managed() as server:
        send(server, parameters)
    paths = [path for path, _ in server.puts]
    assert paths == [
        "/_ilm/policy/logstash-policy", "/_template/web-2023.11.14", "/<web-shop-2023.11.14-000001>",
    ]  # fmt: skip
    assert server.puts[1][1]["index_patterns"] == ["web-shop-2023.11.14-*"]
    assert server.puts[1][1]["order"] == 3 + 2 + 1
    assert server.puts[2][1] == {"aliases": {"web-2023.11.14": {"is_write_index": True}}}


def test_placeholders_separator_and_policies_by_name() -> None:
    parameters = """index_name logs.${tag}
  index_separator .
  index_date_pattern ""
  application_name ${tag}
  ilm_policy_id for-${tag}
  ilm_policies {"for-a":{"policy":{"phases":{"hot":{"min_age":"1s"}}}}}
  enable_ilm true"""
    with Managed() as server:
        send(server, parameters, "a", "b")
    puts = dict(server.puts)
    assert puts["/_ilm/policy/for-a"] == {"policy": {"phases": {"hot": {"min_age": "1s"}}}}
    assert "rollover" in json.dumps(puts["/_ilm/policy/for-b"]), "the default one"
    assert puts["/<logs.a.a-000001>"] == {"aliases": {"logs.a": {"is_write_index": True}}}
    assert puts["/_template/logs.b"]["index_patterns"] == ["logs.b.*"]
    assert len(server.puts) == 6


@pytest.mark.parametrize("overwrite", [True, False])
def test_what_is_there_stays_unless_it_is_to_be_overwritten(overwrite: bool) -> None:
    parameters = f"""index_name logs
  enable_ilm true
  ilm_policy {{"policy":{{"phases":{{}}}}}}
  ilm_policy_overwrite {str(overwrite).lower()}
  template_overwrite {str(overwrite).lower()}"""
    with Managed() as server:
        there = {"/_ilm/policy/logstash-policy": {}, "/_template/logs": {}, "/_alias/logs": {}}
        server.kept |= there
        send(server, parameters)
    assert [path for path, _ in server.puts] == (list(there)[:2] if overwrite else [])


def test_an_index_that_is_there_gets_the_alias() -> None:
    class Raced(Managed):
        def answer(self, request: Request) -> Any:
            if request.method == "PUT" and request.path.endswith("-000001%3E"):
                return 400, {"error": {"type": "resource_already_exists_exception", "reason": "there"}}
            return super().answer(request)

    with Raced() as server:
        send(
            server,
            "index_name logs\nrollover_index true\ndeflector_alias the-alias\nindex_date_pattern now/m",
        )
    assert server.puts == [
        ("/_template/named", json.loads(TEMPLATE.read_text())),
        ("/<logs-default-{now/m}-000001>/_alias/the-alias", {"is_write_index": True}),
    ]


def test_rollover_without_lifecycle_management_leaves_the_template_as_it_is() -> None:
    with Managed() as server:
        send(server, "index_name logs\nrollover_index true")
        assert [path for path, _ in server.puts] == ["/_template/named", "/<logs-default-{now/d}-000001>"]
        server.puts.clear()
        send(server, "index_name logs\nrollover_index false", "a")
        assert server.puts == []


def test_opensearch_gets_state_management() -> None:
    with Managed(info=OPENSEARCH) as server:
        send(server, "index_name logs-${tag}\nenable_ilm true", "a", "b")
    policies = [
        body["policy"] for path, body in server.puts if path == "/_plugins/_ism/policies/logstash-policy"
    ]
    assert policies[0]["ism_template"] == [{"index_patterns": ["logs-a-*"], "priority": 100}]
    assert policies[0]["states"][0]["actions"] == [{"rollover": {"min_size": "50gb", "min_index_age": "30d"}}]
    # the policy says for which indices it is: the second alias is added to it
    assert policies[1]["ism_template"] == [{"index_patterns": ["logs-a-*", "logs-b-*"], "priority": 100}]
    assert policies[1]["states"] == policies[0]["states"]
    settings = dict(server.puts)["/_template/logs-b"]["settings"]
    assert settings["plugins.index_state_management.rollover_alias"] == "logs-b"


def test_documents_wait_where_something_is_refused() -> None:
    class Without(Managed):
        def answer(self, request: Request) -> Any:
            if "_ilm" in request.path:
                return 400, {"error": f"no handler found for uri [{request.path}] and method [GET]"}
            return super().answer(request)

    with Without() as server:
        with run(text(server, "index_name logs\nenable_ilm true")) as driver:
            driver.emit("app", {"n": 1})
            driver.flush()
            driver.wait_for(lambda: driver[OUTPUT].failures >= 2)
            assert "has no lifecycle management" in driver.log
            assert driver[OUTPUT].delivered == 0
        assert not server.bulks
        more = "max_retry_putting_template 1\nfail_on_putting_template_retry_exceed false"
        driver = send(server, f"index_name logs\nenable_ilm true\n{more}")
        assert "is given up" in driver.log


def test_aliases_are_looked_for_again() -> None:
    parameters = "index_name logs\nrollover_index true\ntruncate_caches_interval 0.05"
    with Managed() as server, run(text(server, parameters)) as driver:
        driver.emit("app", {"n": 1})
        driver.flush()
        driver.wait_for(lambda: driver[OUTPUT].delivered == 1)
        server.kept.clear()
        server.puts.clear()
        sent = 1
        while not server.puts:
            driver.emit("app", {"n": 1})
            driver.flush()
            sent += 1
            driver.wait_for(lambda: driver[OUTPUT].delivered == sent)  # noqa: B023
        assert [path for path, _ in server.puts] == ["/_template/named", "/<logs-default-{now/d}-000001>"]


def test_what_has_no_effect_is_named() -> None:
    parameters = "ilm_policy_id x\ndeflector_alias y"
    text = CONFIG.format(port=1, template=TEMPLATE, keys="tag", parameters=parameters)
    driver = run(text, start=False)
    assert "ilm_policy_id has no effect without enable_ilm" in driver.log
    assert "deflector_alias has no effect without rollover_index" in driver.log
