"""Filter `record_transformer`: sets, keeps and removes fields, and takes the time from a field.

Placeholders in values and in names of fields: `${tag}`, `${tag_parts[n]}`, `${tag_prefix[n]}`,
`${tag_suffix[n]}`, `${time}`, `${hostname}`, `${record["key"]}`; `#{...}` is evaluated when the configuration
is read. A value that is one placeholder keeps its type (`auto_typecast`). What is no placeholder gives null,
as in Fluentd, and a warning; so does a field that a record has not.

With `enable_ruby` placeholders are expressions: the part of Ruby that docs/expressions.md describes,
evaluated natively. What it has not is refused when the configuration is read, with what to write instead.

*Delivery*: an event whose `renew_time_key` field is no time goes to `@ERROR` (`invalid_time`), and so does
one for which an expression raises, as `record["a"]["b"]` where there is no `a` (`expression`).

*Differs from Fluentd*: no Ruby runs; expressions are a fixed part of the language. Texts that are no UTF-8
are searched and changed as bytes where Ruby raises.
"""

from __future__ import annotations

import json
from typing import Any

from forwarder import _native
from forwarder.api import ConfigError, EventBatch, Filter, array, boolean, free_sections, string


class RecordTransformerFilter(Filter):
    """Sets, keeps and removes fields."""

    remove_keys = array("Fields to remove, after all else: names or record accessors.", None, of="string")
    keep_keys = array("With `renew_record`: fields of the old record that stay.", None, of="string")
    renew_record = boolean("Start from an empty record.", False)
    renew_time_key = string("Field (of the new record) whose Unix time becomes the event's time.", None)
    enable_ruby = boolean("Placeholders are expressions, a part of Ruby.", False)
    auto_typecast = boolean("A value that is one placeholder keeps its type.", True)
    records = free_sections("Fields to set.", name="record")

    def configure(self) -> None:
        """Compiles the templates. Raises ConfigError."""
        super().configure()
        if self.keep_keys is not None and not self.renew_record:
            raise ConfigError("`renew_record` must be true to use `keep_keys`", param="keep_keys")
        record = {key: self._value(key, value) for each in self.records for key, value in each.items()}
        try:
            self._native, unknown = _native.RecordTransformer.compile(
                record,
                remove_keys=self.remove_keys or [],
                keep_keys=(self.keep_keys or []) if self.renew_record else None,
                renew_time_key=self.renew_time_key,
                auto_typecast=self.auto_typecast,
                ruby=self.enable_ruby,
                hostname=self.context.hostname,
            )
        except ValueError as error:
            raise ConfigError(str(error.args[0]), param="remove_keys") from None
        for key, text, why in unknown:
            if why is not None:
                raise ConfigError(f"{key}: {why}: {text} (see docs/expressions.md)", param=key)
            self.log.warning("unknown placeholder %s in <record>: %s is null", text, key)

    def filter_batch(self, batch: EventBatch) -> EventBatch:
        """The changed events."""
        good, failed, raised, why, missing = self._native.apply(batch)
        if missing and not self.enable_ruby:
            self.log_repeated("unknown placeholder: the record has no such field", count=missing)
        if failed:
            self.context.emit_error(
                failed, "invalid_time", f"renew_time_key: {self.renew_time_key} is no Unix time"
            )
        if raised:
            self.context.emit_error(raised, "expression", why)
        return good

    def _value(self, key: str, value: Any) -> Any:
        """What stands in `<record>`; JSON is taken apart."""
        if not isinstance(value, str) or not value.startswith(("{", "[")):
            return value
        try:
            return json.loads(value)
        except (ValueError, RecursionError) as error:
            self.log.warning("%s looks like JSON and is none, it stays text: %s", key, error)
            return value
