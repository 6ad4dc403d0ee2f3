"""Sections that several inputs share: `<transport>`, `<security>`, `<extract>`, `<storage>`."""

from __future__ import annotations

import socket
from typing import Final

from forwarder._native import network_contains
from forwarder.api.errors import ConfigError
from forwarder.api.parameters import (
    Section,
    array,
    boolean,
    duration,
    enum,
    integer,
    sections,
    size,
    string,
)

TLS_VERSIONS: Final = ("TLSv1_1", "TLSv1_2", "TLSv1_3", "TLS1_1", "TLS1_2", "TLS1_3")
_NO_GENERATION: Final = (
    "certificates are not generated here; make one (openssl req -x509 ...) and set cert_path "
    "and private_key_path"
)


class Transport(Section):
    """`<transport PROTOCOL>`: socket and TLS parameters of a server.

    A plugin subclasses it to declare `protocol` with its own words and default.
    """

    argument = "protocol"

    protocol = enum("The transport protocol.", ("tcp", "tls"), "tcp")
    receive_buffer_size = size(
        "Receive buffer of the socket (SO_RCVBUF) in bytes. UDP without it: 32 MiB is asked for.", None
    )
    linger_timeout = integer(
        "Seconds for SO_LINGER. 0: a connection that we close is reset instead of lingering in TIME_WAIT.", 0
    )

    version = enum("The one TLS version that is spoken.", TLS_VERSIONS, "TLSv1_2")
    min_version = enum("Lowest TLS version, together with max_version.", TLS_VERSIONS, None)
    max_version = enum("Highest TLS version, together with min_version.", TLS_VERSIONS, None)
    ciphers = string("OpenSSL's cipher list for TLS up to 1.2.", "ALL:!aNULL:!eNULL:!SSLv2")
    insecure = boolean(
        "Leave the cipher list to OpenSSL. It makes no certificate: cert_path is needed.", False
    )
    ensure_fips = boolean(
        "Run in OpenSSL's FIPS mode only.", False,
        unsupported="Python's ssl cannot tell whether OpenSSL runs in FIPS mode",
    )  # fmt: skip

    ca_path = string("PEM file of the authorities that client certificates must come from.", None)
    cert_path = string("PEM file of the server's certificate, followed by its chain.", None)
    private_key_path = string("PEM file of the server's private key.", None)
    private_key_passphrase = string("Passphrase of the private key.", None, secret=True)
    client_cert_auth = boolean("Refuse clients without a valid certificate.", False)

    ca_cert_path = string("Authority that signs a generated certificate.", None, unsupported=_NO_GENERATION)
    ca_private_key_path = string("That authority's key.", None, unsupported=_NO_GENERATION)
    ca_private_key_passphrase = string(
        "Passphrase of that key.", None, secret=True, unsupported=_NO_GENERATION
    )
    cert_verifier = string(
        "Ruby code that verifies a client's certificate.", None,
        unsupported="it is Ruby code; use client_cert_auth with ca_path",
    )  # fmt: skip
    generate_private_key_length = integer("Bits of a generated key.", 2048, unsupported=_NO_GENERATION)
    generate_cert_country = string("Country of a generated certificate.", "US", unsupported=_NO_GENERATION)
    generate_cert_state = string("State of a generated certificate.", "CA", unsupported=_NO_GENERATION)
    generate_cert_locality = string(
        "Locality of a generated certificate.", "Mountain View", unsupported=_NO_GENERATION
    )
    generate_cert_common_name = string(
        "Common name of a generated certificate.", None, unsupported=_NO_GENERATION
    )
    generate_cert_expiration = duration(
        "Validity of a generated certificate.", 315360000.0, unsupported=_NO_GENERATION
    )
    generate_cert_digest = enum(
        "Digest of a generated certificate.", ("sha1", "sha256", "sha384", "sha512"), "sha256",
        unsupported=_NO_GENERATION,
    )  # fmt: skip

    def configure(self) -> None:
        if (self.min_version is None) != (self.max_version is None):
            missing = "min_version" if self.min_version is None else "max_version"
            raise ConfigError(
                "min_version and max_version must be set together",
                param="max_version" if missing == "min_version" else "min_version",
            )
        if self.protocol != "tls":
            return
        if self.cert_path is None:
            if self.insecure:
                raise ConfigError(
                    f"insecure without cert_path is not supported: {_NO_GENERATION}", param="insecure"
                )
            raise ConfigError(
                "TLS needs a certificate: set cert_path and private_key_path", param="cert_path"
            )
        if self.private_key_path is None:
            raise ConfigError("private_key_path is required when cert_path is set", param="private_key_path")


class Client(Section):
    """`<client>` in `<security>`."""

    host = string("Address or name of a host that may connect.", None)
    network = string("Network that may connect: 10.0.0.0/8, fe80::/10.", None)

    def configure(self) -> None:
        if self.host and self.network:
            raise ConfigError("both host and network are set: use one of them", param="host")
        if not self.host and not self.network:
            raise ConfigError("either host or network is needed", param="host")
        if self.network:
            try:
                network_contains(self.network, "127.0.0.1")
            except ValueError as error:
                raise ConfigError(f"{error}; expected the form of 10.0.0.0/8", param="network") from None

    def networks(self) -> list[str]:
        """What it allows as CIDR networks. A host name is resolved now. Raises ConfigError."""
        if self.network:
            return [self.network]
        try:
            found = socket.getaddrinfo(self.host, None, type=socket.SOCK_STREAM)
        except OSError as error:
            raise ConfigError(f"host {self.host!r} cannot be resolved: {error}", param="host") from None
        return sorted({str(address[4][0]).split("%")[0] for address in found})


class Security(Section):
    """`<security>` of an input without authentication: who may connect."""

    clients = sections(Client, "A client that may connect.", name="client", required=True)

    def networks(self) -> list[str]:
        """All that may connect, as CIDR networks. Raises ConfigError."""
        return [network for client in self.clients for network in client.networks()]


class Extract(Section):
    """`<extract>`: tag and time from fields of the record."""

    tag_key = string("Field whose value becomes the tag.", None)
    keep_tag_key = boolean("Leave that field in the record.", False)
    time_key = string(
        "Field that holds the event's time; it has an effect only where the parser gives no time, and the "
        "parsers here and in Fluentd always give one.",
        None,
    )
    keep_time_key = boolean("Leave that field in the record.", False)
    time_type = enum("How that time is written.", ("float", "unixtime", "string"), "float")
    time_format = string("strptime format of that time.", None)
    localtime = boolean("That time is in the machine's zone.", True)
    utc = boolean("That time is UTC.", False)
    timezone = string("Zone of that time.", None)
    time_format_fallbacks = array("Further formats of that time.", [], of="string")


class Storage(Section):
    """`<storage>` of an input; what it says is done by `forwarder.api.storage`."""

    argument = "usage"

    usage = string("Which of the plugin's storages is meant.", "")
    type = enum("The kind of storage.", ("local",), "local", alias="@type")
    persistent = boolean("Save at every change.", False)
    autosave = boolean("Save now and then.", True)
    autosave_interval = duration("Seconds from one save to the next.", 10.0)
    save_at_shutdown = boolean("Save at the end.", True)
    path = string(
        "File (`*.json`) that keeps it, or a folder; not set: below root_dir where the plugin has an @id, or "
        "else nothing is kept.", None,
    )  # fmt: skip
    mode = string("Mode of the file, octal.", "0644")
    dir_mode = string("Mode of its folder, octal.", "0755")
    pretty_print = boolean("Indented JSON in the file.", False)

    def configure(self) -> None:
        for name in ("mode", "dir_mode"):
            value = getattr(self, name)
            if not value or any(digit not in "01234567" for digit in value):
                raise ConfigError(f"{name}: expected an octal mode such as 0644", param=name)
