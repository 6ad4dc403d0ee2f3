"""The errors that plugins raise and see."""

from __future__ import annotations


class ForwarderError(Exception):
    """Base of all errors of this package."""


class ConfigError(ForwarderError):
    """A configuration that cannot run.

    Raised by `Plugin.configure`; the engine adds file, line and section. `param` names the parameter (or
    sub-section) at fault, so that the message can point at its line.
    """

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param


class BufferOverflow(ForwarderError):  # noqa: N818 - Fluentd's name for it
    """Downstream is full; nothing of the batch was taken. The input answers in its protocol's way."""


class UnrecoverableError(ForwarderError):
    """Raised by an output's `write`: retrying this chunk cannot help (bad data, not a bad destination)."""
