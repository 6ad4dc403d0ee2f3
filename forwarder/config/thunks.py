"""What embedded code is compiled to: closures, so that only the chosen branch is evaluated.

Values are str, int, float, bool, None and lists of these.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from forwarder.api.errors import ConfigError

Thunk = Callable[[], Any]


def hostname() -> str:
    """The machine's name."""
    return os.uname().nodename  # what gethostname gives, without importing socket


def constant(text: str) -> Thunk:
    """Always this text."""
    return lambda: text


def raiser(error: type[Exception]) -> Thunk:
    """Raises when it is evaluated."""

    def thunk() -> Any:
        raise error

    return thunk


def either(left: Thunk, right: Thunk) -> Thunk:
    """`left || right`."""

    def thunk() -> Any:
        value = left()
        return value if truth(value) else right()

    return thunk


def both(left: Thunk, right: Thunk) -> Thunk:
    """`left && right`."""

    def thunk() -> Any:
        value = left()
        return right() if truth(value) else value

    return thunk


def plus(left: Thunk, right: Thunk) -> Thunk:
    """`left + right`."""

    def thunk() -> Any:
        first, second = left(), right()
        if isinstance(first, str) != isinstance(second, str) or first is None or second is None:
            raise TypeError("+ needs two strings or two numbers")
        return first + second

    return thunk


def at(value: Thunk, index: Thunk) -> Thunk:
    """`value[index]`."""

    def thunk() -> Any:
        found, position = value(), index()
        if not isinstance(found, str | list) or not isinstance(position, int):
            raise TypeError("[] needs a string or list and a number")
        return found[position] if -len(found) <= position < len(found) else None

    return thunk


def truth(value: Any) -> bool:
    """Whether Ruby takes a value for true."""
    return value is not None and value is not False


def string(value: Any) -> str:
    """A value that must be text. Raises TypeError."""
    if not isinstance(value, str):
        raise TypeError("ENV needs a string")
    return value


def read(path: Any) -> str:
    """A file's text. Raises ConfigError."""
    try:
        with open(string(path), encoding="utf-8") as file:
            return file.read()
    except (OSError, UnicodeError) as error:
        raise ConfigError(f"embedded code failed: File.read: {error}") from error
