"""`<match> @type elasticsearch_dynamic`: as `@type elasticsearch`, with parameters that depend on each event.

Where it stands in the index, the hosts and most other texts, `${...}` is a Ruby expression there. These are
translated and evaluated natively: `record['a']['b']`, `record.dig('a', 'b')`, `tag`, `tag_parts[1]` (split at
`delimiter`), `Time.at(time).strftime('%Y.%m')` (with `.utc` before it), texts in quotes, `||`, `downcase`,
`upcase`, `strip`, `to_s`. Any other expression is refused.

*Delivery*: as `@type elasticsearch`. Events for which an expression has no value go to `@ERROR` (`bad_index`,
`bad_parameter`).

*Differs from Fluentd*: as `@type elasticsearch`; numbers count as texts; documents of many indices go in one
request, those with other differences in one each.
"""

from __future__ import annotations

import copy
import threading
from typing import Any, ClassVar, Final

from forwarder._native import BulkGroups, EventBatch, EventStream
from forwarder.api import Chunk, ConfigError, ForwarderError, PartialWrite, UnrecoverableError, string
from forwarder.plugins.outputs.out_elasticsearch import ElasticsearchOutput

_KNOWN: Final = (
    "record['a']['b'], record.dig('a', 'b'), tag, tag_parts[1], Time.at(time).strftime('%Y.%m.%d'), texts, "
    "||, downcase, upcase, strip, to_s"
)
_REMEMBERED: Final = 1000


class ElasticsearchDynamicOutput(ElasticsearchOutput):
    """Documents in a cluster, with parameters that depend on each event."""

    delimiter = string("What stands between the parts of a tag.", ".")

    _dynamic: ClassVar[tuple[str, ...]] = (
        "hosts", "host", "logstash_dateformat", "time_key", "tag_key", "type_name",
        "id_key", "parent_key", "routing_key",
    )  # fmt: skip
    """What may hold expressions, beside the index."""

    def configure(self) -> None:
        index = "logstash_prefix" if self.logstash_format else "index_name"
        self._index_template = self._compiled(index)
        self._names = tuple(name for name in self._dynamic if self._compiled(name) is not None)
        self._groups = BulkGroups([getattr(self, name) for name in self._names], self.delimiter)
        self._views: dict[tuple[str, ...], ElasticsearchDynamicOutput] = {}
        self._views_lock = threading.Lock()
        super().configure()

    def write(self, chunk: Chunk) -> None:
        if not self._names:
            super().write(chunk)
            return
        groups, failed = self._groups.divide(chunk.blocks(), chunk.key.tag)
        if failed:
            batch = EventBatch([(chunk.key.tag or "", failed)])
            detail = f"{', '.join(self._names)}: no value for this event"
            self.context.emit_error(batch, "bad_parameter", detail)
        left: list[bytes] = []
        count = 0
        why: Exception | None = None
        for values, stream in groups:
            try:
                self._view(tuple(values))._write(_Part(chunk, stream))
            except PartialWrite as error:
                why = error
                left.append(error.rest)
                count += error.count
            except (UnrecoverableError, ConfigError) as error:
                batch = EventBatch([(chunk.key.tag or "", stream)])
                self.context.emit_error(batch, "bad_parameter", str(error))
            except ForwarderError as error:
                why = error
                left.append(bytes(stream))
                count += len(stream)
        if why is not None and count == chunk.count:
            raise why
        if why is not None:
            raise PartialWrite(str(why), b"".join(left), count)

    def _write(self, chunk: Chunk) -> None:
        super().write(chunk)

    def _compiled(self, name: str) -> str | None:
        """The parameter's text, where it holds expressions. Raises ConfigError for one that is not
        translated."""
        text = getattr(self, name)
        if text is None or "${" not in text:
            return None
        try:
            BulkGroups([text], self.delimiter)
        except ValueError as error:
            raise ConfigError(
                f"{name}: this Ruby is not translated: {error} (translated: {_KNOWN}; or make the field "
                "with a filter in Python before this output)",
                param=name,
            ) from None
        return str(text)

    def _view(self, values: tuple[str, ...]) -> ElasticsearchDynamicOutput:
        """This output with other parameters: connections, books and log are the same."""
        with self._views_lock:
            view = self._views.get(values)
            if view is None:
                view = copy.copy(self)
                view._encoders = {}
                for name, value in zip(self._names, values, strict=True):
                    setattr(view, name, value)
                if len(self._views) >= _REMEMBERED:
                    self._views.clear()
                self._views[values] = view
            return view

    def _encoding(self, major: int) -> dict[str, Any]:
        template = self._index_template
        return super()._encoding(major) | {
            "index_template": None if template is None else (template, self.delimiter)
        }

    def _index(self, chunk: Chunk) -> str:
        if self._index_template is None:
            return super()._index(chunk)
        return self.logstash_prefix_separator if self.logstash_format else ""

    def _fill(self, template: str, chunk: Chunk) -> str:
        """Nothing: `${...}` is no placeholder here, and `%Y` none either."""
        return template

    def _address(self, chunk: Chunk) -> str:
        return (self.hosts or self.host) if self._clusters.moving else ""

    def _check_encoding(self) -> None:
        if not self._names:
            super()._check_encoding()


class _Part:
    """Some events of a chunk."""

    def __init__(self, chunk: Chunk, stream: EventStream) -> None:
        self._chunk = chunk
        self._stream = stream
        self.id = chunk.id
        self.key = chunk.key
        self.count = len(stream)
        self.created_at = chunk.created_at

    @property
    def size_bytes(self) -> int:
        return len(bytes(self._stream))

    def blocks(self) -> list[bytes]:
        return [bytes(self._stream)]

    def read(self) -> bytes:
        return bytes(self._stream)

    def stream(self) -> EventStream:
        return self._stream
