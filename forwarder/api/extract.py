"""`<extract>` where records come from a command: tag and time from fields of the record."""

from __future__ import annotations

from typing import Any

from forwarder._native import BodyReader, CompiledParser
from forwarder.api.errors import ConfigError
from forwarder.api.formatting import output_zone
from forwarder.api.shared_sections import Extract


class CommandExtract(Extract):
    """The time field counts where the parser gives no time."""

    def configure(self) -> None:
        if self.time_format is not None and "time_type" not in self.given:
            self.time_type = "string"
        if self.utc and "localtime" in self.given and self.localtime:
            raise ConfigError("both of utc and localtime are specified, use only one of them", param="utc")

    def time_options(self) -> dict[str, Any]:
        """How the time is written, as `BodyReader` takes it."""
        return {
            "time_type": self.time_type,
            "time_format": self.time_format,
            "time_format_fallbacks": self.time_format_fallbacks,
            "timezone": output_zone(self.timezone, self.utc, self.localtime),
        }


def body_reader(parser: CompiledParser, extract: CommandExtract | None, tag_prefix: str = "") -> BodyReader:
    """What reads records as `extract` says. `tag_prefix` stands before tags from records.

    Raises:
        ConfigError: a time format that cannot be used.
    """
    if extract is None:
        return BodyReader(parser)
    try:
        return BodyReader(
            parser,
            time_key=extract.time_key,
            keep_time_key=extract.keep_time_key,
            time=extract.time_options() if extract.time_key is not None else None,
            tag_key=extract.tag_key,
            keep_tag_key=extract.keep_tag_key,
            tag_prefix=tag_prefix,
        )
    except ValueError as error:
        raise ConfigError(str(error.args[0]), param="extract") from None
