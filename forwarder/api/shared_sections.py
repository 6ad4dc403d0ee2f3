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
        "Leave the cipher list to OpenSSL, and make a certificate that signs itself where neither cert_path "
        "nor ca_cert_path is set.", False,
    )  # fmt: skip
    ensure_fips = boolean("Refuse to start where OpenSSL does not run in FIPS mode.", False)

    ca_path = string("PEM file of the authorities that client certificates must come from.", None)
    cert_path = string("PEM file of the server's certificate, followed by its chain.", None)
    private_key_path = string("PEM file of the server's private key.", None)
    private_key_passphrase = string("Passphrase of the private key.", None, secret=True)
    client_cert_auth = boolean("Refuse clients without a valid certificate.", False)

    ca_cert_path = string(
        "PEM file of an authority: at the start a certificate is made that it signs (package cryptography, "
        "`forwarder[cert]`).", None,
    )  # fmt: skip
    ca_private_key_path = string("PEM file of that authority's private key.", None)
    ca_private_key_passphrase = string("Passphrase of that key.", None, secret=True)
    cert_verifier = string(
        "Ruby code that verifies a client's certificate.", None,
        unsupported="it is Ruby code; use client_cert_auth with ca_path",
    )  # fmt: skip
    generate_private_key_length = integer("Bits of the key of a certificate that is made.", 2048)
    generate_cert_country = string("Country in it, two letters.", "US")
    generate_cert_state = string("State or province in it.", "CA")
    generate_cert_locality = string("Locality in it.", "Mountain View")
    generate_cert_common_name = string("Name or address in it; not set: the machine's name.", None)
    generate_cert_expiration = duration("How long it is valid from the start on, in seconds.", 315360000.0)
    generate_cert_digest = enum("Digest of its signature.", ("sha1", "sha256", "sha384", "sha512"), "sha256")

    def configure(self) -> None:
        if (self.min_version is None) != (self.max_version is None):
            missing = "min_version" if self.min_version is None else "max_version"
            raise ConfigError(
                "min_version and max_version must be set together",
                param="max_version" if missing == "min_version" else "min_version",
            )
        if self.protocol != "tls":
            return
        if self.cert_path is not None:
            if self.private_key_path is None:
                raise ConfigError(
                    "private_key_path is required when cert_path is set", param="private_key_path"
                )
        elif self.ca_cert_path is not None:
            if self.ca_private_key_path is None:
                raise ConfigError(
                    "ca_private_key_path is required when ca_cert_path is set", param="ca_private_key_path"
                )
        elif not self.insecure:
            raise ConfigError(
                "TLS needs a certificate: set cert_path and private_key_path, or ca_cert_path and "
                "ca_private_key_path, or insecure true for one that signs itself",
                param="cert_path",
            )

    @property
    def generates(self) -> bool:
        """Whether the certificate is made at the start."""
        return self.protocol == "tls" and self.cert_path is None


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
