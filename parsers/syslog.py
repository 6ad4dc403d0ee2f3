"""Parser `syslog`: messages of RFC 3164 (BSD syslog) and RFC 5424.

Fields: `host`, `ident`, `pid` (RFC 3164: only where the message has one), `message`; RFC 5424 adds `msgid`
and `extradata` (the structured data as written). What is `-` in the message stays `-`. `pri` comes with
`with_priority`, `time` (the text) with `keep_time_key`.

*Delivery*: a text that is no syslog message gives no event (`unmatched`), and neither does one whose time
does not fit (`invalid_time`). An RFC 3164 message ends at its first newline (with `parser_engine string`
it does not), as in Fluentd.

*Differs from Fluentd*: bytes that are not UTF-8 are kept. `types`, `time_key`, `null_value_pattern`,
`null_empty_string` and `estimate_current_event` have no effect on syslog messages, as in Fluentd.
"""

from __future__ import annotations

from forwarder import _native
from forwarder.api import CompiledParser, boolean, enum, string
from forwarder.api.parsing import CommonParser


class SyslogParser(CommonParser):
    """syslog messages, RFC 3164 or RFC 5424."""

    message_format = enum(
        "Which messages are expected; `auto`: RFC 5424 where one starts with a priority and a version.",
        ("rfc3164", "rfc5424", "auto"),
        "rfc3164",
    )
    own_time_format = "%b %d %H:%M:%S"

    with_priority = boolean("Messages start with `<priority>`, which goes into the field `pri`.", False)
    time_format = string(
        "strptime format of the time, which may have spaces. Default: `%b %d %H:%M:%S` for RFC 3164, "
        "`rfc5424_time_format` for RFC 5424. With `auto` it is that of RFC 3164.",
        None,
    )
    rfc5424_time_format = string(
        "strptime format of RFC 5424 times. One without a fraction is tried in any case.",
        "%Y-%m-%dT%H:%M:%S.%L%z",
    )
    parser_engine = enum(
        "How Fluentd would parse: `string` cuts at single spaces, keeps the newlines of RFC 3164 messages, "
        "and removes backslashes from structured data. Both are equally fast here.",
        ("regexp", "string"),
        "regexp",
        alias="parser_type",
    )
    support_colonless_ident = boolean(
        "For `parser_engine string`: the first word is the ident even where no colon follows it.", True
    )

    def configure(self) -> None:
        """Compiles the parser. Raises ConfigError."""
        super().configure()
        self._compiled = self.compile(
            _native.syslog_parser,
            self.message_format,
            self.with_priority,
            self.time_format,
            self.rfc5424_time_format,
            self.support_colonless_ident,
            self.parser_engine,
            self.options(),
        )

    def compiled(self) -> CompiledParser:
        """The native form."""
        return self._compiled
