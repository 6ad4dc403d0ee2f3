"""Formatter `keys`: the tag and the names of the fields, one event a line."""

from forwarder.api import Formatter, Record, string


class KeysFormatter(Formatter):
    """Shows which fields come."""

    separator = string("Between two names.", ",")

    def format(self, tag: str, time_ns: int, record: Record) -> bytes:
        return f"{tag}: {self.separator.join(record)}\n".encode()
