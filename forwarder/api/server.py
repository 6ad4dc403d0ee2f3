"""Running a receiver: the thread between a socket and the routes, and what is logged about it.

A receiver is anything with `next(max_wait_ms) -> Intake | None`, `stop()` and `finished`: the native
`UdpReceiver` and `StreamServer`, or `forwarder.api.tls.TlsServer`.
"""

from __future__ import annotations

import resource
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Final, Protocol, runtime_checkable

from forwarder._native import (
    CompiledParser,
    EventBatch,
    Ingestor,
    Intake,
    MemoryLoan,
    StreamFeeder,
    StreamServer,
    UdpReceiver,
    python_parser,
)
from forwarder.api.errors import BufferOverflow
from forwarder.api.plugin import Input, Parser, Plugin, Record
from forwarder.api.shared_sections import Extract, Transport
from forwarder.api.sockets import DEFAULT_BACKLOG, Binding

if TYPE_CHECKING:
    import socket

MAX_WAIT_MS: Final = 1000
"""How long a receiver may sleep when nothing comes; kernel drops are read that often too."""
RETRY_SECONDS: Final = 0.2
"""Pause before events are offered again to a full buffer."""
STOP_SECONDS: Final = 5.0
"""How long a stopping input that can wait goes on offering events to a full buffer."""
DEFAULT_RECEIVE_BUFFER: Final = 32 << 20

MESSAGES: Final = {
    "unmatched": "pattern not matched",
    "no_priority": "invalid syslog message: no <PRI>",
    "no_time": "pattern not matched: no time",
    "invalid_time": "invalid time",
    "match_limit": "pattern took too long",
    "malformed": "message breaks the rules of its format",
    "limit": "message beyond a limit of the parser",
    "parser_error": "parser failed",
    "too_long": "message longer than message_length_limit, dropped",
    "bad_frame": "no octet count where one is expected, connection closed",
    "unterminated": "connection ended within a message",
    "line_limit": "received line length is longer than max_line_size, skipped",
    "text_limit": "text of several lines is longer than 16 MiB, cut",
    "no_first_line": "got incomplete line before first line",
    "read_error": "file cannot be read",
    "unfinished": "file ended within a line, which is dropped",
    "truncated_file": "file was truncated, reading from its start",
    "unread": "a part of the file went before it was read",
    "truncated": "message longer than message_length_limit, cut off",
    "denied": "anonymous client denied",
    "connection_limit": "no further connections",
    "tls_error": "TLS handshake or connection failed",
    "bad_message": "message is none of the forward protocol's, dropped",
    "broken_entries": "entries are not MessagePack, the rest of their message is dropped",
    "broken_stream": "not MessagePack (or JSON), connection closed",
    "chunk_size_limit": "chunk longer than chunk_size_limit, dropped",
    "chunk_size_warn_limit": "chunk longer than chunk_size_warn_limit",
    "decompress_error": "compressed chunk cannot be decompressed, connection closed",
    "decompression_size_limit": "compressed chunk is too large decompressed, connection closed",
    "handshake_timeout": "no handshake in time, connection closed",
    "invalid_event": "skipped an invalid event: no time or no map as record",
    "no_forward": "not the forward protocol (some other text), connection closed",
    "tls_on_plain": "TLS on a port without TLS, connection closed",
}

_LOGGED: Final = ("parser_error", "refused")
"""Logged with more details where it happened."""


class Receiver(Protocol):
    """What gives messages."""

    def next(self, max_wait_ms: int) -> Intake | None:
        """What has come, waiting at most so long for it."""

    def stop(self, *, keep: bool = False) -> None:
        """From any thread: gives what it has, then is finished. `keep`: its socket goes on elsewhere, and
        what waits in that is left there."""

    @property
    def finished(self) -> bool:
        """Whether everything was given after a stop."""


@runtime_checkable
class Borrower(Protocol):
    """A receiver that keeps unfinished messages."""

    def lend(self, loan: MemoryLoan) -> None:
        """They are borrowed from here on."""


class Reception:
    """The thread that hands on what a receiver takes in.

    Args:
        waits: the sender can wait (TCP): events are offered until the buffer takes them, and nothing is
            read meanwhile. Otherwise (UDP) what is refused is dropped and counted as `overflow` (the buffer
            is full) or `memory` (the process's budget is).
        emitted: called when all that the receiver gave last has been emitted.
        keeps: the sender has everything that was not emitted (a file): what a full buffer still refuses at a
            stop goes back to it.
    """

    def __init__(
        self, plugin: Input, receiver: Receiver, *, waits: bool, emitted: Callable[[], None] | None = None,
        keeps: bool = False,
    ) -> None:  # fmt: skip
        self._plugin = plugin
        self._receiver = receiver
        self._waits = waits
        self._emitted = emitted
        self._keeps = keeps
        self._gave_up = False
        self._loan: MemoryLoan | None = None
        if waits and isinstance(receiver, Borrower):
            self._loan = plugin.context.borrow(unfinished=True)
            receiver.lend(self._loan)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"in:{plugin.context.id}", daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Takes what the receiver still has, and ends the thread."""
        self._stopping.set()
        self._receiver.stop(keep=self._plugin.context.keeping_sockets)
        self._thread.join()

    def _run(self) -> None:
        receiver = self._receiver
        while not (receiver.finished or self._gave_up):
            if self._loan is not None and self._loan.full and not self._stopping.is_set():
                self._plugin.log_repeated("no memory is left, reading stopped until there is")
                self._stopping.wait(RETRY_SECONDS)
                continue
            try:
                intake = receiver.next(MAX_WAIT_MS)
            except OSError as error:
                self._plugin.log_repeated("receiving failed", level="error", error=str(error))
                if self._stopping.wait(1.0):
                    return
                continue
            if intake is not None:
                self._take(intake)

    def _take(self, intake: Intake) -> None:
        plugin, context = self._plugin, self._plugin.context
        drops = intake.kernel_drops
        context.received(intake.received + drops)
        if drops:
            context.drop(drops, "kernel_drop")
            plugin.log_repeated(
                "the kernel dropped datagrams: the receive buffer was full", count=drops, dropped=drops
            )
        for reason, count, sample in intake.failures:
            context.drop(count, reason)
            self._log(reason, count, sample)
        for reason, count, sample in intake.notices:
            self._log(reason, count, sample)
        if (not intake.batch or self._emit(intake.batch)) and self._emitted is not None:
            self._emitted()

    def _log(self, reason: str, count: int, sample: bytes) -> None:
        if reason in _LOGGED:
            return
        self._plugin.log_repeated(MESSAGES.get(reason, reason), count=count, data=_shown(sample))

    def _emit(self, batch: EventBatch) -> bool:
        plugin = self._plugin
        give_up: float | None = None
        while True:
            try:
                plugin.emit_batch(batch)
                return True
            except BufferOverflow as error:
                if self._stopping.is_set() and give_up is None:
                    give_up = time.monotonic() + STOP_SECONDS
                if self._keeps and give_up is not None and time.monotonic() >= give_up:
                    self._gave_up = True
                    plugin.context.received(-len(batch))
                    plugin.log_repeated("buffer full: what was read last is left for the next start")
                    return False
                if not self._waits or (give_up is not None and time.monotonic() >= give_up):
                    plugin.context.drop(len(batch), error.reason)
                    plugin.log_repeated(
                        "buffer full, events dropped", count=len(batch), dropped=len(batch), error=str(error)
                    )
                    return False
                plugin.log_repeated("buffer full, reading stopped until there is room", error=str(error))
                if self._stopping.wait(RETRY_SECONDS):
                    time.sleep(RETRY_SECONDS)  # stopping: the wait no longer waits
            except Exception as error:
                plugin.context.drop(len(batch), "emit_error")
                plugin.log_repeated(
                    "emitting failed, events dropped", level="error", count=len(batch), error=repr(error)
                )
                return False


def udp_receiver(
    plugin: Input,
    ingestor: Ingestor,
    bind: str,
    port: int,
    *,
    limit: int,
    receive_buffer_size: int | None,
    reuse_port: bool,
) -> UdpReceiver:
    """A receiver with a bound UDP socket. `limit`: longest message; `receive_buffer_size` None: what is good
    against loss.

    Warns where the kernel gave a smaller receive buffer than was asked for, and where it does not tell how
    many datagrams it drops. Raises OSError: the port cannot be had.
    """
    asked = receive_buffer_size or DEFAULT_RECEIVE_BUFFER
    bound = plugin.context.bind(Binding("udp", bind, port, receive_buffer_size=asked, reuse_port=reuse_port))
    try:
        receiver = UdpReceiver(ingestor, bound.socket.fileno(), message_length_limit=limit, drops=bound.drops)
        granted = bound.receive_buffer_size
    finally:
        bound.close()  # the receiver has descriptors of its own
    if granted < asked:
        plugin.log.warning(
            f"the kernel gave a receive buffer of {granted} bytes instead of {asked}: bursts are lost "
            f"sooner; raise the limit with: sysctl -w net.core.rmem_max={asked}"
        )
    if not receiver.counts_drops:
        plugin.log.warning(
            "the kernel does not tell how many datagrams it drops: such losses are not counted"
        )
    return receiver


class StreamReceiver(Receiver, Protocol):
    """A receiver with a port."""

    @property
    def port(self) -> int:
        """The bound port."""


def stream_receiver(
    plugin: Input,
    ingestor: Ingestor,
    transport: Transport,
    bind: str,
    port: int,
    *,
    delimiter: bytes | None,
    limit: int | None = None,
    keepalive: bool = False,
    allow: Sequence[str] | None = None,
    tls: bool | None = None,
    reuse_port: bool = False,
) -> StreamReceiver:
    """A server for TCP (native) or TLS, as `transport` says. `delimiter` None: octet counting (RFC 6587).

    Raises:
        OSError: the port cannot be had. ConfigError: the certificate cannot be used.
    """
    most = max_connections()
    if transport.protocol == "tls" if tls is None else tls:
        from forwarder.api.tls import TlsServer  # noqa: PLC0415 - ssl costs memory that plain TCP need not pay

        feeder = StreamFeeder(ingestor, delimiter=delimiter, limit=limit)
        return TlsServer(
            plugin, feeder, transport, bind, port, keepalive=keepalive, allow=allow, max_connections=most,
            reuse_port=reuse_port,
        )  # fmt: skip
    with listening(plugin, transport, bind, port, reuse_port=reuse_port) as listener:
        return StreamServer(
            ingestor, listener.fileno(), delimiter=delimiter, message_length_limit=limit,
            linger_timeout=transport.linger_timeout, keepalive=keepalive, allow=allow, max_connections=most,
        )  # fmt: skip


def listening(
    plugin: Plugin, transport: Transport | None, bind: str, port: int, *,
    reuse_port: bool = False, backlog: int | None = None,
) -> socket.socket:  # fmt: skip
    """A listening TCP socket with the receive buffer that `transport` says. Raises OSError."""
    size = None if transport is None else transport.receive_buffer_size
    backlog = DEFAULT_BACKLOG if backlog is None else backlog
    return plugin.context.bind(Binding("tcp", bind, port, backlog, size, reuse_port)).socket


def max_connections() -> int:
    """Connections of one server: what the limit of open files allows, with a reserve for everything else."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 100_000 if soft == resource.RLIM_INFINITY else max(16, min(100_000, soft * 3 // 4))


def message_ingestor(
    plugin: Input, parser: Parser, tag: str, extract: Extract | None, *, source_address_key: str | None,
    source_hostname_key: str | None, chomp: bool = False,
) -> Ingestor:  # fmt: skip
    """What makes events of the messages of a plain UDP or TCP input. `chomp`: take one line end off."""
    if extract is not None and extract.time_key is not None:
        plugin.log.warning("<extract> time_key has no effect: the parser gives every event a time")
    return Ingestor(
        receiver_parser(plugin, parser),
        tag,
        chomp=chomp,
        source_address_key=source_address_key,
        source_hostname_key=source_hostname_key,
        tag_key=extract.tag_key if extract is not None else None,
        keep_tag_key=extract.keep_tag_key if extract is not None else False,
    )


def receiver_parser(plugin: Plugin, parser: Parser) -> CompiledParser:
    """The parser as native code calls it, also where it is written in Python."""
    compiled = parser.compiled()
    if compiled is not None:
        return compiled

    def parse(text: bytes) -> Iterable[tuple[int | None, Record]]:
        try:
            return list(parser.parse(text))
        except Exception as error:
            parser.context.log_raised("parser raised", error)
            raise

    return python_parser(parse, bool(getattr(parser, "estimate_current_event", True)))


def check_certificate(transport: Transport) -> None:
    """Raises ConfigError where the TLS files and values of `transport` cannot be used."""
    from forwarder.api import tls_context, tls_generate  # noqa: PLC0415 - OpenSSL only where it is used

    if transport.generates:
        tls_context.check_fips(transport)
        tls_generate.check(transport)
    else:
        tls_context.server_context(transport)


def _shown(sample: bytes) -> str:
    return sample.decode("utf-8", "backslashreplace")
