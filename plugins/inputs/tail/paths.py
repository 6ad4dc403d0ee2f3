"""Which files in_tail follows: `path`, `exclude_path`, what may be read, and the tag that a path gives."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Sequence
from datetime import tzinfo
from typing import Final

from forwarder._native import scan_files
from forwarder.api import ConfigError
from forwarder.api.placeholders import format_time, zone
from forwarder.api.plugin import Plugin
from forwarder.api.zones import check_zone

_RESERVED: Final = ("/", "*", "%")
_BRACES: Final = re.compile(r"\{.*,.*\}")
_BRACKETS: Final = re.compile(r"\[.*\]")


class Paths:
    """The files that a configuration names at a moment."""

    def __init__(
        self, plugin: Plugin, path: str, exclude_path: Sequence[str], *, delimiter: str, policy: str,
        timezone: str | None, recently: float | None, warn_once: bool,
    ) -> None:  # fmt: skip
        """`recently`: of globs only files changed within so many seconds. Raises ConfigError."""
        if policy == "always" and delimiter == ",":
            raise ConfigError(
                "glob_policy always cannot be used with the default path_delimiter `,`", param="glob_policy"
            )
        if policy == "extended" and _BRACES.search(path) and _extended(path):
            raise ConfigError(
                f"curly braces cannot be used with glob patterns in {path!r}: use glob_policy always",
                param="path",
            )
        if delimiter in _RESERVED:
            raise ConfigError(f"{', '.join(_RESERVED)} are reserved: {delimiter!r}", param="path_delimiter")
        if not delimiter:
            raise ConfigError("the delimiter must not be empty", param="path_delimiter")
        self.patterns = [*dict.fromkeys(part.strip() for part in path.split(delimiter) if part.strip())]
        if not self.patterns:
            raise ConfigError("expected at least one path", param="path")
        self._excluded = [str(pattern) for pattern in exclude_path]
        self._plugin = plugin
        self._policy = policy
        self._zone = _zone(timezone)
        self._recently = recently
        self._warn_once = warn_once
        self._unreadable: set[bytes] = set()

    def find(self) -> list[tuple[bytes, int]]:
        """(path, inode) of all files, in order of the patterns and of their names."""
        now = time.time()
        since = None if self._recently is None else int(now - self._recently)
        files, unreadable = scan_files(self._at(self.patterns, now), self._at(self._excluded, now), since)
        for path in unreadable:
            if path not in self._unreadable:
                shown = os.fsdecode(path)
                self._plugin.log_repeated(
                    "file cannot be read; it is left out, and looked at again at the next refresh", path=shown
                )
                if self._warn_once:
                    self._unreadable.add(path)
        return files

    def _at(self, patterns: Sequence[str], now: float) -> list[tuple[bytes, bool]]:
        made = (format_time(pattern, int(now), self._zone) for pattern in patterns)
        return [(os.fsencode(text), self._is_glob(text)) for text in made]

    def _is_glob(self, text: str) -> bool:
        if self._policy == "backward_compatible":
            return "*" in text
        return _extended(text) or (self._policy == "always" and _BRACES.search(text) is not None)


def _extended(text: str) -> bool:
    return "*" in text or "?" in text or _BRACKETS.search(text) is not None


def _zone(name: str | None) -> tzinfo | None:
    check_zone(name, "path_timezone")
    try:
        return zone(name)
    except ValueError as error:
        raise ConfigError(str(error), param="path_timezone") from None


class TagMaker:
    """`*` in a tag stands for the file's path with dots for slashes."""

    def __init__(self, tag: str) -> None:
        parts = tag.split("*")
        self._fixed = tag if len(parts) == 1 else None
        self._prefix, self._suffix = parts[0], parts[1] if len(parts) > 1 else ""

    def make(self, path: bytes) -> str:
        """The tag of a file's events."""
        if self._fixed is not None:
            return self._fixed
        text = re.sub(r"\.{2,}", ".", path.decode("utf-8", "replace").replace("/", "."))
        return self._prefix + text.removeprefix(".") + self._suffix
