"""Running a container's command as a process: same configuration and environment, a root file system that is
read-only, other ports and folders."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import compose_spec
import pytest
from forwarder_process import ForwarderProcess, free_port
from waiting import wait_for

ROOT = Path(__file__).resolve().parents[1]
DOCKER = ROOT / "docker"
COMPOSE = DOCKER / "compose"
_READ_ONLY = (
    "mount -o bind,remount,ro / && mount -t tmpfs -o ro tmpfs /run && "
    'mount --bind "$0" "$0" && mount -o bind,remount,rw "$0" && exec "$@"'
)
_VARIABLE = re.compile(r"ENV(?:\.fetch\('(\w+)'\)|\['(\w+)'\])")
_PORT = re.compile(r"(?m)^(\s*port )(\d+)$")


def services(path: Path) -> dict[str, dict[str, Any]]:
    """The services of a compose file, merged and with its variables' defaults."""
    text = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", path.read_text())
    options = compose_spec.PyOptions()
    options.apply_merge = True
    compose = options.from_yaml(text)
    compose.validate()
    return dict(compose.to_dict()["services"])


def configurations(service: dict[str, Any]) -> dict[str, Path]:
    """The files that a service mounts: path in the container -> path here."""
    found = {}
    for mount in service.get("volumes", []):
        source, target = (
            (mount.split(":")[:2]) if isinstance(mount, str) else (mount["source"], mount["target"])
        )
        if str(source).startswith("."):
            found[target] = (COMPOSE / source).resolve()
    return found


@cache
def dockerfile() -> list[tuple[str, str]]:
    """The instructions of docker/Dockerfile as (word, rest)."""
    text = re.sub(r"(?m)^#.*\n", "", (DOCKER / "Dockerfile").read_text()).replace("\\\n", " ")
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in text.splitlines() if line.strip()]


def variables(config: str) -> tuple[set[str], set[str]]:
    """(all that a configuration reads from the environment, what it cannot do without)."""
    found = _VARIABLE.findall(config)
    return {needed or optional for needed, optional in found}, {needed for needed, _ in found if needed}


def read_only(writable: Path) -> list[str]:
    """A command prefix that makes all but a folder read-only and hides /run with the control sockets of other
    processes, where that is allowed."""
    prefix = ["unshare", "--mount", "sh", "-c", _READ_ONLY, str(writable)]
    if subprocess.run([*prefix, "true"], check=False, capture_output=True).returncode == 0:
        return prefix
    if os.environ.get("CI"):
        pytest.fail("no right to mount: a read-only root file system cannot be tried")
    return []


class Container(ForwarderProcess):
    """A forwarder as a container runs it. `ports`: which of its ports are which here.

    Args:
        config: as in the image. env: what the container gets. options: as its command has them.
    """

    def __init__(
        self, folder: Path, config: str, env: Mapping[str, str], options: Sequence[str] = ("--no-supervisor",)
    ) -> None:
        self.ports: dict[int, int] = {}
        folder.mkdir()
        for name in ("tmp", "lib", "logs"):
            (folder / name).mkdir()
        config = _PORT.sub(lambda found: f"{found[1]}{self.port(int(found[2]))}", config)
        config = config.replace("/var/log/containers", str(folder / "logs"))
        config = config.replace("/var/lib/forwarder", str(folder / "lib")).replace(
            "bind 0.0.0.0", "bind 127.0.0.1"
        )
        config = config.replace("flush_interval 1s", "flush_interval 0.05").replace(
            "refresh_interval 5s", "refresh_interval 0.05"
        )
        self.variables = {
            "PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1", "TMPDIR": str(folder / "tmp"),
            "FLUENT_BACKUP_DIR": str(folder / "lib" / "backup"), **env,
        }  # fmt: skip
        super().__init__(folder, config, options=options, prefix=read_only(folder))
        self._env = self.variables

    def port(self, number: int) -> int:
        """The port here that stands for a port in the container."""
        return self.ports.setdefault(number, free_port())

    def healthcheck(self) -> tuple[int, str]:
        """What the image's HEALTHCHECK says: status and text."""
        command = [*self._prefix, sys.executable, "-m", "forwarder.cli.main", "status", "--check"]
        done = subprocess.run(command, check=False, capture_output=True, text=True, env=self.variables)
        return done.returncode, done.stdout + done.stderr

    def probe(self, path: str, port: int = 24231) -> int:
        """The status of an HTTP probe."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port(port)}{path}", timeout=10) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            error.close()
            return error.code


def container(path: Path, name: str, folder: Path, **env: str) -> Container:
    """A service of a compose file; `env` overrides its variables."""
    service = services(path)[name]
    config = configurations(service)["/etc/forwarder/fluent.conf"].read_text()
    config = config.replace("timekey 60", "timekey 1").replace("timekey_wait 10", "timekey_wait 0")
    return Container(folder / name, config, {**service.get("environment", {}), **env})


class Service:
    """The sample service as a process."""

    def __init__(self, log_port: int) -> None:
        self.port = free_port()
        env = {"LOG_HOST": "127.0.0.1", "LOG_PORT": str(log_port), "PORT": str(self.port)}
        self.process = subprocess.Popen(
            [sys.executable, str(COMPOSE / "service.py")], env={**os.environ, **env}
        )
        wait_for(lambda: self.get("/first") == {"path": "/first"}, process=self.process)

    def get(self, path: str) -> Any:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as answer:
                return json.load(answer)
        except OSError:
            return None

    def __enter__(self) -> Service:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
