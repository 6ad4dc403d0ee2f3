"""Certificates of a server that are made at its start: signed by a given authority, or by themselves.

By the `cryptography` package, which is an extra of its own and imported only here.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import ssl
from collections.abc import Callable
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

from forwarder.api.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cryptography.x509 import Certificate

    from forwarder.api.shared_sections import Transport

_LATEST: Final = datetime(9999, 12, 31, tzinfo=UTC)


def check(transport: Transport) -> None:
    """Whether certificates can be made as `transport` says. Raises ConfigError."""
    _subject(transport)
    if transport.ca_cert_path is not None:
        _authority(transport)


def load(context: ssl.SSLContext, transport: Transport) -> None:
    """Makes a key and a certificate for `context`. Raises ConfigError."""
    certificate, key = _made(transport)
    # OpenSSL reads files only; this one has no name and is gone when it is closed
    with _in_memory(certificate + key) as path:
        context.load_cert_chain(path)


@contextmanager
def _in_memory(data: bytes) -> Iterator[str]:
    descriptor = os.memfd_create("certificate", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, data)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


def _modules() -> tuple[ModuleType, ModuleType]:
    try:
        from cryptography import x509  # noqa: PLC0415 - an extra
        from cryptography.hazmat.primitives import serialization  # noqa: PLC0415
    except ImportError:
        raise ConfigError(
            "certificates are made by the cryptography package: install forwarder[cert], or set cert_path "
            "and private_key_path",
            param="cert_path",
        ) from None
    return x509, serialization


def _subject(transport: Transport) -> Any:
    x509, _ = _modules()
    oid = x509.NameOID
    names = {
        oid.COUNTRY_NAME: "country",
        oid.STATE_OR_PROVINCE_NAME: "state",
        oid.LOCALITY_NAME: "locality",
    }
    attributes = []
    for kind, name in names.items():
        attributes.append(_attribute(x509, kind, f"generate_cert_{name}", transport))
    common = transport.generate_cert_common_name or socket.gethostname()
    attributes.append(x509.NameAttribute(oid.COMMON_NAME, common[:64]))
    return x509.Name(attributes)


def _attribute(x509: ModuleType, kind: Any, param: str, transport: Transport) -> Any:
    try:
        return x509.NameAttribute(kind, getattr(transport, param))
    except ValueError as error:
        raise ConfigError(f"{param}: {error}", param=param) from None


def _authority(transport: Transport) -> tuple[Certificate, Any]:
    x509, serialization = _modules()
    certificate = _read(
        transport.ca_cert_path, "ca_cert_path", "a certificate", x509.load_pem_x509_certificate
    )
    passphrase = transport.ca_private_key_passphrase
    password = passphrase.encode() if passphrase else None
    key = _read(
        transport.ca_private_key_path, "ca_private_key_path", "a private key",
        lambda data: serialization.load_pem_private_key(data, password),
    )  # fmt: skip
    if key.public_key() != certificate.public_key():
        raise ConfigError(
            f"{transport.ca_private_key_path} is not the key of {transport.ca_cert_path}",
            param="ca_private_key_path",
        )
    return certificate, key


def _read(path: str | None, param: str, what: str, load: Callable[[bytes], Any]) -> Any:
    try:
        return load(Path(path or "").read_bytes())
    except (OSError, ValueError, TypeError) as error:  # TypeError: a passphrase too many or too few
        raise ConfigError(f"{path}: expected a PEM file with {what}: {error}", param=param) from None


def _made(transport: Transport) -> tuple[bytes, bytes]:
    """Certificate and key, as PEM."""
    x509, serialization = _modules()
    from cryptography.hazmat.primitives import hashes  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import rsa  # noqa: PLC0415

    subject = _subject(transport)
    try:
        key = rsa.generate_private_key(65537, transport.generate_private_key_length)
    except ValueError as error:
        raise ConfigError(str(error), param="generate_private_key_length") from None
    issuer, signer = subject, key
    if transport.ca_cert_path is not None:
        authority, signer = _authority(transport)
        issuer = authority.subject
    usages = [x509.ExtendedKeyUsageOID.SERVER_AUTH]
    extensions = [
        (x509.BasicConstraints(ca=False, path_length=None), False),
        (x509.SubjectAlternativeName(_names(x509, subject)), False),
        (x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False),
        (x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), False),
        (x509.ExtendedKeyUsage(usages), False),
    ]
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime(1970, 1, 1, tzinfo=UTC))
        .not_valid_after(_end(transport.generate_cert_expiration))
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    digest: hashes.HashAlgorithm = {
        "sha1": hashes.SHA1(), "sha256": hashes.SHA256(),
        "sha384": hashes.SHA384(), "sha512": hashes.SHA512(),
    }[transport.generate_cert_digest]  # fmt: skip
    try:
        certificate = builder.sign(signer, digest)
    except Exception as error:  # what kind it is depends on the key and on OpenSSL's policy
        raise ConfigError(
            f"the certificate cannot be signed: {error}", param="generate_cert_digest"
        ) from None
    encoding = serialization.Encoding.PEM
    plain = key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return certificate.public_bytes(encoding), plain


def _end(seconds: float) -> datetime:
    try:
        return datetime.now(UTC) + timedelta(seconds=seconds)
    except OverflowError:
        return _LATEST


def _names(x509: ModuleType, subject: Any) -> list[Any]:
    (common,) = subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    try:
        return [x509.IPAddress(ipaddress.ip_address(common.value))]
    except ValueError:
        return [x509.DNSName(common.value)]
