"""in_udp: datagrams, one message each, through a parser.

*Delivery*: at most once. A datagram that finds the kernel's receive buffer full is lost, and so are events
that a full buffer refuses; both are counted (`kernel_drop`, `overflow`), so that received + dropped is what
was sent to the socket. At a stop everything that the kernel has accepted is still emitted.

*Differs from Fluentd*: events without a time of their own get the time at which their batch was received
(a batch spans at most 40 ms). A receive buffer of 32 MiB is asked for when none is configured. Host names
of senders are kept for five minutes. A message that was cut at `message_length_limit` is logged.
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
from forwarder.api.server import Reception, message_ingestor, udp_receiver
from forwarder.api.shared_sections import Extract, Transport


class UdpTransport(Transport):
    """`<transport udp>`."""

    protocol = enum("The transport protocol.", ("udp",), "udp")


class UdpInput(Listening, Senders, Input):
    """Receives messages over UDP."""

    multi_workers_ready = True

    tag = string("Tag of the events.")
    port = integer("Port to listen on.", 5160)
    source_host_key = string(
        "Field for the sender's host name.", None, deprecated="use source_hostname_key instead"
    )
    body_size_limit = size("Longest message in bytes.", None, deprecated="use message_length_limit instead")
    message_length_limit = size("Longest message in bytes; the rest of a datagram is cut off.", 4096)
    remove_newline = boolean("Take one line end off the message.", True)
    receive_buffer_size = size(
        "Receive buffer of the socket.", None,
        deprecated="use receive_buffer_size in the transport section instead",
    )  # fmt: skip
    reuse_port = boolean(
        "Not in Fluentd: several sockets may listen on the port (SO_REUSEPORT); each sender's messages go to "
        "one of them.",
        False,
    )

    transport = section(UdpTransport, "Socket parameters.")
    parse = parser_section("How messages are parsed.")
    extract = optional_section(Extract, "Tag from a field of the record.")

    def configure(self) -> None:
        self.check_port()
        self._limit = self.message_length_limit if self.body_size_limit is None else self.body_size_limit
        if self._limit < 1:
            raise ConfigError("at least 1 byte is needed", param="message_length_limit")
        self._ingestor = message_ingestor(
            self, self.parse, self.tag, self.extract,
            source_address_key=self.source_address_key,
            source_hostname_key=self.source_hostname_key or self.source_host_key,
            chomp=self.remove_newline,
        )  # fmt: skip

    def start(self) -> None:
        receiver = udp_receiver(
            self, self._ingestor, self.bind, self.port,
            limit=self._limit,
            receive_buffer_size=self.receive_buffer_size or self.transport.receive_buffer_size,
            reuse_port=self.reuse_port,
        )  # fmt: skip
        self.bound_port = receiver.port
        self.log.info("listening udp socket", bind=self.bind, port=receiver.port)
        self._reception = Reception(self, receiver, waits=False)
        self._reception.start()

    def stop(self) -> None:
        self._reception.stop()
