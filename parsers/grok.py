"""The grok parser: regular expressions put together from named patterns.

As fluent-plugin-grok-parser has it: `%{PATTERN:field:type}`, one `grok_pattern` or several `<grok>`
sections tried in order, the pattern series `legacy` and `ecs-v1`, own patterns from files.

*Delivery*: every text gives an event; one that no pattern matches becomes `{"message": text}` (with
`grok_failure_key`, marked). No event only where the matching pattern's time field does not fit its format
(`invalid_time`) or a search was given up (`match_limit`).

*Differs from Fluentd*: a pattern that contains itself is refused instead of looping.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from forwarder import _native
from forwarder.api import CompiledParser, ConfigError, Section, boolean, enum, string
from forwarder.api.parameters import sections  # forwarder.api.sections is a module once it is imported
from forwarder.api.parsing import CommonParser

PATTERNS = Path(__file__).parent / "patterns"
SERIES = ("legacy", "ecs-v1")


def library(series: str, custom_path: str | None) -> list[str]:
    """The texts of the pattern files, `NAME regexp` a line; later ones win.

    `custom_path` is a file, or a directory of files. Raises ConfigError where it cannot be read.
    """
    texts = [(PATTERNS / series).read_text("utf-8")]
    if custom_path is not None:
        path = Path(custom_path)
        try:
            files = [path]
            if path.is_dir():
                files = sorted(found for found in path.glob("[!.]*") if found.is_file())
            texts += [file.read_text("utf-8") for file in files]
        except (OSError, ValueError) as error:
            raise ConfigError(f"cannot read grok patterns: {error}", param="custom_pattern_path") from error
    return texts


class GrokSection(Section):
    """One pattern with its own time parameters."""

    name = string("Name of this pattern, for `grok_name_key`; without it the index.", None)
    pattern = string("The grok pattern.")
    keep_time_key = boolean("Leave the time field in the record.", False)
    time_key = string("Field that holds the event's time.", "time")
    time_format = string("strptime format of the time.", None)
    timezone = string("Zone of times that name none.", None)


class GrokParser(CommonParser):
    """The first pattern that matches gives the event."""

    grok_pattern = string("The grok pattern; with it `<grok>` sections do not count.", None)
    custom_pattern_path = string("File, or directory of files, with own patterns.", None)
    grok_failure_key = string("Field that says why, in events of texts that no pattern matches.", None)
    grok_name_key = string("Field for the name of the pattern that matched.", None)
    grok_pattern_series = enum("Set of standard patterns.", SERIES, "legacy")
    grok = sections(GrokSection, "Patterns, tried in order.", name="grok")

    _multiline = False

    def configure(self) -> None:
        super().configure()
        patterns = list(self._patterns().items())
        if not patterns:
            raise ConfigError(
                "no grok pattern: expected grok_pattern or a <grok> section", param="grok_pattern"
            )
        custom = self.custom_pattern_path
        if custom is not None and not os.path.exists(custom):
            # as in the plugin: no mistake where no pattern of it is used
            self.log.warning("custom_pattern_path %s does not exist", custom)
            custom = None
        self._compiled, bad = self.compile_with(
            _native.grok_parser,
            library(self.grok_pattern_series, custom),
            [(pattern, name, options) for name, (pattern, options) in patterns],
            self._multiline,
            self.grok_name_key,
            self.grok_failure_key,
        )
        for index, why in bad:
            self.log.error("grok pattern %s is left out: %s", patterns[index][0], why)

    def compiled(self) -> CompiledParser:
        return self._compiled

    def explain(self, text: bytes) -> tuple[list[str], int, int, int]:
        """How far `text` matches `grok_pattern`: its elements, how many of them match, from which byte to
        which."""
        files = library(self.grok_pattern_series, self.custom_pattern_path)
        return self.compile_with(_native.grok_explain, files, self.grok_pattern, text)

    def _patterns(self) -> dict[str | int, tuple[str, dict[str, Any]]]:
        """Name or index -> pattern and options. A name that stands twice keeps the later pattern."""
        common = self.options()
        if self.grok_pattern is not None:
            return {
                "grok_pattern": (
                    self.grok_pattern,
                    {**common, "time_key": "time" if self.time_key is None else self.time_key},
                )
            }
        # Of the common parameters only these reach the sections, as in the plugin.
        return {
            section.name if section.name is not None else index: (
                section.pattern,
                {
                    "time_key": section.time_key,
                    "keep_time_key": section.keep_time_key or self.keep_time_key,
                    "time_format": section.time_format or self.time_format,
                    "timezone": section.timezone or self.timezone,
                    "timeout": self.timeout,
                },
            )
            for index, section in enumerate(self.grok)
        }
