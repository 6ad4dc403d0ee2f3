"""The logger libraries of several languages as real senders to `@type forward` and `@type unix`.

The libraries come from their languages' registries into a cache folder, once. Each client program is in
`clients/LANGUAGE`, sends COUNT events, and ends with 0 only if its library says that all were delivered.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fluent import asyncsender, handler, sender

from forwarder.api.testing import Driver, run

CLIENTS = Path(__file__).parent / "clients"
COUNT = 300
RECORD = {"text": "snow ☃", "nested": {"list": [1, 2.5, None]}}
CONFIG = """
<source>
  @type forward
  bind 127.0.0.1
  port 0
  {sections}
</source>
<match **>
  @type test
</match>
"""
SECURITY = """
<security>
  self_hostname server.local
  shared_key secret
  user_auth true
  <user>
    username alice
    password wonder
  </user>
</security>
"""


def config(sections: str = "") -> str:
    return CONFIG.format(sections=sections)


def tls(certificates: Any) -> str:
    return (
        f"<transport tls>\ncert_path {certificates.cert}\nprivate_key_path {certificates.key}\n"
        "min_version TLSv1_2\nmax_version TLSv1_3\n</transport>"
    )


def port_of(driver: Driver) -> int:
    return int(driver.plugin("in_forward").bound_port)


def check(driver: Driver, tag: str = "app.test", count: int = COUNT) -> None:
    """All events have arrived once, in order, as they were sent."""
    driver.wait_for_events(count)
    driver.stop()
    assert driver.records() == [{"i": i, **RECORD} for i in range(count)]
    assert {event.tag for event in driver.events()} == {tag}
    assert driver["in_forward"].lost == {}


def built(name: str, build: Callable[[Path], object]) -> Path:
    """A folder with a client program and the libraries it needs, made once for each state of its files."""
    files = sorted(path for path in (CLIENTS / name).iterdir() if path.is_file())
    state = hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:12]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "forwarder-tests" / "clients"
    cache.mkdir(parents=True, exist_ok=True)
    home = cache / f"{name}-{state}"
    with (cache / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (home / ".built").exists():
            shutil.rmtree(home, ignore_errors=True)
            shutil.copytree(CLIENTS / name, home)
            build(home)
            (home / ".built").touch()
    return home


def call(*command: str | Path, cwd: Path, env: dict[str, str] | None = None, seconds: float = 300) -> None:
    done = subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, timeout=seconds, check=False,
        env={**os.environ, **(env or {})},
    )  # fmt: skip
    assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stdout}{done.stderr}"


# ---------------------------------------------------------------- Python: fluent-logger


def send(client: Any, count: int = COUNT) -> None:
    for i in range(count):
        assert client.emit("test", {"i": i, **RECORD})
    client.close()


@pytest.mark.parametrize("nanosecond_precision", [False, True])
def test_python(nanosecond_precision: bool) -> None:
    with run(config()) as driver:
        send(
            sender.FluentSender(
                "app", "127.0.0.1", port_of(driver), nanosecond_precision=nanosecond_precision
            )
        )
        check(driver)


def test_python_asynchronously() -> None:
    with run(config()) as driver:
        send(asyncsender.FluentSender("app", "127.0.0.1", port_of(driver)))
        check(driver)


def test_python_over_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "u.sock"
    text = f"<source>\n@type unix\n@id in_forward\npath {path}\n</source>\n<match **>\n@type test\n</match>"
    with run(text) as driver:
        send(sender.FluentSender("app", f"unix://{path}"))
        check(driver)


def test_python_logging_handler() -> None:
    with run(config()) as driver:
        target = handler.FluentHandler("app.log", "127.0.0.1", port_of(driver))
        target.setFormatter(handler.FluentRecordFormatter({"level": "%(levelname)s"}))
        record = logging.LogRecord("x", logging.WARNING, __file__, 1, "disk %d full", (7,), None)
        target.handle(record)
        target.close()
        (event,) = driver.wait_for_events(1)
        assert event.tag == "app.log"
        assert event.record == {"level": "WARNING", "message": "disk 7 full"}


# ---------------------------------------------------------------- JavaScript: @fluent-org/logger


@pytest.fixture
def node(tools: Any) -> Callable[..., None]:
    program, npm = tools.need("node"), tools.need("npm")
    home = built("node", lambda home: call(npm, "install", "--no-audit", "--no-fund", cwd=home))

    def start(driver: Driver, **options: Any) -> None:
        options = {"socket": {"host": "127.0.0.1", "port": port_of(driver)}, **options}
        call(program, "send.js", json.dumps(options), str(COUNT), "app.test", cwd=home)

    return start


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["Message", "Forward", "PackedForward", "CompressedPackedForward"])
def test_javascript(node: Callable[..., None], mode: str) -> None:
    with run(config()) as driver:
        node(driver, eventMode=mode)
        check(driver)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["Message", "PackedForward"])
def test_javascript_with_acks_and_login(node: Callable[..., None], mode: str) -> None:
    security = {"clientHostname": "c", "sharedKey": "secret", "username": "alice", "password": "wonder"}
    with run(config(SECURITY)) as driver:
        node(driver, eventMode=mode, ack={"ackTimeout": 20_000}, security=security)
        check(driver)


@pytest.mark.slow
def test_javascript_over_tls(node: Callable[..., None], certificates: Any) -> None:
    with run(config(tls(certificates))) as driver:
        target = {
            "host": "127.0.0.1", "port": port_of(driver),
            "tls": {"ca": certificates.ca.read_text(), "servername": "localhost"},
        }  # fmt: skip
        node(driver, eventMode="PackedForward", ack={"ackTimeout": 20_000}, socket=target)
        check(driver)


# ---------------------------------------------------------------- Go: fluent-logger-golang


@pytest.fixture
def golang(tools: Any) -> Callable[..., None]:
    go = tools.need("go")
    home = built("go", lambda home: call(go, "build", "-o", "client", ".", cwd=home))

    def start(driver: Driver, authorities: Path | None = None, **options: Any) -> None:
        settings = {"fluent_host": "127.0.0.1", "fluent_port": port_of(driver), **options}
        env = {"SSL_CERT_FILE": str(authorities)} if authorities is not None else {}
        call(home / "client", json.dumps(settings), str(COUNT), "app.test", cwd=home, env=env)

    return start


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"request_ack": True},
        {"sub_second_precision": True, "async": True},
        {"marshal_as_json": True},
        {"marshal_as_json": True, "request_ack": True},
    ],
    ids=["plain", "acks", "asynchronously", "json", "json-acks"],
)
def test_go(golang: Callable[..., None], options: dict[str, Any]) -> None:
    with run(config()) as driver:
        golang(driver, **options)
        check(driver)


@pytest.mark.slow
def test_go_over_tls(golang: Callable[..., None], certificates: Any) -> None:
    with run(config(tls(certificates))) as driver:
        golang(driver, certificates.ca, fluent_network="tls", request_ack=True)
        check(driver)


# ---------------------------------------------------------------- Java: fluency


@pytest.fixture
def java(tools: Any) -> Callable[..., None]:
    program, mvn = tools.need("java"), tools.need("mvn")
    fetch = [mvn, "--quiet", "--batch-mode", "dependency:copy-dependencies", "-DoutputDirectory=lib"]
    home = built("java", lambda home: call(*fetch, cwd=home))

    def start(driver: Driver, *, ack: bool = False, certificates: Any = None) -> None:
        trust = []
        if certificates is not None:
            store = home / f"trust-{os.getpid()}.p12"
            store.unlink(missing_ok=True)
            call(
                tools.need("keytool"), "-importcert", "-noprompt", "-file", certificates.ca, "-alias", "ca",
                "-keystore", store, "-storetype", "PKCS12", "-storepass", "changeit", cwd=home,
            )  # fmt: skip
            trust = [f"-Djavax.net.ssl.trustStore={store}", "-Djavax.net.ssl.trustStorePassword=changeit"]
        words = [str(port_of(driver)), str(COUNT), "app.test"]
        flags = [str(flag).lower() for flag in (ack, certificates is not None)]
        call(program, *trust, "-cp", "lib/*", "Send.java", *words, *flags, cwd=home)

    return start


@pytest.mark.slow
@pytest.mark.parametrize("ack", [False, True])
def test_java(java: Callable[..., None], ack: bool) -> None:
    with run(config()) as driver:
        java(driver, ack=ack)
        check(driver)


@pytest.mark.slow
def test_java_over_tls(java: Callable[..., None], certificates: Any) -> None:
    with run(config(tls(certificates))) as driver:
        java(driver, ack=True, certificates=certificates)
        check(driver)
