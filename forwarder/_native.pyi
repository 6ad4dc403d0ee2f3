"""The native crate as Python sees it; `tests/unit/test_native_stub.py` compares it with the module."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, final

@final
class EventStream:
    """One tag's events as bytes: concatenated MessagePack entries `[time, record]`. Immutable."""

    def __new__(cls, data: bytes | None = None) -> EventStream:
        """From the payload of the forward protocol's PackedForward mode, which is checked.

        Raises:
            ValueError: names the byte at which the stream is broken.
        """
    @staticmethod
    def from_events(events: Iterable[tuple[int, dict[str, Any]]]) -> EventStream:
        """From (time_ns, record). Raises TypeError, OverflowError for what MessagePack cannot hold."""
    def __len__(self) -> int: ...
    def __bytes__(self) -> bytes: ...
    def __iter__(self) -> Iterator[tuple[int, dict[str, Any]]]: ...
    def __add__(self, other: EventStream) -> EventStream: ...
    @property
    def nbytes(self) -> int: ...

@final
class EventBatch:
    """Events of one or several tags as one buffer, in order of arrival. Immutable."""

    def __new__(cls, streams: Sequence[tuple[str, EventStream]]) -> EventBatch: ...
    @staticmethod
    def concat(batches: Sequence[EventBatch]) -> EventBatch: ...
    def __len__(self) -> int: ...
    def __bool__(self) -> bool: ...
    def __bytes__(self) -> bytes: ...
    @property
    def nbytes(self) -> int: ...
    @property
    def tags(self) -> tuple[str, ...]:
        """The distinct tags, in order of first appearance."""
    def streams(self) -> list[tuple[str, EventStream]]:
        """Runs of one tag, in order of arrival."""
    def packed(self, method: str) -> bytes | None:
        """The entries compressed by `method` ("gzip", "zstd"), where they came so and are unchanged."""
    def slice(self, start: int, stop: int) -> EventBatch:
        """The events from `start` up to `stop`."""

@final
class BodyReader:
    """Reads bodies of requests, and what commands write. For any number of threads."""

    def __new__(
        cls,
        parser: CompiledParser,
        *,
        time_key: str | None = None,
        keep_time_key: bool = False,
        time: dict[str, Any] | None = None,
        tag_key: str | None = None,
        keep_tag_key: bool = False,
        tag_prefix: str = "",
    ) -> BodyReader:
        """`time_key`: the field with the time of records for which the parser gives none. `time`: how it is
        written, as `CommonParser.options()` gives it; None: a number of seconds. `tag_key`: the field that
        becomes the tag, behind `tag_prefix`.

        Raises:
            ValueError: (message, parameter) for a time format that cannot be used.
        """
    def read(
        self,
        form: str,
        body: bytes,
        tag: str,
        time_ns: int | None = None,
        added: dict[str, Any] | None = None,
    ) -> Intake:
        """The events of a body. Releases the GIL.

        `form`: "text" for the parser, "lines" (one text a line), "msgpack" (maps, or arrays of them).
        `time_ns`: the time of all events. `added`: fields that every record gets.

        Raises:
            ValueError: (message, reason): the body is refused as a whole.
        """
    def feed(self, sequence: str, data: bytes, tag: str | None, last: bool) -> tuple[Intake, int]:
        """The events of what is complete in the data of a stream, and how many bytes that was. Releases the
        GIL.

        `sequence`: "lines" (one text a line), "json", "msgpack" (values one after the other), "whole" (the
        stream is one text). `tag`: of events that have none of their own; None: such ones fail ("no_tag").
        `last`: nothing follows.
        """

@final
class ArchiveReader:
    """Reads the lines of one archived object as events. For one thread."""

    def __new__(
        cls,
        *,
        time_key: str,
        tag_key: str,
        keep_keys: bool = False,
        default_tag: str | None = None,
        time_format: str | None = None,
        zone: str | None = None,
        from_ns: int | None = None,
        to_ns: int | None = None,
        grep: Sequence[str] = (),
        skip: int = 0,
    ) -> ArchiveReader:
        """Lines are `TIME<delimiter>TAG<delimiter>{record}`, or records with the fields `time_key` and
        `tag_key`, which `keep_keys` leaves there. `default_tag`: for lines without one. `time_format`:
        strptime directives instead of numbers and common forms, with `zone` (None: the machine's) for texts
        without one. Events from `from_ns` up to `to_ns` (nanoseconds since the epoch) whose line matches all
        Ruby regexps in `grep`. `skip`: lines at the start to read over.

        Raises:
            ValueError: a format, zone or regexp that cannot be used.
        """
    def feed(self, data: bytes) -> EventBatch:
        """The events of the lines that `data` completes. Releases the GIL."""
    def finish(self) -> EventBatch:
        """The event of a last line without a line end."""
    @property
    def lines(self) -> int:
        """Lines so far, those read over included."""
    @property
    def outside(self) -> int:
        """Events outside of the times asked for."""
    @property
    def unmatched(self) -> int:
        """Events that `grep` does not match."""
    @property
    def whole_seconds(self) -> int:
        """Events whose time has no fraction of a second."""
    @property
    def failures(self) -> list[tuple[str, int, int, bytes]]:
        """(reason, count, number of the first line, its start) of lines that gave no event: "no_time",
        "no_tag", "invalid_time", "unmatched" (no such layout), "limit" (too long), "match_limit"."""

@final
class BulkEncoder:
    """Makes Elasticsearch bulk requests of chunks. For any number of threads."""

    def __new__(cls, options: dict[str, Any]) -> BulkEncoder:
        """What holds for all chunks, by the names of the plugin's parameters in Fluentd: write_operation,
        logstash_format, utc_index, include_timestamp, time_precision, time_key, time_key_format,
        time_key_exclude_timestamp, id_key, parent_key, routing_key, suppress_doc_wrap, include_index_in_url;
        as lists remove_keys, remove_keys_on_update, target_index_key and target_type_key (split at dots);
        remove_keys_on_update_key; only where they are switched on tag_key, chunk_id_key,
        flatten_hashes_separator. And routing_name ("_routing" before version 7), with_type (the action line
        has a `_type`), deterministic_id (events without an id get one that is the same at every retry),
        index_template (text with `${...}` and a tag's delimiter: the index, or with logstash_format what
        stands before `index` and the date). None and absent: the default.

        Raises:
            ValueError: an unknown option or value, a broken accessor or time format.
        """
    def encode(
        self,
        data: bytes | Iterable[bytes],
        *,
        tag: str | None,
        index: str,
        date_format: str = "%Y.%m.%d",
        type_name: str | None = None,
        pipeline: str | None = None,
        chunk_id: bytes | None = None,
        limit_bytes: int = -1,
        known: dict[str, str] | None = None,
    ) -> BulkRequests:
        """A chunk's entries, as one piece or as its blocks. Releases the GIL.

        `index`: with logstash_format what stands before the date, separator included. `chunk_id`: goes into
        deterministic ids and `chunk_id_key`. `limit_bytes`: longest body, but for an event that is longer
        alone; negative: no limit. `known`: index by id (as text) of documents that stay where they are.

        Raises:
            TypeError: `data` is neither bytes nor blocks of bytes.
        """

    def ids(self, data: bytes | Iterable[bytes]) -> list[str]:
        """What `id_key` gives for a chunk's entries, as text, each once."""

@final
class BulkRequests:
    """What became of a chunk. Immutable."""

    @property
    def bulks(self) -> list[Bulk]:
        """The requests, in order; none for no events."""
    @property
    def indices(self) -> list[str]:
        """The indices that they are for, each once."""
    @property
    def refused(self) -> list[tuple[str, EventStream]]:
        """Events that cannot be sent: "missing_id", "bad_id", "bad_routing", "bad_parent", "bad_index" (the
        field's value is none), "bad_remove_keys", "malformed"."""
    @property
    def time_errors(self) -> EventStream:
        """Events for `time_parse_error_tag`: what was no time. The events themselves are in the requests."""
    @property
    def unreadable_bytes(self) -> int:
        """Bytes that are no event stream, and those behind them in the same block."""
    def with_equals(self, bulks: Sequence[Bulk]) -> EventStream:
        """The chunk's events that are in `bulks` or equal to one that is, in order.

        A deterministic id counts how many equal events stood before it in the chunk. Where a part of a chunk
        is to be encoded again without the others, this keeps the ids as they were."""

@final
class Bulk:
    """One bulk request. Has the buffer protocol: can be sent as it is, without a copy. Immutable."""

    @property
    def body(self) -> bytes:
        """The body, copied."""
    @property
    def nbytes(self) -> int: ...
    @property
    def index(self) -> str | None:
        """The index for the URL, with include_index_in_url."""
    def __len__(self) -> int:
        """The number of items."""
    def __buffer__(self, flags: int, /) -> memoryview: ...
    def entries(self, indices: Sequence[int]) -> EventStream:
        """The events that items were made of. Raises IndexError."""
    def only(self, indices: Sequence[int]) -> Bulk:
        """A request of some of the items, with the ids they have. Raises IndexError."""

@final
class BulkGroups:
    """Divides chunks by what templates give for their events. For any number of threads."""

    def __new__(cls, templates: Sequence[str], delimiter: str) -> BulkGroups:
        """`templates`: texts with `${...}`, of which `record['a']['b']`, `tag`, `tag_parts[1]`,
        `Time.at(time).strftime('%Y')`, `||` and `downcase` are known; `delimiter`: of the tag's parts.

        Raises:
            ValueError: the expression that is not.
        """
    def divide(
        self, data: bytes | Iterable[bytes], tag: str | None
    ) -> tuple[list[tuple[list[str], EventStream]], EventStream]:
        """Groups of events with the texts that they have in common, and those for which a template gives
        nothing."""

@final
class BulkOutcome:
    """What the answer to a bulk request says. Immutable."""

    @property
    def took_ms(self) -> int | None: ...
    @property
    def duplicates(self) -> int:
        """Items of `create` whose id was there already: no failures."""
    @property
    def failures(self) -> list[tuple[int, str, str, str | None, list[int]]]:
        """Items that failed, by status, type and field: (HTTP status or 0, the server's error type, reason of
        the first one with its causes, field that the reason names, numbers of the items from 0)."""

def parse_bulk_response(body: bytes, sent: int) -> BulkOutcome:
    """The answer to a request of `sent` items. Without errors it is not read further than to say so.

    Raises:
        ValueError: no bulk answer, or (with errors) one of another number of items.
    """

@final
class CompiledParser:
    """A parser whose work per event is native. Made by the `*_parser` functions."""

    def parse(self, text: bytes | str) -> list[tuple[int | None, dict[str, Any]]] | str:
        """The events in `text`, or the reason why it gave none."""

@final
class CompiledFormatter:
    """A formatter whose work per event is native. Made by the `*_formatter` functions."""

    def format(self, batch: EventBatch) -> bytes:
        """All events' bytes, in order."""

def csv_formatter(
    fields: Sequence[str], delimiter: str, force_quotes: bool, newline: str
) -> CompiledFormatter:
    """Chosen fields as comma-separated values. Raises ValueError for a bad record accessor."""

def ltsv_formatter(delimiter: str, label_delimiter: str, replacement: str, newline: str) -> CompiledFormatter:
    """All fields as labels and values; `replacement` stands for a delimiter within a value."""

def msgpack_formatter() -> CompiledFormatter:
    """Records as MessagePack maps."""

def tsv_formatter(keys: Sequence[str], delimiter: str, newline: str) -> CompiledFormatter:
    """Chosen fields, as they are, with a delimiter between them."""

def json_formatter(floats: str, newline: str) -> CompiledFormatter:
    """Records as JSON. `floats`: "oj" or "ruby"; `newline`: behind each record.

    Raises:
        ValueError: another word for `floats`.
    """

def out_file_formatter(
    time_type: str | None,
    time_format: str | None,
    zone: str | None,
    output_tag: bool,
    delimiter: str,
    newline: str,
) -> CompiledFormatter:
    """Time, tag and JSON. `time_type`: "string", "unixtime", "float", "mixed"; None: no time.

    Raises:
        ValueError: names the time type, directive or zone that is not known, or the delimiter.
    """

def stdout_formatter(time_format: str, inner: CompiledFormatter) -> CompiledFormatter:
    """`TIME TAG: TEXT`, the text by `inner`, one line an event, the time in the machine's zone.

    Raises:
        ValueError: names the unknown directive.
    """

def single_value_formatter(message_key: str, newline: str) -> CompiledFormatter:
    """One field's text; nothing where it is missing."""

def hash_formatter(newline: str) -> CompiledFormatter:
    """Records as Ruby 3.1 prints a Hash."""

def lines_formatter(inner: CompiledFormatter) -> CompiledFormatter:
    r"""`inner` with exactly one `\n` behind each event's text."""

@final
class Inject:
    """Adds host name, worker id, tag and time to every record."""

    def __new__(
        cls,
        *,
        hostname: tuple[str, str] | None = None,
        worker_id: tuple[str, int] | None = None,
        tag_key: str | None = None,
        time: tuple[str, str, str | None, str | None] | None = None,
    ) -> Inject:
        """(key, value) for host name and worker id; (key, type, format, zone) for the time.

        Raises:
            ValueError: names the time type, directive or zone that is not known.
        """
    def apply(self, batch: EventBatch) -> EventBatch:
        """Every record with the fields; those it has already are replaced where they stand."""

@final
class ChunkRecords:
    """Where the records of one chunk are."""

    def __new__(cls, id: bytes, created_ns: int, meta: bytes) -> ChunkRecords:
        """`id`: 16 bytes; `created_ns`: since the epoch; `meta`: what every record repeats."""
    @property
    def id(self) -> bytes: ...
    def __len__(self) -> int: ...
    def segments(self) -> list[int]:
        """The segments that hold the records."""

@final
class Segments:
    """The segment files of one buffer."""

    def __new__(cls, folder: str, segment_size: int, mode: int, durable: bool) -> Segments:
        """Sizes in bytes; `mode` of the files; `durable`: `sync` will be called."""
    def append(self, items: Sequence[tuple[ChunkRecords, bytes, int, int]]) -> None:
        """Appends (chunk, data, events, codec), all or nothing. Releases the GIL. Raises OSError."""
    def read(self, records: ChunkRecords, index: int) -> tuple[bytes, int, int] | None:
        """(data, events, codec); None: the record is rotten. Raises IndexError, OSError."""
    def place(self, records: ChunkRecords, index: int) -> tuple[str, int, int]:
        """(path of the segment, offset, length). Raises IndexError."""
    def discard(self, records: ChunkRecords, index: int) -> None:
        """Takes one record out of a chunk. Raises IndexError."""
    def remove(self, records: ChunkRecords) -> None:
        """The chunk is done: segments in which nothing else lives are unlinked."""
    def straggler(self) -> int | None:
        """The segment to rewrite, where the segments take much more room than what lives in them."""
    def rewrite(self, segment: int, chunks: Sequence[ChunkRecords]) -> bool:
        """Copies the records of `chunks` to the end and unlinks the segment. False where it stays, because
        others have records in it or one is rotten. Raises OSError."""
    def begin_writing(self) -> None:
        """Has the kernel begin to write what was appended, so that the next `sync` finds little to do."""
    def sync(self) -> None:
        """Writes what was appended to the disk. Releases the GIL. Raises OSError."""
    @property
    def written(self) -> int:
        """Bytes appended so far."""
    def usage(self) -> tuple[int, int, int]:
        """(size of all segments, bytes of them that live, number of segments)."""
    def recover(
        self, gone: set[bytes], verify_bytes: int
    ) -> tuple[
        list[tuple[bytes, int, bytes, int, int, list[int], ChunkRecords]],
        list[tuple[str, int, int, int | None, str, tuple[bytes, int] | None]],
        list[tuple[int, bytes]],
    ]:
        """Reads what an earlier process left. `gone`: ids of chunks that are done. `verify_bytes`: up to this
        size all data are verified, beyond it only those of the newest segment.

        Returns:
            Chunks (id, created_ns, meta, events, bytes, numbers of missing records, records); ranges that are
            no use (file, offset, length, events or None, why, (chunk id, number of the record) or None);
            (segment, id of a chunk of `gone` that has records in it).

        Raises:
            OSError: the folder cannot be read.
        """
    def numbers(self) -> list[int]:
        """The numbers of all segments."""
    def sweep(self) -> None:
        """Unlinks the segments that hold nothing live (after `recover`)."""
    def close(self) -> None:
        """Closes all files. Nothing can be read or appended any more."""

def intact_entries(data: bytes) -> tuple[int, int]:
    """How many whole entries `data` starts with, and their size in bytes."""

@final
class Partitioner:
    """Chunk keys, compiled: splits a batch by tag, time slot and record fields."""

    def __new__(
        cls, by_tag: bool, timekey: int | None, zone: str | None, fields: Sequence[str]
    ) -> Partitioner:
        """`timekey`: seconds; `zone`: None (local), "UTC", "+09:00", a zone's name; `fields`: accessors.

        Raises:
            ValueError: names the zone or the field that is wrong.
        """
    def partition(
        self, batch: EventBatch
    ) -> list[tuple[str | None, int | None, tuple[str | None, ...], EventBatch]]:
        """`(tag, start of the time slot, field values as text, events)` per key, in order of appearance.

        Where all events share one key, the batch of the answer is `batch` itself.
        """

@final
class Intake:
    """What a receiver took in since the last call. Immutable."""

    @property
    def batch(self) -> EventBatch: ...
    @property
    def received(self) -> int:
        """The events in `batch` and the failures."""
    @property
    def kernel_drops(self) -> int:
        """Messages the kernel dropped before they could be received; not part of `received`."""
    @property
    def failures(self) -> list[tuple[str, int, bytes]]:
        """Messages that gave no event: (reason, count, start of the first one)."""
    @property
    def notices(self) -> list[tuple[str, int, bytes]]:
        """What is worth a line in the log but lost no event: (what, count, sample)."""

@final
class Ingestor:
    """An input's rule: which parser, which tag, which fields are added."""

    def __new__(
        cls,
        parser: CompiledParser,
        tag: str,
        *,
        syslog: bool = False,
        with_priority: bool = False,
        severity_key: str | None = None,
        facility_key: str | None = None,
        source_address_key: str | None = None,
        source_hostname_key: str | None = None,
        chomp: bool = False,
        emit_unmatched_lines: bool = False,
        tag_key: str | None = None,
        keep_tag_key: bool = False,
    ) -> Ingestor:
        """`syslog`: `tag` is a prefix, `.facility.severity` follows; the priority comes from the field `pri`
        that the parser leaves (`with_priority`), else `<PRI>` is taken off before the parser sees the line.
        `chomp`: takes one line end off. `tag_key`: field whose value becomes the tag.
        """
    def ingest(self, messages: Iterable[bytes], address: str | None = None) -> Intake:
        """Takes whole messages, all from `address`. Raises ValueError for what is no IP address."""

@final
class UdpReceiver:
    """Receives datagrams as events, in batches."""

    def __new__(
        cls,
        ingestor: Ingestor,
        socket: int,
        *,
        message_length_limit: int,
        drops: int | None = None,
    ) -> UdpReceiver:
        """Takes a bound socket, whose descriptor is duplicated. Sizes in bytes; the rest of a longer datagram
        is cut off. `drops`: descriptor of a page that says how many drops are booked (`api.sockets.Bound`).
        Raises OSError."""
    def next(self, max_wait_ms: int) -> Intake | None:
        """What has come, waiting at most so long for it; None: nothing. Raises OSError."""
    def stop(self, *, keep: bool = False) -> None:
        """From any thread: `next` gives what is queued, then closes the socket and is `finished`. `keep`:
        what is queued is left to another process."""
    @property
    def finished(self) -> bool: ...
    @property
    def port(self) -> int: ...
    @property
    def counts_drops(self) -> bool:
        """Whether the kernel tells how much it drops."""

@final
class StreamServer:
    """Receives messages over TCP as events, in batches."""

    def __new__(
        cls,
        ingestor: Ingestor,
        listener: int,
        *,
        delimiter: bytes | None = None,
        message_length_limit: int | None = None,
        linger_timeout: int | None = None,
        keepalive: bool = False,
        allow: Sequence[str] | None = None,
        max_connections: int = 1024,
    ) -> StreamServer:
        """Takes a listening socket, whose descriptor is duplicated. `delimiter` None: octet counting
        (RFC 6587). `allow`: addresses and CIDR networks.

        Raises:
            OSError: the descriptor is none.
            ValueError: an empty delimiter, or a network that is none.
        """
    def next(self, max_wait_ms: int) -> Intake | None:
        """What has come, waiting at most so long for it; None: nothing. Not calling it is back-pressure."""
    def lend(self, loan: MemoryLoan) -> None:
        """Unfinished messages are borrowed from a budget from here on."""
    def stop(self, *, keep: bool = False) -> None:
        """From any thread: `next` gives what the kernel has, then closes everything and is `finished`.
        `keep`: who waits to be accepted is left to another process."""
    @property
    def finished(self) -> bool: ...
    @property
    def port(self) -> int: ...

@final
class StreamFramer:
    """Cuts a byte stream into messages."""

    def __new__(cls, delimiter: bytes | None = None, limit: int | None = None) -> StreamFramer:
        """`delimiter` None: octet counting (RFC 6587). `limit` in bytes. Raises ValueError."""
    def feed(self, data: bytes) -> list[bytes]:
        """The messages that `data` completes. Raises ValueError: the stream is broken for good."""
    def finish(self) -> bytes:
        """The stream's end: a rest without an end, which is no message."""
    @property
    def too_long(self) -> int: ...

@final
class FedConnection:
    """One connection of a StreamFeeder."""

@final
class StreamFeeder:
    """For streams that Python reads (TLS): frames and parses what was read, gathered into one batch."""

    def __new__(
        cls, ingestor: Ingestor, *, delimiter: bytes | None = None, limit: int | None = None
    ) -> StreamFeeder: ...
    def lend(self, loan: MemoryLoan) -> None:
        """Unfinished messages are borrowed from a budget from here on."""
    def connect(self, address: str) -> FedConnection:
        """A new connection from an IP address."""
    def feed(self, connection: FedConnection, data: bytes) -> bool:
        """Takes what was read. False: the connection must be closed."""
    def finish(self, connection: FedConnection) -> None:
        """The connection's end."""
    def notice(self, what: str, sample: bytes) -> None:
        """Books "denied", "tls_error" or "connection_limit" for the log."""
    @property
    def count(self) -> int:
        """Events and failures gathered so far."""
    def take(self) -> Intake | None:
        """What was gathered since the last call."""

@final
class ForwardRules:
    """What a forward input does with messages, and who may send them."""

    def __new__(
        cls,
        *,
        tag: str | None = None,
        add_tag_prefix: str | None = None,
        skip_invalid_event: bool = True,
        chunk_size_limit: int | None = None,
        chunk_size_warn_limit: int | None = None,
        decompression_size_limit: int = 268435456,
        source_address_key: str | None = None,
        source_hostname_key: str | None = None,
        gate: object = None,
    ) -> ForwardRules:
        """Sizes in bytes; without a limit a message may have 256 MiB. `gate`: the handshake, an object with
        `hello() -> (message, secret)`, which a new connection is sent, and `judge(secret, peer, message) ->
        (whether it may send, answer)`; messages are lists, `peer` is "address:port".
        """

@final
class ForwardServer:
    """Receives events from clients of the forward protocol, in batches."""

    def __new__(
        cls,
        rules: ForwardRules,
        listener: int,
        *,
        linger_timeout: int | None = None,
        keepalive: bool = False,
        deny_keepalive: bool = False,
        max_connections: int = 1024,
    ) -> ForwardServer:
        """Takes a listening socket, whose descriptor is duplicated. `linger_timeout` in seconds.

        Raises:
            OSError: the descriptor is none.
        """
    def next(self, max_wait_ms: int) -> Intake | None:
        """What has come, waiting at most so long for it; None: nothing. Not calling it is back-pressure."""
    def acknowledge(self) -> None:
        """What `next` gave last is safe: senders that asked for it get an acknowledgement."""
    def lend(self, loan: MemoryLoan) -> None:
        """Unfinished messages are borrowed from a budget from here on."""
    def stop(self, *, keep: bool = False) -> None:
        """From any thread: `next` gives what the kernel has, then closes everything and is `finished`.
        `keep`: who waits to be accepted is left to another process."""
    @property
    def finished(self) -> bool: ...
    @property
    def port(self) -> int: ...

@final
class FedForward:
    """One connection of a ForwardFeeder."""

    @property
    def token(self) -> int:
        """What tells it from the feeder's other connections."""

@final
class ForwardFeeder:
    """As ForwardServer, for connections that Python reads and writes (TLS). For one thread."""

    def __new__(cls, rules: ForwardRules, *, deny_keepalive: bool = False) -> ForwardFeeder: ...
    def lend(self, loan: MemoryLoan) -> None:
        """Unfinished messages are borrowed from a budget from here on."""
    def connect(self, address: str, port: int = 0) -> FedForward:
        """A new connection from an IP address. Raises ValueError."""
    def feed(self, connection: FedForward, data: bytes) -> bool:
        """Takes what was read. False: nothing more must be read, and the connection be closed as soon as
        nothing is owed."""
    def outgoing(self, connection: FedForward) -> bytes:
        """What is to be sent now."""
    def owed(self, connection: FedForward) -> int:
        """Acknowledgements that the connection may still get."""
    def established(self, connection: FedForward) -> bool:
        """Whether the handshake is over, or there is none."""
    def finish(self, connection: FedForward) -> None:
        """The connection's end."""
    def notice(self, what: str, sample: bytes) -> None:
        """Books "denied", "connection_limit" or "handshake_timeout" for the log, or "tls_error", which is
        counted as a failure too. Raises ValueError."""
    @property
    def count(self) -> int:
        """Events and failures gathered so far."""
    @property
    def urgent(self) -> bool:
        """Whether somebody waits for an acknowledgement, or a batch is full."""
    def take(self) -> Intake | None:
        """A batch of what was gathered; None: nothing."""
    def acknowledge(self) -> list[int]:
        """What `take` gave last is safe: acknowledgements are `outgoing` at the connections with these
        tokens."""

@final
class Tailer:
    """Follows files and gives their lines as events, in batches. One thread calls `next` and `commit`, any
    thread the rest."""

    def __new__(
        cls,
        parser: CompiledParser,
        *,
        path_key: str | None = None,
        emit_unmatched_lines: bool = False,
        multiline: bool = False,
        first_line: str | None = None,
        flush_interval: float | None = None,
        max_line_size: int | None = None,
        read_lines_limit: int = 1000,
        read_bytes_limit: int | None = None,
        encoding: str | None = None,
        from_encoding: str | None = None,
        open_on_every_update: bool = False,
        rotate_wait: float = 5.0,
        inotify: bool = True,
        groups: Sequence[tuple[int, float]] = ...,
    ) -> Tailer:
        """Sizes in bytes, times in seconds. `multiline`: texts start with a line that matches the Ruby source
        `first_line`, or without it end as soon as they parse. `groups`: (lines, negative for no limit; within
        so many seconds).

        Raises:
            ValueError: (message, parameter): an unknown encoding, a broken pattern.
        """
    @property
    def notified(self) -> bool:
        """Whether inotify is at work."""
    def open(self, path: bytes, tag: str, group: int | None = None) -> tuple[int, int, int]:
        """A file's number, inode and size; it is read from `begin` on. Raises OSError."""
    def begin(self, number: int, position: int, slot: int | None = None) -> bool:
        """Reads from there on. `slot`: where in the position file the position of its entry stands. False:
        inotify does not watch the file. Raises OSError: the position file cannot be written."""
    def cancel(self, number: int) -> None:
        """Forgets a file that was opened and not begun."""
    def retire(
        self, number: int, heir: int | None = None, unwatch: bool = False, wait: float | None = None
    ) -> None:
        """Reads it for `wait` seconds more (None: rotate_wait) and to its end, then closes it. Its entry goes
        to `heir` as soon as all of it is safe, or is marked as unwatched at the end."""
    def inherit(self, number: int, heir: int) -> bool:
        """The entry of a retired file goes to `heir` after all. False: it is closed. Raises OSError."""
    def detach(self, number: int) -> None:
        """Its path is another file's: it is read on, but no longer looked for."""
    def moved(self, number: int, path: bytes, tag: str) -> bool:
        """It has this path (again), and is not closed if it was about to be. False: it is closed."""
    def relocate(self, descriptor: int, slots: Sequence[tuple[int, int]]) -> None:
        """The position file is this one, with the entries of these files (number, slot). Raises OSError."""
    def slots(self) -> list[tuple[int, int]]:
        """(number, slot) of all files that have an entry."""
    def look(self, most: int) -> None:
        """Compares up to so many files with what the system says, others than the last time, and all that
        inotify does not watch."""
    def changes(self) -> list[tuple[int, int | None]]:
        """(number, inode that has its path now; None: the file is closed and forgotten)."""
    def departed(self) -> list[tuple[int, int, int, bytes]]:
        """(number of who is followed under a path, number, inode, path now) of files, open and not begun,
        that had the path and were renamed, in the order in which that happened."""
    @property
    def changed(self) -> bool:
        """Whether `changes` or `departed` has something."""
    def next(self, max_wait_ms: int) -> Intake | None:
        """What has come, waiting at most so long for it; sooner with None where `changed`. Raises OSError."""
    def commit(self) -> None:
        """What `next` gave last is safe: positions move on. Raises OSError."""
    def stop(self) -> None:
        """From any thread: `next` reads on for a moment, and then is `finished`."""
    @property
    def finished(self) -> bool: ...
    @property
    def counts(self) -> tuple[int, int, int, int, int, int]:
        """Files opened, closed, rotated, throttled since the start; followed now; bytes that went before they
        were read."""

def scan_files(
    patterns: Sequence[tuple[bytes, bool]],
    excluded: Sequence[tuple[bytes, bool]],
    since: int | None = None,
) -> tuple[list[tuple[bytes, int]], list[bytes]]:
    """The files of (path, whether it is a glob as of Ruby's Dir.glob) without the excluded ones, and their
    inodes; and those of globs that cannot be read. `since`: of globs only files changed since then
    (seconds since the epoch)."""

@final
class TagRoutes:
    """Which way each tag goes, remembered."""

    def __new__(cls, limit: int) -> TagRoutes:
        """Forgets everything when it knows `limit` tags."""
    def __len__(self) -> int: ...
    def split(self, batch: EventBatch, resolve: Callable[[str], int]) -> list[tuple[int, EventBatch]]:
        """The events of each destination, in order of arrival; `resolve` is asked for unknown tags."""

@final
class Sampler:
    """The same records again and again, with a counter where it is asked for."""

    def __new__(
        cls,
        tag: str,
        records: Sequence[dict[str, Any]],
        auto_increment_key: str | None = None,
        counter: int = 0,
    ) -> Sampler: ...
    @property
    def counter(self) -> int:
        """The next value for `auto_increment_key`."""
    def take(self, count: int) -> EventBatch:
        """The next events, all of this moment."""

def python_parser(
    parse: Callable[[bytes], Iterable[tuple[int | None, dict[str, Any]]]],
    estimate_current_event: bool = True,
) -> CompiledParser:
    """Lets native code call a parser written in Python. No event means "not matched"; an exception is
    counted as `parser_error` and does not come out, so `parse` logs it itself."""

def network_contains(network: str, address: str) -> bool:
    """Whether a CIDR network (or a single address) contains an IP address. Raises ValueError."""

def json_parser(json_parser: str, options: dict[str, Any]) -> CompiledParser:
    """JSON objects, or arrays of them. `options` as `CommonParser.options()` gives them.

    Raises:
        ValueError: (message, parameter) for a parameter that cannot be used.
    """

def syslog_parser(
    message_format: str,
    with_priority: bool,
    time_format: str | None,
    rfc5424_time_format: str,
    support_colonless_ident: bool,
    parser_engine: str,
    options: dict[str, Any],
) -> CompiledParser:
    """syslog messages of RFC 3164 and RFC 5424. `time_format` None: the message format's own.

    Raises:
        ValueError: (message, parameter) for a parameter that cannot be used.
    """

def regexp_parser(
    expression: str, ignorecase: bool, multiline: bool, options: dict[str, Any]
) -> CompiledParser:
    """A Ruby regexp (`/source/flags` or bare source) whose named groups become fields.

    Raises:
        ValueError: (message, parameter) for a parameter that cannot be used.
    """

def multiline_parser(source: str, unmatched_lines: bool, options: dict[str, Any]) -> CompiledParser:
    """A Ruby regexp over several lines, as often as it matches. `source`: bare; the dot matches newlines.

    Raises:
        ValueError: (message, parameter) for a parameter that cannot be used.
    """

def apache2_parser(options: dict[str, Any]) -> CompiledParser:
    """Apache's access logs with typed fields."""

def cri_parser(
    content: CompiledParser | None, merge_cri_fields: bool, options: dict[str, Any]
) -> CompiledParser:
    """Lines of Kubernetes' container runtimes. `content`: parses what the container wrote.

    Raises:
        ValueError: (message, parameter) for a parameter that cannot be used.
    """

def docker_parser(options: dict[str, Any]) -> CompiledParser:
    """Lines of Docker's json-file driver. Raises ValueError (message, parameter)."""

def csv_parser(keys: Sequence[str], delimiter: str, fast: bool, options: dict[str, Any]) -> CompiledParser:
    """Comma-separated values as Ruby's CSV library reads them, or (`fast`) as Fluentd's quick reader does.

    Raises:
        ValueError: (message, parameter) for a parameter that cannot be used.
    """

def tsv_parser(keys: Sequence[str], delimiter: str, options: dict[str, Any]) -> CompiledParser:
    """Columns between delimiters. Raises ValueError (message, parameter)."""

def ltsv_parser(
    delimiter: str, delimiter_pattern: str | None, label_delimiter: str, options: dict[str, Any]
) -> CompiledParser:
    """Fields that name themselves. Raises ValueError (message, parameter)."""

def kv_parser(kv_delimiter: str, kv_char: str, options: dict[str, Any]) -> CompiledParser:
    """Fields that name themselves; one without a value is null. Raises ValueError (message, parameter)."""

def logfmt_parser(options: dict[str, Any]) -> CompiledParser:
    """`key=value key="quoted" flag`. Raises ValueError (message, parameter)."""

def cef_parser(
    log_format: str,
    cef_version: int | None,
    keys: list[str] | None,
    output_raw_field: bool,
    options: dict[str, Any],
) -> CompiledParser:
    """ArcSight's Common Event Format. Raises ValueError (message, parameter)."""

def msgpack_parser(options: dict[str, Any]) -> CompiledParser:
    """MessagePack maps, or arrays of them. Raises ValueError (message, parameter)."""

def form_fields(text: bytes, most: int) -> list[tuple[bytes, bytes]]:
    """The fields of a query or an `application/x-www-form-urlencoded` body, decoded. Raises ValueError
    (message, reason) for more than `most`."""

def inflate(method: str, data: bytes, limit: int) -> bytes:
    """What was compressed by "gzip", "deflate" or "zstd". Raises ValueError (message, reason) for what is
    broken, longer than `limit` bytes, or more than 1100 times (and 16 MiB) as long as it was."""

def check_regexp(expression: str) -> None:
    """Raises ValueError (message, parameter) where a Ruby regexp does not compile."""

def grok_parser(
    library: Sequence[str],
    patterns: Sequence[tuple[str, str | int, dict[str, Any]]],
    multiline: bool,
    name_key: str | None,
    failure_key: str | None,
) -> tuple[CompiledParser, list[tuple[int, str]]]:
    """Grok patterns, tried in order: (pattern, name, options as for other parsers). `library`: texts of
    pattern files. Patterns that do not compile are left out: (index, why).

    Raises:
        ValueError: (message, parameter): an unknown pattern name, or nothing that compiles.
    """

def grok_explain(library: Sequence[str], pattern: str, text: bytes) -> tuple[list[str], int, int, int]:
    """How far `text` matches: the pattern's elements, how many of them match from the first on, and from
    where to where (bytes). Raises ValueError as `grok_parser`."""

def integer_times(batch: EventBatch) -> bytes:
    """The batch's entries with whole seconds as times. Raises ValueError for what is no event stream."""

@final
class MemoryBudget:
    """The memory that the process may keep beyond the batches at hand. For any thread.

    Half of it is guaranteed, in equal parts, to borrowers that have less than theirs; the rest is for whoever
    comes first.
    """

    limit_bytes: int
    """0: no limit."""
    def __new__(cls, limit_bytes: int = 0) -> MemoryBudget: ...
    @property
    def used_bytes(self) -> int:
        """What all borrowers have."""
    def borrow(self, name: str, *, unfinished: bool = False) -> MemoryLoan:
        """A new borrower. `unfinished`: of messages whose end has not come yet."""
    def loans(self) -> list[tuple[str, int]]:
        """(name, bytes) of all borrowers."""

@final
class MemoryLoan:
    """What one borrower has; given back when nobody holds it any more. Nothing is enforced: ask `full` before
    taking more."""

    def add(self, delta_bytes: int) -> None:
        """Takes so many bytes more, or (negative) gives them back."""
    def set(self, used_bytes: int) -> None:
        """Has so many bytes from here on."""
    @property
    def used_bytes(self) -> int: ...
    @property
    def full(self) -> bool:
        """Whether nothing more should be taken."""

def keep_memory() -> None:
    """Has the C library reuse the memory of past batches (up to 64 MiB) instead of giving it back."""

def msgpack_pack(value: Any) -> bytes:
    """One value as MessagePack. Raises TypeError, OverflowError for what MessagePack cannot hold."""

def msgpack_unpack(data: bytes) -> tuple[Any, int] | None:
    """The first value and its size in bytes; None where its end has not come yet.

    Raises:
        ValueError: what is there is not MessagePack.
    """

def check_parse_options(options: dict[str, Any]) -> None:
    """Raises ValueError (message, parameter) for what no parser takes, for one that does not use it too."""

def none_parser(message_key: str, options: dict[str, Any]) -> CompiledParser:
    """The whole text as one field."""

@final
class Sampling:
    """Lets every n-th event pass, of each tag or of all together."""

    def __new__(cls, interval: int, by_tag: bool, minimum_rate_per_min: int | None) -> Sampling: ...
    def apply(self, batch: EventBatch, now: float) -> EventBatch | None:
        """The events that go on; None: all of them. `now`: seconds of a monotonic clock."""

class ThrottleReport:
    """What is to be said of a group."""

    group: list[str | None]
    """Its values; None: the field is missing. Empty: the group that surplus groups share."""
    exceeded: bool
    rate: int
    """Events per second."""
    over: int
    """Events over the limit since the group's last report."""

class Throttle:
    """Limits the events of groups, as fluent-plugin-throttle."""

    def __new__(
        cls,
        keys: list[str],
        period: int,
        limit: int,
        reset_rate: int,
        warning_delay: float,
        drop: bool,
        max_groups: int,
    ) -> Throttle:
        """Raises ValueError for a key that is no record accessor."""
    def apply(self, batch: EventBatch, now: float) -> tuple[EventBatch | None, list[ThrottleReport]]:
        """The events that go on (None: all of them). `now`: seconds since the epoch."""
    def over(self, most: int) -> tuple[list[tuple[list[str | None], int]], int]:
        """The groups with most events over the limit, and the events of all others together."""

class Dedup:
    """Drops events whose key was seen lately."""

    def __new__(cls, key: str, capacity: int, ttl: float) -> Dedup:
        """`capacity`: keys per tag; `ttl`: seconds, 0: for ever. Raises ValueError."""
    def apply(self, batch: EventBatch, now: float) -> tuple[EventBatch | None, int]:
        """The events that go on (None: all of them), and how many have no key."""
    def state(self) -> dict[str, list[bytes]]:
        """Tag -> keys as MessagePack, oldest first."""
    def restore(self, tag: str, keys: list[bytes], now: float) -> None:
        """Keys as `state` gave them, as if seen now."""

class GenId:
    """Adds an id to every record: random, or a digest of the event."""

    def __new__(
        cls,
        name: str,
        keys: list[str] | None,
        entire: bool,
        with_tag: bool,
        with_time: bool,
        separator: str,
        hash: str,
    ) -> GenId: ...
    def apply(self, batch: EventBatch) -> EventBatch:
        """The events with ids. Raises ValueError, OSError (no random bytes)."""

class RecordMetric:
    """Adds up values of records by labels: a counter, gauge, summary or histogram."""

    def __new__(
        cls,
        kind: str,
        key: str | None,
        labels: Sequence[Sequence[tuple[str, str, int]]],
        bounds: Sequence[float],
        max_series: int,
    ) -> RecordMetric:
        """`labels`: pieces of each label's value as (kind, text, index). Raises ValueError."""
    def init(self, labels: list[str], now: float) -> None:
        """A series that is there before any event."""
    def apply(self, batch: EventBatch, now: float) -> tuple[int, int]:
        """How many events have no number, and how many labels that are too many. Releases the GIL."""
    def samples(self, oldest: float) -> list[tuple[list[str], float, int, list[int]]]:
        """(labels, value or sum, count, buckets); series last seen before `oldest` are forgotten."""

def set_fields(batch: EventBatch, names: list[str], values: Sequence[list[bytes] | None]) -> EventBatch:
    """The batch with fields set. `values`: per tag of `batch.tags` the values as MessagePack, None: none.
    Releases the GIL. Raises ValueError."""

@final
class Grep:
    """Keeps and drops events by regexps over their fields, as Fluentd's filter_grep."""

    def __new__(
        cls,
        regexp_and: list[tuple[str, str, bool]],
        regexp_or: list[tuple[str, str, bool]],
        exclude_and: list[tuple[str, str, bool]],
        exclude_or: list[tuple[str, str, bool]],
    ) -> Grep:
        """(name or record accessor, Ruby regexp, whether it may stand in slashes with flags) per condition.
        Raises ValueError for what does not compile."""
    def apply(self, batch: EventBatch) -> tuple[EventBatch | None, int]:
        """The events that go on (None: all of them), and how many of them could not be matched. Releases
        the GIL."""

@final
class RecordTransformer:
    """Changes records by templates, as Fluentd's filter_record_transformer."""

    @staticmethod
    def compile(
        record: dict[str, Any],
        *,
        remove_keys: Sequence[str],
        keep_keys: Sequence[str] | None,
        renew_time_key: str | None,
        auto_typecast: bool,
        ruby: bool,
        hostname: str,
    ) -> tuple[RecordTransformer, list[tuple[str, str, str | None]]]:
        """`record`: field -> text with placeholders, or what JSON can hold with such texts in it.
        `keep_keys` None: the whole record is kept. Also gives what is no placeholder: (field, text, with
        `ruby` what is wrong with the expression).

        Raises:
            ValueError: (message, parameter) for a malformed record accessor.
        """
    def apply(self, batch: EventBatch) -> tuple[EventBatch, EventBatch, EventBatch, str, int]:
        """The events that go on, those whose time field is none, those for which an expression raises with
        what the first of them raises, and how many placeholders had no value. Releases the GIL."""

@final
class ParserFilter:
    """Runs a parser over one field of every event, as Fluentd's filter_parser."""

    def __new__(
        cls,
        parser: CompiledParser,
        key_name: str,
        *,
        reserve_data: bool = False,
        reserve_time: bool = False,
        remove_key_name_field: bool = False,
        inject_key_prefix: str | None = None,
        replace_invalid_sequence: bool = False,
        hash_value_field: str | None = None,
        keep_failed: bool = True,
    ) -> ParserFilter:
        """`key_name`: a name or a record accessor. Raises ValueError for a malformed accessor."""
    def apply(self, batch: EventBatch) -> ParserFilterResult:
        """The events that go on, and those that failed. Releases the GIL."""

@final
class ParserFilterResult:
    """What `ParserFilter.apply` made of a batch."""

    @property
    def good(self) -> EventBatch:
        """The events that go on."""
    @property
    def failures(self) -> list[tuple[str, int, EventBatch, bytes]]:
        """(reason, count, the events as they came in or none, start of the first text that failed)."""
