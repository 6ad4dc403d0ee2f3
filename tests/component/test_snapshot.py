"""`forwarder snapshot` against a server that records what it is asked. What real nodes make of it:
tests/integration/test_snapshot_nodes.py."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from forwarder.cli import snapshot_policy
from forwarder.cli.main import main

NO_HANDLER = {"error": "no handler found for uri [/x] and method [GET]"}


class Cluster:
    """`answers`: by method and path, status and body; PUT and POST are taken, other GETs are 404."""

    def __init__(self) -> None:
        self.info: dict[str, Any] = {"version": {"number": "8.19.4"}}
        self.answers: dict[str, tuple[int, Any]] = {}
        self.first: dict[str, tuple[int, Any]] = {}
        """The same for the first such request."""
        self.requests: list[tuple[str, Any]] = []
        self.authorization: set[str | None] = set()
        self.url = ""

    def opensearch(self) -> None:
        self.info = {"version": {"number": "3.6.0", "distribution": "opensearch"}}

    def answer(self, what: str, body: Any) -> tuple[int, Any]:
        if what == "GET /":
            return 200, self.info
        self.requests.append((what, body))
        if what in self.first:
            return self.first.pop(what)
        if what in self.answers:
            return self.answers[what]
        return (404, {"error": {"type": "missing", "reason": "missing"}}) if what[0] == "G" else (200, {})

    @property
    def changes(self) -> list[tuple[str, Any]]:
        return [request for request in self.requests if not request[0].startswith("GET")]


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    known = Cluster()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _any(self) -> None:
            data = self.rfile.read(int(self.headers.get("content-length", 0)))
            known.authorization.add(self.headers.get("authorization"))
            status, body = known.answer(f"{self.command} {self.path}", json.loads(data) if data else None)
            text = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_PUT = do_POST = _any  # noqa: N815 - http.server's names

        def log_message(self, *_: Any) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    known.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield known
    server.shutdown()
    server.server_close()
    thread.join()


def snapshot(
    cluster: Cluster, capfd: pytest.CaptureFixture[str], *words: str, url: bool = True
) -> tuple[int, str, str]:
    """Status, standard output, standard error."""
    capfd.readouterr()
    status = main(["snapshot", *words, *(["--url", cluster.url] if url else [])])
    out, err = capfd.readouterr()
    return status, out, err


def test_a_store_that_is_not_aws(cluster: Cluster, capfd: pytest.CaptureFixture[str]) -> None:
    cluster.answers["POST /_snapshot/logs/_verify"] = (200, {"nodes": {"x": {"name": "one"}}})
    status, out, err = snapshot(
        cluster, capfd, "register", "logs", "--bucket", "backup", "--base-path", "es/logs", "--endpoint",
        "http://store.example:9000", "--path-style", "--region", "eu-x", "--client", "backup",
        "--no-chunked-encoding", "--storage-class", "STANDARD_IA", "--canned-acl", "private",
        "--server-side-encryption", "--readonly", "--setting", "max_snapshot_bytes_per_sec=80mb",
        "--setting", "signer_override=S3SignerType", "--reload-keys",
    )  # fmt: skip
    assert status == 0, err
    assert "repository logs registered in Elasticsearch 8.19.4, verified by one" in out
    assert cluster.changes == [
        ("POST /_nodes/reload_secure_settings", {}),
        (
            "PUT /_snapshot/logs?verify=true",
            {
                "type": "s3",
                "settings": {
                    "endpoint": "store.example:9000", "protocol": "http", "path_style_access": True,
                    "bucket": "backup", "base_path": "es/logs", "region": "eu-x", "client": "backup",
                    "disable_chunked_encoding": True, "storage_class": "STANDARD_IA", "canned_acl": "private",
                    "server_side_encryption": True, "readonly": True,
                    "max_snapshot_bytes_per_sec": "80mb", "signer_override": "S3SignerType",
                },
            },
        ),
        ("POST /_snapshot/logs/_verify", None),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["register", "r"], "--bucket is missing"),
        (["register", "r", "--bucket", "b", "--endpoint", "http://h/path"], "expected http://HOST:PORT"),
        (
            ["register", "r", "--bucket", "b", "--endpoint", "http://h", "--protocol", "https"],
            "--protocol https",
        ),
        (["register", "r", "--bucket", "b", "--setting", "secret_key=x"], "belong into the nodes' keystores"),
        (["register", "r", "--bucket", "b", "--setting", "compress"], "expected NAME=VALUE"),
        (["policy", "p", "--repository", "r", "--schedule", "1h"], "no repository r"),
    ],
)
def test_what_is_refused(
    cluster: Cluster, capfd: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    status, _, err = snapshot(cluster, capfd, *words)
    assert (status, cluster.changes) == (1, [])
    assert said in err


def test_why_the_cluster_refuses(cluster: Cluster, capfd: pytest.CaptureFixture[str]) -> None:
    cause = {"type": "sdk_client_exception", "reason": "Unable to load credentials from any provider"}
    error = {"type": "repository_verification_exception", "reason": "[r] is not usable", "caused_by": cause}
    cluster.answers["PUT /_snapshot/r?verify=true"] = (500, {"error": error, "status": 500})
    status, _, err = snapshot(cluster, capfd, "register", "r", "--bucket", "b")
    assert status == 1
    assert "answers 500 to PUT /_snapshot/r: [r] is not usable: Unable to load credentials" in err
    assert "docs/snapshot.md" in err


def test_a_policy_of_elasticsearch(cluster: Cluster, capfd: pytest.CaptureFixture[str]) -> None:
    cluster.answers["GET /_snapshot/logs"] = (200, {"logs": {}})
    words = ["policy", "daily", "--repository", "logs", "--schedule", "30 1 * * *",
             "--indices", "app-*,-app-x", "--expire-after", "30d", "--min-count", "5",
             "--max-count", "50"]  # fmt: skip
    status, out, err = snapshot(cluster, capfd, *words)
    assert (status, out) == (0, "policy daily created in Elasticsearch 8.19.4\n"), err
    assert cluster.changes == [
        (
            "PUT /_slm/policy/daily",
            {
                "schedule": "0 30 1 * * ?",
                "name": "<daily-{now/d}>",
                "repository": "logs",
                "config": {
                    "indices": ["app-*", "-app-x"], "ignore_unavailable": True,
                    "include_global_state": False, "partial": False,
                },
                "retention": {"expire_after": "30d", "min_count": 5, "max_count": 50},
            },
        )
    ]  # fmt: skip
    cluster.answers["GET /_slm/policy/daily"] = (200, {"daily": {}})
    assert "policy daily replaced" in snapshot(cluster, capfd, *words)[1]
    assert "in UTC" in snapshot(cluster, capfd, *words, "--timezone", "Asia/Tokyo")[2]
    assert "expected a time" in snapshot(cluster, capfd, *words, "--expire-after", "30 days")[2]
    assert "more than" in snapshot(cluster, capfd, *words, "--min-count", "51")[2]


def test_a_policy_of_opensearch(cluster: Cluster, capfd: pytest.CaptureFixture[str]) -> None:
    cluster.opensearch()
    cluster.answers["GET /_snapshot/logs"] = (200, {"logs": {}})
    words = ["policy", "daily", "--repository", "logs", "--schedule", "30 1 * * MON-FRI", "--timezone",
             "Europe/Berlin", "--indices", "app-*", "--expire-after", "30d", "--max-count", "50"]  # fmt: skip
    status, out, err = snapshot(cluster, capfd, *words)
    assert (status, out) == (0, "policy daily created in OpenSearch 3.6.0\n"), err
    schedule = {"schedule": {"cron": {"expression": "30 1 * * MON-FRI", "timezone": "Europe/Berlin"}}}
    policy = {
        "description": "app-* to logs",
        "creation": schedule,
        "deletion": {**schedule, "condition": {"max_age": "30d", "max_count": 50}},
        "snapshot_config": {
            "repository": "logs", "indices": "app-*", "ignore_unavailable": True,
            "include_global_state": False, "partial": False,
        },
    }  # fmt: skip
    assert cluster.changes == [("POST /_plugins/_sm/policies/daily", policy)]
    known = {"_seq_no": 7, "_primary_term": 2, "sm_policy": {"name": "daily", "enabled": False}}
    cluster.answers["GET /_plugins/_sm/policies/daily"] = (200, known)
    assert "policy daily replaced" in snapshot(cluster, capfd, *words)[1]
    path = "PUT /_plugins/_sm/policies/daily?if_seq_no=7&if_primary_term=2"
    assert cluster.changes[-1] == (path, {**policy, "enabled": False})
    assert "five fields" in snapshot(cluster, capfd, *words, "--schedule", "0 30 1 * * ?")[2]
    assert "after the policy" in snapshot(cluster, capfd, *words, "--snapshot-name", "x")[2]


@pytest.mark.parametrize(
    ("text", "cron"),
    [
        ("30 1 * * *", "0 30 1 * * ?"),
        ("*/15 * * * *", "0 */15 * * * ?"),
        ("0 4 1,15 * *", "0 0 4 1,15 * ?"),
        ("0 4 * * 0", "0 0 4 ? * SUN"),
        ("0 4 * 6 1-5", "0 0 4 ? 6 MON-FRI"),
        ("0 4 * * mon,7", "0 0 4 ? * MON,SUN"),
        ("0 4 * * */2", "0 0 4 ? * */2"),
        ("0 30 1 ? * MON", "0 30 1 ? * MON"),
        ("12h", "12h"),
    ],
)
def test_cron_as_elasticsearch_writes_it(text: str, cron: str) -> None:
    assert snapshot_policy.elasticsearch_cron(text) == cron


@pytest.mark.parametrize("text", ["0 4 1 * 1", "daily", "* *", ""])
def test_cron_that_cannot_be_said(text: str) -> None:
    with pytest.raises(Exception, match="--schedule"):
        snapshot_policy.elasticsearch_cron(text)


REPOSITORIES = {
    "logs": {"type": "s3", "settings": {"bucket": "backup", "endpoint": "store:9000", "client": "b"}},
    "disk": {"type": "fs", "settings": {"location": "/backup"}},
}


def test_what_elasticsearch_has(cluster: Cluster, capfd: pytest.CaptureFixture[str]) -> None:
    cluster.answers["GET /_snapshot"] = (200, REPOSITORIES)
    policy = {"schedule": "0 30 1 * * ?", "repository": "logs", "config": {"indices": ["app-*"]},
              "retention": {"expire_after": "30d", "min_count": 5}}  # fmt: skip
    known = {"policy": policy, "next_execution_millis": 1_764_466_200_000,
             "last_success": {"snapshot_name": "daily-1", "time": 1_764_379_800_000}}  # fmt: skip
    failed = {**known, "last_failure": {"snapshot_name": "daily-2", "time": 1_764_379_900_000}}
    cluster.answers["GET /_slm/policy"] = (200, {"daily": known, "other": failed})
    status, out, err = snapshot(cluster, capfd, "show")
    assert status == 0, err
    assert out.splitlines() == [
        "Elasticsearch 8.19.4",
        "",
        "REPOSITORY  type  bucket   base path  endpoint    client",
        "disk        fs    /backup  -          -           default",
        "logs        s3    backup   -          store:9000  b",
        "",
        "POLICY  repository  schedule      keep             indices  next                  last",
        "daily   logs        0 30 1 * * ?  30d, at least 5  app-*    2025-11-30 01:30:00Z  "
        "daily-1 at 2025-11-29 01:30:00Z",
        "other   logs        0 30 1 * * ?  30d, at least 5  app-*    2025-11-30 01:30:00Z  "
        "FAILED at 2025-11-29 01:31:40Z: daily-2",
    ]
    assert json.loads(snapshot(cluster, capfd, "show", "--json")[1])["repositories"] == REPOSITORIES


def test_what_opensearch_has(cluster: Cluster, capfd: pytest.CaptureFixture[str]) -> None:
    cluster.opensearch()
    cluster.answers["GET /_snapshot"] = (200, {})
    policy = {
        "name": "daily", "enabled": False,
        "creation": {"schedule": {"cron": {"expression": "30 1 * * *", "timezone": "UTC"}}},
        "deletion": {"condition": {"max_age": "30d"}},
        "snapshot_config": {"indices": "app-*", "repository": "logs"},
    }  # fmt: skip
    cluster.answers["GET /_plugins/_sm/policies"] = (200, {"policies": [{"sm_policy": policy}]})
    execution = {"status": "SUCCESS", "start_time": 1_764_379_800_000}
    creation = {"trigger": {"time": 1_764_466_200_000}, "latest_execution": execution}
    explained = (200, {"policies": [{"name": "daily", "creation": creation}]})
    cluster.answers["GET /_plugins/_sm/policies/daily/_explain"] = explained
    status, out, err = snapshot(cluster, capfd, "show")
    assert status == 0, err
    assert "no repository" in out
    assert " ".join(out.splitlines()[-1].split()) == (
        "daily (stopped) logs 30 1 * * * UTC 30d app-* 2025-11-30 01:30:00Z SUCCESS at 2025-11-29 01:30:00Z"
    )


def test_a_distribution_without_policies(cluster: Cluster, capfd: pytest.CaptureFixture[str]) -> None:
    cluster.answers |= {
        "GET /_snapshot": (200, REPOSITORIES),
        "GET /_snapshot/logs": (200, REPOSITORIES),
        "GET /_slm/policy": (405, {"error": "Incorrect HTTP method for uri"}),
        "GET /_slm/policy/p": (400, NO_HANDLER),
    }
    assert "has no lifecycle policies" in snapshot(cluster, capfd, "show")[1]
    words = ["policy", "p", "--repository", "logs", "--schedule", "0 1 * * *"]
    assert "without snapshot lifecycle management (SLM)" in snapshot(cluster, capfd, *words)[2]


def test_the_cluster_of_a_configuration(
    cluster: Cluster, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    cluster.answers |= {"GET /_snapshot": (200, {}), "GET /_slm/policy": (200, {})}
    path = tmp_path / "fluent.conf"
    output = "<match {0}>\n@type elasticsearch\n@id {0}\nhosts {1}\nuser u\npassword p\n</match>\n"
    path.write_text(output.format("one", cluster.url) + output.format("two", "http://127.0.0.1:1"))
    status, _, err = snapshot(cluster, capfd, "show", "-c", str(path), url=False)
    assert status == 1
    assert "--id one, two" in err
    status, _, err = snapshot(cluster, capfd, "show", "-c", str(path), "--id", "one", url=False)
    assert (status, err) == (0, "")
    assert cluster.authorization == {"Basic dTpw"}
    assert "no elasticsearch output with @id x" in snapshot(
        cluster, capfd, "show", "-c", str(path), "--id", "x", url=False
    )[2]  # fmt: skip
    assert "cannot reach" in snapshot(cluster, capfd, "show", "-c", str(path), "--id", "two", url=False)[2]


def test_the_variables(
    cluster: Cluster, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.answers |= {"GET /_snapshot": (200, {}), "GET /_slm/policy": (200, {})}
    monkeypatch.setenv("ES_PASSWORD", "p'\\")
    assert snapshot(cluster, capfd, "show", "--user", "u")[0] == 0
    assert cluster.authorization == {"Basic dTpwJ1w="}
    cluster.authorization.clear()
    monkeypatch.setenv("ES_API_KEY", "i:k")
    assert snapshot(cluster, capfd, "show")[0] == 0
    assert cluster.authorization == {"ApiKey aTpr"}


def test_something_else_answers(cluster: Cluster, capfd: pytest.CaptureFixture[str]) -> None:
    cluster.info = {"hello": "there"}
    assert "neither Elasticsearch nor OpenSearch" in snapshot(cluster, capfd, "show")[2]


def whole(**more: Any) -> dict[str, Any]:
    """What a cluster says about a snapshot."""
    shards = {"total": 2, "successful": 2}
    return {"snapshot": "s", "state": "SUCCESS", "indices": ["a", ".kibana"], "shards": shards, **more}


def test_a_snapshot_that_is_not_whole(cluster: Cluster, capfd: pytest.CaptureFixture[str]) -> None:
    failures = [{"index": "a", "shard_id": 1, "reason": "gone"}] * 30
    found = whole(state="PARTIAL", shards={"total": 2, "successful": 1}, failures=failures)
    cluster.answers["GET /_snapshot/r/s"] = (200, {"snapshots": [found]})
    # a node that is restarted meanwhile
    cluster.first["GET /_snapshot/r/s"] = (503, {"error": {"type": "x", "reason": "no master"}})
    status, out, err = snapshot(cluster, capfd, "take", "r", "s", "--indices", "a,b-*", "--partial")
    assert (status, out) == (1, "snapshot s: PARTIAL, 2 indices, 1 of 2 shards, 0.0 s\n")
    assert err.splitlines() == ["a[1]: gone"] * 20 + ["and 10 more"]
    assert cluster.changes == [
        (
            "PUT /_snapshot/r/s?wait_for_completion=false",
            {"indices": "a,b-*", "ignore_unavailable": True, "include_global_state": False, "partial": True},
        )
    ]
    assert snapshot(cluster, capfd, "show", "r", "s")[0] == 1


def test_version_7_answers_per_repository(cluster: Cluster, capfd: pytest.CaptureFixture[str]) -> None:
    path = "GET /_snapshot/r/_all"
    cluster.answers[path] = (200, {"responses": [{"repository": "r", "snapshots": [whole()]}]})
    assert "s         SUCCESS" in snapshot(cluster, capfd, "show", "r")[1]
    error = {"type": "repository_missing_exception", "reason": "[r] missing"}
    cluster.answers[path] = (200, {"responses": [{"repository": "r", "error": error}]})
    status, _, err = snapshot(cluster, capfd, "show", "r")
    assert (status, err) == (1, "r: [r] missing\n")


def test_an_index_that_is_not_whole(cluster: Cluster, capfd: pytest.CaptureFixture[str]) -> None:
    older, broken = whole(snapshot="old"), whole(snapshot="bad", state="FAILED", start_time_in_millis=9)
    listed = [broken, whole(start_time_in_millis=5), older]
    cluster.answers |= {
        "GET /_snapshot/r/_all": (200, {"snapshots": listed}),
        "GET /_snapshot/r/s": (200, {"snapshots": [whole()]}),
        "GET /_cluster/state/customs?filter_path=restore": (200, {}),
        "GET /_cluster/health?level=indices&filter_path=indices.*.*shards": (
            200, {"indices": {"new-a": {"active_primary_shards": 1, "number_of_shards": 2}}},
        ),
    }  # fmt: skip
    words = ["--rename", "^(.*)$", "new-$1", "--replicas", "0", "--no-aliases"]
    status, out, err = snapshot(cluster, capfd, "restore", "r", *words)
    assert (status, out) == (1, "snapshot s: restored, 1 indices: new-a\n")
    assert err == "new-a: 1 of 2 shards\n"
    ((_, body),) = cluster.changes
    assert body == {
        "indices": "*", "ignore_unavailable": True, "include_global_state": False, "partial": False,
        "include_aliases": False, "rename_pattern": "^(.*)$", "rename_replacement": "new-$1",
        "index_settings": {"index.number_of_replicas": 0},
    }  # fmt: skip
    cluster.answers["GET /_snapshot/r/_all"] = (200, {"snapshots": [broken]})
    assert "no snapshot in there is whole" in snapshot(cluster, capfd, "restore", "r")[2]
