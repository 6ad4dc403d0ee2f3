"""`rsyslogd` as a real sender: UDP, TCP with both framings, TLS."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from syslog_source import config

from forwarder.api.testing import Driver, run

RSYSLOG = """
global(workDirectory="{home}" {globals})
module(load="imfile" mode="inotify")
input(type="imfile" file="{home}/input.log" tag="app[77]:" facility="local4" severity="error")
action(type="omfwd" target="127.0.0.1" port="{port}" {action})
"""
NEW = 'template="RSYSLOG_SyslogProtocol23Format"'
OLD = 'template="RSYSLOG_TraditionalForwardFormat"'
DRIVERS = ("/usr/lib/x86_64-linux-gnu/rsyslog", "/usr/lib/aarch64-linux-gnu/rsyslog", "/usr/lib64/rsyslog")


@contextmanager
def rsyslog(program: str, home: Path, port: int, action: str, settings: str = "") -> Iterator[None]:
    """rsyslogd that forwards the lines of `home/input.log`."""
    path = home / "rsyslog.conf"
    path.write_text(RSYSLOG.format(home=home, port=port, action=action, globals=settings))
    with (home / "rsyslog.log").open("wb") as log:
        command = [program, "-n", "-f", str(path), "-i", str(home / "pid")]
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    try:
        yield
    finally:
        process.terminate()
        process.wait(20)


def received(driver: Driver, home: Path, count: int) -> list[dict[str, Any]]:
    try:
        driver.wait_for(lambda: len(driver.events()) >= count, 30)
    except AssertionError as error:
        raise AssertionError(f"{error}\nrsyslogd said: {(home / 'rsyslog.log').read_text()}") from None
    driver.stop()
    assert {event.tag for event in driver.events()} == {"sys.local4.err"}
    assert driver["in_syslog"].lost == {}
    return driver.records()


@pytest.mark.parametrize(
    ("message_format", "extra", "action"),
    [
        ("rfc3164", "", f'protocol="udp" {OLD}'),
        ("rfc5424", "", f'protocol="udp" {NEW}'),
        ("auto", "", f'protocol="udp" {NEW}'),
        ("rfc3164", "protocol_type tcp", f'protocol="tcp" {OLD}'),
        ("rfc5424", "protocol_type tcp", f'protocol="tcp" {NEW}'),
        (
            "rfc5424",
            "protocol_type tcp\nframe_type octet_count",
            f'protocol="tcp" TCP_Framing="octet-counted" {NEW}',
        ),
    ],
)
def test_lines_arrive_complete_and_in_order(
    tools: Any, tmp_path: Path, message_format: str, extra: str, action: str
) -> None:
    program = tools.need("rsyslogd")
    lines = [f"line number {number} with some text: käse" for number in range(200)]
    (tmp_path / "input.log").write_text("\n".join(lines) + "\n")
    with run(config(message_format, extra)) as driver:
        with rsyslog(program, tmp_path, driver.plugin("in_syslog").bound_port, action):
            records = received(driver, tmp_path, len(lines))
        assert [record["message"].removeprefix(" ") for record in records] == lines
        assert {(record["ident"], record["pid"]) for record in records} == {("app", "77")}


def test_tls_with_client_certificate(tools: Any, tmp_path: Path, certificates: Any) -> None:
    program = tools.need("rsyslogd")
    if not any(Path(folder, "lmnsd_gtls.so").exists() for folder in DRIVERS):
        tools.unavailable("rsyslog's gtls driver (package rsyslog-gnutls)")
    lines = [f"secret number {number}" for number in range(300)]
    (tmp_path / "input.log").write_text("\n".join(lines) + "\n")
    transport = f"""<transport tls>
      cert_path {certificates.cert}
      private_key_path {certificates.key}
      client_cert_auth true
      ca_path {certificates.ca}
    </transport>"""
    settings = (
        f'defaultNetstreamDriver="gtls" defaultNetstreamDriverCAFile="{certificates.ca}" '
        f'defaultNetstreamDriverCertFile="{certificates.client_cert}" '
        f'defaultNetstreamDriverKeyFile="{certificates.client_key}"'
    )
    action = (
        f'protocol="tcp" {NEW} streamDriver="gtls" streamDriverMode="1" streamDriverAuthMode="x509/name" '
        'streamDriverPermittedPeers="localhost"'
    )
    with run(config("rfc5424", transport)) as driver:
        with rsyslog(program, tmp_path, driver.plugin("in_syslog").bound_port, action, settings):
            records = received(driver, tmp_path, len(lines))
        assert [record["message"].removeprefix(" ") for record in records] == lines
