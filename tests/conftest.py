"""Fixtures for all tests."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import pytest

ROOT = Path(__file__).resolve().parents[1]


class Tools:
    """Programs that tests use: absent, the test is skipped on a laptop and fails where CI is set."""

    def need(self, name: str) -> str:
        """The path of a program."""
        path = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
        return path or self.unavailable(name)

    def need_go(self, name: str) -> str:
        """The path of a program that `.ci/run` builds with Go."""
        path = shutil.which(name, path=f"{ROOT}/build/bin:{os.environ.get('PATH', '')}")
        return path or self.unavailable(name)

    def unavailable(self, what: str) -> NoReturn:
        """Ends the test because something is not installed."""
        message = f"{what} is not installed"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)


@pytest.fixture(scope="session")
def tools() -> Tools:
    """Programs that tests use."""
    return Tools()


@pytest.fixture(autouse=True)
def _backups_are_not_shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks that tests give up do not pile up in /tmp/fluent."""
    monkeypatch.setenv("FLUENT_BACKUP_DIR", str(tmp_path / "fluent-backup"))


@pytest.fixture(scope="session")
def start_store(tools: Tools, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A `store.StartStore`: starts S3-compatible servers by name."""
    import store  # noqa: PLC0415 - boto3 costs megabytes

    def start(name: str) -> AbstractContextManager[str]:
        if name == "moto":
            return store.moto()
        return store.versitygw(tools.need_go("versitygw"), tmp_path_factory.mktemp("store"))

    return start


@pytest.fixture(scope="session", params=["moto", "versitygw"])
def endpoint(request: pytest.FixtureRequest, start_store: Any) -> Iterator[str]:
    """The URL of an S3-compatible server, the same one for all tests: two makers' servers in turn."""
    with start_store(request.param) as url:
        yield url


@pytest.fixture
def disk(tmp_path: Path, tools: Tools) -> Iterator[Callable[[int], Path]]:
    """Small disks: a function from size in bytes to a folder on a file system of that size."""
    mounted: list[Path] = []

    def mount(size: int) -> Path:
        folder = tmp_path / f"disk{len(mounted)}"
        folder.mkdir()
        command = [tools.need("mount"), "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
        if subprocess.run(command, check=False, capture_output=True).returncode:
            pytest.skip("no right to mount a tmpfs here")  # tests/faults fills disks without it too
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run([tools.need("umount"), "-l", str(folder)], check=True)


@dataclass(frozen=True, slots=True)
class Certificates:
    """PEM files: an authority, a server of it (127.0.0.1, localhost) and a client of it."""

    ca: Path
    cert: Path
    key: Path
    client_cert: Path
    client_key: Path


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory, tools: Tools) -> Certificates:
    """Certificates made for this run."""
    openssl = tools.need("openssl")
    home = tmp_path_factory.mktemp("certificates")

    def call(*arguments: str) -> None:
        subprocess.run([openssl, *arguments], cwd=home, check=True, capture_output=True)

    def key(name: str) -> None:
        call("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", f"{name}.key")

    key("ca")
    call(
        "req",
        "-x509",
        "-new",
        "-key",
        "ca.key",
        "-subj",
        "/CN=test authority",
        "-days",
        "2",
        "-addext",
        "keyUsage=critical,keyCertSign,cRLSign",  # Python 3.13 asks for it
        "-out",
        "ca.pem",
    )
    (home / "extensions").write_text(
        "subjectAltName=IP:127.0.0.1,DNS:localhost\nauthorityKeyIdentifier=keyid\nsubjectKeyIdentifier=hash\n"
    )
    for name in ("server", "client"):
        key(name)
        call("req", "-new", "-key", f"{name}.key", "-subj", f"/CN={name}", "-out", f"{name}.csr")
        call(
            "x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
            "-days", "2", "-extfile", "extensions", "-out", f"{name}.pem",
        )  # fmt: skip
    return Certificates(
        home / "ca.pem", home / "server.pem", home / "server.key", home / "client.pem", home / "client.key"
    )
