"""The methods of Ruby's strings and arrays that embedded code may call.

Tables by (name, number of arguments). Values are str, int, float, bool, None and lists of these.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

from forwarder.api.errors import ConfigError


def to_s(value: Any) -> str:
    """The text of a value, as Ruby's `to_s` gives it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return "[" + ", ".join(f'"{item}"' if isinstance(item, str) else to_s(item) for item in value) + "]"
    return str(value)


def _to_i(text: str) -> int:
    found = re.match(r"\s*([+-]?\d+(?:_\d+)*)", text, re.ASCII)
    return int(found[1][:4000]) if found else 0


def _to_f(text: str) -> float:
    found = re.match(r"\s*([+-]?\d+(?:_\d+)*(?:\.\d+(?:_\d+)*)?(?:[eE][+-]?\d+)?)", text, re.ASCII)
    return float(found[1]) if found else 0.0


def _ruby_split(text: str, by: str) -> list[str]:
    if by in ("", " "):
        return text.split() if by else list(text)
    parts = text.split(by)
    while parts and not parts[-1]:
        parts.pop()
    return parts


def _translate(text: str, old: str, new: str) -> str:
    if not old or not new or len(old) != len(new) or any(char in "^-\\" for char in old[1:] + new[1:]):
        raise ConfigError("tr is supported for plain characters only")
    return text.translate(str.maketrans(old, new))


STRING_METHODS: Final[dict[tuple[str, int], Callable[..., Any]]] = {
    ("to_i", 0): _to_i,
    ("to_f", 0): _to_f,
    ("downcase", 0): str.lower,
    ("upcase", 0): str.upper,
    ("capitalize", 0): str.capitalize,
    ("strip", 0): str.strip,
    ("lstrip", 0): str.lstrip,
    ("rstrip", 0): str.rstrip,
    ("chomp", 0): lambda text: re.sub(r"(?:\r\n|\r|\n)\Z", "", text),
    ("reverse", 0): lambda text: text[::-1],
    ("length", 0): len,
    ("size", 0): len,
    ("empty?", 0): lambda text: not text,
    ("split", 0): str.split,
    ("split", 1): _ruby_split,
    ("sub", 2): lambda text, old, new: text.replace(old, new, 1),
    ("gsub", 2): lambda text, old, new: text.replace(old, new),
    ("tr", 2): _translate,
    ("delete_prefix", 1): str.removeprefix,
    ("delete_suffix", 1): str.removesuffix,
    ("start_with?", 1): str.startswith,
    ("end_with?", 1): str.endswith,
    ("include?", 1): lambda text, part: part in text,
}

LIST_METHODS: Final[dict[tuple[str, int], Callable[..., Any]]] = {
    ("first", 0): lambda items: items[0] if items else None,
    ("last", 0): lambda items: items[-1] if items else None,
    ("join", 0): lambda items: "".join(map(to_s, items)),
    ("join", 1): lambda items, by: by.join(map(to_s, items)),
    ("size", 0): len,
    ("length", 0): len,
}
