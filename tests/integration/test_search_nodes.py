"""The search server that the other tests use: that it is what it says, and keeps what it took."""

from __future__ import annotations

import pytest
from searchnode import RELEASES, Node

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400), pytest.mark.xdist_group("search")]
DOCUMENT = b'{"index":{"_index":"kept"}}\n{"@timestamp":"2026-11-23T18:00:00.123456789Z","n":1}\n'


def number(node: Node) -> str:
    reply = node.request("GET", "/")
    assert reply.status == 200, reply
    return str(reply.body["version"]["number"])


def test_a_killed_node_comes_back_with_its_documents(elasticsearch: Node) -> None:
    assert number(elasticsearch) == RELEASES["elasticsearch"].version
    reply = elasticsearch.bulk(DOCUMENT)
    assert reply.status == 200
    assert reply.body["errors"] is False
    elasticsearch.kill()
    with pytest.raises(OSError, match="refused"):
        elasticsearch.request("GET", "/", timeout_seconds=5)
    elasticsearch.start()
    assert [hit["_source"]["n"] for hit in elasticsearch.documents("kept")] == [1]
    assert elasticsearch.mapping("kept") == {"@timestamp": "date", "n": "long"}
