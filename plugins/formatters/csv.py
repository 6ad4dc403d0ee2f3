"""`<format> @type csv`: chosen fields as comma-separated values (RFC 4180).

Values are written as Ruby's `to_s` prints them. A missing field and nil are an empty column; without
`force_quotes`, empty text is `""`.
"""

from __future__ import annotations

from forwarder import _native
from forwarder.api import CompiledFormatter, ConfigError, array, boolean, string
from forwarder.api.formatting import CommonFormatter


class CsvFormatter(CommonFormatter):
    """Records as rows."""

    fields = array("The fields, in order: names, or record accessors such as `$.user.name`.", of="string")
    delimiter = string("What stands between columns; `TAB` or `\\t` is a tab.", ",")
    force_quotes = boolean("Quotes around every column; not set: where they are needed.", True)
    add_newline = boolean("A line end behind each row.", True)

    def make(self) -> CompiledFormatter:
        fields = [field for field in self.fields if field]
        if not fields:
            raise ConfigError("expected at least one field", param="fields")
        delimiter = "\t" if self.delimiter in ("TAB", r"\t") else self.delimiter
        return _native.csv_formatter(fields, delimiter, self.force_quotes, "\n" if self.add_newline else "")
