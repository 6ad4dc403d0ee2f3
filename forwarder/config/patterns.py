"""Tag patterns of `<match>` and `<filter>`: what they match, and which of them hides another.

A pattern is one or more words; a tag matches if one of them matches: `*` is one part of a tag, `**` any
number of parts, `{a,b}` alternatives, a back-slash takes the next character literally, and `/.../` is a
regexp over the whole tag.
"""

from __future__ import annotations

import re
from typing import Final

from forwarder.api.errors import ConfigError
from forwarder.config.regexps import compile_regexp

_BRACES: Final = re.compile(r"\{([^{}]*)\}")
_MAX_ALTERNATIVES: Final = 256


class TagPattern:
    """A compiled tag pattern."""

    __slots__ = ("_words", "text")

    def __init__(self, text: str) -> None:
        """Raises ConfigError for a regexp without its end, or a broken one."""
        self.text = text
        self._words = tuple(_word(word) for word in text.split())

    def matches(self, tag: str) -> bool:
        """Whether the pattern takes this tag."""
        return any(word.search(tag) is not None for word in self._words)


def _word(word: str) -> re.Pattern[str]:
    if word.startswith("/"):
        if len(word) < 2 or not word.endswith("/"):
            raise ConfigError(f"invalid match pattern {word}: a regexp ends with a slash")
        try:
            return compile_regexp(rf"\A(?:{word[1:-1]})\Z")
        except ConfigError as error:
            raise ConfigError(f"invalid match pattern {word}: {error.message}") from error
    return re.compile(rf"\A{_glob(word)}\Z", re.DOTALL)


def _glob(word: str) -> str:
    out: list[list[str]] = [[""]]  # one list of alternatives per open brace
    at = 0
    dot = False
    while at < len(word):
        char = word[at]
        if word.startswith("**", at):
            if dot:
                out[-1][-1] += r"(?![^.])"
                dot = False
            if word.startswith(".", at + 2):
                out[-1][-1] += r"(?:.*\.|\A)"
                at += 3
            else:
                out[-1][-1] += ".*"
                at += 2
            continue
        if dot:
            out[-1][-1] += r"\."
            dot = False
        if char == "\\" and at + 1 < len(word):
            at += 1
            out[-1][-1] += re.escape(word[at])
        elif char == ".":
            dot = True
        elif char == "*":
            out[-1][-1] += r"[^.]*"
        elif char == "{":
            out.append([""])
        elif char == "}" and len(out) > 1:
            alternatives = out.pop()
            out[-1][-1] += f"(?:{'|'.join(alternatives)})"
        elif char == "," and len(out) > 1:
            out[-1].append("")
        else:
            out[-1][-1] += re.escape(char)
        at += 1
    while len(out) > 1:
        alternatives = out.pop()
        out[-1][-1] += f"(?:{'|'.join(alternatives)})"
    return out[0][0]


def covers(first: str, second: str) -> bool:
    """Whether every tag that matches `second` surely matches `first`; False where that is not clear."""
    firsts = _alternatives(first)
    return all(
        any(one == other or _covers(one.split("."), other.split(".")) for one in firsts)
        for other in _alternatives(second)
    )


def _alternatives(pattern: str) -> list[str]:
    """The pattern's words with their braces multiplied out."""
    done: list[str] = []
    todo = pattern.split()
    while todo and len(todo) + len(done) < _MAX_ALTERNATIVES:
        word = todo.pop()
        braces = None if word.startswith("/") else _BRACES.search(word)
        if braces is None:
            done.append(word)
        else:
            todo += [word[: braces.start()] + each + word[braces.end() :] for each in braces[1].split(",")]
    return done + todo


def _covers(first: list[str], second: list[str]) -> bool:
    """By parts: `**` covers any run of parts, `*` one part, a glob with text the words that it matches."""
    if first == ["**"]:
        return True
    if not first or not second:
        return not second and all(part == "**" for part in first)
    if any(part.startswith("/") or "\\" in part for part in (first[0], second[0])):
        return False
    if first[0] == "**":
        return _covers(first[1:], second) or _covers(first, second[1:])
    if second[0] == "**" or any("**" in part for part in (first[0], second[0])):
        return False
    return _part_covers(first[0], second[0]) and _covers(first[1:], second[1:])


def _part_covers(first: str, second: str) -> bool:
    if first in ("*", second):
        return True
    return "*" not in second and re.fullmatch(re.escape(first).replace(r"\*", ".*"), second) is not None
