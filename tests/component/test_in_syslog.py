"""`<source> @type syslog` over UDP, TCP and TLS."""

from __future__ import annotations

import socket
import ssl
from typing import Any

import pytest

from forwarder.api.testing import Driver, run

CONFIG = """
<source>
  @type syslog
  bind 127.0.0.1
  port 0
  tag sys
  {extra}
  {sections}
</source>
<match sys.**>
  @type test
</match>
"""
NEW = b"<165>1 2023-02-28T12:00:00.003Z h app 1 ID - text"
NEW_RECORD = {"host": "h", "ident": "app", "pid": "1", "msgid": "ID", "extradata": "-", "message": "text"}
RFC5424 = "<parse>\nmessage_format rfc5424\n</parse>"


def config(extra: str = "", sections: str = RFC5424) -> str:
    return CONFIG.format(extra=extra, sections=sections)


def send_udp(driver: Driver, *datagrams: bytes) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for datagram in datagrams:
            sender.sendto(datagram, ("127.0.0.1", driver.plugin("in_syslog").bound_port))


def connect(driver: Driver) -> socket.socket:
    return socket.create_connection(("127.0.0.1", driver.plugin("in_syslog").bound_port), timeout=10)


def test_udp() -> None:
    with run(config()) as driver:
        send_udp(driver, NEW + b"\n")
        (event,) = driver.wait_for_events(1)
        assert event == ("sys.local4.notice", 1_677_585_600_003_000_000, NEW_RECORD)


@pytest.mark.parametrize("parser", ["none", "json"])
def test_another_parser_sees_the_line_without_its_priority(parser: str) -> None:
    with run(config(sections=f"<parse>\n@type {parser}\n</parse>")) as driver:
        send_udp(driver, b'<34>{"a":1}\r\nsecond line', b"no priority", b'<200>{"a":2}')
        events = driver.wait_for_events(2)
        fields = [{"a": 1}, {"a": 2}] if parser == "json" else [{"message": f'{{"a":{n}}}'} for n in (1, 2)]
        # Ruby's `.` stops before the newline only, so the carriage return stays with the text
        if parser == "none":
            fields[0]["message"] += "\r"
        assert [(event.tag, event.record) for event in events] == [
            ("sys.auth.crit", fields[0]), ("sys..emerg", fields[1])
        ]  # fmt: skip
        assert driver["in_syslog"].lost == {"no_priority": 1}
        assert "no priority" in driver.log


def test_added_fields() -> None:
    extra = "severity_key sev\nfacility_key fac\nsource_address_key addr\nsource_hostname_key name"
    with run(config(extra)) as driver:
        send_udp(driver, NEW)
        record = driver.wait_for_events(1)[0].record
        assert record.pop("name")
        assert record == {**NEW_RECORD, "sev": "notice", "fac": "local4", "addr": "127.0.0.1"}


@pytest.mark.parametrize(
    ("extra", "field"),
    [("include_source_host true", "source_host"), ("include_source_host true\nsource_host_key h2", "h2")],
)
def test_old_names_of_the_sender_field(extra: str, field: str) -> None:
    with run(config(extra)) as driver:
        send_udp(driver, NEW)
        assert driver.wait_for_events(1)[0].record == {**NEW_RECORD, field: "127.0.0.1"}


def test_priority_key_is_severity_key() -> None:
    with run(config("priority_key p")) as driver:
        send_udp(driver, NEW)
        assert driver.wait_for_events(1)[0].record["p"] == "notice"


def test_unmatched_lines_can_be_events() -> None:
    with run(config("emit_unmatched_lines true\nsource_address_key from")) as driver:
        send_udp(driver, b"garbage\n", NEW)
        events = driver.wait_for_events(2)
        assert events[0].tag == "sys.unmatched"
        assert events[0].record == {"unmatched_line": "garbage", "from": "127.0.0.1"}
        driver.wait_for(lambda: "garbage" in driver.log)
        assert driver["in_syslog"].lost == {}


@pytest.mark.parametrize("how", ["protocol_type tcp", "<transport tcp>\n</transport>"])
def test_tcp(how: str) -> None:
    with run(config(how)) as driver:
        with connect(driver) as sender:
            sender.sendall(NEW + b"\n" + NEW[:20])
            sender.sendall(NEW[20:] + b"\n" + NEW.replace(b"text", b"x" * 5000) + b"\n")
        events = driver.wait_for_events(3)
        assert [event.record["message"] for event in events] == ["text", "text", "x" * 5000]


def test_octet_counting() -> None:
    with run(config("frame_type octet_count\nprotocol_type tcp")) as driver:
        with connect(driver) as good, connect(driver) as bad:
            counted = b"%d %b" % (len(NEW), NEW)
            bad.sendall(NEW + b"\n")
            with pytest.raises(ConnectionResetError):  # linger_timeout 0
                bad.recv(1)
            good.sendall(counted + b"\n" + counted + counted[:10])
            driver.wait_for_events(2)
            good.sendall(counted[10:])
            driver.wait_for_events(3)
        assert driver.records() == [NEW_RECORD] * 3
        assert driver["in_syslog"].lost == {"bad_frame": 1}


@pytest.mark.parametrize("extra", ["", "protocol_type tcp"])  # with the old parameter Fluentd speaks TLS too
def test_tls(certificates: Any, extra: str) -> None:
    transport = f"""<transport tls>
      cert_path {certificates.cert}
      private_key_path {certificates.key}
    </transport>"""
    with run(config(extra, sections=RFC5424 + "\n" + transport)) as driver:
        context = ssl.create_default_context(cafile=str(certificates.ca))
        with context.wrap_socket(connect(driver), server_hostname="localhost") as sender:
            sender.sendall(NEW + b"\n")
            driver.wait_for_events(1)
        assert driver.records() == [NEW_RECORD]


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        (
            "include_source_host true\nsource_address_key a",
            "either source_address_key or include_source_host",
        ),
        ("source_hostname_key a\nresolve_hostname false", "resolve_hostname must be true"),
        ("send_keepalive_packet true", "send_keepalive_packet is for tcp and tls"),
        ("frame_type other", "octet_count"),
        ("protocol_type tls", "tcp"),
        ('delimiter ""', "delimiter"),
        ("<transport tls>\n</transport>", "TLS needs a certificate"),
    ],
)
def test_wrong_configurations_are_refused(extra: str, words: str) -> None:
    with pytest.raises(Exception, match=words):
        run(config(extra), start=False)


@pytest.mark.parametrize("protocol", ["udp", "tcp", "tls"])
def test_a_port_is_shared_where_both_say_so(protocol: str, certificates: Any) -> None:
    files = f"cert_path {certificates.cert}\nprivate_key_path {certificates.key}" if protocol == "tls" else ""
    sections = f"<transport {protocol}>\n{files}\n</transport>\n{RFC5424}"
    with run(config("reuse_port true", sections)) as one:
        port = f"port {one.plugin('in_syslog').bound_port}"
        with pytest.raises(OSError, match="in use"):
            run(config(sections=sections).replace("port 0", port))
        with run(config("reuse_port true", sections).replace("port 0", port)):
            pass
