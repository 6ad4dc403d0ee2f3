"""in_forward: events from Fluentd, Fluent Bit and the logger libraries of many languages.

*Delivery*: at least once for senders that ask for acknowledgements (`require_ack_response` in out_forward):
a message is acknowledged when its events have been taken by the buffers behind this input. Others may lose
what is on the way when either side dies. A full buffer loses nothing: nothing is read until there is room,
and nothing acknowledged; UDP heartbeats are still answered. What is no event is dropped and counted
(`invalid_event`), and what it came with is acknowledged: it would be no event the next time either.

*Differs from Fluentd*: a message may have 256 MiB even without `chunk_size_limit`, and unfinished messages of
all connections together 512 MiB. A decompressed payload may have at most 1,100 times the size that it came
with (16 MiB at least). Events before a broken one in the same message are kept. A client that has not passed
the handshake within 30 s is disconnected. Certificates are not generated (`<transport tls>` needs
`cert_path`); files that change are used for new connections.
"""

from __future__ import annotations

from forwarder._native import ForwardRules, ForwardServer
from forwarder.api import (
    ConfigError,
    Input,
    boolean,
    enum,
    integer,
    optional_section,
    section,
    size,
    string,
)
from forwarder.api.forward_input import ForwardReceiver, ForwardSecurity, Gate, Heartbeats
from forwarder.api.listening import Listening, Senders
from forwarder.api.server import Reception, check_certificate, listening, max_connections
from forwarder.api.shared_sections import Transport

_PORT_ATTEMPTS = 20


class ForwardTransport(Transport):
    """`<transport tcp>` or `<transport tls>`."""

    protocol = enum("The transport protocol.", ("tcp", "tls"), "tcp")


class ForwardInput(Listening, Senders, Input):
    """Receives events over the forward protocol."""

    multi_workers_ready = True

    port = integer("Port to listen on, for TCP and for UDP heartbeats.", 24224)
    backlog = integer("Connections that may wait to be accepted.", None)
    linger_timeout = integer(
        "Seconds for SO_LINGER.", None, deprecated="use linger_timeout in the transport section instead"
    )
    resolve_hostname = boolean("Whether host names are looked up; source_hostname_key needs it.", None)
    deny_keepalive = boolean("Close each connection after its first message.", False)
    send_keepalive_packet = boolean("Let the kernel check that connections are alive (SO_KEEPALIVE).", False)
    chunk_size_warn_limit = size("Longer messages are logged. Bytes.", None)
    chunk_size_limit = size("Longer messages are dropped. Bytes.", None)
    decompression_size_limit = size("Longest decompressed payload in bytes.", 256 << 20)
    skip_invalid_event = boolean(
        "Skip events whose time is neither an integer nor an EventTime. False: floats are times too, and "
        "where there is none it is the present. What has no map as its record is skipped either way.",
        True,
    )
    tag = string("Tag of all events, instead of their own.", None)
    add_tag_prefix = string("What comes before every tag, with a dot between.", None)

    transport = section(ForwardTransport, "Socket and TLS parameters.")
    security = optional_section(ForwardSecurity, "Who may send.")

    def configure(self) -> None:
        self.check_port()
        for name in ("tag", "add_tag_prefix"):
            if getattr(self, name) == "":
                raise ConfigError(f"'{name}' parameter must not be empty", param=name)
        if self.source_hostname_key is not None and self.resolve_hostname is False:
            raise ConfigError(
                "resolve_hostname must be true with source_hostname_key", param="resolve_hostname"
            )
        for name in ("chunk_size_limit", "chunk_size_warn_limit", "decompression_size_limit"):
            limit = getattr(self, name)
            if limit is not None and limit < 0:
                raise ConfigError(f"{limit} bytes: at least 0 are needed", param=name)
        if self.send_keepalive_packet and self.deny_keepalive:
            raise ConfigError(
                "send_keepalive_packet and deny_keepalive cannot both be true", param="deny_keepalive"
            )
        if self.transport.protocol == "tls":
            check_certificate(self.transport)
        gate = None
        if self.security is not None:
            gate = Gate(self, self.security, keepalive=not self.deny_keepalive)
        self._rules = ForwardRules(
            tag=self.tag,
            add_tag_prefix=self.add_tag_prefix,
            skip_invalid_event=self.skip_invalid_event,
            chunk_size_limit=self.chunk_size_limit,
            chunk_size_warn_limit=self.chunk_size_warn_limit,
            decompression_size_limit=self.decompression_size_limit,
            source_address_key=self.source_address_key,
            source_hostname_key=self.source_hostname_key,
            gate=gate,
        )

    def start(self) -> None:
        receiver, self._heartbeats = self._listen()
        self.bound_port = receiver.port
        self.log.info("listening port", port=receiver.port, bind=self.bind)
        self._reception = Reception(self, receiver, waits=True, emitted=receiver.acknowledge)
        self._heartbeats.start()
        self._reception.start()

    def stop(self) -> None:
        self._reception.stop()
        self._heartbeats.stop()

    def _listen(self) -> tuple[ForwardReceiver, Heartbeats]:
        """TCP and UDP on one port, which with `port 0` has to be free for both."""
        for attempt in range(_PORT_ATTEMPTS):
            receiver = self._receiver()
            try:
                return receiver, Heartbeats(self, self.bind, receiver.port)
            except OSError:
                receiver.stop()
                receiver.next(0)  # closes it
                if self.port != 0 or attempt == _PORT_ATTEMPTS - 1:
                    raise
        raise AssertionError("the loop above returns or raises")

    def _receiver(self) -> ForwardReceiver:
        linger = self.transport.linger_timeout if self.linger_timeout is None else self.linger_timeout
        if self.transport.protocol == "tls":
            from forwarder.api.forward_tls import ForwardTlsServer  # noqa: PLC0415 - as in server.py

            return ForwardTlsServer(
                self, self._rules, self.transport, self.bind, self.port,
                backlog=self.backlog, linger_timeout=linger, keepalive=self.send_keepalive_packet,
                deny_keepalive=self.deny_keepalive, max_connections=max_connections(),
            )  # fmt: skip
        with listening(self, self.transport, self.bind, self.port, backlog=self.backlog) as listener:
            return ForwardServer(
                self._rules, listener.fileno(), linger_timeout=linger, keepalive=self.send_keepalive_packet,
                deny_keepalive=self.deny_keepalive, max_connections=max_connections(),
            )  # fmt: skip
