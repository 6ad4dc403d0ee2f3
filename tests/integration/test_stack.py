"""docker/compose/stack.conf with everything real but the containers: a service's datagrams are indexed in
Elasticsearch (or OpenSearch) and archived; the index is deleted; a replay brings the same documents back."""

from __future__ import annotations

import gzip
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from containers import COMPOSE, Service, container
from searchnode import Node
from store import KEYS, Bucket, StartStore

pytestmark = [
    pytest.mark.slow, pytest.mark.timeout(400), pytest.mark.xdist_group("search"),
    pytest.mark.filterwarnings("default"),  # moto's own
]  # fmt: skip
REQUESTS = 200


def documents(node: Node) -> dict[str, tuple[str, Any]]:
    """The documents of the stack: id -> (index, source)."""
    hits = node.documents("app-*")
    found = {hit["_id"]: (hit["_index"], hit["_source"]) for hit in hits}
    assert len(found) == len(hits)
    return found


def delete(node: Node, found: dict[str, tuple[str, Any]]) -> None:
    """Deletes the indices that the documents `found` are in; by name, for a node refuses a pattern."""
    for name in {index for index, _ in found.values()}:
        assert node.request("DELETE", f"/{name}").status == 200


def archived(bucket: Bucket) -> int:
    """How many lines the archive has."""
    return sum(gzip.decompress(body).count(b"\n") for body in bucket.objects().values())


def replay(written: Path, bucket: str, env: dict[str, str]) -> str:
    """Replays all that the configuration `written` has archived; gives what was said."""
    command = [
        sys.executable, "-m", "forwarder.cli.main", "replay", f"s3://{bucket}/app.service/",
        "--into", str(COMPOSE / "restore.conf"), "--store", str(written),
    ]  # fmt: skip
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stderr


@pytest.fixture
def node(request: pytest.FixtureRequest) -> Node:
    """A search server by the name of its fixture."""
    found: Node = request.getfixturevalue(request.param)
    return found


@pytest.mark.parametrize(
    ("node", "server"),
    [("elasticsearch", "versitygw"), ("elasticsearch", "moto"), ("opensearch3", "versitygw")],
    indirect=["node"],
)
def test_what_was_deleted_comes_back_from_the_archive(
    node: Node, start_store: StartStore, tmp_path: Path, server: str
) -> None:
    delete(node, documents(node))  # the test before
    with start_store(server) as url:
        bucket = Bucket(url).create()
        env = {
            "ES_URL": node.url, "S3_ENDPOINT": url, "S3_BUCKET": bucket.name,
            "S3_KEY": KEYS["aws_access_key_id"], "S3_SECRET": KEYS["aws_secret_access_key"],
        }  # fmt: skip
        with container(COMPOSE / "stack.yaml", "forwarder", tmp_path, **env) as forwarder:
            with Service(forwarder.ports[5160]) as service:
                for number in range(REQUESTS):
                    # each path twice: messages that are equal but for their time are documents of their own
                    service.get(f"/missing/{number // 2}" if number % 5 == 0 else f"/item/{number // 2}")
                # "started", and the request that asked whether it is up, came before
                forwarder.wait(lambda: node.count("app-*") >= REQUESTS + 2)
                forwarder.wait(lambda: archived(bucket) >= node.count("app-*"))
            assert forwarder.stop() == 0, forwarder.log[-5000:]

        before = documents(node)
        requests = [source for _, source in before.values() if source["message"] == "request"]
        assert len(requests) > REQUESTS
        assert {source["status"] for source in requests} == {200, 404}
        assert {source["tag"] for source in requests} == {"app.service"}
        reply = node.request("POST", "/app-*/_count", {"query": {"term": {"status": 404}}})
        assert reply.body["count"] == len([source for source in requests if source["status"] == 404])

        written = tmp_path / "forwarder" / "fluent.conf"
        assert archived(bucket) == len(before)
        delete(node, before)
        assert node.count("app-*") == 0

        said = replay(written, bucket.name, forwarder.variables)
        assert f"read {len(before)}, matched {len(before)}, delivered {len(before)}" in said
        assert documents(node) == before

        # once more: nothing is there twice
        replay(written, bucket.name, forwarder.variables)
        assert documents(node) == before
