"""The multiline parser: a regexp, in up to twenty parts, over texts of several lines.

The parts `format1`, `format2`, ... are put together as they stand; the dot matches newlines. The expression
is applied again to what follows a match, so that a text may give several events. Inputs that read lines
(tail) start a new text at each line that matches `format_firstline`; other inputs hand over whole texts
anyway.

*Delivery*: a text that is not matched gives no event (`unmatched`; with `unmatched_lines` it becomes the
field `unmatched_line`). Otherwise as the regexp parser.

*Differs from Fluentd*: an expression that matches nothing at all ends the search (Fluentd does not come
back).
"""

from __future__ import annotations

from forwarder import _native
from forwarder.api import CompiledParser, ConfigError, string
from forwarder.api.parsing import CommonParser

_FORMATS = tuple(f"format{number}" for number in range(1, 21))


class MultilineParser(CommonParser):
    """One event for each match."""

    format_firstline = string("Regexp of a text's first line, between slashes.", None)
    unmatched_lines = string("Set to anything: text that is not matched becomes an event.", None)
    time_key = string("Field that holds the event's time.", "time")

    format1 = string("First part of the expression, between slashes.", None)
    format2 = string("Second part.", None)
    format3 = string("Third part.", None)
    format4 = string("Fourth part.", None)
    format5 = string("Fifth part.", None)
    format6 = string("Sixth part.", None)
    format7 = string("Seventh part.", None)
    format8 = string("Eighth part.", None)
    format9 = string("Ninth part.", None)
    format10 = string("Tenth part.", None)
    format11 = string("Eleventh part.", None)
    format12 = string("Twelfth part.", None)
    format13 = string("Thirteenth part.", None)
    format14 = string("Fourteenth part.", None)
    format15 = string("Fifteenth part.", None)
    format16 = string("Sixteenth part.", None)
    format17 = string("Seventeenth part.", None)
    format18 = string("Eighteenth part.", None)
    format19 = string("Nineteenth part.", None)
    format20 = string("Twentieth part.", None)

    def configure(self) -> None:
        super().configure()
        source = "".join(self._parts())
        if self.format_firstline is not None:
            self._check(self.format_firstline, "format_firstline")
        self._compiled = self.compile(
            _native.multiline_parser, source, self.unmatched_lines is not None, self.options()
        )

    def compiled(self) -> CompiledParser:
        return self._compiled

    def _parts(self) -> list[str]:
        parts: list[str] = []
        missing: str | None = None
        for name in _FORMATS:
            value: str | None = getattr(self, name)
            if value is None:
                missing = missing or name
            elif missing is not None:
                raise ConfigError(f"{name} is there but {missing} is missing", param=name)
            else:
                parts.append(self._check(value, name))
        if not parts:
            raise ConfigError("expected at least format1", param="format1")
        return parts

    def _check(self, value: str, param: str) -> str:
        if len(value) < 2 or value[0] != "/" or value[-1] != "/":
            raise ConfigError(f"expected a regexp between slashes, not {value!r}", param=param)
        try:
            _native.check_regexp(value)
        except ValueError as error:
            raise ConfigError(str(error.args[0]), param=param) from None
        return value[1:-1]
