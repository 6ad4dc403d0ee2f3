"""All that a plugin author imports.

Subclass `Input`, `Filter`, `RecordFilter`, `Parser`, `Formatter` or `Output`, declare parameters, and name
the class in an entry point of the group `forwarder.inputs` (`filters`, `parsers`, `formatters`, `outputs`).
"""

from forwarder._native import CompiledFormatter, CompiledParser, EventBatch, EventStream
from forwarder.api.chunk import Chunk, ChunkKey
from forwarder.api.errors import (
    BufferOverflow,
    ConfigError,
    ForwarderError,
    PartialWrite,
    UnrecoverableError,
)
from forwarder.api.parameters import (
    Section,
    array,
    boolean,
    duration,
    enum,
    expression,
    float_,
    formatter_section,
    free_section,
    free_sections,
    hash_,
    integer,
    optional_section,
    output_sections,
    parser_section,
    regexp,
    section,
    sections,
    size,
    string,
)
from forwarder.api.plugin import Filter, Formatter, Input, Output, Parser, Plugin, Record, RecordFilter

__all__ = [
    "BufferOverflow",
    "Chunk",
    "ChunkKey",
    "CompiledFormatter",
    "CompiledParser",
    "ConfigError",
    "EventBatch",
    "EventStream",
    "Filter",
    "Formatter",
    "ForwarderError",
    "Input",
    "Output",
    "Parser",
    "PartialWrite",
    "Plugin",
    "Record",
    "RecordFilter",
    "Section",
    "UnrecoverableError",
    "array",
    "boolean",
    "duration",
    "enum",
    "expression",
    "float_",
    "formatter_section",
    "free_section",
    "free_sections",
    "hash_",
    "integer",
    "optional_section",
    "output_sections",
    "parser_section",
    "regexp",
    "section",
    "sections",
    "size",
    "string",
]
