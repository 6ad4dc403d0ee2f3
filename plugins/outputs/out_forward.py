"""`<match> @type forward`: sends events to Fluentd, Fluent Bit or another forwarder (Forward Protocol v1).

*Delivery*: with `require_ack_response`, at least once: a chunk leaves the buffer when a server has
acknowledged it, and goes to another server when its connection breaks or no ack comes in time. Without it,
at most once: what the kernel took counts as delivered, and is lost where the server dies with it. A memory
buffer's chunks are lost with the process.

A chunk's bytes are sent as they are (PackedForward): nothing is decoded or copied. What came compressed by
the method of `compress` goes on as it came (64 KiB of entries or more; memory buffer, no `<secondary>`).

*Differs from Fluentd*: the entries are sent as `bin`, which the specification asks for, rather than `str`. A
failed attempt tries every available server once. A server's address is looked up again after a connection
failed. A server with an address instead of a name has its certificate checked for that address. A standby
server takes over as soon as another one is unavailable for any reason. A chunk whose ack fails waits for
`retry_wait` like any other failed chunk; at most 64 chunks wait for acks at a time. SRV records with weight 0
get a small share instead of none. Host names are looked up at the start, not while the configuration is read.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from itertools import groupby
from threading import Lock
from typing import TYPE_CHECKING, Any, ClassVar, Final

from forwarder._native import integer_times
from forwarder.api import (
    Chunk,
    ConfigError,
    EventBatch,
    Output,
    array,
    boolean,
    duration,
    enum,
    files,
    integer,
    optional_section,
    sections,
    size,
    string,
)
from forwarder.api.forward_client import Connection, ForwardError, Link, ack_of, message
from forwarder.api.shared_sections import TLS_VERSIONS
from forwarder.plugins.outputs.forward.acks import AckReader
from forwarder.plugins.outputs.forward.balancer import LoadBalancer
from forwarder.plugins.outputs.forward.discovery import Discovery, Watcher, discovery
from forwarder.plugins.outputs.forward.heartbeat import Heartbeat
from forwarder.plugins.outputs.forward.node import Node, Settings
from forwarder.plugins.outputs.forward.sections import PORT, Security, Server, Service, ServiceDiscovery

if TYPE_CHECKING:
    from forwarder.api.tls_client import ClientTls

_ONLY_WINDOWS: Final = "certificate stores are a thing of Windows"
_MAGIC: Final = (0x1F, 0x28)
"""First bytes of gzip and zstd."""
_RATIO: Final = 16
"""A compressed chunk becomes at most so many times as long at the receiver."""


class ForwardOutput(Output):
    """Events to servers that speak the forward protocol."""

    multi_workers_ready = True

    transport = enum("The transport protocol.", ("tcp", "tls"), "tcp")
    servers = sections(Server, "A server.", name="server")
    service_discovery = sections(
        ServiceDiscovery, "Where to learn of more servers.", name="service_discovery"
    )
    security = optional_section(Security, "Who we are; the servers must ask for it.")

    send_timeout = duration("How long a server may take nothing.", 60.0)
    connect_timeout = duration(
        "How long connecting may take; not set: as long as the system tries, heartbeats 5 seconds.", None
    )

    heartbeat_type = enum(
        "How servers are watched: by connections (`transport`), by UDP, or not at all. `tcp`: `transport`.",
        ("transport", "tcp", "udp", "none"),
        "transport",
    )
    heartbeat_interval = duration("Time between heartbeats.", 1.0)
    recover_wait = duration("How long a server must be heard of again before it gets chunks.", 10.0)
    hard_timeout = duration("Silence after which a server counts as failed; limit of a handshake.", 60.0)
    phi_threshold = integer("How unlikely a silence must be, as -log10, to count as failure.", 16)
    phi_failure_detector = boolean("Judge silence by how regular the heartbeats were.", True)

    require_ack_response = boolean("Count a chunk as delivered when a server says that it has it.", False)
    ack_response_timeout = duration("How long an ack is waited for.", 190.0)

    read_interval_msec = integer("No effect: nothing is polled.", 50)
    read_length = size("No effect: answers are read as they come.", 512)

    expire_dns_cache = duration(
        "How long an address is kept; not set: until the server fails, 0: for one connection.", None
    )
    dns_round_robin = boolean("Take any of a name's addresses rather than the first.", False)
    ignore_network_errors_at_startup = boolean("Start although a server's name is not known.", False)
    verify_connection_at_startup = boolean("Do not start unless every server accepts a connection.", False)

    compress = enum("Compression of what is sent: `text` is none.", ("text", "gzip", "zstd"), "text")
    time_as_integer = boolean("Times in whole seconds, for servers older than Fluentd 0.14.", False)

    tls_version = enum("The one TLS version that is spoken.", TLS_VERSIONS, "TLSv1_2")
    tls_ciphers = string("OpenSSL's cipher list for TLS up to 1.2.", "ALL:!aNULL:!eNULL:!SSLv2")
    tls_insecure_mode = boolean("Accept every certificate.", False)
    tls_allow_self_signed_cert = boolean(
        "Check the signature of a self-signed certificate too. One that tls_cert_path names is accepted "
        "either way, one that it does not name never.",
        False,
    )
    tls_verify_hostname = boolean("The certificate must be one for the server's name or address.", True)
    tls_ca_cert_path = array("Authorities besides the system's (PEM).", None, of="string")
    tls_cert_path = array("The same; counts instead of tls_ca_cert_path.", None, of="string")
    tls_client_cert_path = string("Our certificate, followed by its chain (PEM).", None)
    tls_client_private_key_path = string("Its private key (PEM).", None)
    tls_client_private_key_passphrase = string("Passphrase of that key.", None, secret=True)
    tls_cert_thumbprint = string("Thumbprint.", None, secret=True, unsupported=_ONLY_WINDOWS)
    tls_cert_logical_store_name = string("Store.", None, unsupported=_ONLY_WINDOWS)
    tls_cert_use_enterprise_store = boolean("Kind of store.", True, unsupported=_ONLY_WINDOWS)

    keepalive = boolean("Keep connections for the next chunks.", False)
    keepalive_timeout = duration("How long an unused connection is kept; not set: as long as it lasts.", None)
    send_keepalive_packet = boolean("Have the system look whether kept connections are alive.", False)

    host = string("Old form of <server>.", None, obsolete="use a <server> section")
    port = integer("Old form of <server>.", PORT, obsolete="use a <server> section")

    flat_buffer: ClassVar[bool] = True
    buffer_defaults: ClassVar[Mapping[str, Any]] = {"chunk_keys": ["tag"]}

    # ------------------------------------------------------------ configuration

    def configure(self) -> None:
        if not self._keys().tag:
            raise ConfigError("buffer chunk key must include 'tag' for forward output", param="buffer")
        if self.heartbeat_type == "tcp":
            self.log.warning("heartbeat_type tcp is deprecated: it counts as transport")
        self._check()
        self.prefer_delayed_commit = self.require_ack_response
        if self.require_ack_response:
            # ours comes first; the buffer's is the safety net
            self.buffer.delayed_commit_timeout = self.ack_response_timeout + 2
        self._pack: Callable[[files.Blocks], files.Blocks] = files.packer(self.compress)
        # Payloads that came compressed go on as they are. A chunk that others read holds plain entries.
        self._relays = self.compress != "text" and self.buffer.type == "memory" and self.secondary is None
        self._settings = self._make_settings()
        self._services = [server.service() for server in self.servers]
        self._discoveries: list[Discovery] = []
        self._discovered: dict[int, list[Service]] = {}
        for section in self.service_discovery:
            if section.type == "static":
                self._services += [server.service() for server in section.services]
                continue
            found = discovery(section)
            self._discovered[len(self._discoveries)] = (
                (found.services() or []) if section.type == "file" else []
            )
            self._discoveries.append(found)
        if not self._services and not self._discoveries:
            raise ConfigError("at least one server is required: add <server> or <service_discovery>")
        self._lock = Lock()
        self._nodes: dict[Service, Node] = {}
        self._heartbeats: dict[Service, Heartbeat] = {}
        self._watchers: list[Watcher] = []
        self._acks: AckReader | None = None
        self._balancer: LoadBalancer[Node] = LoadBalancer(self.log)
        self._running = False

    def _check(self) -> None:
        if self.dns_round_robin and self.heartbeat_type == "udp":
            raise ConfigError(
                "heartbeat_type must be transport or none to use dns_round_robin", param="heartbeat_type"
            )
        if self.send_keepalive_packet and not self.keepalive:
            raise ConfigError("send_keepalive_packet needs keepalive true", param="send_keepalive_packet")
        if self.keepalive_timeout is not None and not self.keepalive:
            self.log.warning("keepalive_timeout is ignored without keepalive true")
        if self.ack_response_timeout < 1:
            raise ConfigError("ack_response_timeout must be at least 1 second", param="ack_response_timeout")
        if self.heartbeat_interval <= 0:
            raise ConfigError("heartbeat_interval must be greater than 0", param="heartbeat_interval")

    def _make_settings(self) -> Settings:
        link = Link(
            connect_timeout=self.connect_timeout,
            send_timeout=self.send_timeout,
            linger_timeout=int(self.send_timeout),
            handshake_timeout=self.hard_timeout,
            keepalive_packets=self.send_keepalive_packet,
        )
        return Settings(
            link,
            tls=self._tls() if self.transport == "tls" else None,
            self_hostname=None if self.security is None else self.security.self_hostname,
            shared_key="" if self.security is None else self.security.shared_key,
            detects=self.heartbeat_type != "none",
            heartbeat_interval=self.heartbeat_interval,
            hard_timeout=self.hard_timeout,
            phi_threshold=self.phi_threshold if self.phi_failure_detector else None,
            recover_samples=self.recover_wait / self.heartbeat_interval,
            keepalive=self.keepalive,
            keepalive_timeout=self.keepalive_timeout,
            dns_round_robin=self.dns_round_robin,
            expire_dns_cache=self.expire_dns_cache,
        )

    def _tls(self) -> ClientTls:
        from forwarder.api.tls_client import ClientTls, TlsOptions  # noqa: PLC0415 - loads OpenSSL

        authorities = self.tls_cert_path or self.tls_ca_cert_path or []
        param = "tls_cert_path" if self.tls_cert_path else "tls_ca_cert_path"
        for path in authorities:
            if not os.access(path, os.R_OK):
                why = "is not readable" if os.path.exists(path) else "does not exist"
                raise ConfigError(f"certificate {path} {why}", param=param)
        if self.tls_insecure_mode:
            self.log.warning("TLS accepts every certificate (tls_insecure_mode)")
        return ClientTls(
            TlsOptions(
                version=self.tls_version, ciphers=self.tls_ciphers, insecure=self.tls_insecure_mode,
                verify_hostname=self.tls_verify_hostname, check_self_signed=self.tls_allow_self_signed_cert,
                ca_paths=authorities, ca_param=param, cert_path=self.tls_client_cert_path,
                key_path=self.tls_client_private_key_path, passphrase=self.tls_client_private_key_passphrase,
            )
        )  # fmt: skip

    # ------------------------------------------------------------ life

    def start(self) -> None:
        for number, each in enumerate(self._discoveries):
            try:
                found = each.services()
            except OSError as error:
                if not self.ignore_network_errors_at_startup:
                    raise ConfigError(str(error)) from None
                self.log.warning("service discovery failed at the start", error=error)
                continue
            if found is not None:
                self._discovered[number] = found
        self._running = True
        self._apply(strict=not self.ignore_network_errors_at_startup)
        if self.verify_connection_at_startup:
            for node in self._nodes.values():
                try:
                    node.connect().close()
                except (OSError, ForwardError) as error:
                    raise ConfigError(f"verify_connection_at_startup: {error}") from None
        if self.require_ack_response:
            self._acks = AckReader(self.ack_response_timeout, self.commit, self.rollback, self.log)
        for number, each in enumerate(self._discoveries):
            self._watchers.append(Watcher(each, self._taker(number), self._complain))

    def close(self) -> None:
        self._running = False
        for watcher in self._watchers:
            watcher.stop()
        for heartbeat in self._heartbeats.values():
            heartbeat.stop()
        if self._acks is not None:
            self._acks.stop()
        for node in self._nodes.values():
            node.close()

    # ------------------------------------------------------------ servers

    def _taker(self, number: int) -> Callable[[list[Service]], None]:
        def take(services: list[Service]) -> None:
            self._discovered[number] = services
            self._apply(strict=False)

        return take

    def _complain(self, text: str) -> None:
        self.log_repeated(f"service discovery: {text}", level="error")

    def _apply(self, *, strict: bool) -> None:
        """Makes nodes for new servers and closes those of servers that are gone. Raises ConfigError where
        `strict` and a server's name is not known."""
        wanted = dict.fromkeys([*self._services, *(s for found in self._discovered.values() for s in found)])
        for service in wanted:
            if service not in self._nodes:
                self._add(service, strict=strict)
        gone = [service for service in self._nodes if service not in wanted]
        for service in gone:
            self.log.info("server is gone", server=self._nodes[service].name)
        with self._lock:
            closed = [self._nodes.pop(service) for service in gone]
            stopped = [beat for service in gone if (beat := self._heartbeats.pop(service, None)) is not None]
        for heartbeat in stopped:
            heartbeat.stop()
        self._rebalance()
        for node in closed:
            node.close()

    def _add(self, service: Service, *, strict: bool) -> None:
        node = Node(service, self._settings, self.log, self._rebalance)
        self.log.info("forwarding server", server=node.name, weight=node.weight, standby=node.standby)
        if self._settings.detects:
            try:
                node.resolve()
            except OSError as error:
                if strict:
                    raise ConfigError(f"server {node.name}: {error}") from None
                node.disable(str(error))
        with self._lock:
            self._nodes[service] = node
            if self._settings.detects:
                udp = self.heartbeat_type == "udp"
                self._heartbeats[service] = Heartbeat(node, self._settings, self.log, udp=udp)

    def _rebalance(self) -> None:
        with self._lock:
            nodes = list(self._nodes.values())
        if self._running:
            self._balancer.rebalance(nodes)

    def statistics(self) -> Mapping[str, int]:
        """As Fluentd's."""
        with self._lock:
            nodes = list(self._nodes.values())
        healthy = sum(node.available for node in nodes)
        return {"healthy_nodes_count": healthy, "registered_nodes_count": len(nodes)}

    # ------------------------------------------------------------ chunks

    def format_batch(self, batch: EventBatch) -> bytes | None:
        if self.time_as_integer:
            return integer_times(batch)
        packed = batch.packed(self.compress) if self._relays else None
        # what is packed extremely well would become a message that receivers refuse for its size
        return packed if packed is not None and batch.nbytes <= _RATIO * len(packed) else None

    def write(self, chunk: Chunk) -> None:
        node, connection = self._send(chunk, None)
        node.give_back(connection)

    def try_write(self, chunk: Chunk) -> None:
        acks = self._acks
        if acks is None:
            raise ForwardError("not started")
        acks.room()
        node, connection = self._send(chunk, ack_of(chunk.id))
        acks.expect(connection, node, chunk.id)

    def _packed(self, blocks: files.Blocks) -> files.Blocks:
        """The blocks compressed, except for those that came so."""
        runs = [(packed, list(run)) for packed, run in groupby(blocks, key=_is_packed)]
        return [piece for packed, run in runs for piece in (run if packed else self._pack(run))]

    def _send(self, chunk: Chunk, ack: str | None) -> tuple[Node, Connection]:
        """Sends a chunk to the next server that takes it. Raises OSError, ForwardError: none does."""
        blocks = chunk.blocks()
        blocks = self._packed(blocks) if self._relays else self._pack(blocks)
        pieces = message(chunk.key.tag or "", blocks, chunk.count, ack=ack, compressed=self.compress)
        last: Exception | None = None
        for node in self._balancer.candidates():
            try:
                connection = node.send(pieces)
            except (OSError, ForwardError) as error:
                if last is not None:
                    self.log_repeated(f"cannot send to a server: {last}")
                last = error
                continue
            node.alive(recovers=False)
            if last is not None:
                self.log_repeated(f"cannot send to a server, another one has the chunk: {last}")
            return node, connection
        raise last or ForwardError("no nodes are available")


def _is_packed(block: bytes) -> bool:
    """Whether a block is compressed: neither gzip nor zstd begins as an entry does, with an array."""
    return block[0] in _MAGIC
