"""The element tree: what a configuration says, with the place of every word of it."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from forwarder.config.secrets import MASK

RESERVED: Final = ("@type", "@id", "@label", "@log_level")
OLD_RESERVED: Final = {"type": "@type", "id": "@id", "log_level": "@log_level"}
"""Names of Fluentd v0.10 that still work where the new one is absent."""


class Source:
    """A text and its name, for messages."""

    __slots__ = ("_starts", "path", "text")

    def __init__(self, path: str, text: str) -> None:
        self.path = path
        self.text = text
        self._starts: list[int] | None = None

    def position(self, offset: int) -> Position:
        """The place of `offset` (characters from the start)."""
        if self._starts is None:
            self._starts = [0, *(i + 1 for i, char in enumerate(self.text) if char == "\n")]
        line = bisect_right(self._starts, offset)
        return Position(self, line, offset - self._starts[line - 1] + 1)

    def line(self, number: int) -> str:
        """The text of line `number` (from 1), without its line end; empty where there is none."""
        lines = self.text.split("\n")
        return lines[number - 1].rstrip("\r") if 0 < number <= len(lines) else ""


class Position(NamedTuple):
    """A place in a source; line and column count from 1, in characters."""

    source: Source
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.source.path}:{self.line}:{self.column}"


class Parameter(NamedTuple):
    """One `name value` line. `value` is None for `use_nil`; `use_default` asks for the declared default.

    `native` is the value from YAML that is no text (int, float, bool, list); None otherwise.
    """

    name: str
    value: str | None
    position: Position
    value_position: Position
    use_default: bool = False
    native: Any = None


class Element:
    """A section: `<name argument>`, its parameters in order, its sub-sections in order.

    `get` and `take` mark a parameter as used; what is never used is worth a warning. `defaults` are the
    defaults that the owner of the section sets for it (Fluentd's `config_set_default`). `secrets` are the
    names of parameters whose value is never printed; binding fills it.
    """

    __slots__ = (
        "argument",
        "defaults",
        "elements",
        "name",
        "params",
        "position",
        "secrets",
        "synthetic",
        "used",
    )

    def __init__(
        self,
        name: str,
        argument: str,
        position: Position,
        *,
        params: dict[str, Parameter] | None = None,
        elements: list[Element] | None = None,
        synthetic: bool = False,
    ) -> None:
        self.name = name
        self.argument = argument
        self.position = position
        self.params: dict[str, Parameter] = {} if params is None else params
        self.elements: list[Element] = [] if elements is None else elements
        self.defaults: dict[str, Any] = {}
        self.secrets: set[str] = set()
        self.synthetic = synthetic  # not written in the configuration: made for a section that has defaults
        self.used: set[str] = set()

    @property
    def file(self) -> str:
        """Path of the file that it stands in."""
        return self.position.source.path

    @property
    def line(self) -> int:
        """Line of its opening tag."""
        return self.position.line

    @property
    def title(self) -> str:
        """The opening tag as a message shows it."""
        if self.name == "ROOT":
            return "top level"
        return f"<{self.name} {self.argument}>" if self.argument else f"<{self.name}>"

    def get(self, name: str) -> str | None:
        """A parameter's text, or None; falls back to the old name of a reserved parameter."""
        param = self.parameter(name)
        return None if param is None else param.value

    def parameter(self, name: str) -> Parameter | None:
        """A parameter with its place, marked as used; `@type` and the like also under their old names."""
        found = self.params.get(name)
        if found is None and name.startswith("@") and name[1:] in OLD_RESERVED:
            found = self.params.get(name[1:])
        if found is not None:
            self.used.add(found.name)
        return found

    def children(self, name: str) -> list[Element]:
        """The sub-sections with this name."""
        return [element for element in self.elements if element.name == name]

    def walk(self) -> Iterator[Element]:
        """This element and all below it, in order."""
        yield self
        for element in self.elements:
            yield from element.walk()

    def hide_secrets(self, text: str) -> str:
        """The text without the values of this section's secret parameters."""
        for name in self.secrets:
            found = self.params.get(name)
            if found is not None and found.value:
                text = text.replace(repr(found.value), MASK).replace(found.value, MASK)
        return text

    def __repr__(self) -> str:
        return f"<Element {self.title} at {self.file}:{self.line}, {len(self.params)} parameters>"
