"""The `<buffer>` section of an output, and what its chunk keys say."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from forwarder.api.errors import ConfigError
from forwarder.api.parameters import Section, array, boolean, duration, enum, float_, integer, size, string
from forwarder.api.zones import check_zone

FILE_TYPES: Final = ("file", "file_single")
FILE_ONLY: Final = (
    "path", "path_suffix", "file_permission", "dir_permission", "chunk_format", "calc_num_records", "fsync",
    "fsync_interval",
)  # fmt: skip
"""Parameters that a memory buffer has no use for."""
_MIB: Final = 1024 * 1024
_MEMORY_LIMITS: Final = (8 * _MIB, 512 * _MIB)
_FILE_LIMITS: Final = (256 * _MIB, 65536 * _MIB)
_FIELD: Final = re.compile(r"[-_.@a-zA-Z0-9]+")


class ChunkKeys(NamedTuple):
    """What the events of one chunk have in common."""

    tag: bool = False
    timekey: int | None = None
    """Length of a time slot in seconds; None: time is no chunk key."""
    zone: str | None = None
    """Zone of the time slots: "UTC", "+09:00", "Asia/Tokyo"; None: the local one."""
    fields: tuple[str, ...] = ()
    """Record fields as written: `host`, `$.kubernetes.namespace`."""

    @property
    def names(self) -> tuple[str, ...]:
        """As they stand in the section's argument."""
        return ("tag",) * self.tag + ("time",) * (self.timekey is not None) + self.fields


class BufferSection(Section):
    """`<buffer CHUNK_KEYS>`: how an output groups events, and when and how often it tries to deliver them."""

    argument = "chunk_keys"

    chunk_keys = array(
        "What the events of a chunk have in common: `tag`, `time`, record fields.", [], of="string"
    )
    type = string("Where chunks are kept: `memory`, `file`, `file_single`.", "memory", alias="@type")
    path = string(
        "Folder of a file buffer (or `PREFIX.*.SUFFIX`, as Fluentd names its chunks: then the folder is "
        "PREFIX.store); not set: `buffer` below root_dir, worker and `@id`.", None,
    )  # fmt: skip
    path_suffix = string("End of the names of Fluentd's chunks that are taken over (`@type file`).", ".log")
    file_permission = string("Mode of the files, octal; not set: that of <system>, 0644.", None)
    dir_permission = string("Mode of the folders, octal; not set: that of <system>, 0755.", None)
    chunk_format = enum(
        "What Fluentd's chunks hold that are taken over (`@type file_single`), to count their events; auto: "
        "what this output would write.", ("msgpack", "text", "auto"), "auto",
    )  # fmt: skip
    calc_num_records = boolean("Count the events of Fluentd's chunks (`@type file_single`).", True)
    fsync = enum(
        "When a file buffer has the disk confirm: never (the system writes when it likes: a power loss may "
        "cost the last seconds, a crash of the process nothing), when a chunk is closed, every "
        "fsync_interval, or before an event is acknowledged.",
        ("never", "chunk", "interval", "append"), "never",
    )  # fmt: skip
    fsync_interval = duration("For `fsync interval`.", 1.0)

    timekey = duration("Length of a time slot, for the chunk key `time`.", None)
    timekey_wait = duration("How long after its end a time slot is flushed.", 600.0)
    timekey_use_utc = boolean("Time slots in UTC rather than in the local zone.", False)
    timekey_zone = string(
        "Zone of the time slots, such as `+09:00` or `Asia/Tokyo`; not set: the local one.", None
    )

    flush_at_shutdown = boolean("Flush when the forwarder stops; not set: yes for a memory buffer.", None)
    flush_mode = enum(
        "When chunks are flushed; default: `lazy` with the chunk key `time`, else `interval`.",
        ("default", "lazy", "interval", "immediate"),
        "default",
    )
    flush_interval = duration("Age at which a chunk is flushed (`flush_mode interval`).", 60.0)
    flush_thread_count = integer("How many chunks are written at the same time.", 1)
    flush_thread_interval = float_(
        "Least age of a chunk whose time slot is over already; other chunks are flushed when due.", 1.0
    )
    flush_thread_burst_interval = float_(
        "Pause of a flush thread after a chunk while more are queued; not set: none (Fluentd: 1 second).",
        None,
    )
    delayed_commit_timeout = duration("How long an output may take to confirm a chunk.", 60.0)

    overflow_action = enum(
        "When the buffer is full: tell the input, make the input wait, or give up the oldest chunk.",
        ("throw_exception", "block", "drop_oldest_chunk"),
        "throw_exception",
    )
    chunk_limit_size = size("Largest chunk in bytes; a file buffer's default is 256m.", _MEMORY_LIMITS[0])
    chunk_limit_records = integer("Largest chunk in events.", None)
    chunk_full_threshold = float_("Share of the limits from which a chunk counts as full.", 0.95)
    total_limit_size = size(
        "Largest sum of all chunks in bytes; a file buffer's default is 64g.", _MEMORY_LIMITS[1]
    )
    queue_limit_length = integer("Old form of total_limit_size, in chunks of chunk_limit_size.", None)
    queued_chunks_limit_size = integer(
        "While so many chunks are queued, none is queued for its age; not set: flush_thread_count.",
        None,
    )
    compress = enum("Compression of buffered data: `text` is none.", ("text", "gzip", "zstd"), "text")
    decompression_size_limit = size("Largest content of a compressed block.", 256 * _MIB)
    disable_chunk_backup = boolean("Keep no copy of chunks that an output refuses for good.", False)

    retry_type = enum(
        "How the waits between retries grow.", ("exponential_backoff", "periodic"), "exponential_backoff"
    )
    retry_wait = duration("Wait before the first retry.", 1.0)
    retry_exponential_backoff_base = float_("Factor from one wait to the next.", 2.0)
    retry_max_interval = duration("Longest wait between retries.", None)
    retry_timeout = duration("How long a chunk is retried before it is given up.", 72 * 3600.0)
    retry_max_times = integer("How often a chunk is retried before it is given up.", None)
    retry_forever = boolean("Never give up a chunk.", False)
    retry_randomize = boolean("Vary waits by up to an eighth.", True)
    retry_secondary_threshold = float_(
        "Share of the retry time after which `<secondary>` gets the chunk.", 0.8
    )

    def configure(self) -> None:
        if self.type != "memory" and self.type not in FILE_TYPES:
            raise ConfigError(
                f"unknown buffer type {self.type!r}: expected memory, file or file_single", param="@type"
            )
        if self.type in FILE_TYPES:
            # an output's own default stays
            if (self.chunk_limit_size, "chunk_limit_size" in self.given) == (_MEMORY_LIMITS[0], False):
                self.chunk_limit_size = _FILE_LIMITS[0]
            if (self.total_limit_size, "total_limit_size" in self.given) == (_MEMORY_LIMITS[1], False):
                self.total_limit_size = _FILE_LIMITS[1]
        for name in ("file_permission", "dir_permission"):
            if self.mode(name, 0) < 0:
                raise ConfigError(f"{name}: expected an octal mode such as 0644", param=name)
        for name in ("flush_thread_count", "chunk_limit_size", "total_limit_size"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"{name} must be greater than 0", param=name)
        keys = self.keys()
        if self.type == "file_single":
            if keys.fields and keys.tag:
                raise ConfigError("file_single: chunk keys must be tag or one field", param="chunk_keys")
            if len(keys.fields) > 1:
                raise ConfigError("file_single: 2 or more chunk keys is not allowed", param="chunk_keys")

    def mode(self, name: str, default: int) -> int:
        """`file_permission` or `dir_permission` as a number, -1 where it is none; `default` where not set."""
        text: str | None = getattr(self, name)
        if text is None:
            return default
        return int(text, 8) if text and all(digit in "01234567" for digit in text) else -1

    def keys(self) -> ChunkKeys:
        """The chunk keys, taken apart. Raises ConfigError."""
        names = list(self.chunk_keys)
        fields = tuple(dict.fromkeys(name for name in names if name not in ("tag", "time")))
        for field in fields:
            if field.startswith("$["):
                raise ConfigError("in chunk_keys: bracket notation is not allowed", param="chunk_keys")
            if not (field.startswith("$.") and len(field) > 2) and not _FIELD.fullmatch(field):
                raise ConfigError(
                    f"chunk key {field!r}: expected tag, time, a record field or $.nested.field",
                    param="chunk_keys",
                )
        timekey = None
        if "time" in names:
            if self.timekey is None:
                raise ConfigError("<buffer> has the chunk key time, but timekey is not set", param="timekey")
            if self.timekey < 1:
                raise ConfigError(f"timekey must be at least 1 second, not {self.timekey:g}", param="timekey")
            timekey = int(self.timekey)
            check_zone(self.timekey_zone, "timekey_zone")
        zone = "UTC" if self.timekey_use_utc else self.timekey_zone
        return ChunkKeys("tag" in names, timekey, zone, fields)


def with_defaults(defaults: Mapping[str, Any]) -> dict[str, Any]:
    """An output's `buffer_defaults` by attribute name (`@type` is the attribute `type`)."""
    return {name.removeprefix("@"): value for name, value in defaults.items()}
