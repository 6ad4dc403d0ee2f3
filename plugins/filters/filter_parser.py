"""Filter `parser`: parses a text field of each event; the parsed fields become the record.

*Delivery*: an event whose field is missing, is no text, or is not matched by the parser goes to the
`@ERROR` label (`emit_invalid_record_to_error false`: is dropped), under the reasons `missing_key`,
`not_text`, `unmatched`, `invalid_time`, `match_limit`, `malformed`, `limit` and `parser_error`. With
`reserve_data` an event that is not matched, or that lacks the field, goes on unchanged as well. A text that
gives several events (a JSON array) makes several of one; one that gives none (an empty array) is dropped as
`no_events`.

*Time*: the parsed one. Where the parser finds none the event gets the present time, unless
`reserve_time` is set or the parser has `estimate_current_event false`.

*Differs from Fluentd*: text that is not UTF-8 is parsed as it is and no error;
`replace_invalid_sequence` still replaces what is invalid by `?` first. An array with several unusable
elements sends its event to `@ERROR` once, not once per element.
"""

from __future__ import annotations

from collections.abc import Iterable

from forwarder import _native
from forwarder.api import ConfigError, EventBatch, Filter, boolean, parser_section, string
from forwarder.api.plugin import Record

_MESSAGES = {
    "missing_key": "the field to parse does not exist",
    "not_text": "the field to parse is no text",
    "unmatched": "pattern not matched",
    "invalid_time": "invalid time",
    "match_limit": "the pattern needs too many steps",
    "malformed": "the text breaks the rules of its format",
    "limit": "too deeply nested or too long",
    "parser_error": "the parser failed",
}
_RESERVABLE = frozenset({"missing_key", "unmatched", "match_limit", "limit"})
"""What leaves the event in the stream where `reserve_data` is set."""


class ParserFilter(Filter):
    """Parses a text field of each event."""

    key_name = string("The field to parse: a name, or a record accessor such as `$.kubernetes.log`.")
    reserve_data = boolean("Keep the other fields; where both have a key the parsed value counts.", False)
    reserve_time = boolean("Keep the event's time.", False)
    remove_key_name_field = boolean("With `reserve_data`: remove the field once it is parsed.", False)
    inject_key_prefix = string("Prefix for the names of parsed fields.", None)
    replace_invalid_sequence = boolean("Replace what is no UTF-8 by `?` before parsing.", False)
    hash_value_field = string("Put the parsed fields as a hash into this field.", None)
    emit_invalid_record_to_error = boolean("Send events that are not parsed to the `@ERROR` label.", True)
    parse = parser_section("How to parse the field.")

    def configure(self) -> None:
        """Compiles the filter. Raises ConfigError."""
        super().configure()
        compiled = self.parse.compiled()
        if compiled is None:
            estimate = bool(getattr(self.parse, "estimate_current_event", True))
            compiled = _native.python_parser(self._parse_in_python, estimate)
        try:
            self._native = _native.ParserFilter(
                compiled,
                self.key_name,
                reserve_data=self.reserve_data,
                reserve_time=self.reserve_time,
                remove_key_name_field=self.remove_key_name_field,
                inject_key_prefix=self.inject_key_prefix,
                replace_invalid_sequence=self.replace_invalid_sequence,
                hash_value_field=self.hash_value_field,
                keep_failed=self.emit_invalid_record_to_error,
            )
        except ValueError as error:
            raise ConfigError(str(error), param="key_name") from None

    def filter_batch(self, batch: EventBatch) -> EventBatch:
        """The parsed events. What is not parsed goes to @ERROR."""
        result = self._native.apply(batch)
        for reason, count, events, sample in result.failures:
            message = _MESSAGES.get(reason)
            data = sample.decode(errors="backslashreplace")
            if message is not None:
                self.log_repeated(message, count=count, key_name=self.key_name, data=data)
            if events:
                self.context.emit_error(events, reason, f"{message}: {self.key_name}: {data!r}")
            elif not (self.reserve_data and reason in _RESERVABLE):
                self.context.drop(count, reason)
        return result.good

    def _parse_in_python(self, text: bytes) -> Iterable[tuple[int | None, Record]]:
        """A parser without a native form, called once per event. The native caller counts its errors
        but does not show them."""
        try:
            return list(self.parse.parse(text))
        except Exception as error:
            self.log_repeated("the parser failed", level="error", error=repr(error))
            raise
