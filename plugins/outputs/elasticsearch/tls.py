"""TLS towards the cluster: which authorities we trust, and the certificate that we show."""

from __future__ import annotations

import ssl
from typing import Final

from forwarder.api import ConfigError

VERSIONS: Final = {
    "TLSv1": ssl.TLSVersion.TLSv1,
    "TLSv1_1": ssl.TLSVersion.TLSv1_1,
    "TLSv1_2": ssl.TLSVersion.TLSv1_2,
    "TLSv1_3": ssl.TLSVersion.TLSv1_3,
}


def client_context(
    *,
    verify: bool,
    ca_file: str | None,
    client_cert: str | None,
    client_key: str | None,
    client_key_pass: str | None,
    lowest: str,
    highest: str | None,
) -> ssl.SSLContext:
    """A context for connections to nodes. `lowest`, `highest`: keys of `VERSIONS`; None: no limit.

    Raises:
        ConfigError: a file that cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = VERSIONS[lowest]
    if highest is not None:
        context.maximum_version = VERSIONS[highest]
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif ca_file is not None:
        try:
            context.load_verify_locations(ca_file)
        except OSError as error:
            raise ConfigError(f"authorities {ca_file}: {error}", param="ca_file") from None
    else:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    if client_cert is not None:
        try:
            # a passphrase of its own accord: OpenSSL would ask for one on the terminal
            context.load_cert_chain(client_cert, client_key, lambda: client_key_pass or "")
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"certificate {client_cert} with key {client_key or client_cert}: {error}",
                param="client_cert",
            ) from None
    return context
