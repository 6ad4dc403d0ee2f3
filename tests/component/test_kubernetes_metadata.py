"""Filter `kubernetes_metadata` against an HTTPS server of this test's own that answers with the API's JSON.

No API server of Kubernetes can be installed from the package registries that CI reaches.
"""

from __future__ import annotations

import json
import ssl
import subprocess
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from forwarder.api import ConfigError
from forwarder.api.testing import Driver, run

ID = "a1" * 32


def tag(pod: str = "web-0", container: str = "nginx", container_id: str = ID, namespace: str = "shop") -> str:
    return f"kubernetes.var.log.containers.{pod}_{namespace}_{container}-{container_id}.log"


POD: dict[str, Any] = {
    "kind": "Pod",
    "metadata": {
        "name": "web-0",
        "namespace": "shop",
        "uid": "pod-uid",
        "labels": {"app.kubernetes.io/name": "web", "tier": "front"},
        "annotations": {"team.example/owner": "me", "other": "x"},
    },
    "spec": {"nodeName": "node-1"},
    "status": {
        "podIP": "10.0.0.7",
        "containerStatuses": [
            {"name": "nginx", "containerID": f"containerd://{ID}", "image": "nginx:1", "imageID": "sha256:1"}
        ],
    },
}
NAMESPACE = {"kind": "Namespace", "metadata": {"name": "shop", "uid": "ns-uid", "labels": {"env": "test"}}}


class ApiServer(ThreadingHTTPServer):
    """Objects by path."""

    daemon_threads = True

    def __init__(self, certificate: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        self.socket = context.wrap_socket(self.socket, server_side=True)
        self.objects: dict[str, Any] = {
            "/api/v1/namespaces/shop/pods/web-0": POD,
            "/api/v1/namespaces/shop": NAMESPACE,
        }
        self.asked: list[tuple[str, str | None]] = []
        self.status = 200

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.server_port}/api"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: ApiServer

    def do_GET(self) -> None:
        self.server.asked.append((self.path, self.headers["Authorization"]))
        found = self.server.objects.get(self.path)
        status = self.server.status if self.server.status != 200 else 200 if found else 404
        body = json.dumps(found or {"kind": "Status", "code": status}).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def certificate(tmp_path: Path, tools: Any) -> Path:
    """Key and certificate of 127.0.0.1 in one file."""
    path = tmp_path / "server.pem"
    command = [
        tools.need("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
        "-nodes", "-days", "2", "-subj", "/CN=api", "-addext", "subjectAltName=IP:127.0.0.1",
        "-keyout", str(path), "-out", str(tmp_path / "ca.crt"),
    ]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True)
    path.write_bytes(path.read_bytes() + (tmp_path / "ca.crt").read_bytes())
    return path


@pytest.fixture
def api(certificate: Path) -> Iterator[ApiServer]:
    server = ApiServer(certificate)
    thread = Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def driver(parameters: str = "") -> Driver:
    return run(
        f"""
        <filter kubernetes.**>
          @type kubernetes_metadata
          @id pods
          {parameters}
        </filter>
        <match **>
          @type test
        </match>
        """
    )


def secrets(api: ApiServer, folder: Path) -> str:
    """The service account in a folder, as in a pod; a test has time."""
    (folder / "token").write_text("secret\n")
    return f"kubernetes_url {api.url}\nsecret_dir {folder}\nlookup_wait 30s\n"


NAMES = {"container_name": "nginx", "namespace_name": "shop", "pod_name": "web-0"}


def test_the_tag_says_pod_namespace_and_container(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with driver() as engine:
        engine.emit(tag(), {"log": "a", "kubernetes": "mine"})
        engine.emit("kubernetes.other", {"log": "b"})
        assert engine.records() == [
            {"log": "a", "kubernetes": NAMES, "docker": {"container_id": ID}},
            {"log": "b"},
        ]


def test_the_api_server_is_asked_once_per_pod(api: ApiServer, tmp_path: Path) -> None:
    with driver(secrets(api, tmp_path) + "annotation_match ^team") as engine:
        for _ in range(3):
            engine.emit(tag(), {"log": "a"}, {"log": "b"})
        expected = {
            **NAMES,
            "container_image": "nginx:1",
            "container_image_id": "sha256:1",
            "pod_id": "pod-uid",
            "pod_ip": "10.0.0.7",
            "host": "node-1",
            "labels": {"app_kubernetes_io/name": "web", "tier": "front"},
            "annotations": {"team_example/owner": "me"},
            "master_url": api.url,
            "namespace_id": "ns-uid",
            "namespace_labels": {"env": "test"},
        }
        assert [record["kubernetes"] for record in engine.records()] == [expected] * 6
    assert api.asked == [(path, "Bearer secret") for path in api.objects]


def test_what_is_not_wanted_is_left_out(api: ApiServer, tmp_path: Path) -> None:
    leave = (
        "skip_labels true\nskip_container_metadata true\nskip_master_url true\nskip_namespace_metadata true"
    )
    with driver(secrets(api, tmp_path) + leave) as engine:
        engine.emit(tag(), {})
        expected = {**NAMES, "pod_id": "pod-uid", "pod_ip": "10.0.0.7", "host": "node-1"}
        assert engine.records()[0]["kubernetes"] == expected
    assert len(api.asked) == 1


@pytest.mark.parametrize(
    ("parameters", "more"),
    [
        ("", {"namespace_name": ".orphaned", "orphaned_namespace": "gone", "namespace_id": "orphaned"}),
        ("allow_orphans false", {"namespace_name": "gone"}),
    ],
)
def test_a_pod_that_is_gone(api: ApiServer, tmp_path: Path, parameters: str, more: dict[str, str]) -> None:
    with driver(secrets(api, tmp_path) + parameters) as engine:
        engine.emit(tag(namespace="gone"), {})
        assert engine.records()[0]["kubernetes"] == {**NAMES, **more}


def test_events_flow_while_the_api_server_fails_and_get_all_once_it_is_back(
    api: ApiServer, tmp_path: Path
) -> None:
    api.status = 503
    with driver(secrets(api, tmp_path)) as engine:
        engine.emit(
            tag(), {"n": 1}
        )  # waits for the answer, which is none, and not for the 30 s of lookup_wait
        engine.emit(tag(), {"n": 2})
        assert [record["kubernetes"] for record in engine.records()] == [NAMES] * 2
        assert "status 503" in engine.log
        assert "secret" not in engine.log
        api.status = 200
        engine.wait_for(lambda: not engine.plugin("pods")._lookups.down)
        engine.emit(tag(), {"n": 3})
        assert engine.records()[2]["kubernetes"]["pod_id"] == "pod-uid"
        (family,) = engine.plugin("pods").measure()
        numbers = {sample.labels["result"]: sample.value for sample in family.samples}
        assert numbers["answered"] == 1
        assert numbers["failed"] >= 1


@pytest.mark.parametrize(("parameters", "asked"), [("verify_ssl false", True), ("", False)])
def test_the_certificate_is_checked(api: ApiServer, tmp_path: Path, parameters: str, asked: bool) -> None:
    (tmp_path / "ca.crt").rename(tmp_path / "elsewhere.crt")
    with driver(secrets(api, tmp_path) + parameters) as engine:
        engine.emit(tag(), {})
        assert ("pod_id" in engine.records()[0]["kubernetes"]) == asked
    assert bool(api.asked) == asked


def test_names_in_tags_do_not_reach_other_paths(api: ApiServer, tmp_path: Path) -> None:
    names = "tag_to_kubernetes_name_regexp ^kubernetes.x,(?<namespace>[^,]*),(?<pod_name>.*)$"
    with driver(secrets(api, tmp_path) + names) as engine:
        engine.emit("kubernetes.x,shop,../../secrets/a?b", {})
        assert len(engine.records()) == 1
    assert api.asked[0][0] == "/api/v1/namespaces/shop/pods/..%2F..%2Fsecrets%2Fa%3Fb"


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ("tag_to_kubernetes_name_regexp (", "tag_to_kubernetes_name_regexp"),
        ("tag_to_kubernetes_name_regexp (?<pod_name>.*)", "needs the groups"),
        ("de_dot_separator .", "cannot be or contain"),
        ("use_journal true", "journal"),
        ('annotation_match ["("]', "annotation_match"),
    ],
)
def test_wrong_configuration(parameters: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        driver(parameters)
