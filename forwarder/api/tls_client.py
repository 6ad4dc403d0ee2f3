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
    """The one version that is spoken, such as "TLSv1_2"; None: 1.2 and later."""
    ciphers: str | None = None
    """OpenSSL's cipher list for TLS up to 1.2."""
    insecure: bool = False
    """Accept every certificate."""
    verify_hostname: bool = True
    check_self_signed: bool = False
    """Check the signature of a self-signed certificate too."""
    ca_paths: Sequence[str] = ()
    """Authorities besides the system's; a server's own certificate may stand there."""
    cert_path: str | None = None
    """The client's certificate, followed by its chain."""
    key_path: str | None = None
    passphrase: str | None = field(default=None, repr=False)

    def context(self) -> ssl.SSLContext:
        """A context made of the files as they are now. Raises ConfigError."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if self.version is None:
            context.minimum_version = ssl.TLSVersion.TLSv1_2
        else:
            context.minimum_version = context.maximum_version = _VERSIONS[self.version[-3:]]
        context.check_hostname = self.verify_hostname and not self.insecure
        if self.insecure:
            context.verify_mode = ssl.CERT_NONE
        else:
            if self.ciphers is not None:
                self._ciphers(context)
            if self.check_self_signed:
                context.verify_flags = ssl.VerifyFlags(context.verify_flags | _CHECK_SELF_SIGNED)
            context.load_default_certs()
            for path in self.ca_paths:
                try:
                    context.load_verify_locations(path)
                except OSError as error:
                    raise ConfigError(f"authorities {path}: {error}", param="tls_cert_path") from None
        if self.cert_path is not None:
            passphrase = self.passphrase or ""  # never None: OpenSSL would ask on the terminal
            try:
                context.load_cert_chain(self.cert_path, self.key_path, lambda: passphrase)
            except (OSError, ValueError) as error:
                raise ConfigError(
                    f"client certificate {self.cert_path} with key {self.key_path}: {error}",
                    param="tls_client_cert_path",
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
