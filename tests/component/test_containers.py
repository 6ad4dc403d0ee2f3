"""docker/: the image's recipe, and the compose files with what they start, without a container engine."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import boto3
import pytest
import quick_cargo
from botocore.config import Config
from bulk_server import BulkServer
from containers import (
    COMPOSE,
    DOCKER,
    ROOT,
    Container,
    Service,
    configurations,
    container,
    dockerfile,
    services,
    variables,
)
from store import StartStore

from forwarder.cli.main import main

FILES = sorted(COMPOSE.glob("*.yaml"))
SET_BY_PYTHON = {"PYTHONDONTWRITEBYTECODE"}


# ------------------------------------------------------------ the image


def last_stage() -> list[tuple[str, str]]:
    start = max(number for number, (word, _) in enumerate(dockerfile()) if word == "FROM")
    return dockerfile()[start:]


def test_a_linter_finds_nothing_in_the_dockerfile(tools: Any) -> None:
    program = Path(sys.executable).parent / "hadolint"
    if not program.exists():
        tools.unavailable("hadolint")
    done = subprocess.run([program, DOCKER / "Dockerfile"], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_image_is_slim_and_runs_as_nobody() -> None:
    stage = last_stage()
    words = dict(stage)
    assert re.fullmatch(r"python:3\.\d+-slim-\w+", words["FROM"])
    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", words["USER"]), "a number, which Kubernetes can judge"
    assert not re.search(r"\b(apt-get|gcc|cargo|rustc|pip)\b", " ".join(rest for _, rest in stage))
    assert json.loads(words["ENTRYPOINT"]) == ["forwarder"]
    assert json.loads(words["CMD"]) == ["run", "--no-supervisor", "-c", "/etc/forwarder/fluent.conf"]
    assert json.loads(words["HEALTHCHECK"].partition("CMD ")[2]) == ["forwarder", "status", "--check"]


def build_context() -> set[str]:
    """The files that docker/Dockerfile.dockerignore lets into the build."""
    rules = (DOCKER / "Dockerfile.dockerignore").read_text().split("\n")
    kept = [rule[1:] for rule in rules if rule.startswith("!")]
    out = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return {name for name in out.split() if any(name == each or name.startswith(f"{each}/") for each in kept)}


def test_the_build_gets_what_it_needs_and_no_more() -> None:
    context = build_context()
    copied = {source for word, rest in dockerfile() if word == "COPY" for source in rest.split()[:-1]}
    assert copied == {
        ".",
        "--from=wheel",
        "/wheels",
        "--from=install",
        "/opt/forwarder",
        "docker/quickstart.conf",
    }
    needed = (
        "docker/quickstart.conf native/src/lib.rs native/Cargo.lock parsers/json.py "
        "plugins/outputs/out_file.py pyproject.toml setup.py README.md LICENSE"
    )
    for name in needed.split():
        assert name in context
    assert not [name for name in context if name.startswith(("tests/", "bench/", ".git"))]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.xdist_group("packaging")
def test_a_wheel_can_be_built_of_it(tmp_path: Path) -> None:
    for name in build_context():
        target = tmp_path / "src" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, target, follow_symlinks=False)
    done = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--no-deps", "-w", tmp_path / "wheels", tmp_path / "src"],
        check=False, capture_output=True, text=True,
        env={**os.environ, **quick_cargo.ENVIRONMENT},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "wheels").glob("forwarder-*-abi3-*.whl"))


# ------------------------------------------------------------ compose files


def test_there_are_compose_files() -> None:
    assert {path.name for path in FILES} == {"sidecar.yaml", "stack.yaml"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_compose_file_is_sound(path: Path) -> None:
    for name, service in services(path).items():
        for source in configurations(service).values():
            assert source.is_file(), f"{name}: {source}"
        for port in service.get("ports", []):
            assert str(port).startswith("127.0.0.1:"), f"{name}: {port} is open to the network"
        if service["image"] == "forwarder:latest":
            assert service["read_only"] is True
            assert service["tmpfs"] == ["/tmp"]
            assert service["cap_drop"] == ["ALL"]
            assert service["mem_limit"]
            assert (COMPOSE / service["build"]["context"] / service["build"]["dockerfile"]).is_file()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_service_gets_the_variables_that_its_configuration_reads(path: Path) -> None:
    for name, service in services(path).items():
        config = configurations(service).get("/etc/forwarder/fluent.conf")
        if config is None:
            continue
        read, needed = variables(config.read_text())
        given = set(service.get("environment", {}))
        assert needed <= given <= read, name


@pytest.mark.parametrize(
    "path", sorted([*DOCKER.glob("*.conf"), *COMPOSE.glob("*.conf")]), ids=lambda path: path.name
)
def test_check_finds_nothing_in_a_configuration(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in variables(path.read_text())[1]:
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    # what a replay gives its events to has no source, which is a warning
    strict = [] if path.name == "restore.conf" else ["--strict"]
    assert main(["check", *strict, str(path)]) == 0


# ------------------------------------------------------------ what they start


def check_health(container: Container) -> None:
    assert container.healthcheck() == (0, f"process {container.pid}: running\n")
    assert (container.probe("/healthz"), container.probe("/readyz"), container.probe("/metrics")) == (
        200,
        200,
        200,
    )


def test_the_sidecar_hands_on_what_the_service_logs(tmp_path: Path) -> None:
    path = COMPOSE / "sidecar.yaml"
    with container(path, "aggregator", tmp_path) as aggregator:
        port = str(aggregator.ports[24224])
        sidecar = container(path, "sidecar", tmp_path, AGGREGATOR_HOST="127.0.0.1", AGGREGATOR_PORT=port)
        with sidecar, Service(sidecar.ports[5160]) as service:
            service.get("/hello")
            aggregator.wait(lambda: '"path":"/hello"' in aggregator.output.read_text())
            check_health(sidecar)
            check_health(aggregator)
            assert sidecar.stop() == 0
            assert sidecar.healthcheck()[0] == 1
        line = next(line for line in aggregator.output.read_text().splitlines() if "/hello" in line)
        assert " app.service: " in line
        assert aggregator.stop() == 0


@pytest.mark.filterwarnings("default")  # moto's own
def test_the_stack_indexes_and_keeps_what_the_service_logs(tmp_path: Path, start_store: StartStore) -> None:
    with BulkServer() as cluster, start_store("moto") as store:
        env = {"ES_URL": f"http://127.0.0.1:{cluster.port}", "S3_ENDPOINT": store}
        with container(COMPOSE / "stack.yaml", "forwarder", tmp_path, **env) as found:
            with Service(found.ports[5160]) as service:
                service.get("/missing/it")
                found.wait(lambda: any(doc.get("path") == "/missing/it" for doc in cluster.taken))
            (document,) = (doc for doc in cluster.taken if doc.get("path") == "/missing/it")
            assert (document["status"], document["level"], document["tag"]) == (404, "warning", "app.service")
            client: Any = boto3.client(
                "s3", endpoint_url=store, aws_access_key_id="a", aws_secret_access_key="b",
                region_name="us-east-1", config=Config(s3={"addressing_style": "path"}),
            )  # fmt: skip

            def objects() -> list[Any]:
                made = [each["Name"] for each in client.list_buckets()["Buckets"]]
                return client.list_objects_v2(Bucket="logs").get("Contents", []) if "logs" in made else []

            found.wait(objects)
            first = objects()[0]
            assert re.fullmatch(r"app\.service/\d{4}/\d\d/\d\d/\d+_0\.gz", first["Key"]), first["Key"]
            check_health(found)
            assert found.stop() == 0
