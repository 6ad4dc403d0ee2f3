"""`forwarder cat`: sends standard input as events, as fluent-cat does, and knows whether they arrived."""

from __future__ import annotations

import argparse
import json
import os
import select
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from forwarder._native import EventBatch, EventStream, integer_times, msgpack_unpack
from forwarder.api.errors import ConfigError
from forwarder.api.forward_client import (
    Connection,
    Credentials,
    ForwardError,
    Link,
    ack_of,
    connect,
    connect_unix,
    message,
)
from forwarder.api.tls_client import TlsOptions

HELP = "send standard input as events"

_READ_BYTES: Final = 65_536
_BATCH_EVENTS: Final = 1000
_BATCH_BYTES: Final = 1 << 20
_LINGER_SECONDS: Final = 0.05
"""How long an event waits for others to come."""
_UNACKNOWLEDGED: Final = 16
"""Messages that may wait for their ack; then standard input waits."""
_RETRY_SECONDS: Final = 1.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command line."""
    parser.add_argument("tag", help="tag of the events")
    where = parser.add_argument_group("where to")
    where.add_argument("--host", default="127.0.0.1", help="server (default: 127.0.0.1)")
    where.add_argument("-p", "--port", type=int, default=24224, help="its port (default: 24224)")
    where.add_argument("-u", "--unix", action="store_true", help="use a Unix-domain socket instead")
    where.add_argument(
        "-s",
        "--socket",
        metavar="PATH",
        default="/var/run/fluent/fluent.sock",
        help="its path (default: %(default)s)",
    )
    where.add_argument(
        "--ack", action=argparse.BooleanOptionalAction, default=None,
        help="ask for acknowledgements (default: yes, but not with --unix, where Fluentd gives none)",
    )  # fmt: skip
    where.add_argument(
        "--ack-timeout",
        metavar="SECONDS",
        type=float,
        default=60.0,
        help="longest wait for one (default: 60)",
    )
    where.add_argument(
        "--retry-limit", metavar="N", type=int, default=5, help="connections tried in a row (default: 5)"
    )
    what = parser.add_argument_group("what is sent")
    what.add_argument(
        "-f", "--format", choices=("json", "msgpack", "none"), default="json",
        help="json: an object a line (default); none: a text a line; msgpack: maps, or entries [time, map]",
    )  # fmt: skip
    for name in ("json", "msgpack", "none"):
        what.add_argument(
            f"--{name}", dest="format", action="store_const", const=name, help=f"same as: -f {name}"
        )
    what.add_argument(
        "--message-key", metavar="KEY", default="message", help="field for a text (default: message)"
    )
    what.add_argument("--time-as-integer", action="store_true", help="times in whole seconds")
    what.add_argument("--event-time", metavar="TIME", help="time of all events, ISO 8601 (default: now)")
    who = parser.add_argument_group("security")
    who.add_argument(
        "--shared-key", metavar="KEY", default=os.environ.get("FORWARDER_SHARED_KEY"),
        help="key of the server's <security> section; FORWARDER_SHARED_KEY does not show in a process list",
    )  # fmt: skip
    who.add_argument("--self-hostname", metavar="NAME", help="our name (default: the machine's)")
    who.add_argument("--user", default="", help="user name, where the server asks for one")
    who.add_argument(
        "--password",
        default=os.environ.get("FORWARDER_PASSWORD", ""),
        help="its password; better set FORWARDER_PASSWORD",
    )
    who.add_argument("--tls", action="store_true", help="use TLS")
    who.add_argument(
        "--tls-ca", metavar="FILE", action="append", default=[], help="authority besides the system's"
    )
    who.add_argument("--tls-cert", metavar="FILE", help="our certificate")
    who.add_argument("--tls-key", metavar="FILE", help="its private key")
    who.add_argument(
        "--tls-name", metavar="NAME", help="name in the server's certificate (default: the host)"
    )
    who.add_argument("--tls-insecure", action="store_true", help="accept every certificate")


def run(args: argparse.Namespace) -> int:
    """Sends until the end of standard input; 1 if anything was not understood or not acknowledged."""
    sender = Sender(args)
    source = Source(args)
    stdin = sys.stdin.fileno()
    try:
        for data in _reads(stdin):
            if data is None:
                sender.flush()
                continue
            for entry in source.feed(data):
                sender.add(entry)
        for entry in source.finish():
            sender.add(entry)
        sender.finish()
    except (ForwardError, OSError) as error:
        _complain(str(error))
    finally:
        sender.close()
    if sender.open_events:
        done = "acknowledged" if sender.acks else "sent"
        _complain(f"{sender.open_events} of {sender.events} events were not {done}")
    return 1 if sender.open_events or source.failures else 0


def _complain(text: str) -> None:
    print(f"forwarder cat: {text}", file=sys.stderr, flush=True)


def _reads(fd: int) -> Iterator[bytes | None]:
    """What comes; None where nothing more came for a moment."""
    fresh = False
    while True:
        if fresh and not select.select([fd], [], [], _LINGER_SECONDS)[0]:
            fresh = False
            yield None
        data = os.read(fd, _READ_BYTES)
        if not data:
            return
        fresh = True
        yield data


class Source:
    """Takes standard input apart into entries; what is wrong is named with its line."""

    def __init__(self, args: argparse.Namespace) -> None:
        """Raises ConfigError: a time that is none."""
        self.failures = 0
        self._key = args.message_key
        self._integer = args.time_as_integer
        self._time_ns = None if args.event_time is None else _time_ns(args.event_time)
        self._line = 0
        self._rest = b""
        self._broken = False
        self._is_packed = args.format == "msgpack"
        self._record = self._json if args.format == "json" else self._text

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The entries that `data` completes."""
        return self._packed(data) if self._is_packed else self._lines(data)

    def finish(self) -> Iterator[bytes]:
        """The entry of a last line without line end."""
        rest, self._rest = self._rest, b""
        if rest and self._is_packed:
            self._wrong("the input ends inside a MessagePack value")
        elif rest:
            yield from self._entry(rest)

    def _lines(self, data: bytes) -> Iterator[bytes]:
        *lines, self._rest = (self._rest + data).split(b"\n") if b"\n" in data else (self._rest + data,)
        for line in lines:
            yield from self._entry(line)

    def _entry(self, line: bytes) -> Iterator[bytes]:
        self._line += 1
        try:
            record = self._record(line)
            if record is not None:
                stream = EventStream.from_events([(self._now(), record)])
                yield self._finished(bytes(stream))
        except (ValueError, TypeError, OverflowError, RecursionError) as error:
            self._wrong(f"line {self._line}: {error}")

    def _json(self, line: bytes) -> dict[str, Any] | None:
        if not line.strip():
            return None
        record = json.loads(line, parse_constant=_no_constant)
        if not isinstance(record, dict):
            raise ValueError(f"expected a JSON object, but got {line[:60].decode(errors='replace')}")
        return record

    def _text(self, line: bytes) -> dict[str, Any]:
        line = line.removesuffix(b"\r")
        try:
            return {self._key: line.decode()}
        except UnicodeDecodeError:
            return {self._key: line}

    def _packed(self, data: bytes) -> Iterator[bytes]:
        self._rest += data
        while self._rest and not self._broken:
            try:
                found = msgpack_unpack(self._rest)
            except ValueError as error:
                self._wrong(f"after {self._line} values: {error}; the rest cannot be read")
                self._broken = True
                break
            if found is None:
                return
            value, size = found
            raw, self._rest = self._rest[:size], self._rest[size:]
            self._line += 1
            try:
                if isinstance(value, dict):
                    # an entry with an empty record, and this map in place of that one
                    yield self._finished(bytes(EventStream.from_events([(self._now(), {})]))[:-1] + raw)
                else:
                    yield self._finished(bytes(EventStream(raw)))
            except ValueError as error:
                self._wrong(f"value {self._line}: expected a map or an entry [time, map]: {error}")
        if self._broken:
            self._rest = b""

    def _now(self) -> int:
        return time.time_ns() if self._time_ns is None else self._time_ns

    def _finished(self, entry: bytes) -> bytes:
        return integer_times(EventBatch([("", EventStream(entry))])) if self._integer else entry

    def _wrong(self, text: str) -> None:
        self.failures += 1
        _complain(text)


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _time_ns(text: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise ConfigError(f"--event-time: {error}") from None
    whole = moment.replace(microsecond=0)
    seconds = int((whole if whole.tzinfo else whole.astimezone()).astimezone(UTC).timestamp())
    return seconds * 10**9 + moment.microsecond * 1000


class _Sent(NamedTuple):
    ack: str
    pieces: list[bytes]
    events: int


class Sender:
    """Sends batches over one connection, some of them before the acks of the earlier ones; what was not
    acknowledged when a connection breaks is sent again over the next one."""

    def __init__(self, args: argparse.Namespace) -> None:
        """Raises ConfigError: certificate files that cannot be used."""
        self.acks: bool = not args.unix if args.ack is None else args.ack
        self.events = 0
        self._args = args
        self._link = Link(connect_timeout=10.0, linger_timeout=60, handshake_timeout=10.0)
        self._tls = None
        if args.tls:
            options = TlsOptions(insecure=args.tls_insecure, ca_paths=args.tls_ca,
                                 cert_path=args.tls_cert, key_path=args.tls_key)  # fmt: skip
            self._tls = options.context()
        self._credentials = None
        if args.shared_key is not None:
            name = args.self_hostname or socket.gethostname()
            self._credentials = Credentials(name, args.shared_key, args.user, args.password)
        self._connection: Connection | None = None
        self._failures = 0  # in a row
        self._entries: list[bytes] = []
        self._size = 0
        self._sent: deque[_Sent] = deque()

    @property
    def open_events(self) -> int:
        """Events that did not arrive so far, as far as we know."""
        return len(self._entries) + sum(sent.events for sent in self._sent)

    def add(self, entry: bytes) -> None:
        """Takes an entry. Raises OSError, ForwardError: the server cannot be reached, or refuses us."""
        self.events += 1
        self._entries.append(entry)
        self._size += len(entry)
        if len(self._entries) >= _BATCH_EVENTS or self._size >= _BATCH_BYTES:
            self.flush()

    def flush(self) -> None:
        """Sends what was gathered. Raises as `add`."""
        if self._entries:
            ack = ack_of(os.urandom(16))
            pieces = message(
                self._args.tag, [b"".join(self._entries)], len(self._entries), ack=ack if self.acks else None
            )
            self._sent.append(_Sent(ack, pieces, len(self._entries)))
            self._entries, self._size = [], 0
            self._persist(lambda connection: self._write(connection, self._sent[-1]))
        self._collect(_UNACKNOWLEDGED)

    def finish(self) -> None:
        """Sends the rest and waits for all acks. Raises as `add`."""
        self.flush()
        self._collect(1)

    def close(self) -> None:
        """Closes the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _persist(self, step: Callable[[Connection], None]) -> None:
        """Does `step`; where the connection breaks, all that is open goes over a new one instead."""
        if self._connection is not None:
            try:
                step(self._connection)
                return
            except (ForwardError, OSError) as error:
                self._broken(error)
        while True:
            try:
                self._reconnect()
                return
            except OSError as error:
                self._broken(error)

    def _broken(self, error: Exception) -> None:
        """Waits before the next try, or raises `error` where there were enough."""
        self.close()
        self._failures += 1
        if self._failures > self._args.retry_limit:
            raise error
        _complain(f"{error}; trying again")
        time.sleep(_RETRY_SECONDS)

    def _reconnect(self) -> None:
        """Raises ForwardError where trying again is no use, else OSError."""
        args = self._args
        if args.unix:
            connection = connect_unix(args.socket, self._link, credentials=self._credentials)
        else:
            connection = connect(
                args.host, args.port, self._link, tls=self._tls, name=args.tls_name,
                credentials=self._credentials,
            )  # fmt: skip
        self._connection = connection
        for sent in list(self._sent):
            self._write(connection, sent)

    def _write(self, connection: Connection, sent: _Sent) -> None:
        connection.send(sent.pieces)
        if not self.acks:
            self._sent.remove(sent)
            self._failures = 0

    def _collect(self, limit: int) -> None:
        """Reads acks until fewer than `limit` messages wait for one."""
        while len(self._sent) >= limit:
            self._persist(self._answer)

    def _answer(self, connection: Connection) -> None:
        value = connection.answer(self._args.ack_timeout)
        ack = value.get("ack") if isinstance(value, dict) else None
        for sent in self._sent:
            if ack in (sent.ack, sent.ack.encode()):
                self._sent.remove(sent)
                self._failures = 0
                return
        raise ForwardError(f"{connection.peer} acknowledges what was not sent: {ack!r}")
