"""The cri parser: lines as Kubernetes' container runtimes write them, `TIME STREAM TAGS CONTENT`.

Fields `stream`, `logtag`, `message` and the time. With a `<parse>` section inside, that parser takes the
content, and `stream` and `logtag` are added to what it gives. The runtime cuts long lines into parts (tag
`P`, the last one `F`): `in_tail` puts them together again, per stream.

*Delivery*: a line that is not of this form gives no event (`unmatched`), a time that does not fit
`time_format` neither (`invalid_time`). What the inner parser refuses is lost by its reason.

*Differs from Fluentd* (fluent-plugin-parser-cri): one space separates the parts, so that indented content
keeps its indentation. Where the inner parser finds no time in the content, the event has the runtime's time.
"""

from __future__ import annotations

from typing import Any

from forwarder import _native
from forwarder.api import CompiledParser, Parser, boolean, string
from forwarder.api.parameters import SectionParam
from forwarder.api.parsing import CommonParser
from forwarder.api.server import receiver_parser


class CriParser(CommonParser):
    """One event for each line."""

    merge_cri_fields = boolean("With a parser inside: add `stream` and `logtag` to what it gives.", True)
    time_key = string("Field that takes the time as it is written.", "time")
    time_format = string("How the time is written.", "%Y-%m-%dT%H:%M:%S.%L%z")
    keep_time_key = boolean("Leave the time in the record.", True)

    parse_section: SectionParam[Parser | None] = SectionParam(
        "What parses the content.", section=None, kind="parser", name="parse", multiple=False, required=False,
        init=False, default=None,
    )  # fmt: skip

    def configure(self) -> None:
        super().configure()
        inner = self.parse_section
        content = None if inner is None else receiver_parser(self, inner)
        self._compiled = self.compile(
            _native.cri_parser, content, self.merge_cri_fields, self._options(inner)
        )

    def _options(self, inner: Parser | None) -> dict[str, Any]:
        options = self.options()
        if inner is not None and "estimate_current_event" not in self.given:
            options["estimate_current_event"] = bool(getattr(inner, "estimate_current_event", True))
        return options

    def compiled(self) -> CompiledParser:
        return self._compiled
