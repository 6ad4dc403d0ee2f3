"""Ruby regular expressions as Python's `re` understands them.

For patterns that run per batch or per connection. What runs per event is compiled natively from the
source (`expression` parameters).
"""

from __future__ import annotations

import re
import warnings
from typing import Final

from forwarder.api.errors import ConfigError

_ESCAPES: Final = {
    "h": "[0-9a-fA-F]",
    "H": "[^0-9a-fA-F]",
    "d": "[0-9]",
    "D": "[^0-9]",
    "w": "[a-zA-Z0-9_]",
    "W": "[^a-zA-Z0-9_]",
    "s": r"[ \t\r\n\f\v]",
    "S": r"[^ \t\r\n\f\v]",
    "z": r"\Z",
    "Z": r"(?=\n?\Z)",
    "R": r"(?:\r\n|[\n\v\f\r\x85\u2028\u2029])",
    "e": r"\x1b",
}
_IN_CLASS: Final = {"h": "0-9a-fA-F", "d": "0-9", "w": "a-zA-Z0-9_", "s": r" \t\r\n\f\v", "e": r"\x1b"}
_POSIX: Final = {
    "alpha": "a-zA-Z",
    "digit": "0-9",
    "alnum": "a-zA-Z0-9",
    "upper": "A-Z",
    "lower": "a-z",
    "space": r" \t\r\n\f\v",
    "blank": r" \t",
    "punct": r"!-/:-@\[-`{-~",
    "xdigit": "0-9a-fA-F",
    "word": "a-zA-Z0-9_",
    "cntrl": r"\x00-\x1f\x7f",
    "print": r"\x20-\x7e",
    "graph": r"\x21-\x7e",
}
_FLAGS: Final = re.compile(r"\(\?([imx]*)(?:-([imx]+))?([:)])")
_PROPERTY: Final = re.compile(r"\\[pP]\{(\^?)(\w+)\}")


def split_literal(text: str) -> tuple[str, str]:
    """Source and flags of `/source/flags`; text without slashes is all source.

    As in Fluentd `i` and `m` are the flags with an effect, and up to two letters of any kind may stand behind
    the closing slash.

    Raises:
        ConfigError: the closing slash is missing.
    """
    if not text.startswith("/"):
        return text, ""
    end = text.rfind("/")
    letters = text[end + 1 :]
    if end == 0 or len(letters) > 2:
        raise ConfigError(f"invalid regexp: missing right slash: {text}")
    return text[1:end], letters


def idle_flags(text: str) -> str:
    """What is odd about the flags of a regexp literal ("" if nothing): letters without an effect."""
    idle = "".join(sorted(set(split_literal(text)[1]) - set("im")))
    if not idle:
        return ""
    return f"{text!r}: {idle!r} behind the slash has no effect, as in Fluentd (flags are i and m)"


def compile_regexp(text: str) -> re.Pattern[str]:
    """The Python pattern for a Ruby regexp literal or bare source.

    Raises:
        ConfigError: it is no regexp, or uses what `re` has not (`\\g`, `\\K`, absent operators).
    """
    source, letters = split_literal(text)
    # Ruby's ^ and $ always stand at lines; Ruby's m is Python's s.
    flags = re.MULTILINE
    for letter, flag in (("i", re.IGNORECASE), ("m", re.DOTALL)):
        if letter in letters:
            flags |= flag
    try:
        with (
            warnings.catch_warnings()
        ):  # "possible set difference": Python means `--` in a class as Ruby does
            warnings.simplefilter("ignore", FutureWarning)
            return re.compile(_translate(source), flags)
    except (re.error, OverflowError, RecursionError) as error:
        raise ConfigError(f"invalid regexp: {text}: {error}") from error


def _translate(source: str) -> str:
    out: list[str] = []
    groups = [""]  # per open group: what closes the `(?i:`s inside for flags that hold to its end
    at = 0
    while at < len(source):
        char = source[at]
        if char == "\\":
            at = _escape(source, at, out, in_class=False)
        elif char == "[":
            at = _class(source, at, out)
        elif char == "(":
            at = _open(source, at, out, groups)
        elif char == ")":
            out.append(groups.pop() + ")" if len(groups) > 1 else ")")
            at += 1
        else:
            # Python's $ also matches before a final newline only; with MULTILINE it is Ruby's.
            out.append(char)
            at += 1
    out.append(groups[0])
    return "".join(out)


def _open(source: str, at: int, out: list[str], groups: list[str]) -> int:
    if source.startswith("(?<", at) and source[at + 3 : at + 4] not in ("=", "!"):
        groups.append("")
        out.append("(?P<")
        return at + 3
    if source.startswith("(?#", at):
        end = source.find(")", at)
        return len(source) if end < 0 else end + 1
    if source.startswith("(?~", at):
        raise ConfigError("the absent operator (?~ is not supported in a regexp")
    flags = _FLAGS.match(source, at)
    if flags is None:
        groups.append("")
        out.append("(")
        return at + 1
    on, off = flags[1].replace("m", "s"), (flags[2] or "").replace("m", "s")
    out.append(f"(?{on}{'-' + off if off else ''}:")
    if flags[3] == ":":
        groups.append("")
    else:
        groups[-1] = ("\n)" if "x" in on else ")") + groups[-1]  # the line end: of a comment before it
    return flags.end()


def _escape(source: str, at: int, out: list[str], *, in_class: bool) -> int:
    char = source[at + 1 : at + 2]
    found = _PROPERTY.match(source, at)
    if found is not None:
        members = _POSIX.get(found[2].lower())
        if members is None:
            raise ConfigError(f"{found[0]} is not supported in a regexp")
        negated = (found[1] == "^") != (found[0][1] == "P")
        if in_class:
            if negated:
                raise ConfigError(f"{found[0]} is not supported inside [] in a regexp")
            out.append(members)
        else:
            out.append(f"[{'^' if negated else ''}{members}]")
        return found.end()
    if in_class:
        out.append(_IN_CLASS.get(char, "\\" + char))
    elif char == "k" and source[at + 2 : at + 3] == "<":
        end = source.find(">", at)
        name = source[at + 3 : end]
        out.append(f"(?:\\{name})" if name.isdigit() else f"(?P={name})")
        return end + 1 if end > 0 else len(source)
    elif char in ("g", "K", "G", "X"):
        raise ConfigError(f"\\{char} is not supported in a regexp")
    elif char == "/" or (char and not char.isalnum() and char.isascii()):
        out.append("/" if char == "/" else "\\" + char)
    else:
        out.append(_ESCAPES.get(char, "\\" + char))
    return at + 2


def _class(source: str, at: int, out: list[str]) -> int:
    out.append("[")
    at += 1
    if source.startswith("^", at):
        out.append("^")
        at += 1
    if source.startswith("]", at):
        out.append(r"\]")
        at += 1
    while at < len(source):
        char = source[at]
        if char == "]":
            out.append("]")
            return at + 1
        if char == "\\":
            at = _escape(source, at, out, in_class=True)
            continue
        if source.startswith("[:", at) and (end := source.find(":]", at)) > 0:
            name = source[at + 2 : end]
            if name not in _POSIX:
                raise ConfigError(f"[:{name}:] is not supported in a regexp")
            out.append(_POSIX[name])
            at = end + 2
            continue
        if source.startswith("&&", at) or char == "[":
            raise ConfigError("nested character classes and && are not supported in a regexp")
        out.append("\\" + char if char in "|~" else char)
        at += 1
    return at
