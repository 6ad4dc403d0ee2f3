"""Foreign servers as the receivers of `@type forward`: that of @fluent-org/logger (npm), the OpenTelemetry
collector's fluentforward receiver (Go)."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from forwarder_process import free_port
from test_forward_clients import built, call

from forwarder.api.testing import run

COUNT = 300
RECORD = {"text": "snow ☃", "nested": {"list": [1, 2.5, None]}}
USERS = {
    "serverHostname": "server.local",
    "sharedKey": "secret",
    "authorize": True,
    "userDict": {"bob": "pw"},
}
SECURITY = "<security>\nself_hostname us.local\nshared_key {key}\n</security>\n"
Receive = Callable[..., contextlib.AbstractContextManager["subprocess.Popen[str]"]]


@pytest.fixture
def node(tools: Any) -> Receive:
    program, npm = tools.need("node"), tools.need("npm")
    home = built("node", lambda home: call(npm, "install", "--no-audit", "--no-fund", cwd=home))

    @contextlib.contextmanager
    def start(**options: Any) -> Iterator[subprocess.Popen[str]]:
        with subprocess.Popen(
            [program, "receive.js", json.dumps(options)], cwd=home, stdout=subprocess.PIPE, text=True
        ) as process:
            yield process
            process.terminate()

    return start


@pytest.fixture
def otel(tools: Any) -> Receive:
    go = tools.need("go")
    found = re.search(r"go(\d+)\.(\d+)", subprocess.check_output([go, "version"], text=True))
    if found is None or (int(found[1]), int(found[2])) < (1, 26):
        pytest.skip("the receiver needs Go 1.26, which Debian 12 does not have")
    home = built("otel", lambda home: call(go, "build", "-o", "receiver", ".", cwd=home))

    @contextlib.contextmanager
    def start() -> Iterator[subprocess.Popen[str]]:
        with subprocess.Popen(
            [home / "receiver", str(free_port())], stdout=subprocess.PIPE, text=True
        ) as process:
            yield process
            process.terminate()

    return start


def config(process: subprocess.Popen[str], options: str = "", more: str = "") -> str:
    assert process.stdout is not None
    port = int(process.stdout.readline())
    return f"""
        <match **>
          @type forward
          @id out
          {options}
          <server>
            host 127.0.0.1
            port {port}
            {more}
          </server>
          <buffer tag>
            flush_interval 0.05
            retry_max_times 0
          </buffer>
        </match>
    """


def check(process: subprocess.Popen[str], text: str) -> None:
    """Sends events and reads them from the server; each has arrived once, in order."""
    assert process.stdout is not None
    with run(text) as driver:
        for start in range(0, COUNT, 10):
            driver.emit("app.test", *({"i": i, **RECORD} for i in range(start, start + 10)))
        driver.wait_for(lambda: driver["out"].delivered == COUNT)
        got = [json.loads(process.stdout.readline()) for _ in range(COUNT)]
    assert got == [["app.test", {"i": i, **RECORD}] for i in range(COUNT)]


every_option = pytest.mark.parametrize(
    "options",
    [
        "",
        "require_ack_response true",
        "require_ack_response true\n keepalive true",
        "require_ack_response true\n compress gzip",
        "time_as_integer true",
    ],
)


@pytest.mark.slow
@every_option
def test_javascript(node: Receive, options: str) -> None:
    with node() as process:
        check(process, config(process, options))


@pytest.mark.slow
@every_option
def test_opentelemetry(otel: Receive, options: str) -> None:
    with otel() as process:
        check(process, config(process, options))


@pytest.mark.slow
def test_javascript_with_login(node: Receive) -> None:
    with node(security=USERS, keepalive=True) as process:
        options = f"require_ack_response true\n{SECURITY.format(key='secret')}"
        check(process, config(process, options, "username bob\npassword pw"))


@pytest.mark.slow
@pytest.mark.parametrize(("key", "password"), [("wrong", "pw"), ("secret", "wrong")])
def test_javascript_refuses(node: Receive, key: str, password: str) -> None:
    with node(security=USERS) as process:
        options = f"heartbeat_type none\n{SECURITY.format(key=key)}"
        with run(config(process, options, f"username bob\npassword {password}")) as driver:
            driver.emit("app.test", {"i": 0})
            driver.wait_for(lambda: driver["out"].lost == {"retry_limit": 1})
            assert "refuses us" in driver.log


@pytest.mark.slow
@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
def test_javascript_over_tls(node: Receive, certificates: Any, version: str, tmp_path: Path) -> None:
    with node(tls={"cert": str(certificates.cert), "key": str(certificates.key)}) as process:
        options = f"transport tls\ntls_version {version}\ntls_cert_path {certificates.ca}\n"
        check(process, config(process, f"{options} require_ack_response true", "name localhost"))
