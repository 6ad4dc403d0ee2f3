"""`<format> @type out_file`: time, tag and record as JSON, with a delimiter between them.

    2023-11-14T22:13:20+00:00<TAB>app.access<TAB>{"code":200}

*Differs from Fluentd*: `time_type float` writes nine digits of nanoseconds; Fluentd loses digits where
there are less than 100,000,000 of them (1700000000.05 becomes `1700000000.0`).
"""

from __future__ import annotations

from forwarder import _native
from forwarder.api import CompiledFormatter, boolean, string
from forwarder.api.formatting import LineFormatter, column_delimiter


class OutFileFormatter(LineFormatter):
    """Time, tag and JSON."""

    output_time = boolean("With the time.", True)
    output_tag = boolean("With the tag.", True)
    delimiter = string("Between the columns: the word `SPACE`, `COMMA` or `TAB`; others mean TAB.", "\t")

    def make(self) -> CompiledFormatter:
        delimiter = column_delimiter(self.delimiter)
        if delimiter is None:
            self.log.warning(
                f"delimiter {self.delimiter!r} is none of the words SPACE, COMMA and TAB: a tab is used, "
                "as in Fluentd"
            )
        return _native.out_file_formatter(
            self.time_type if self.output_time else None,
            self.time_format,
            self.zone,
            self.output_tag,
            delimiter or "\t",
            self.line_end(),
        )
