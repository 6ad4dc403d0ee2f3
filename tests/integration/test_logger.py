"""`logger` of util-linux as a real sender."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from typing import Any

import pytest
from syslog_source import config

from forwarder.api.testing import Driver, run

Logger = Callable[..., None]


@pytest.fixture
def logger(tools: Any) -> Logger:
    """Runs `logger`, which sends to the driver's input."""
    program = tools.need("logger")

    def send(driver: Driver, *arguments: str, text: str | None = None) -> None:
        port = driver.plugin("in_syslog").bound_port
        command = [program, "--server", "127.0.0.1", "--port", str(port), "--priority", "local3.warning"]
        subprocess.run([*command, "--tag", "app", *arguments], input=text, text=True, check=True, timeout=30)

    return send


@pytest.mark.parametrize("message_format", ["rfc3164", "auto"])
def test_rfc3164_over_udp(logger: Logger, message_format: str) -> None:
    with run(config(message_format)) as driver:
        logger(driver, "--udp", "--rfc3164", "--id=4711", "hello from logger")
        (event,) = driver.wait_for_events(1)
        assert event.tag == "sys.local3.warn"
        assert event.record.pop("host")
        assert event.record == {"ident": "app", "pid": "4711", "message": "hello from logger"}


@pytest.mark.parametrize("message_format", ["rfc5424", "auto"])
def test_rfc5424_over_udp(logger: Logger, message_format: str) -> None:
    with run(config(message_format)) as driver:
        logger(
            driver, "--udp", "--rfc5424=notq", "--msgid", "ID47", "--sd-id", "ex@32473",
            "--sd-param", 'a="1"', "hello, wörld",
        )  # fmt: skip
        (event,) = driver.wait_for_events(1)
        assert event.tag == "sys.local3.warn"
        assert event.record.pop("host")
        assert event.record == {
            "ident": "app", "pid": "-", "msgid": "ID47", "extradata": '[ex@32473 a="1"]',
            "message": "hello, wörld",
        }  # fmt: skip


@pytest.mark.parametrize("octets", [False, True])
def test_many_lines_over_tcp(logger: Logger, octets: bool) -> None:
    extra = "protocol_type tcp\n" + ("frame_type octet_count" if octets else "")
    lines = [f"line number {number}" for number in range(500)]
    with run(config("rfc5424", extra)) as driver:
        framing = ["--octet-count"] if octets else []
        logger(driver, "--tcp", "--rfc5424", *framing, text="\n".join(lines) + "\n")
        driver.wait_for_events(500)
        driver.stop()
        assert [record["message"] for record in driver.records()] == lines
        assert driver["in_syslog"].lost == {}
