"""A bar on the standard error stream, for commands that take a while."""

from __future__ import annotations

import sys
from typing import Final

_WIDTH: Final = 24


class Bar:
    """A line that is written anew. `show` False: nothing is written at all."""

    def __init__(self, *, show: bool) -> None:
        self.show = show

    def draw(self, share: float, text: str) -> None:
        """`share` (at most 1 is shown) of the work is done."""
        share = min(1.0, share)
        filled = round(share * _WIDTH)
        self._write(f"[{'#' * filled}{'.' * (_WIDTH - filled)}] {share:4.0%}  {text}")

    def close(self) -> None:
        """Takes the line away."""
        self._write("")

    def _write(self, text: str) -> None:
        if self.show:
            sys.stderr.write(f"\r{text}\x1b[K")
            sys.stderr.flush()
