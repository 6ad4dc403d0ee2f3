"""Objects in Parquet: written by pyarrow of a chunk's lines, and read again as lines.

Without a schema file an object has the columns time, tag and record (JSON), which hold every event. With one
it has the columns of the schema, and of each record what the schema names.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from io import BytesIO
from typing import TYPE_CHECKING, Any, Final

from forwarder._native import CompiledFormatter, json_formatter, out_file_formatter
from forwarder.api import ConfigError, UnrecoverableError

if TYPE_CHECKING:
    from forwarder.plugins.outputs.s3.parameters import Compress
    from forwarder.plugins.outputs.s3.parquet_schema import Schemas

MAGIC: Final = b"PAR1"
_NEEDED: Final = "needs the package pyarrow: pip install 'forwarder[parquet]'"
_FORMATS: Final = {"msgpack": "msgpack", "jsonl": "json", "json": "json"}
"""By `record_type`: the `@type` of `<format>` that makes it."""
_EVENT: Final = r"^(?P<seconds>\d+)\.(?P<nanos>\d{1,9})\t(?P<tag>.*)\t(?P<record>\{.*\})$"
_COLUMNS: Final = ["time", "tag", "record"]


def lines(options: Compress, written: str) -> CompiledFormatter:
    """What writes events into the buffer. `written`: the type of `<format>`.

    Raises:
        ConfigError: `<format>` does not fit.
    """
    if find_spec("pyarrow") is None:
        raise ConfigError(f"store_as parquet {_NEEDED}", param="store_as")
    if options.schema_file is None:
        if written != "out_file":
            raise ConfigError(
                "store_as parquet without schema_file has the columns time, tag, record: leave out <format>",
                param="store_as",
            )
        return out_file_formatter("float", None, "UTC", True, "\t", "\n")
    expected = _FORMATS.get(options.record_type)
    if expected is None:
        raise ConfigError(
            f"record_type {options.record_type}: expected msgpack or jsonl", param="record_type"
        )
    if written != expected:
        raise ConfigError(f"record_type {options.record_type} needs <format> @type {expected}",
                          param="record_type")  # fmt: skip
    return json_formatter("oj", "\n")


def packer(options: Compress) -> Callable[[Sequence[bytes]], list[bytes]]:
    """What makes an object's content of a chunk's blocks. Raises ConfigError: a wrong schema."""
    if options.schema_file is None:
        return lambda blocks: [_written(_events(b"".join(blocks)), options)]
    from forwarder.plugins.outputs.s3.parquet_schema import Schemas  # noqa: PLC0415 - imports pyarrow

    schemas = Schemas(options.schema_type, options.schema_file)
    return lambda blocks: [_written(_records(b"".join(blocks), schemas), options)]


def _events(data: bytes) -> Any:
    import pyarrow as arrow  # noqa: PLC0415 - costs tens of megabytes
    from pyarrow import compute, csv  # noqa: PLC0415

    # a delimiter that JSON cannot hold: each line is one value
    table = csv.read_csv(
        arrow.BufferReader(data),
        read_options=csv.ReadOptions(column_names=["line"], block_size=len(data) + 1, use_threads=False),
        parse_options=csv.ParseOptions(delimiter="\x01", quote_char=False),
        convert_options=csv.ConvertOptions(column_types={"line": arrow.string()}),
    )
    parts = compute.extract_regex(table["line"], _EVENT).combine_chunks()
    if parts.null_count:
        raise UnrecoverableError("an event that is no line of time, tag and record")
    nanos = compute.utf8_rpad(parts.field("nanos"), 9, "0")
    digits = compute.binary_join_element_wise(parts.field("seconds"), nanos, "")
    times = digits.cast(arrow.int64()).cast(arrow.timestamp("ns", "UTC"))
    return arrow.table([times, parts.field("tag"), parts.field("record")], names=_COLUMNS)


def _records(data: bytes, schemas: Schemas) -> Any:
    import pyarrow as arrow  # noqa: PLC0415 - costs tens of megabytes
    from pyarrow import json as reader  # noqa: PLC0415

    try:
        table = reader.read_json(
            arrow.BufferReader(data),
            read_options=reader.ReadOptions(block_size=len(data) + 1, use_threads=False),
            parse_options=reader.ParseOptions(
                explicit_schema=schemas.read, unexpected_field_behavior="ignore"
            ),
        )
        for field, column in zip(schemas.read, table.columns, strict=True):
            if column.null_count and not field.nullable:
                raise UnrecoverableError(
                    f"an event without the field {field.name}, which the schema requires"
                )
        return table.cast(schemas.written)
    except arrow.ArrowException as error:
        raise UnrecoverableError(f"an event does not fit the schema: {error}") from error


def _written(table: Any, options: Compress) -> bytes:
    from pyarrow import parquet  # noqa: PLC0415 - costs tens of megabytes

    codec = options.parquet_compression_codec
    rows = max(1, options.parquet_row_group_size * table.num_rows // max(1, table.nbytes))
    sink = BytesIO()
    parquet.write_table(
        table, sink, row_group_size=rows, data_page_size=options.parquet_page_size,
        compression="none" if codec == "uncompressed" else codec,
    )  # fmt: skip
    return sink.getvalue()


def read(content: bytes) -> Iterator[bytes]:
    """The lines of an object: `time<TAB>tag<TAB>record`, or JSON of each row.

    Raises:
        ValueError: it is broken, or pyarrow is not there.
    """
    if find_spec("pyarrow") is None:
        raise ValueError(f"Parquet {_NEEDED}")
    import pyarrow as arrow  # noqa: PLC0415 - costs tens of megabytes
    from pyarrow import compute, parquet  # noqa: PLC0415

    try:
        file = parquet.ParquetFile(BytesIO(content))
        ours = (
            file.schema_arrow.names == _COLUMNS and file.schema_arrow.field("record").type == arrow.string()
        )
        for batch in file.iter_batches(16_384):
            if ours:
                times = (
                    batch["time"].cast(arrow.timestamp("ns", "UTC")).cast(arrow.int64()).cast(arrow.string())
                )
                joined = compute.binary_join_element_wise(times, batch["tag"], batch["record"], "\t")
                rows = joined.to_pylist()
            else:
                rows = [json.dumps(row, default=_plain, ensure_ascii=False) for row in batch.to_pylist()]
            yield "".join(f"{row}\n" for row in rows).encode()
    except arrow.ArrowException as error:
        raise ValueError(str(error)) from error


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return value.isoformat() if hasattr(value, "isoformat") else str(value)
