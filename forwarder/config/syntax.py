"""The grammar of Fluentd's v1 configuration files: text to element tree.

Differs from Fluentd where it is stricter for no reason: an empty line inside double quotes is kept, and
comments are allowed everywhere between the items of a JSON value.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, NamedTuple

from forwarder.api.errors import ConfigError
from forwarder.config.diagnostics import ConfigSyntaxError, Diagnostics
from forwarder.config.element import RESERVED, Element, Parameter, Source
from forwarder.config.embedded import Embedded, SetDefault, SetNil, find_end
from forwarder.config.ruby_json import compact, loads

_LINE_END: Final = re.compile(r"(?:[ \t]*(?:#[^\n]*)?(?:\Z|[\r\n]))+")
_SPACING: Final = re.compile(r"(?:[ \t\r\n]|#[^\r\n]*)+")
_BLANK: Final = re.compile(r"[ \t\r\n]+")
_NAME: Final = re.compile(r"[a-zA-Z0-9_]+")
_KEY_END: Final = re.compile(r"[ \t\r\n]")
_TAG_END: Final = re.compile(r"(?:[ \t\r\n]|#[^\r\n]*(?:\Z|[\r\n]))*>")
_INCLUDE: Final = re.compile(r"(@include|include)[ \t\r\n]+")
_JSON_COMMENT: Final = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)
_ESCAPES: Final = {"r": "\r", "n": "\n", "t": "\t", "f": "\f", "b": "\b", "0": "\0"}
_PLUGIN_SECTIONS: Final = ("match", "source", "filter", "system")
_MAX_JSON_DEPTH: Final = 100
_MAX_SECTIONS_DEPTH: Final = 100

Include = Callable[["V1Parser", Element, str, int], None]
"""(parser, element that the files' content goes into, what stands behind `@include`, its offset)."""


class Literal(NamedTuple):
    """A value as read; `text` None for `use_nil`."""

    text: str | None
    use_default: bool = False


class V1Parser:
    """Reads one source. Raises ConfigSyntaxError at the first place that is no configuration."""

    def __init__(
        self, source: Source, embedded: Embedded, diagnostics: Diagnostics, include: Include
    ) -> None:
        self.source = source
        self.text = source.text
        self.at = 0
        self.embedded = embedded
        self.diagnostics = diagnostics
        self._include = include

    def error(self, message: str, offset: int | None = None) -> ConfigSyntaxError:
        """The error for `offset` (default: where the parser stands)."""
        return ConfigSyntaxError(message, self.source.position(self.at if offset is None else offset))

    def skip(self, pattern: re.Pattern[str]) -> str | None:
        """Takes what matches here."""
        found = pattern.match(self.text, self.at)
        if found is None:
            return None
        self.at = found.end()
        return found[0]

    def line_end(self) -> bool:
        """Takes the rest of a line that has only blanks and a comment; blank lines after it too."""
        return self.skip(_LINE_END) is not None

    def body(self, element: Element, *, top: bool, depth: int = 0) -> None:
        """Reads into `element`, up to its end tag, or for `top` to the end of the text."""
        while True:
            self.skip(_SPACING)
            start = self.at
            if start >= len(self.text):
                if top:
                    return
                raise ConfigSyntaxError(
                    f"<{element.name}> is not closed: expected end tag </{element.name}>, got end of file",
                    element.position,
                )
            if self.text.startswith("</", start):
                self.end_tag(element, top=top)
                return
            if self.text[start] == "<":
                if depth > _MAX_SECTIONS_DEPTH:
                    raise self.error("sections are nested too deeply")
                element.elements.append(self.section(depth))
            elif top and (word := self.skip(_INCLUDE)) is not None:
                if not word.startswith("@"):
                    self.diagnostics.warning(
                        "'include' is deprecated", self.source.position(start), hint="write @include"
                    )
                self.include(element)
            else:
                self.parameter(element, top=top)

    def end_tag(self, element: Element, *, top: bool) -> None:
        start = self.at
        self.at += 2
        name = self.skip(_NAME) or ""
        self.skip(_SPACING)
        if not self.text.startswith(">", self.at):
            raise self.error("expected '>' at the end of the end tag")
        self.at += 1
        if top:
            raise self.error(f"end tag </{name}> without a start tag", start)
        if name != element.name:
            raise self.error(
                f"unmatched end tag: <{element.name}> of line {element.line} closed by </{name}>", start
            )
        if not self.line_end():
            raise self.error("expected end of line after end tag")

    def section(self, depth: int) -> Element:
        position = self.source.position(self.at)
        self.at += 1
        name = self.skip(_NAME)
        if name is None:
            raise self.error("expected a section name after '<'")
        self.skip(_SPACING)
        argument = self.string(_TAG_END, "section argument").text or ""
        self.skip(_SPACING)
        if not self.text.startswith(">", self.at):
            raise self.error(f"expected '>' at the end of <{name}")
        self.at += 1
        if not self.line_end():
            raise self.error(f"expected end of line after <{name}>")
        element = Element(name, argument, position)
        self.body(element, top=False, depth=depth + 1)
        return element

    def parameter(self, element: Element, *, top: bool) -> None:
        start = self.at
        name = self.string(_KEY_END, "parameter name").text
        if not name:
            raise self.error("expected a parameter name", start)
        position = self.source.position(start)
        blank = self.skip(_BLANK)
        if name == "@include" and (blank is None or "\n" in blank):
            raise self.error("expected a path after @include", start)
        if self.at >= len(self.text) or (blank is not None and "\n" in blank):
            self.set(element, Parameter(name, "", position, position))
            return
        if blank is None:
            raise self.error("expected white space after a parameter's name")
        if name == "@include":
            self.include(element)
            return
        if name.startswith("@") and name not in RESERVED:
            if top or element.name in _PLUGIN_SECTIONS:
                raise self.error(f"'@' is reserved for the system; there is no parameter {name}", start)
            self.diagnostics.warning(
                f"'@' is reserved for the system: {name}", position, section=element.title, param=name
            )
        value_start = self.at
        value = self.literal()
        if not self.line_end():
            raise self.error(f"expected end of line after the value of {name}")
        self.set(
            element,
            Parameter(name, value.text, position, self.source.position(value_start), value.use_default),
        )

    def set(self, element: Element, parameter: Parameter) -> None:
        """The last one wins, in the place of the first, as in Fluentd; saying it twice is worth a warning."""
        first = element.params.get(parameter.name)
        if first is not None:
            self.diagnostics.warning(
                f"{parameter.name} is given twice; this one counts, not line {first.position.line}",
                parameter.position,
                section=element.title,
                param=parameter.name,
            )
        element.params[parameter.name] = parameter

    def include(self, element: Element) -> None:
        start = self.at
        target = self.string(_LINE_END, "@include").text
        if not self.line_end():
            raise self.error("expected end of line after @include")
        if not target:
            raise self.error("expected a path after @include", start)
        self._include(self, element, target, start)

    def literal(self) -> Literal:
        """A parameter's value."""
        if self.text.startswith(("[", "{"), self.at):
            return Literal(self.json())
        return self.string(_LINE_END, "value")

    def string(self, end: re.Pattern[str], what: str) -> Literal:
        """A quoted text, or everything before `end`."""
        char = self.text[self.at : self.at + 1]
        if char == '"':
            return self.double_quoted()
        if char == "'":
            return self.single_quoted()
        start = self.at
        text = self.text
        at = start
        while at < len(text) and text[at] != "\n":
            # Every end starts with one of these. '#' is none: a comment needs white space before it.
            if text[at] in " \t\r>" and end.match(text, at):
                break
            at += 1
        self.at = at
        found = text[start:at]
        if "#{" in found and what == "value":
            self.diagnostics.warning(
                "embedded code is evaluated inside double quotes only; this value is taken literally",
                self.source.position(start + found.index("#{")),
                hint=f'write "{found}"',
            )
        return Literal(found)

    def single_quoted(self) -> Literal:
        start = self.at
        parts: list[str] = []
        at = start + 1
        text = self.text
        while at < len(text) and text[at] != "\n":
            char = text[at]
            if char == "'":
                self.at = at + 1
                return Literal("".join(parts))
            if char == "\\" and text[at + 1 : at + 2] in ("'", "\\"):
                at += 1
                char = text[at]
            parts.append(char)
            at += 1
        raise self.error(
            "single quote is not closed on its line (a value of several lines needs double quotes)", start
        )

    def double_quoted(self) -> Literal:
        start = self.at
        parts: list[str] = []
        nil = default = False
        text = self.text
        self.at += 1
        while self.at < len(text):
            char = text[self.at]
            if char == '"':
                self.at += 1
                return Literal(None if nil else "".join(parts), default and not nil)
            if char == "\\":
                parts.append(self.escape())
            elif text.startswith("#{", self.at):
                try:
                    parts.append(self.code())
                except SetNil:
                    nil = True
                except SetDefault:
                    default = True
            else:
                parts.append(char)
                self.at += 1
        raise self.error("double quote is not closed: unexpected end of file", start)

    def escape(self) -> str:
        char = self.text[self.at + 1 : self.at + 2]
        if char == "\r" and self.text[self.at + 2 : self.at + 3] == "\n":
            self.at += 3
            return ""
        if char.isascii() and char.isalnum() and char not in _ESCAPES:
            raise self.error(
                f"unexpected escape character '{char}' in double quotes (a back-slash is written \\\\)"
            )
        self.at += 2
        return "" if char in ("\n", "\r") else _ESCAPES.get(char, char)

    def code(self) -> str:
        """Evaluates the `#{...}` here and steps over it, also when it says nil or default."""
        start = self.at
        end = find_end(self.text, start + 2)
        if end < 0:
            raise self.error("embedded code is not closed: expected '}'")
        self.at = end + 1
        try:
            return self.embedded.text(self.text[start + 2 : end])
        except ConfigError as error:
            raise self.error(error.message, start) from error

    def json(self) -> str:
        """A JSON array or hash over any number of lines, in its shortest form."""
        start = self.at
        what = "array" if self.text[start] == "[" else "hash"
        parts: list[str] = []
        depth = 0
        in_string = False
        while self.at < len(self.text):
            char = self.text[self.at]
            if char == "#":
                parts.append(self.json_hash_sign(parts, start, in_string=in_string))
                continue
            if char == "/" and not in_string and self.skip(_JSON_COMMENT):
                continue
            self.at += 1
            parts.append(char)
            if in_string:
                if char == "\\":
                    parts.append(self.text[self.at : self.at + 1])
                    self.at += 1
                elif char == '"':
                    in_string = False
            elif char == '"':
                in_string = True
            elif char in "[{":
                depth += 1
                if depth > _MAX_JSON_DEPTH:
                    raise self.error("JSON is nested too deeply", start)
            elif char in "]}":
                depth -= 1
                if depth == 0:
                    return self.json_value("".join(parts), start, what)
        raise self.error(
            f"got incomplete JSON {what}: a value that starts with '{self.text[start]}' must be JSON", start
        )

    def json_hash_sign(self, parts: list[str], start: int, *, in_string: bool) -> str:
        """What a '#' inside JSON stands for: embedded code, a comment, or itself."""
        embedded = re.compile(r"#\{[^}]+\}").match(self.text, self.at) is not None
        if in_string and not embedded:
            self.at += 1
            return "#"
        if embedded and (in_string or not _closable("".join(parts))):
            try:
                return self.code()
            except (SetNil, SetDefault):
                raise self.error("use_nil and use_default cannot stand inside JSON", start) from None
        end = self.text.find("\n", self.at)
        self.at = len(self.text) if end < 0 else end
        return ""

    def json_value(self, text: str, start: int, what: str) -> str:
        dropped: list[str] = []
        try:
            value = compact(loads(text, dropped.append))
        except (ValueError, RecursionError) as error:
            detail = getattr(error, "msg", str(error))
            raise self.error(
                f"got invalid JSON {what} ({detail}): a value that starts with '{text[0]}' must be JSON",
                start,
            ) from error
        if dropped:
            self.diagnostics.warning(
                f"JSON has no escape {dropped[0]}: the back-slash is left out, as in Fluentd",
                self.source.position(start), hint="a back-slash in a JSON text is written \\\\",
            )  # fmt: skip
        return value


def _closable(text: str) -> bool:
    """Whether what was read of a JSON value so far would be complete with a closing bracket."""
    try:
        loads(text.rstrip().removesuffix(",") + ("]" if text[0] == "[" else "}"))
    except (ValueError, RecursionError):
        return False
    return True
