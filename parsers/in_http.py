"""Parser `in_http`: what `@type http` does with a body without a `<parse>` of its own: by its content type.

It says which field holds a record's time and how that is written; it parses nothing itself.
"""

from __future__ import annotations

from collections.abc import Iterable

from forwarder.api import Record, string
from forwarder.api.parsing import CommonParser


class InHttpParser(CommonParser):
    """By content type; for `@type http` only."""

    time_key = string("Field that holds a record's time.", "time")

    def parse(self, text: bytes) -> Iterable[tuple[int | None, Record]]:
        """Nothing."""
        return ()
