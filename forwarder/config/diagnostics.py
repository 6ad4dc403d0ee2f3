"""What is wrong with a configuration: collected with places, shown like a compiler shows it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Literal, NamedTuple, TypedDict, Unpack

from forwarder.api.errors import ConfigError
from forwarder.config.element import Element, Position
from forwarder.config.secrets import mask_text, mask_value

_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""What a terminal would obey rather than show."""
Severity = Literal["error", "warning", "note"]


class ConfigSyntaxError(ConfigError):
    """A text that is no configuration. `position` says where."""

    def __init__(self, message: str, position: Position) -> None:
        super().__init__(message)
        self.position = position

    def __str__(self) -> str:
        return f"{self.position}: {self.message}"


class InvalidConfiguration(ConfigError):  # noqa: N818 - names the state, as users read it
    """Raised once, with everything that was found."""

    def __init__(self, diagnostics: Diagnostics) -> None:
        super().__init__(diagnostics.render(("error",)))
        self.diagnostics = diagnostics


class Diagnostic(NamedTuple):
    """One finding. `hint` is advice, `section` the path of titles, `param` the name at fault.

    `secret`: the source line holds a secret, so it is shown without its value.
    """

    severity: Severity
    message: str
    position: Position | None = None
    section: str = ""
    param: str | None = None
    hint: str = ""
    secret: bool = False

    def render(self) -> str:
        """Message, place, source line with a caret, advice. Secrets in the source line are masked."""
        lines = [f"{self.severity}: {self.message}"]
        if self.position is not None:
            where = f"  --> {self.position}"
            if self.section:
                where += f" in {self.section}"
            lines.append(where)
            text = self.position.source.line(self.position.line)
            if text.strip():
                number = str(self.position.line)
                # Tabs stay tabs under the text, so that the caret stands where the reader sees the column.
                indent = "".join("\t" if char == "\t" else " " for char in text[: self.position.column - 1])
                lines.append(f" {number} | {mask_text(text, self.param if self.secret else None)}")
                lines.append(f" {' ' * len(number)} | {indent}^")
        if self.hint:
            lines.append(f"  = {self.hint}")
        return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", "\n".join(lines))


class Where(TypedDict, total=False):
    """What a finding may say besides its message and place; see `Diagnostic`."""

    section: str
    param: str | None
    hint: str
    secret: bool


class Diagnostics:
    """Collects findings of reading, binding and building one configuration.

    `strict` turns doubtful numbers into errors (`<system> strict_config_value true`).
    """

    def __init__(self, *, strict: bool = False) -> None:
        self.items: list[Diagnostic] = []
        self.strict = strict
        self._seen: set[tuple[str, str, str]] = set()

    def add(self, item: Diagnostic) -> None:
        """Adds a finding, once; what looks like a credential in its message is masked."""
        item = item._replace(message=mask_value(item.message))
        key = (item.severity, item.message, str(item.position))
        if key not in self._seen:
            self._seen.add(key)
            self.items.append(item)

    def error(self, message: str, position: Position | None = None, **where: Unpack[Where]) -> None:
        """Adds something that cannot run."""
        self.add(Diagnostic("error", message, position, **where))

    def warning(self, message: str, position: Position | None = None, **where: Unpack[Where]) -> None:
        """Adds something that runs, but hardly as meant."""
        self.add(Diagnostic("warning", message, position, **where))

    def note(self, message: str, position: Position | None = None, **where: Unpack[Where]) -> None:
        """Adds something worth knowing that needs no action."""
        self.add(Diagnostic("note", message, position, **where))

    @property
    def errors(self) -> list[Diagnostic]:
        """The findings that forbid a start."""
        return [item for item in self.items if item.severity == "error"]

    @property
    def warnings(self) -> list[Diagnostic]:
        """The findings that do not."""
        return [item for item in self.items if item.severity == "warning"]

    def exception(self, error: ConfigError, element: Element | None = None) -> None:
        """Adds a ConfigError raised for `element`, at the line of the parameter that it names."""
        if isinstance(error, InvalidConfiguration):
            for item in error.diagnostics.items:
                self.add(item)
        elif isinstance(error, ConfigSyntaxError):
            self.error(error.message, error.position)
        elif element is None:
            self.error(error.message)
        else:
            self.error(
                element.hide_secrets(_named(error)),
                position_of(element, error.param),
                section=element.title,
                param=error.param,
                secret=error.param in element.secrets,
            )

    @contextmanager
    def located(self, element: Element) -> Iterator[None]:
        """Turns a ConfigError of the body (a plugin's `configure`) into a finding at `element`.

        Any other exception too: it is a mistake of the plugin, and its name and place help its author more
        than the end of the whole check.
        """
        try:
            yield
        except ConfigError as error:
            self.exception(error, element)
        except Exception as error:
            trace = error.__traceback__
            while trace is not None and trace.tb_next is not None:
                trace = trace.tb_next
            where = "" if trace is None else f"at {trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"
            self.error(
                element.hide_secrets(f"the plugin fails to configure: {type(error).__name__}: {error}"),
                element.position,
                section=element.title,
                hint=where,
            )

    def raise_errors(self) -> None:
        """Raises InvalidConfiguration if there are errors."""
        if self.errors:
            raise InvalidConfiguration(self)

    def render(self, severities: tuple[Severity, ...] = ("error", "warning", "note")) -> str:
        """The findings of these severities: errors first, then by file and line."""
        order = ("error", "warning", "note")
        files = {
            item.position.source.path: at
            for at, item in reversed(list(enumerate(self.items)))
            if item.position
        }

        def place(item: Diagnostic) -> tuple[int, int, int, int]:
            rank = order.index(item.severity)
            if item.position is None:
                return rank, -1, 0, 0
            return rank, files[item.position.source.path], item.position.line, item.position.column

        return "\n\n".join(
            item.render() for item in sorted(self.items, key=place) if item.severity in severities
        )


def position_of(element: Element, param: str | None) -> Position:
    """Where a message about `param` of `element` points: its line, a section of that name, a line in a
    section, or the tag."""
    if param is not None:
        if param in element.params:
            return element.params[param].position
        for child in element.elements:
            if child.name == param:
                return child.position
        for child in element.elements:
            if param in child.params:  # a free section's, such as <record>
                return child.params[param].position
    return element.position


def nearest(word: str, candidates: list[str]) -> str | None:
    """The candidate that was probably meant, if any."""
    import difflib  # noqa: PLC0415 - only for messages: start-up does not pay for it

    found = difflib.get_close_matches(word, candidates, 1, 0.6)
    return found[0] if found else None


def _named(error: ConfigError) -> str:
    if error.param is None or error.param in error.message:
        return error.message
    return f"{error.param}: {error.message}"
