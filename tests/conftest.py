"""Fixtures for all tests."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest


def needs(tool: str) -> str:
    """The path of a program; without it the test is skipped, and fails where CI is set."""
    path = shutil.which(tool, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if path is None:
        message = f"{tool} is not installed"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return path


@dataclass(frozen=True, slots=True)
class Certificates:
    """PEM files: an authority, a server of it (127.0.0.1, localhost) and a client of it."""

    ca: Path
    cert: Path
    key: Path
    client_cert: Path
    client_key: Path


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Certificates made for this run."""
    openssl = needs("openssl")
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
        "-out",
        "ca.pem",
    )
    (home / "extensions").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
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
