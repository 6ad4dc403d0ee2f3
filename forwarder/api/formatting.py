"""What the formatters have in common: time parameters and line ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

from forwarder import _native
from forwarder._native import CompiledFormatter
from forwarder.api.errors import ConfigError
from forwarder.api.parameters import array, boolean, enum, string
from forwarder.api.plugin import Formatter
from forwarder.api.zones import check_zone

T = TypeVar("T")
_NEWLINES: Final = {"lf": "\n", "crlf": "\r\n"}


def output_zone(timezone: str | None, utc: bool | None, localtime: bool | None) -> str | None:
    """The zone for times that are written: "UTC", a name or an offset; None: the machine's."""
    if timezone is not None:
        return timezone
    return "UTC" if utc or localtime is False else None


def column_delimiter(text: str) -> str | None:
    """The character that a `delimiter` parameter stands for; None: not one of the words."""
    word = text.upper()
    if "SPACE" in word:
        return " "
    if "COMMA" in word:
        return ","
    return "\t" if word in ("\t", "TAB") else None


def native(make: Callable[[], T], *, param: str | None = None) -> T:
    """Calls a maker of the native crate; its ValueError becomes a ConfigError at `param`."""
    try:
        return make()
    except ValueError as error:
        raise ConfigError(str(error.args[0]), param=param) from error


class CommonFormatter(Formatter):
    """Fluentd's common parameters of `<format>`. A subclass gives `make`; nothing else is needed."""

    time_type = enum(
        "How the event's time is written; `mixed` is `float` here.",
        ("string", "unixtime", "float", "mixed"),
        "string",
    )
    time_format = string("strftime directives; not set: ISO 8601.", None)
    localtime = boolean(
        "Times in the machine's zone; not set: yes, unless utc or timezone is.", None, never_nil=True
    )
    utc = boolean("Times in UTC.", None, never_nil=True)
    timezone = string("Zone of times: `+09:00`, `Asia/Tokyo`.", None)
    time_format_fallbacks = array("No effect: it is for reading times, and formatters write them.", [])

    _compiled: CompiledFormatter | None = None

    def configure(self) -> None:
        """Checks the time parameters and compiles. Raises ConfigError."""
        zone = self.zone
        native(lambda: _native.check_parse_options({"time_format": "%s", "timezone": zone}), param="timezone")
        if self.time_type == "mixed" and not self.time_format and not self.time_format_fallbacks:
            raise ConfigError("time_type mixed needs time_format or time_format_fallbacks", param="time_type")
        check_zone(self.timezone, "timezone")
        self._compiled = native(self.make)

    def compiled(self) -> CompiledFormatter | None:
        return self._compiled

    def make(self) -> CompiledFormatter | None:
        """The native form. ValueError for parameters that it refuses."""
        raise NotImplementedError

    @property
    def zone(self) -> str | None:
        """The zone for times, as the native formatters take it.

        Raises:
            ConfigError: `utc` and `localtime` contradict each other.
        """
        if self.utc is not None and self.utc == self.localtime:
            raise ConfigError("both of utc and localtime are specified, use only one of them", param="utc")
        return output_zone(self.timezone, self.utc, self.localtime)


class LineFormatter(CommonFormatter):
    """A formatter that ends each event's text with a line end."""

    newline = enum("The line end: `lf` or `crlf`.", ("lf", "crlf"), "lf")

    def line_end(self, wanted: bool = True) -> str:
        """What stands behind each event's text."""
        return _NEWLINES[self.newline] if wanted else ""
