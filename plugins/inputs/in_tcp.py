r"""in_tcp: messages over TCP or TLS, separated by a delimiter, through a parser.

*Delivery*: at most once, as plain TCP has no acknowledgement: what the kernel or a peer's kernel holds when
either side dies is lost. A full buffer loses nothing: reading stops until there is room, and the senders
wait. At a stop what the kernel has received is still emitted. A message without its delimiter at the end of
a connection is dropped, as in Fluentd, and counted (`unterminated`).

*Differs from Fluentd*: a message may have at most 16 MiB even without `message_length_limit`; unfinished
messages of all connections together at most 256 MiB. `<security>` is checked when a connection is made
rather than with its first data. Certificates are not generated (`<transport tls>` needs `cert_path`); files
that change are used for new connections. Events of one batch that have no time of their own share one.
"""

from __future__ import annotations

from forwarder.api import (
    ConfigError,
    Input,
    boolean,
    enum,
    integer,
    optional_section,
    parser_section,
    section,
    size,
    string,
)
from forwarder.api.listening import Listening, Senders
from forwarder.api.server import Reception, check_certificate, message_ingestor, stream_receiver
from forwarder.api.shared_sections import Extract, Security, Transport


class TcpTransport(Transport):
    """`<transport tcp>` or `<transport tls>`."""

    protocol = enum("The transport protocol.", ("tcp", "tls"), "tcp")


class TcpInput(Listening, Senders, Input):
    """Receives messages over TCP."""

    multi_workers_ready = True

    tag = string("Tag of the events.")
    port = integer("Port to listen on.", 5170)
    source_host_key = string(
        "Field for the sender's host name.", None, deprecated="use source_hostname_key instead"
    )
    message_length_limit = size("Longest message in bytes; a longer one is dropped (16 MiB at most).", None)
    delimiter = string("What ends a message.", "\n")
    send_keepalive_packet = boolean("Let the kernel check that connections are alive (SO_KEEPALIVE).", False)

    transport = section(TcpTransport, "Socket and TLS parameters.")
    security = optional_section(Security, "Who may connect.")
    parse = parser_section("How messages are parsed.")
    extract = optional_section(Extract, "Tag from a field of the record.")

    def configure(self) -> None:
        self.check_port()
        if not self.delimiter:
            raise ConfigError("the delimiter must not be empty", param="delimiter")
        if self.message_length_limit is not None and self.message_length_limit < 1:
            raise ConfigError("at least 1 byte is needed", param="message_length_limit")
        self._allow = self.security.networks() if self.security is not None else None
        if self.transport.protocol == "tls":
            check_certificate(self.transport)
        self._ingestor = message_ingestor(
            self, self.parse, self.tag, self.extract,
            source_address_key=self.source_address_key,
            source_hostname_key=self.source_hostname_key or self.source_host_key,
        )  # fmt: skip

    def start(self) -> None:
        receiver = stream_receiver(
            self, self._ingestor, self.transport, self.bind, self.port,
            delimiter=self.delimiter.encode(), limit=self.message_length_limit,
            keepalive=self.send_keepalive_packet, allow=self._allow,
        )  # fmt: skip
        self.bound_port = receiver.port
        self.log.info(f"listening {self.transport.protocol} socket", bind=self.bind, port=receiver.port)
        self._reception = Reception(self, receiver, waits=True)
        self._reception.start()

    def stop(self) -> None:
        self._reception.stop()
