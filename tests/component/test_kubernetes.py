"""docker/kubernetes: manifests that fit the schemas and each other; what they start, without a cluster."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from bulk_server import BulkServer
from containers import DOCKER, Container, dockerfile, variables

from forwarder.cli.main import main

FILES = sorted((DOCKER / "kubernetes").glob("*.yaml"))
OLDEST = "1.29"
"""The first with init containers that go on."""
SHARED_KEY = "a-key-of-the-test"


def objects(path: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(path.read_text()))


def of_kind(path: Path, *kinds: str) -> list[dict[str, Any]]:
    return [each for each in objects(path) if each["kind"] in kinds]


def workload(path: Path) -> dict[str, Any]:
    (found,) = of_kind(path, "StatefulSet", "DaemonSet", "Deployment")
    return found


def pod(path: Path) -> dict[str, Any]:
    return dict(workload(path)["spec"]["template"]["spec"])


def containers(path: Path) -> Iterator[dict[str, Any]]:
    yield from pod(path).get("initContainers", [])
    yield from pod(path)["containers"]


def forwarder(path: Path) -> dict[str, Any]:
    (found,) = (each for each in containers(path) if each["name"] == "forwarder")
    return found


def config(path: Path) -> str:
    (found,) = of_kind(path, "ConfigMap")
    return str(found["data"]["fluent.conf"])


every_file = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)


def test_there_are_manifests() -> None:
    assert [path.stem for path in FILES] == ["aggregator", "daemonset", "sidecar"]


@pytest.mark.parametrize("version", [OLDEST, kubernetes_validate.latest_version()])
@every_file
def test_a_manifest_fits_the_schemas(path: Path, version: str) -> None:
    for each in objects(path):
        kubernetes_validate.validate(each, version, strict=True)


def test_the_schemas_see_what_is_wrong() -> None:
    (service, *_) = of_kind(FILES[0], "Service")
    service["spec"]["ports"][0]["prt"] = 1
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(service, OLDEST, strict=True)


@every_file
def test_a_container_is_confined_and_limited(path: Path) -> None:
    if path.stem == "daemonset":
        assert pod(path)["securityContext"]["runAsUser"] == 0, "the logs of containers are root's"
    else:
        assert pod(path)["securityContext"]["runAsNonRoot"] is True
    assert pod(path)["automountServiceAccountToken"] is False
    for each in containers(path):
        context = each["securityContext"]
        assert context["readOnlyRootFilesystem"] is True
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"]["drop"] == ["ALL"]
        assert set(each["resources"]["requests"]) == {"cpu", "memory"}
        assert each["resources"]["limits"]["memory"]


@every_file
def test_names_lead_somewhere(path: Path) -> None:
    spec = workload(path)["spec"]
    labels = spec["template"]["metadata"]["labels"]
    assert spec["selector"]["matchLabels"].items() <= labels.items()
    volumes = {each["name"] for each in pod(path)["volumes"]}
    volumes |= {each["metadata"]["name"] for each in spec.get("volumeClaimTemplates", [])}
    for each in containers(path):
        ports = {port["name"]: port["containerPort"] for port in each.get("ports", [])}
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            if probe in each:
                assert each[probe]["httpGet"]["port"] in ports
        for mount in each.get("volumeMounts", []):
            assert mount["name"] in volumes
    (mounted,) = (each["configMap"]["name"] for each in pod(path)["volumes"] if each["name"] == "config")
    assert mounted == of_kind(path, "ConfigMap")[0]["metadata"]["name"]
    ours = {port["name"] for port in forwarder(path)["ports"]}
    services = {each["metadata"]["name"]: each["spec"] for each in of_kind(path, "Service")}
    for service in services.values():
        assert service["selector"].items() <= labels.items()
        assert {port["targetPort"] for port in service["ports"]} <= ours
    if "serviceName" in spec:
        assert services[spec["serviceName"]]["clusterIP"] == "None"
    for budget in of_kind(path, "PodDisruptionBudget"):
        assert budget["spec"]["selector"]["matchLabels"].items() <= labels.items()
        assert spec["replicas"] > budget["spec"]["maxUnavailable"]


def test_the_aggregator_has_a_disruption_budget() -> None:
    assert of_kind(FILES[0], "PodDisruptionBudget")


@every_file
def test_a_container_fits_the_image(path: Path) -> None:
    uid = dict(dockerfile())["USER"].partition(":")[0]
    assert str(pod(path)["securityContext"]["runAsUser"]) == ("0" if path.stem == "daemonset" else uid)
    found = forwarder(path)
    assert found["args"][0] == "run"
    assert found["args"][-2:] == ["-c", "/etc/forwarder/fluent.conf"]
    assert {"/etc/forwarder", "/var/lib/forwarder", "/tmp"} <= {
        each["mountPath"] for each in found["volumeMounts"]
    }
    numbers = {port["containerPort"] for port in found["ports"]}
    listens = re.findall(r"bind 0\.0\.0\.0\n\s+port (\d+)", config(path))
    assert numbers == {int(each) for each in listens}


@every_file
def test_check_finds_nothing_in_its_configuration(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, needed = variables(config(path))
    assert needed <= {each["name"] for each in forwarder(path)["env"]} <= read
    for name in needed:
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    (tmp_path / "fluent.conf").write_text(config(path))
    assert main(["check", "--strict", str(tmp_path / "fluent.conf")]) == 0


def start(name: str, folder: Path, **env: str) -> Container:
    """The container of a manifest; `env` overrides its variables."""
    path = DOCKER / "kubernetes" / f"{name}.yaml"
    found = forwarder(path)
    given = {each["name"]: each.get("value", f"the-{each['name'].lower()}-{name}") for each in found["env"]}
    options = found["args"][1:-2]
    return Container(folder / name, config(path), {**given, "SHARED_KEY": SHARED_KEY, **env}, options)


def check_probes(name: str, container: Container) -> None:
    found = forwarder(DOCKER / "kubernetes" / f"{name}.yaml")
    ports = {port["name"]: port["containerPort"] for port in found["ports"]}
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        if probe in found:
            get = found[probe]["httpGet"]
            assert container.probe(get["path"], ports[get["port"]]) == 200


def datagram(data: bytes, port: int) -> Callable[[Container], None]:
    def send(container: Container) -> None:
        with socket.socket(type=socket.SOCK_DGRAM) as client:
            client.sendto(data, ("127.0.0.1", container.ports[port]))

    return send


def container_log(container: Container) -> None:
    path = container.folder / "logs" / "web-1_shop_app-0123456789abcdef.log"
    path.write_text(
        "2026-11-24T10:00:00.000000001Z stdout P hel\n2026-11-24T10:00:00.000000002Z stdout F lo\n"
    )


@pytest.mark.parametrize(("name", "log", "expected"), [
    ("sidecar", datagram(b'{"message": "hello"}', 5160), {
        "tag": "app.sample", "pod": "the-pod_name-sidecar",
    }),
    ("daemonset", datagram(b"<14>Nov 24 10:00:00 web app: hello", 5140), {
        "tag": "node.user.info", "node": "the-node_name-daemonset",
    }),
    ("daemonset", container_log, {"node": "the-node_name-daemonset", "stream": "stdout"}),
])  # fmt: skip
def test_what_comes_is_indexed_by_way_of_the_aggregator(
    name: str, log: Callable[[Container], None], expected: dict[str, str], tmp_path: Path
) -> None:
    with (
        BulkServer() as cluster,
        start("aggregator", tmp_path, ES_URL=f"http://127.0.0.1:{cluster.port}") as aggregator,
    ):
        target = {"AGGREGATOR_HOST": "127.0.0.1", "AGGREGATOR_PORT": str(aggregator.ports[24224])}
        with start(name, tmp_path, **target) as sender:
            log(sender)
            sender.wait(lambda: cluster.taken)
            check_probes(name, sender)
            assert sender.stop() == 0
        check_probes("aggregator", aggregator)
        assert aggregator.stop() == 0
    (document,) = cluster.taken
    assert {"message": "hello", **expected}.items() <= document.items()


def test_an_agent_takes_what_pods_forward(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        target = {"AGGREGATOR_HOST": "127.0.0.1", "AGGREGATOR_PORT": str(nobody.getsockname()[1])}
        with start("daemonset", tmp_path, **target) as agent:
            port = str(agent.ports[24224])
            sent = subprocess.run(
                [sys.executable, "-m", "forwarder.cli.main", "cat", "pod.app", "--port", port],
                check=False, capture_output=True, input='{"message": "hello"}\n', text=True,
                env={**os.environ, "FORWARDER_SHARED_KEY": SHARED_KEY},
            )  # fmt: skip
            assert (sent.returncode, sent.stderr) == (0, "")  # it was acknowledged: it is in the buffer
