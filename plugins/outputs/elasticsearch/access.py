"""Who we are to the cluster, and whom we trust."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from forwarder.api import ConfigError
from forwarder.plugins.outputs.elasticsearch import hosts
from forwarder.plugins.outputs.elasticsearch.parameters import Reaching

if TYPE_CHECKING:
    import ssl


def credentials(given: Reaching) -> tuple[str | None, str | None]:
    """User and password. Raises ConfigError where one is missing."""
    if given.cloud_id is not None and given.cloud_auth is None:
        raise ConfigError("cloud_auth must be present if cloud_id is present", param="cloud_id")
    if given.user is not None and given.password is None:
        raise ConfigError("password must be present if user is present", param="user")
    if given.cloud_auth is not None:
        user, _, password = given.cloud_auth.partition(":")
        return user, password
    return hosts.escaped(given.user), hosts.escaped(given.password)


def tls_context(given: Reaching, addresses: str, log: Any) -> ssl.SSLContext | None:
    """For connections with TLS, if there may be any. Raises ConfigError."""
    if (given.ssl_min_version is None) != (given.ssl_max_version is None):
        raise ConfigError("ssl_min_version and ssl_max_version must be set together", param="ssl_version")
    if given.client_key is not None and given.client_cert is None:
        raise ConfigError("client_key needs client_cert", param="client_key")
    if not (given.scheme == "https" or "https://" in addresses or given.cloud_id is not None):
        return None
    from forwarder.api.tls_client import TlsOptions  # noqa: PLC0415 - only with TLS

    if not given.ssl_verify:
        log.warning("ssl_verify false: whoever answers gets the events and the credentials")
    return TlsOptions(
        lowest=given.ssl_min_version or given.ssl_version, highest=given.ssl_max_version,
        insecure=not given.ssl_verify,
        ca_paths=[given.ca_file] if given.ca_file is not None else [], ca_param="ca_file",
        system_authorities=given.ca_file is None,
        cert_path=given.client_cert, key_path=given.client_key, passphrase=given.client_key_pass,
        cert_param="client_cert",
    ).context()  # fmt: skip
