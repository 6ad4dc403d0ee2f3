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
    """Downstream is full; nothing of the batch was taken. The input answers in its protocol's way.

    Where a disk refuses what there was room for, a part may have been taken, and comes twice if it is sent
    again. For the books:

    Attributes:
        refused: events that the output has given back.
        taken: events of the batch that have gone on.
        reason: under which an input that cannot wait counts the events as lost: "overflow", or "memory" where
        the process has no more memory to lend.
    """

    refused = 0
    taken = 0
    reason = "overflow"


class PartialWrite(ForwarderError):  # noqa: N818 - says what happened, as BufferOverflow does
    """Raised by an output's `write`: a part of the chunk is dealt with, only the rest is tried again.

    All other events count as delivered, but for those that went to `emit_error` or `drop`.

    Attributes:
        rest: what is left of the chunk's content, in the form that the chunk has.
        count: the events in `rest`, fewer than the chunk has.
    """

    def __init__(self, message: str, rest: bytes, count: int) -> None:
        super().__init__(message)
        self.rest = rest
        self.count = count


class UnrecoverableError(ForwarderError):
    """Raised by an output's `write`: the destination rejects the chunk, and retrying it cannot help.

    The chunk is halved until the bad events are found: those go to `<secondary>`, `@ERROR` or a backup file,
    the others are written in smaller chunks. So raise it before anything is delivered, or that comes twice.
    (TypeError, AttributeError and UnicodeError are taken for it.)

    Attributes:
        whole: smaller parts of the chunk would be rejected alike (its key is bad, say): it is not halved.
    """

    def __init__(self, message: str = "", *, whole: bool = False) -> None:
        super().__init__(message)
        self.whole = whole
