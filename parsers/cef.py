"""The cef parser: ArcSight's Common Event Format, as firewalls and scanners send it, mostly by syslog.

    Sep 19 08:26:10 gate CEF:0|Vendor|Product|1.0|100|Worm stopped|10|src=10.0.0.1 msg=a b cs1Label=Rule cs1=7

Fields: `syslog_timestamp`, `syslog_hostname`, `syslog_tag` (where there is a syslog header), `cef_version`,
`cef_device_vendor`, `cef_device_product`, `cef_device_version`, `cef_device_event_class_id`, `cef_name`,
`cef_severity`, and those of the extension under their own names; custom fields and their labels (`cs1`,
`cs1Label`) stay as they are. Escapes (`\\|`, `\\=`, `\\\\`, `\\n`, `\\r`) are resolved. All are texts
without `types`.

The event's time is the header's (RFC 3164 or RFC 3339, with or without `<PRI>`), or that of the field
`time_key`, such as `rt`: milliseconds, or a text in a common form, or what `time_format` and `time_type`
say.

*Delivery*: a text without a `CEF:` header of seven fields gives no event (`unmatched`), a time that cannot
be read neither (`invalid_time`).

*Differs from Fluentd* (fluent-plugin-parser_cef): what is no CEF is not emitted as a field `raw`. Any key
of the extension is taken without `parse_strict_mode`, so vendors' own keys need no list. Escapes are
resolved, also those of bars in the header. The time of the header needs no expression.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from forwarder import _native
from forwarder.api import CompiledParser, ConfigError, boolean, enum, integer, string
from forwarder.api.parsing import CommonParser

_BOTH_FORMS = "times of RFC 3164 and RFC 3339 are both recognised"


class CefParser(CommonParser):
    """One event for each text."""

    own_time_format = "%b %d %Y %H:%M:%S"

    log_format = enum(
        "What stands before `CEF:`: a syslog header (`syslog`), nothing (`plain`), or either.",
        ("auto", "syslog", "plain"), "auto",
    )  # fmt: skip
    log_utc_offset = string("As `timezone`: the zone of times that name none, such as `+09:00`.", None)
    cef_version = integer("The one version of CEF that is taken; not set: any.", None)
    parse_strict_mode = boolean(
        "Take only the keys of `cef_keyfilename`: what looks like another is part of the value before it.",
        False,
    )
    cef_keyfilename = string(
        "File with the keys of the extension, one a line; YAML lists under any names are taken too.", None
    )
    output_raw_field = boolean("Add the whole text as field `raw`.", False)
    syslog_timestamp_format = string("Regexp of the header's time.", None, unsupported=_BOTH_FORMS)
    syslog_timestamp_format_5424 = string("Regexp of the header's time.", None, unsupported=_BOTH_FORMS)

    def configure(self) -> None:
        super().configure()
        keys = None
        if self.parse_strict_mode:
            if self.cef_keyfilename is None:
                raise ConfigError("parse_strict_mode needs cef_keyfilename", param="cef_keyfilename")
            keys = _keys(Path(self.cef_keyfilename))
        self._compiled = self.compile(
            _native.cef_parser, self.log_format, self.cef_version, keys, self.output_raw_field, self.options()
        )

    def options(self) -> dict[str, Any]:
        """As CommonParser's, with `log_utc_offset`."""
        options = super().options()
        if options["timezone"] is None:
            options["timezone"] = self.log_utc_offset
        return options

    def compiled(self) -> CompiledParser:
        return self._compiled


def _keys(path: Path) -> list[str]:
    """The keys in a file. Raises ConfigError."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {error}", param="cef_keyfilename") from None
    lines = (line.partition("#")[0].strip().removeprefix("- ").strip() for line in text.splitlines())
    keys = [line for line in lines if line and not line.endswith(":")]
    for key in keys:
        if not re.fullmatch(r"[\w.\[\]-]+", key, re.ASCII):
            raise ConfigError(f"{path}: {key!r} is no key: expected one a line", param="cef_keyfilename")
    if not keys:
        raise ConfigError(f"{path} has no keys: expected one a line", param="cef_keyfilename")
    return keys
