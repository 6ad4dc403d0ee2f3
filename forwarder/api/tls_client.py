"""TLS for what connects to others: one context for all connections, made anew when its files change."""

from __future__ import annotations

import os
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import Final

from forwarder.api.errors import ConfigError

_VERSIONS: Final = {
    "1": ssl.TLSVersion.TLSv1,
    "1_1": ssl.TLSVersion.TLSv1_1,
    "1_2": ssl.TLSVersion.TLSv1_2,
    "1_3": ssl.TLSVersion.TLSv1_3,
}
_CHECK_SELF_SIGNED: Final = 0x4000
"""OpenSSL's X509_V_FLAG_CHECK_SS_SIGNATURE, which Python has no name for."""


@dataclass(frozen=True, slots=True)
class TlsOptions:
    """How a client speaks TLS. Paths are PEM files."""

    version: str | None = None
    """The one version that is spoken, such as "TLSv1_2"; None: see `lowest`."""
    lowest: str = "TLSv1_2"
    highest: str | None = None
    """None: the highest that there is."""
    ciphers: str | None = None
    """OpenSSL's cipher list for TLS up to 1.2."""
    insecure: bool = False
    """Accept every certificate."""
    verify_hostname: bool = True
    check_self_signed: bool = False
    """Check the signature of a self-signed certificate too."""
    ca_paths: Sequence[str] = ()
    """Authorities; a server's own certificate may stand there."""
    system_authorities: bool = True
    """Trust the system's authorities besides."""
    cert_path: str | None = None
    """The client's certificate, followed by its chain."""
    key_path: str | None = None
    passphrase: str | None = field(default=None, repr=False)
    ca_param: str = "tls_cert_path"
    """The parameter that an error about `ca_paths` names."""
    cert_param: str = "tls_client_cert_path"
    """The parameter that an error about `cert_path` or `key_path` names."""

    def context(self) -> ssl.SSLContext:
        """A context made of the files as they are now. Raises ConfigError."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = _version(self.version or self.lowest)
        highest = self.version or self.highest
        if highest is not None:
            context.maximum_version = _version(highest)
        context.check_hostname = self.verify_hostname and not self.insecure
        if self.insecure:
            context.verify_mode = ssl.CERT_NONE
        else:
            if self.ciphers is not None:
                self._ciphers(context)
            if self.check_self_signed:
                context.verify_flags = ssl.VerifyFlags(context.verify_flags | _CHECK_SELF_SIGNED)
            if self.system_authorities:
                context.load_default_certs()
            for path in self.ca_paths:
                try:
                    context.load_verify_locations(path)
                except OSError as error:
                    raise ConfigError(f"authorities {path}: {error}", param=self.ca_param) from None
        if self.cert_path is not None:
            passphrase = self.passphrase or ""  # never None: OpenSSL would ask on the terminal
            try:
                context.load_cert_chain(self.cert_path, self.key_path, lambda: passphrase)
            except (OSError, ValueError) as error:
                key = self.key_path or self.cert_path
                raise ConfigError(
                    f"client certificate {self.cert_path} with key {key}: {error}",
                    param=self.cert_param,
                ) from None
        return context

    def _ciphers(self, context: ssl.SSLContext) -> None:
        try:
            context.set_ciphers(self.ciphers or "")
        except ssl.SSLError as error:
            raise ConfigError(f"OpenSSL does not know the ciphers: {error}", param="tls_ciphers") from None

    def files(self) -> list[tuple[str, int, int]]:
        """(path, change time in nanoseconds, inode) of all files; zeros for one that is not there."""
        found = []
        for path in (*self.ca_paths, self.cert_path, self.key_path):
            if path is None:
                continue
            try:
                state = os.stat(path)
            except OSError:
                found.append((path, 0, 0))
            else:
                found.append((path, state.st_mtime_ns, state.st_ino))
        return found


def _version(name: str) -> ssl.TLSVersion:
    """`TLSv1_2`, `TLS1_2`."""
    return _VERSIONS[name.removeprefix("TLS").removeprefix("v")]


class ClientTls:
    """The present context of `options`; new connections use changed files. Thread-safe."""

    def __init__(self, options: TlsOptions) -> None:
        """Raises ConfigError: a file that cannot be used."""
        self.options = options
        self._lock = Lock()
        self._seen = options.files()
        self._context = options.context()

    def context(self) -> ssl.SSLContext:
        """For one connection. Raises ConfigError: the files have changed and cannot be used."""
        with self._lock:
            files = self.options.files()
            if files != self._seen:
                self._context = self.options.context()
                self._seen = files
            return self._context
