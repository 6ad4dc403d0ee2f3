"""Fixtures for tests with real peers."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any

import pytest
from searchnode import RELEASES, Node, Unavailable
from store import KEYS

StartNode = Callable[..., AbstractContextManager[Node]]


@pytest.fixture(scope="session")
def search_node(tools: Any) -> StartNode:
    """Makes a node of `searchnode.RELEASES`, to be started by `with`; skips the test where it cannot run."""

    def make(
        release: str, settings: Mapping[str, str] | None = None, secrets: Mapping[str, str] | None = None
    ) -> Node:
        try:
            return Node(RELEASES[release], settings, secrets=secrets)
        except Unavailable as error:
            if release in ("elasticsearch9", "opensearch3"):  # Debian 12 has no Java that is new enough
                pytest.skip(str(error))
            tools.unavailable(str(error))

    return make


@pytest.fixture(scope="session")
def _one_elasticsearch(search_node: StartNode) -> Iterator[Node]:
    with search_node("elasticsearch") as node:
        yield node


@pytest.fixture
def elasticsearch(_one_elasticsearch: Node) -> Node:
    """A running Elasticsearch, the same one for all tests of this process: use index names of your own."""
    if not _one_elasticsearch.running:
        _one_elasticsearch.start()
    return _one_elasticsearch


TIGHT = {
    "thread_pool.write.size": "1",
    "thread_pool.write.queue_size": "1",
    "http.max_content_length": "100kb",
}
"""Writes with one thread, queues one request, and takes bodies up to 100 kB."""


@pytest.fixture(scope="session")
def tight_elasticsearch(search_node: StartNode) -> Iterator[Node]:
    """A small and busy Elasticsearch."""
    with search_node("elasticsearch", TIGHT) as node:
        yield node


@pytest.fixture(scope="session")
def _one_opensearch(search_node: StartNode) -> Iterator[Node]:
    with search_node("opensearch", TIGHT) as node:
        yield node


@pytest.fixture
def opensearch(_one_opensearch: Node) -> Node:
    """A small and busy OpenSearch, the same one for all tests of this process."""
    if not _one_opensearch.running:
        _one_opensearch.start()
    return _one_opensearch


@pytest.fixture(params=["elasticsearch", "opensearch"])
def tight_node(request: pytest.FixtureRequest) -> Node:
    """Each of the two, small and busy."""
    name = "tight_elasticsearch" if request.param == "elasticsearch" else "opensearch"
    node: Node = request.getfixturevalue(name)
    return node


@pytest.fixture
def index() -> str:
    """An index name, or a prefix for names, that no other test has."""
    return f"test-{secrets.token_hex(4)}"


@pytest.fixture(scope="session")
def opensearch3(search_node: StartNode) -> Iterator[Node]:
    """A running OpenSearch 3 with the plugin repository-s3, whose client `backup` has the stores' keys."""
    keys = {
        "s3.client.backup.access_key": KEYS["aws_access_key_id"],
        "s3.client.backup.secret_key": KEYS["aws_secret_access_key"],
    }
    with search_node("opensearch3", secrets=keys) as node:
        yield node
