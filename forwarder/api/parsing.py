"""What all parsers of text have in common: Fluentd's common parse parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

from forwarder import _native
from forwarder._native import CompiledParser
from forwarder.api.errors import ConfigError
from forwarder.api.parameters import array, boolean, duration, enum, expression, hash_, string
from forwarder.api.plugin import Parser
from forwarder.api.zones import check_zone

Made = TypeVar("Made")

TIME_TYPES = ("string", "unixtime", "float", "mixed")


class CommonParser(Parser):
    """A parser with Fluentd's common parse parameters.

    A subclass with a native form makes it in `configure`::

        self._compiled = self.compile(_native.json_parser, self.options())

    A subclass that overrides a default declares the parameter again.
    """

    own_time_format: ClassVar[str | None] = None
    """The format of times where no `time_format` is set, in a parser of texts that have one."""

    types = hash_(
        "Types of fields: `field:integer,other:time:%Y-%m-%d` or a JSON object. Known: string, integer, "
        "float, bool, time[:timezone][:format], array[:delimiter].",
        None,
        of="string",
    )
    time_key = string("Field that holds the event's time.", None)
    time_type = enum(
        "How the time is written: by `time_format`, as whole seconds, or with a fraction.",
        TIME_TYPES,
        "string",
    )
    time_format = string(
        "strptime format of the time, or `%iso8601`. Without it what Ruby's Time.parse recognises.", None
    )
    time_format_fallbacks = array(
        "Formats tried in order after `time_format`, for `time_type mixed`.", [], of="string"
    )
    timezone = string("Zone of times that name none: `+09:00`, or a name such as `Asia/Tokyo`.", None)
    localtime = boolean(
        "Times that name no zone are in the machine's zone (the default).", None, never_nil=True
    )
    utc = boolean("Times that name no zone are UTC.", None, never_nil=True)
    null_value_pattern = expression("Texts that match become null.", None)
    null_empty_string = boolean("Empty texts become null.", False)
    estimate_current_event = boolean("An event without a time gets the present one.", True)
    keep_time_key = boolean("Leave the time field in the record.", False)
    timeout = duration(
        "Longest search of a pattern in one text; without it about a tenth of a second. What takes longer is "
        "not matched. Parsers without patterns need no such limit.",
        None,
    )

    def configure(self) -> None:
        """Checks the time parameters. Raises ConfigError."""
        super().configure()
        if self.utc is not None and self.localtime is not None and self.utc == self.localtime:
            raise ConfigError(
                "utc and localtime contradict each other: use only one of them", param="localtime"
            )
        check_zone(self.timezone, "timezone")
        options = self.options()
        self.compile_with(
            _native.check_parse_options,
            {**options, "time_format": options["time_format"] or self.own_time_format},
        )

    def options(self) -> dict[str, Any]:
        """The common parameters as native `*_parser(...)` functions take them.

        Keys: `types` (field -> type as written), `time_key`, `time_type`, `time_format`,
        `time_format_fallbacks`, `timezone` (None: the machine's), `keep_time_key`, `null_value_pattern`
        (as written), `null_empty_string`, `estimate_current_event`, `timeout` (seconds or None).
        """
        timezone = self.timezone
        # Fluentd looks at utc only where localtime is not given
        if timezone is None and (self.utc if self.localtime is None else not self.localtime):
            timezone = "UTC"
        return {
            "types": self.types or {},
            "time_key": self.time_key,
            # as Fluentd does where a plugin or its owner has numbers as default
            "time_type": "string" if self.time_format and "time_type" not in self.given else self.time_type,
            "time_format": self.time_format,
            "time_format_fallbacks": self.time_format_fallbacks,
            "timezone": timezone,
            "keep_time_key": self.keep_time_key,
            "null_value_pattern": self.null_value_pattern,
            "null_empty_string": self.null_empty_string,
            "estimate_current_event": self.estimate_current_event,
            "timeout": self.timeout,
        }

    def compile(self, make: Callable[..., CompiledParser], *arguments: Any) -> CompiledParser:
        """`make(*arguments)`, where a native ValueError becomes a ConfigError that names the parameter."""
        return self.compile_with(make, *arguments)

    def compile_with(self, make: Callable[..., Made], *arguments: Any) -> Made:
        """The same for native functions that give something else."""
        try:
            return make(*arguments)
        except ValueError as error:
            message = str(error.args[0]) if error.args else str(error)
            param = error.args[1] if len(error.args) > 1 else None
            raise ConfigError(message, param=param) from None
