"""`<source> @type tcp`, driven through configuration text and real sockets."""

from __future__ import annotations

import contextlib
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest

from forwarder.api import BufferOverflow
from forwarder.api.testing import Driver, run

CONFIG = """
<source>
  @type tcp
  bind 127.0.0.1
  port 0
  tag t.in
  {extra}
  <parse>
    @type {parser}
  </parse>
  {sections}
</source>
<match t.** other>
  @type test
</match>
"""


def config(extra: str = "", parser: str = "none", sections: str = "") -> str:
    return CONFIG.format(extra=extra, parser=parser, sections=sections)


def connect(driver: Driver) -> socket.socket:
    return socket.create_connection(("127.0.0.1", driver.plugin("in_tcp").bound_port), timeout=10)


def messages(driver: Driver) -> list[Any]:
    return [record["message"] for record in driver.records()]


@pytest.mark.parametrize(
    ("extra", "sent", "expected"),
    [
        ("", b"one\ntwo\r\n\nrest", ["one", "two\r", ""]),
        ('delimiter "\\0"', b"a\nb\0c\0", ["a\nb", "c"]),
        ("delimiter ||", b"a|b||c||", ["a|b", "c"]),
        ("message_length_limit 3", b"abc\nabcd\n" + b"x" * 100_000 + b"\nend\n", ["abc", "end"]),
        ("", b"\xff\n", [b"\xff"]),
    ],
)
def test_messages(extra: str, sent: bytes, expected: list[Any]) -> None:
    with run(config(extra)) as driver:
        with connect(driver) as sender:
            sender.sendall(sent)
        driver.wait_for_events(len(expected))
        driver.stop()
        assert messages(driver) == expected
        books = driver["in_tcp"]
        assert books.received == books.emitted + sum(books.lost.values())


def test_losses_of_a_stream_are_counted() -> None:
    with run(config("message_length_limit 3", "json")) as driver:
        with connect(driver) as sender:
            sender.sendall(b"{}\nxy\nmuch too long\n{}\nre")
        driver.wait_for(lambda: driver["in_tcp"].received == 5)
        assert driver["in_tcp"].lost == {"unmatched": 1, "too_long": 1, "unterminated": 1}
        assert "message_length_limit" in driver.log
        assert "much too long" in driver.log


def test_sender_fields_and_tag() -> None:
    extra = "source_address_key addr\nsource_hostname_key host"
    with run(config(extra, "json", "<extract>\ntag_key k\n</extract>")) as driver:
        with connect(driver) as sender:
            sender.sendall(b'{"k":"other"}\n')
        (event,) = driver.wait_for_events(1)
        assert event.tag == "other"
        assert event.record["addr"] == "127.0.0.1"
        assert event.record["host"]


@pytest.mark.parametrize(
    ("client", "allowed"),
    [("host 127.0.0.1", True), ("network 127.0.0.0/8", True), ("network 10.0.0.0/8", False)],
)
def test_who_may_connect(client: str, allowed: bool) -> None:
    with run(config(sections=f"<security>\n<client>\n{client}\n</client>\n</security>")) as driver:
        # who is turned away may see the connection reset before it has sent anything
        with contextlib.suppress(*([] if allowed else [ConnectionError])), connect(driver) as sender:
            sender.sendall(b"x\n")
            if allowed:
                driver.wait_for_events(1)
        if not allowed:
            driver.wait_for(lambda: "anonymous client denied" in driver.log)
        driver.stop()
        assert len(driver.events()) == int(allowed)


def test_a_full_buffer_stops_reading_and_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with run(config()) as driver:
        context = driver.plugin("in_tcp").context
        emit, refusals = context.emit, iter(range(3))

        def full(batch: Any) -> None:
            if next(refusals, None) is not None:
                raise BufferOverflow("full")
            emit(batch)

        monkeypatch.setattr(context, "emit", full)
        with connect(driver) as sender:
            sender.sendall(b"a\nb\nc\n")
            driver.wait_for_events(3)
        assert messages(driver) == ["a", "b", "c"]
        assert driver["in_tcp"].lost == {}
        assert "reading stopped" in driver.log


def test_a_stop_takes_what_the_kernel_has() -> None:
    with run(config()) as driver, connect(driver) as sender:
        sender.sendall(b"".join(b"%d\n" % number for number in range(20_000)))
        driver.wait_for_events(1)
        driver.stop()
        got = messages(driver)
        assert got == [str(number) for number in range(len(got))]
        assert driver["in_tcp"].received == driver["in_tcp"].emitted + sum(driver["in_tcp"].lost.values())


# ---------------------------------------------------------------- TLS


def tls_config(certificates: Any, extra: str = "", tls: str = "") -> str:
    return config(
        extra,
        sections=f"""<transport tls>
          cert_path {certificates.cert}
          private_key_path {certificates.key}
          {tls}
        </transport>""",
    )


def tls_client(driver: Driver, certificates: Any, client: bool = False) -> ssl.SSLSocket:
    context = ssl.create_default_context(cafile=str(certificates.ca))
    if client:
        context.load_cert_chain(certificates.client_cert, certificates.client_key)
    return context.wrap_socket(connect(driver), server_hostname="127.0.0.1")


def test_tls(certificates: Any) -> None:
    with run(tls_config(certificates, "source_address_key a")) as driver:
        with tls_client(driver, certificates) as sender:
            assert sender.version() == "TLSv1.2"
            sender.sendall(b"one\ntwo\nhalf")
        driver.wait_for_events(2)
        driver.wait_for(lambda: driver["in_tcp"].lost == {"unterminated": 1})
        assert driver.records() == [
            {"message": "one", "a": "127.0.0.1"},
            {"message": "two", "a": "127.0.0.1"},
        ]


def test_tls_large_volume_and_stop(certificates: Any) -> None:
    with run(tls_config(certificates, tls="min_version TLSv1_2\nmax_version TLSv1_3")) as driver:
        with tls_client(driver, certificates) as sender:
            assert sender.version() == "TLSv1.3"
            sender.sendall(b"".join(b"%d %s\n" % (number, b"x" * 100) for number in range(20_000)))
            driver.wait_for_events(20_000)
        driver.stop()
        assert [int(message.split()[0]) for message in messages(driver)] == list(range(20_000))


def test_a_bad_tls_peer_does_not_stop_the_others(certificates: Any) -> None:
    with run(tls_config(certificates)) as driver, connect(driver) as silent, connect(driver) as plain:
        plain.sendall(b"GET / HTTP/1.0\r\n\r\n")
        driver.wait_for(lambda: "TLS handshake or connection failed" in driver.log)
        with tls_client(driver, certificates) as good:
            good.sendall(b"fine\n")
            driver.wait_for_events(1)
        assert messages(driver) == ["fine"]
        assert silent.fileno() > 0


def test_a_tls_handshake_that_hangs_is_ended(certificates: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("forwarder.api.tls.HANDSHAKE_SECONDS", 0.1)
    with run(tls_config(certificates)) as driver, connect(driver) as silent:
        with pytest.raises(ConnectionResetError):  # linger_timeout 0
            silent.recv(1)
        driver.wait_for(lambda: "handshake took too long" in driver.log)


@pytest.mark.parametrize("with_certificate", [True, False])
def test_client_certificates(certificates: Any, with_certificate: bool) -> None:
    tls = f"client_cert_auth true\nca_path {certificates.ca}"
    with run(tls_config(certificates, tls=tls)) as driver:
        if with_certificate:
            with tls_client(driver, certificates, client=True) as sender:
                sender.sendall(b"trusted\n")
            driver.wait_for_events(1)
        else:
            with pytest.raises(OSError, match=r"(?i)handshake|alert|reset|certificate"):
                tls_client(driver, certificates)
            driver.wait_for(lambda: "TLS handshake or connection failed" in driver.log)


def test_changed_certificate_files_are_used(certificates: Any, tmp_path: Path) -> None:
    class Copies:
        cert, key, ca = tmp_path / "c.pem", tmp_path / "k.pem", certificates.ca

    Copies.cert.write_bytes(certificates.cert.read_bytes())
    Copies.key.write_bytes(certificates.key.read_bytes())
    with run(tls_config(Copies)) as driver:
        Copies.cert.write_text("broken")
        with tls_client(driver, certificates) as sender:  # the old one is kept
            sender.sendall(b"one\n")
        assert "changed certificate files are not used" in driver.log
        Copies.cert.write_bytes(certificates.client_cert.read_bytes())
        Copies.key.write_bytes(certificates.client_key.read_bytes())
        with tls_client(driver, certificates) as sender:
            subject = dict(pair for part in sender.getpeercert()["subject"] for pair in part)  # type: ignore[index]
            assert subject == {"commonName": "client"}


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ("<transport tls>\n</transport>", "TLS needs a certificate"),
        ("<transport tls>\ncert_path /no/such\nprivate_key_path /no/such\n</transport>", "/no/such"),
        ("<transport tls>\ncert_path /x\n</transport>", "private_key_path is required"),
        ("<transport>\nmin_version TLSv1_2\n</transport>", "must be set together"),
        ("<transport udp>\n</transport>", "tcp"),
        ("<security>\n</security>", "<client>"),
        ("<security>\n<client>\n</client>\n</security>", "either host or network"),
        ("<security>\n<client>\nnetwork x\n</client>\n</security>", "10.0.0.0/8"),
        ("<security>\n<client>\nhost no-such-host.invalid\n</client>\n</security>", "cannot be resolved"),
    ],
)
def test_wrong_configurations_are_refused(sections: str, words: str) -> None:
    with pytest.raises(Exception, match=words):
        run(config(sections=sections), start=False)


def test_a_port_in_use_is_an_error_that_names_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(Exception, match="in use"):
            run(config().replace("port 0", f"port {port}"))
