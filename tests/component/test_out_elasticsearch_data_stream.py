"""`<match> @type elasticsearch_data_stream`: names, and the policies that a server with lifecycle management
gets. What real servers do is in tests/integration."""

from __future__ import annotations

import json
from typing import Any

import pytest
from bulk_server import BulkServer, Request, path_of

from forwarder.api.testing import run
from forwarder.config.diagnostics import InvalidConfiguration

CONFIG = "<match **>\n@type elasticsearch_data_stream\nhost 127.0.0.1\nport {port}\n{parameters}\n</match>"


class Managed(BulkServer):
    """A server that has nothing yet and takes everything."""

    def answer(self, request: Request) -> Any:
        if request.method == "GET" and path_of(request) != "/":
            return 404, {}
        return (200, {"acknowledged": True}) if request.method == "PUT" else super().answer(request)


@pytest.mark.parametrize(
    ("name", "words"),
    [("-x", "must not start with"), ("..", "must not start with"), ("a b", "must not contain"),
     ("Ab", "lowercase"), ("a" * 250, "longer than 255"), ("x\nwrite_operation update", "new documents only"),
     ("x\nlogstash_format true", "does not go with"), ("x\nenable_ilm true", "does not go with"),
     ("x\nrollover_index true", "does not go with"),
     ("x\ndata_stream_ilm_policy nonsense", "no JSON object")],
)  # fmt: skip
def test_what_is_wrong_is_named(name: str, words: str) -> None:
    with pytest.raises(InvalidConfiguration, match=words):
        run(CONFIG.format(port=9200, parameters=f"data_stream_name {name}"), start=False)


def puts(info: dict[str, Any], more: str = "") -> dict[str, Any]:
    with Managed(info=(200, {"version": info})) as server:
        text = CONFIG.format(port=server.port, parameters=f"data_stream_name logs\n{more}")
        with run(text) as driver:
            driver.emit("t", {"n": 1})
            driver.flush()
            driver.wait_for(lambda: driver["out_elasticsearch_data_stream"].delivered == 1)
        assert path_of(server.bulks[-1]) == "/logs/_bulk"
        ((action, doc),) = server.bulks[-1].pairs()
        assert list(action["create"]) == ["_id"]
        assert set(doc) == {"n", "@timestamp"}
        return {
            path_of(each): json.loads(each.body or b"{}") for each in server.requests if each.method == "PUT"
        }


def test_elasticsearch_gets_a_lifecycle_policy() -> None:
    found = puts({"number": "8.15.0"})
    assert list(found) == ["/_ilm/policy/logs_policy", "/_index_template/logs_template", "/_data_stream/logs"]
    rollover = found["/_ilm/policy/logs_policy"]["policy"]["phases"]["hot"]["actions"]["rollover"]
    assert rollover == {"max_size": "50gb", "max_age": "30d"}
    assert found["/_index_template/logs_template"] == {
        "index_patterns": ["logs*"],
        "data_stream": {},
        "template": {"settings": {"index.lifecycle.name": "logs_policy"}},
    }


def test_opensearch_gets_a_state_management_policy() -> None:
    policy = {"policy": {"phases": {
        "hot": {"actions": {"rollover": {"max_docs": 9}}},
        "delete": {"min_age": "7d", "actions": {"delete": {}}},
    }}}  # fmt: skip
    more = f"data_stream_ilm_policy {json.dumps(policy)}"
    found = puts({"number": "2.19.6", "distribution": "opensearch"}, more)
    states = found["/_plugins/_ism/policies/logs_policy"]["policy"]["states"]
    assert states[0]["actions"] == [{"rollover": {"min_doc_count": 9}}]
    assert states[0]["transitions"][0]["conditions"] == {"min_rollover_age": "7d"}
    assert states[1]["actions"] == [{"delete": {}}]
    assert found["/_index_template/logs_template"]["template"] == {"settings": {}}
