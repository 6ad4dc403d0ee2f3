"""`forwarder snapshot` with real nodes: Elasticsearch and OpenSearch into a folder, OpenSearch also into real
S3-compatible stores. (Elasticsearch's S3 module is on no package registry; its requests are the same.)"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import pytest
from searchnode import Node, Unavailable, policies
from store import Bucket, StartStore

from forwarder.cli.main import main
from forwarder.cli.snapshot_cluster import Client
from forwarder.cli.snapshot_policy import Policy, put

pytestmark = [
    pytest.mark.slow, pytest.mark.timeout(400), pytest.mark.xdist_group("search"),
    pytest.mark.filterwarnings("default"),  # moto's own
]  # fmt: skip
DOCUMENTS = 500


def snapshot(node: Node, capfd: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """Status, standard output, standard error."""
    capfd.readouterr()
    status = main(["snapshot", *words, "--url", node.url])
    out, err = capfd.readouterr()
    return status, out, err


def fill(node: Node, index: str) -> None:
    lines = [f'{{"index":{{"_index":"{index}","_id":"{n}"}}}}\n{{"n":{n}}}\n' for n in range(DOCUMENTS)]
    assert node.bulk("".join(lines).encode()).body["errors"] is False


def numbers(node: Node, index: str) -> list[int]:
    return [hit["_source"]["n"] for hit in node.documents(index, sort="n")]


def there_and_back(node: Node, capfd: pytest.CaptureFixture[str], index: str, register: list[str]) -> None:
    """Registers, takes, looks, deletes, restores, restores under another name."""
    register = [
        *register,
        "--setting",
        "max_restore_bytes_per_sec=10kb",
    ]  # so that there is something to watch
    other = f"{index}-other"
    fill(node, index)
    fill(node, other)
    status, out, err = snapshot(node, capfd, "register", index, *register)
    assert status == 0, err
    assert "verified by one" in out
    assert "replaced" in snapshot(node, capfd, "register", index, *register)[1]
    status, out, err = snapshot(node, capfd, "take", index, "first", "--indices", f"{index}*", "--progress")
    assert status == 0, err
    assert out.startswith("snapshot first: SUCCESS, 2 indices, ")
    assert "shards" in err
    status, out, err = snapshot(node, capfd, "show", index)
    assert out.split("\n")[2].split()[:2] == ["first", "SUCCESS"]
    status, out, err = snapshot(node, capfd, "show", index, "first", "--json")
    assert (status, sorted(json.loads(out)["indices"])) == (0, [index, other])
    status, out, err = snapshot(node, capfd, "show")
    assert status == 0, err
    assert index in out

    status, _, err = snapshot(node, capfd, "restore", index, "--indices", index)
    assert status == 1
    assert "give --rename" in err
    assert node.request("DELETE", f"/{index},{other}").status == 200
    status, out, err = snapshot(
        node, capfd, "restore", index, "--indices", f"{index}*,-{other}", "--progress"
    )
    assert status == 0, err
    assert out == f"snapshot first: restored, 1 indices: {index}\n"
    assert "of 1 shards, 0.0 of 0.0 MiB" in err
    assert numbers(node, index) == list(range(DOCUMENTS))
    assert node.count(other) == 0
    status, out, err = snapshot(node, capfd, "restore", index, "first", "--rename", "(.+)-other", "new-$1",
                                "--indices", other, "--replicas", "0")  # fmt: skip
    assert (status, out) == (0, f"snapshot first: restored, 1 indices: new-{index}\n"), err
    assert numbers(node, f"new-{index}") == list(range(DOCUMENTS))

    status, _, err = snapshot(node, capfd, "restore", index, "first", "--indices", "no-*")
    assert status == 1
    assert "no index in there matches no-*" in err
    status, out, err = snapshot(node, capfd, "take", index, "--indices", index, "--no-wait")
    assert (status, out.startswith("snapshot forwarder-2")) == (0, True), err
    assert snapshot(node, capfd, "show", index, "none")[0] == 1


def test_elasticsearch_and_a_folder(
    elasticsearch: Node, index: str, capfd: pytest.CaptureFixture[str]
) -> None:
    register = ["--type", "fs", "--setting", f"location={elasticsearch.repositories / index}"]
    there_and_back(elasticsearch, capfd, index, register)
    status, _, err = snapshot(elasticsearch, capfd, "register", "s3", "--bucket", "b")
    assert status == 1
    assert "install the plugin repository-s3" in err
    words = ["policy", "p", "--repository", index, "--schedule", "0 1 * * *"]
    assert "without snapshot lifecycle management" in snapshot(elasticsearch, capfd, *words)[2]


@pytest.mark.parametrize("server", ["versitygw", "moto"])
def test_opensearch_and_a_store(
    opensearch3: Node, start_store: StartStore, index: str, capfd: pytest.CaptureFixture[str], server: str
) -> None:
    with start_store(server) as url:
        bucket = Bucket(url).create()
        register = ["--bucket", bucket.name, "--endpoint", url, "--path-style", "--client", "backup",
                    "--region", "us-east-1", "--base-path", "nodes/one"]  # fmt: skip
        there_and_back(opensearch3, capfd, index, register)
        assert any(key.startswith("nodes/one/index") for key in bucket.objects())
        status, _, err = snapshot(opensearch3, capfd, "register", "x", *register, "--client", "nobody")
        assert status == 1
        assert "no node has keys for this client" in err
        missing = [*register, "--bucket", "there-is-none"]
        status, _, err = snapshot(opensearch3, capfd, "register", "y", *missing)
        assert status == 1
        assert "bucket" in err.lower()
    words = ["policy", "p", "--repository", index, "--schedule", "0 1 * * *"]
    assert "without the plugin Index Management" in snapshot(opensearch3, capfd, *words)[2]


class Recorder:
    """Stands for a client of Elasticsearch: keeps what is put."""

    opensearch = False

    def __init__(self) -> None:
        self.put: list[dict[str, Any]] = []

    def find(self, _target: str) -> None:
        return None

    def ask(self, _method: str, _target: str, body: dict[str, Any]) -> None:
        self.put.append(body)


def test_elasticsearch_reads_our_policies(tools: Any, tmp_path: Path) -> None:
    """By its own classes; which days and hours come of cron's five fields. 2026-11-28 is a Saturday."""
    expected = {
        "30 1 * * *": "2026-11-28T01:30:00Z 2026-11-29T01:30:00Z",
        "*/15 * * * *": "2026-11-28T00:15:00Z 2026-11-28T00:30:00Z",
        "0 4 1,15 * *": "2026-12-01T04:00:00Z 2026-12-15T04:00:00Z",
        "0 4 * * 0": "2026-11-29T04:00:00Z 2026-12-06T04:00:00Z",
        "0 4 * * 7": "2026-11-29T04:00:00Z 2026-12-06T04:00:00Z",
        "0 4 * * 1-5": "2026-11-30T04:00:00Z 2026-12-01T04:00:00Z",
        "0 4 * * 5-7": "2026-11-28T04:00:00Z 2026-11-29T04:00:00Z",
        "0 4 * 6 mon,3": "2027-06-02T04:00:00Z 2027-06-07T04:00:00Z",
        "0 4 * * */2": "2026-11-28T04:00:00Z 2026-11-29T04:00:00Z",
        "0 30 1 ? * MON": "2026-11-30T01:30:00Z 2026-12-07T01:30:00Z",
        "12h": "every 12h",
    }
    recorder = Recorder()
    config = {"ignore_unavailable": True, "include_global_state": False, "partial": False}
    for schedule in expected:
        policy = Policy("Daily", "logs", schedule, "UTC", "app-*,-app-x", None, "30d", 5, 50, config)
        assert put(cast(Client, recorder), policy) == "created"
    broken = {**recorder.put[0], "schedule": "30 1 * * *"}
    try:
        *found, refused = policies.read([*recorder.put, broken], tmp_path)
    except Unavailable as error:
        tools.unavailable(str(error))
    assert dict(zip(expected, found, strict=True)) == expected
    assert refused.startswith("refused: ")
