"""Certificates that a server makes at its start, and FIPS mode."""

from __future__ import annotations

import builtins
import socket
import ssl
import subprocess
from pathlib import Path
from typing import Any

import pytest

from forwarder.api import tls_context
from forwarder.api.testing import Driver, run


def config(tls: str) -> str:
    return f"""
        <source>
          @type tcp
          bind 127.0.0.1
          port 0
          tag t
          <transport tls>
            {tls}
          </transport>
          <parse>
            @type none
          </parse>
        </source>
        <match **>
          @type test
        </match>
        """


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Certificate and key (with a passphrase) of an authority."""
    home = tmp_path_factory.mktemp("authority")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
         "-passout", "pass:secret", "-subj", "/CN=Log authority", "-days", "2",
         "-addext", "keyUsage=critical,keyCertSign,cRLSign", "-keyout", "ca.key", "-out", "ca.pem"],
        cwd=home, check=True, capture_output=True,
    )  # fmt: skip
    return home / "ca.pem", home / "ca.key"


def send(driver: Driver, context: ssl.SSLContext, name: str, text: bytes) -> dict[str, Any]:
    """Sends over TLS; what the server's certificate says."""
    plain = socket.create_connection(("127.0.0.1", driver.plugin("in_tcp").bound_port), timeout=5)
    with context.wrap_socket(plain, server_hostname=name) as sender:
        sender.sendall(text + b"\n")
        return dict(sender.getpeercert() or {})


def names(part: Any) -> dict[str, str]:
    return dict(pair for each in part for pair in each)


def test_signed_by_an_authority(authority: tuple[Path, Path]) -> None:
    ca, key = authority
    tls = f"""
        ca_cert_path {ca}
        ca_private_key_path {key}
        ca_private_key_passphrase secret
        generate_cert_common_name logs.example
        generate_cert_country DE
        generate_cert_expiration 3d
        """
    with run(config(tls)) as driver:
        found = send(driver, ssl.create_default_context(cafile=str(ca)), "logs.example", b"signed")
        driver.wait_for_events(1)
        assert driver.records() == [{"message": "signed"}]
    assert names(found["issuer"]) == {"commonName": "Log authority"}
    assert names(found["subject"]) == {
        "countryName": "DE", "stateOrProvinceName": "CA", "localityName": "Mountain View",
        "commonName": "logs.example",
    }  # fmt: skip
    lasts = ssl.cert_time_to_seconds(found["notAfter"]) - ssl.cert_time_to_seconds(found["notBefore"])
    assert lasts > 50 * 365 * 86_400  # from 1970 on, as Fluentd's


def test_signed_by_itself() -> None:
    trusting = ssl.create_default_context()
    trusting.check_hostname = False
    trusting.verify_mode = ssl.CERT_NONE
    with run(
        config("insecure true\ngenerate_cert_common_name 127.0.0.1\ngenerate_cert_digest sha384")
    ) as driver:
        send(driver, trusting, "127.0.0.1", b"self")
        driver.wait_for_events(1)
        with pytest.raises(ssl.SSLCertVerificationError, match="self-signed"):
            send(driver, ssl.create_default_context(), "127.0.0.1", b"never")


@pytest.mark.parametrize(
    ("tls", "words"),
    [
        ("ca_cert_path /x", "ca_private_key_path is required"),
        ("ca_cert_path /no/such\nca_private_key_path /no/such", "/no/such: expected a PEM file with a cert"),
        ("ca_cert_path CA\nca_private_key_path CA", "expected a PEM file with a private key"),
        ("ca_cert_path CA\nca_private_key_path KEY\nca_private_key_passphrase wrong", "a private key"),
        ("insecure true\ngenerate_cert_country Germany", "generate_cert_country"),
        ("insecure true\nensure_fips true", "FIPS mode"),
        ("insecure true\ncert_verifier /x", "it is Ruby code"),
    ],
)  # fmt: skip
def test_what_cannot_be_made_is_refused(authority: tuple[Path, Path], tls: str, words: str) -> None:
    ca, key = authority
    with pytest.raises(Exception, match=words):
        run(config(tls.replace("CA", str(ca)).replace("KEY", str(key))), start=False)


def test_another_authoritys_key_is_refused(authority: tuple[Path, Path], certificates: Any) -> None:
    tls = f"ca_cert_path {authority[0]}\nca_private_key_path {certificates.key}"
    with pytest.raises(Exception, match="is not the key of"):
        run(config(tls), start=False)


def test_fips_mode_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tls_context, "_fips_mode", lambda: True)
    run(config("insecure true\nensure_fips true"), start=False)


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    there = builtins.__import__

    def missing(name: str, *arguments: Any, **options: Any) -> Any:
        if name.startswith("cryptography"):
            raise ImportError(name)
        return there(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(Exception, match=r"forwarder\[cert\]"):
        run(config("insecure true"), start=False)
