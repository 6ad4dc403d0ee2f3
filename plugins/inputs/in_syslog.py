r"""in_syslog: syslog over UDP, TCP or TLS; the tag is `TAG.FACILITY.SEVERITY`.

*Delivery*: over UDP as in_udp (losses in the kernel are counted as `kernel_drop`, those before a full buffer
as `overflow`); over TCP and TLS as in_tcp: a full buffer stops reading and loses nothing.

*Differs from Fluentd*: what in_udp and in_tcp say. `message_length_limit` is for UDP, as in Fluentd; over
TCP a message may have 16 MiB. With `frame_type octet_count` a length must be a decimal number without
leading zeros (RFC 6587; Ruby's Integer would take `0x1F` and `1_0` too), and anything else closes the
connection; a line end between messages is skipped, as Fluentd does.
"""

from __future__ import annotations

from forwarder._native import Ingestor
from forwarder.api import (
    ConfigError,
    Input,
    boolean,
    enum,
    integer,
    parser_section,
    section,
    size,
    string,
)
from forwarder.api.listening import Listening, Senders
from forwarder.api.server import (
    Reception,
    check_certificate,
    receiver_parser,
    stream_receiver,
    udp_receiver,
)
from forwarder.api.shared_sections import Transport


class SyslogTransport(Transport):
    """`<transport udp>`, `<transport tcp>` or `<transport tls>`."""

    protocol = enum("The transport protocol.", ("tcp", "udp", "tls"), "udp")


class SyslogInput(Listening, Senders, Input):
    """Receives syslog messages."""

    multi_workers_ready = True

    port = integer("Port to listen on.", 5140)
    tag = string("First part of the tag; facility and severity follow: `TAG.kern.info`.")
    protocol_type = enum(
        "The transport protocol.", ("tcp", "udp"), None, deprecated="use the transport section"
    )
    frame_type = enum(
        "How messages are told apart on a stream: by `delimiter`, or by their length before them.",
        ("traditional", "octet_count"),
        "traditional",
    )
    include_source_host = boolean(
        "Add the sender's address as `source_host_key`.", False,
        deprecated="use source_hostname_key or source_address_key instead",
    )  # fmt: skip
    source_host_key = string("Field for the sender's address with include_source_host.", "source_host")
    emit_unmatched_lines = boolean("Emit lines that do not parse as `TAG.unmatched`.", False)
    resolve_hostname = boolean("Whether host names are looked up; source_hostname_key needs it.", None)
    send_keepalive_packet = boolean("Let the kernel check that connections are alive (SO_KEEPALIVE).", False)
    severity_key = string("Field for the severity's name.", None, alias="priority_key")
    facility_key = string("Field for the facility's name.", None)
    message_length_limit = size("Longest datagram in bytes; the rest is cut off.", 2048)
    delimiter = string("What ends a message on a stream.", "\n")
    reuse_port = boolean(
        "Not in Fluentd: several sockets may listen on the port (SO_REUSEPORT); each sender's messages go to "
        "one of them.",
        False,
    )

    transport = section(SyslogTransport, "Socket and TLS parameters.")
    parse = parser_section("How messages are parsed.", default="syslog", defaults={"with_priority": True})

    def configure(self) -> None:
        self._protocol = self.protocol_type or self.transport.protocol
        if self._protocol == "tcp" and self.transport.protocol == "tls":
            self._protocol = "tls"
        self._check()
        address_key = self.source_address_key
        if self.include_source_host:
            if address_key is not None:
                raise ConfigError(
                    "use either source_address_key or include_source_host", param="include_source_host"
                )
            address_key = self.source_host_key
        self._ingestor = Ingestor(
            receiver_parser(self, self.parse),
            self.tag,
            syslog=True,
            with_priority=bool(getattr(self.parse, "with_priority", False)),
            severity_key=self.severity_key,
            facility_key=self.facility_key,
            source_address_key=address_key,
            source_hostname_key=self.source_hostname_key,
            chomp=self._protocol == "udp",
            emit_unmatched_lines=self.emit_unmatched_lines,
        )

    def _check(self) -> None:
        self.check_port()
        if self.message_length_limit < 1:
            raise ConfigError("at least 1 byte is needed", param="message_length_limit")
        if not self.delimiter:
            raise ConfigError("the delimiter must not be empty", param="delimiter")
        if self.source_hostname_key is not None and self.resolve_hostname is False:
            raise ConfigError(
                "resolve_hostname must be true with source_hostname_key", param="resolve_hostname"
            )
        if self.send_keepalive_packet and self._protocol == "udp":
            raise ConfigError(
                "send_keepalive_packet is for tcp and tls, not for udp", param="send_keepalive_packet"
            )
        if self._protocol == "tls":
            check_certificate(self.transport)

    def start(self) -> None:
        if self._protocol == "udp":
            datagrams = udp_receiver(
                self, self._ingestor, self.bind, self.port,
                limit=self.message_length_limit,
                receive_buffer_size=self.transport.receive_buffer_size,
                reuse_port=self.reuse_port,
            )  # fmt: skip
            self._log_listening(datagrams.port)
            self._reception = Reception(self, datagrams, waits=False)
        else:
            octets = self.frame_type == "octet_count"
            receiver = stream_receiver(
                self, self._ingestor, self.transport, self.bind, self.port,
                tls=self._protocol == "tls",
                delimiter=None if octets else self.delimiter.encode(),
                keepalive=self.send_keepalive_packet,
                reuse_port=self.reuse_port,
            )  # fmt: skip
            self._log_listening(receiver.port)
            self._reception = Reception(self, receiver, waits=True)
        self._reception.start()

    def stop(self) -> None:
        self._reception.stop()

    def _log_listening(self, port: int) -> None:
        self.bound_port = port
        self.log.info(f"listening syslog socket on {self.bind}:{port} with {self._protocol}")
