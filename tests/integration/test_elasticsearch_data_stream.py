"""The output elasticsearch_data_stream with a real Elasticsearch and a real OpenSearch."""

from __future__ import annotations

import pytest
from search_output import config
from searchnode import Node

from forwarder.api.testing import Driver, run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400), pytest.mark.xdist_group("search")]


def send(node: Node, name: str, settings: str = "") -> Driver:
    settings = f"data_stream_name {name}\n  {settings}"
    with run(config(node, settings, output="elasticsearch_data_stream")) as driver:
        driver.emit("app", {"n": 1})
        driver.wait_for(lambda: driver["es"].delivered == 1, 30)
        driver.emit("app", {"n": 2}, {"n": "two"}, {"n": 2})
        driver.wait_for(lambda: driver["es"].delivered + driver["es"].to_error == 4, 30)
    return driver


def check(node: Node, index: str) -> None:
    driver = send(node, f"{index}-${{tag}}")
    assert driver.records("rejected") == [{"n": "two"}]
    name = f"{index}-app"
    hits = node.documents(name, "n")
    assert [hit["_source"]["n"] for hit in hits] == [1, 2, 2]
    assert all("@timestamp" in hit["_source"] for hit in hits)
    assert all(hit["_index"].startswith(f".ds-{name}-") for hit in hits), hits
    template = node.request("GET", f"/_index_template/{name}_template").body
    assert template["index_templates"][0]["index_template"]["index_patterns"] == [f"{name}*"]


def test_elasticsearch(elasticsearch: Node, index: str) -> None:
    check(elasticsearch, index)
    # this distribution has no lifecycle management: a policy that is asked for is missed
    settings = 'data_stream_ilm_policy {"policy":{"phases":{}}}'
    settings = f"data_stream_name {index}-other\n  {settings}"
    with run(config(elasticsearch, settings, output="elasticsearch_data_stream")) as driver:
        driver.emit("app", {"n": 1})
        driver.wait_for(lambda: "has no lifecycle management" in driver.log, 30)
        assert driver["es"].delivered == 0


def test_opensearch(opensearch: Node, index: str) -> None:
    check(opensearch, index)
    stream = opensearch.request("GET", f"/_data_stream/{index}-app").body["data_streams"][0]
    assert stream["template"] == f"{index}-app_template"
