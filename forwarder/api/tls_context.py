"""The TLS context of a server, from `<transport tls>`: made anew when the certificate files change."""

from __future__ import annotations

import os
import ssl
from typing import Final

from forwarder.api import tls_generate
from forwarder.api.errors import ConfigError
from forwarder.api.plugin import Plugin
from forwarder.api.shared_sections import Transport

_VERSIONS: Final = {
    "1_1": ssl.TLSVersion.TLSv1_1,
    "1_2": ssl.TLSVersion.TLSv1_2,
    "1_3": ssl.TLSVersion.TLSv1_3,
}


def server_context(transport: Transport) -> ssl.SSLContext:
    """The context that `<transport tls>` describes. Raises ConfigError: a file or value that is wrong."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    lowest = transport.min_version or transport.version
    highest = transport.max_version or transport.version
    context.minimum_version = _VERSIONS[lowest[-3:]]
    context.maximum_version = _VERSIONS[highest[-3:]]
    if not transport.insecure:
        try:
            context.set_ciphers(transport.ciphers)
        except ssl.SSLError as error:
            raise ConfigError(f"OpenSSL does not know the ciphers: {error}", param="ciphers") from None
    check_fips(transport)
    if transport.generates:
        tls_generate.load(context, transport)
    else:
        _load(context, transport)
    if transport.client_cert_auth:
        context.verify_mode = ssl.CERT_REQUIRED
    if transport.ca_path is not None:
        try:
            context.load_verify_locations(transport.ca_path)
        except OSError as error:
            raise ConfigError(f"authorities {transport.ca_path}: {error}", param="ca_path") from None
    elif transport.client_cert_auth:
        context.load_default_certs(ssl.Purpose.CLIENT_AUTH)
    return context


def check_fips(transport: Transport) -> None:
    """Raises ConfigError where FIPS mode is asked for and OpenSSL does not run in it."""
    if transport.ensure_fips and not _fips_mode():
        raise ConfigError(
            "OpenSSL does not run in FIPS mode: enable its FIPS provider, or leave ensure_fips out",
            param="ensure_fips",
        )


def _fips_mode() -> bool:
    try:
        from _hashlib import get_fips_mode  # noqa: PLC0415 - only where Python is built with OpenSSL
    except ImportError:
        return False
    return bool(get_fips_mode())


def _load(context: ssl.SSLContext, transport: Transport) -> None:
    passphrase = transport.private_key_passphrase or ""
    try:
        # a passphrase of its own accord: OpenSSL would ask for one on the terminal
        context.load_cert_chain(transport.cert_path or "", transport.private_key_path, lambda: passphrase)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"certificate {transport.cert_path} with key {transport.private_key_path}: {error}",
            param="cert_path",
        ) from None


class Certificates:
    """The present context; made anew for new connections when the files change."""

    def __init__(self, plugin: Plugin, transport: Transport) -> None:
        self._plugin = plugin
        self._transport = transport
        paths = (
            transport.cert_path, transport.private_key_path, transport.ca_path,
            transport.ca_cert_path, transport.ca_private_key_path,
        )  # fmt: skip
        self._files = [path for path in paths if path]
        self._seen = self._state()
        self._context = server_context(transport)

    def _state(self) -> list[tuple[int, int]]:
        state = []
        for path in self._files:
            try:
                found = os.stat(path)
            except OSError:
                state.append((0, 0))
            else:
                state.append((found.st_mtime_ns, found.st_ino))
        return state

    def context(self) -> ssl.SSLContext:
        state = self._state()
        if state != self._seen:
            self._seen = state
            try:
                self._context = server_context(self._transport)
                self._plugin.log.info("certificate files have changed, new connections use them")
            except ConfigError as error:
                self._plugin.log.error(f"changed certificate files are not used: {error.message}")
        return self._context
