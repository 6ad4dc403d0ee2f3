"""JSON in configurations, as Ruby's JSON library (2.6) reads it.

More than JSON: comments (`// ...`, `/* ... */`) are skipped, and of an escape that JSON does not know only
the character stays (`"\\d"` is `d`). Half of a surrogate pair becomes U+FFFD. NaN and Infinity are refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, Final, NoReturn

_TOKEN: Final = re.compile(r'"(?:[^"\\]|\\.)*"|//[^\n]*|/\*.*?\*/', re.DOTALL)
_PAIR: Final = r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
_HALF: Final = r"\\u[dD][89a-fA-F][0-9a-fA-F]{2}"
_ESCAPE: Final = re.compile(rf"{_PAIR}|(?P<half>{_HALF})|\\(?P<char>.)", re.DOTALL)
_KNOWN: Final = '"\\/bfnrtu'


def loads(text: str, dropped: Callable[[str], object] | None = None) -> Any:
    """The value of `text`.

    Args:
        dropped: is told each escape (`\\d`) of which only the character stays.

    Raises:
        ValueError, RecursionError: it is no such JSON.
    """

    def escape(found: re.Match[str]) -> str:
        if found["half"]:
            return r"\ufffd"
        char = found["char"]
        if not char or char in _KNOWN or char < " ":
            return found[0]
        if dropped is not None:
            dropped(found[0])
        return str(char)

    def token(found: re.Match[str]) -> str:
        return _ESCAPE.sub(escape, found[0]) if found[0].startswith('"') else " "

    return json.loads(_TOKEN.sub(token, text), parse_constant=_no_constant)


def compact(value: Any) -> str:
    """A value from `loads` in its shortest form. Raises ValueError for a number that is too large."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON value")
