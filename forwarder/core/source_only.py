"""Source-only mode (`with_source_only`): the inputs run, nothing else does, and events wait in file buffers.

For an upgrade or a destination that is being moved: the process takes what comes, and SIGWINCH starts the
rest, which gets what has waited and all that follows. There is a buffer for each label that an input emits
to, and one for `@ERROR`, so that events go on where they would have gone. What is left in these buffers (a
stop, a crash) is found at the next start, in either mode.

A buffer is an `@type buffer` output that stands in no route; `PluginContext.divert` sends to it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final
from zlib import crc32

from forwarder.config.element import Element, Parameter, Position
from forwarder.core.backup import base_folder
from forwarder.core.delivery import BufferedOutput
from forwarder.core.router import Router

if TYPE_CHECKING:
    from forwarder.config.system import SourceOnlyBuffer, SystemConfig
    from forwarder.core.context import PluginContext
    from forwarder.core.engine import Placed
    from forwarder.core.router import NoMatch

ROOT: Final = "@ROOT"
ERROR: Final = "@ERROR"
_ID: Final = "source_only_buffer"
_NAMES: Final = ("flush_thread_count", "overflow_action")
"""Always set; the others only where the configuration says them."""
_OPTIONAL: Final = ("flush_interval", "chunk_limit_size", "total_limit_size", "compress")


class SourceOnly:
    """The buffers, and who emits to them."""

    def __init__(self, *, collecting: bool) -> None:
        self.collecting = collecting
        """Whether the mode is on; False: only what an earlier process has left is delivered."""
        self.placed: list[Placed] = []
        self._routers: dict[str, Router] = {}
        self._contexts: list[PluginContext] = []

    def add(self, label: str, placed: Placed, no_match: NoMatch) -> None:
        """Takes the buffer of a label."""
        node = placed.node
        assert node is not None
        router = Router(no_match)
        router.add("**", node)
        self._routers[label] = router
        self.placed.append(placed)

    def divert(self, contexts: Iterable[PluginContext]) -> None:
        """From here on these inputs emit to the buffers."""
        self._contexts = list(contexts)
        for context in self._contexts:
            context.divert(self._routers)

    def end(self) -> int:
        """Inputs emit to the routes again, and what has waited goes there too: so many events."""
        self.collecting = False
        for context in self._contexts:
            context.divert(None)
        waiting = 0
        for placed in self.placed:
            if isinstance(placed.node, BufferedOutput):
                waiting += placed.node.buffered()
                placed.node.begin()
                placed.node.flush()
        return waiting


def sections(
    system: SystemConfig, labels: Iterable[str], position: Position, *, collecting: bool
) -> Iterator[tuple[str, Element]]:
    """The `<match>` sections of the buffers by label; without `collecting` only where files were left."""
    section = system.source_only_buffer
    base = section.path or os.path.join(base_folder(system.root_dir), "source-only-buffer")
    if section.path is None and system.root_dir is None:  # a folder that all forwarders share
        base = os.path.join(base, f"{crc32(os.path.abspath(position.source.path).encode()):08x}")
    for label in labels:
        path = base if label == ROOT else os.path.join(base, label)
        if collecting or _holds_events(path):
            yield label, _match(label, path, section, position)


def _holds_events(path: str) -> bool:
    """Whether there are files of a buffer, also in the folders of workers."""
    folders = [path]
    try:
        with os.scandir(path) as entries:
            folders += [entry.path for entry in entries if entry.is_dir() and entry.name.startswith("worker")]
        return any(
            name.startswith(("segment-", "buffer.")) for folder in folders for name in os.listdir(folder)
        )
    except (FileNotFoundError, NotADirectoryError):
        return False


def _match(label: str, path: str, section: SourceOnlyBuffer, position: Position) -> Element:
    values = {name: str(getattr(section, name)) for name in _NAMES}
    for name in _OPTIONAL:
        value = getattr(section, name)
        if value is not None:
            values[name] = str(value)
    values |= {"@type": "file", "path": path}
    plugin_id = _ID if label == ROOT else f"{_ID}.{label}"
    buffer = _element("buffer", "tag", values, position)
    return _element("match", "**", {"@type": "buffer", "@id": plugin_id, "@label": label}, position, buffer)


def _element(
    name: str, argument: str, values: dict[str, str], position: Position, *inside: Element
) -> Element:
    params = {key: Parameter(key, value, position, position) for key, value in values.items()}
    return Element(name, argument, position, params=params, elements=list(inside), synthetic=True)
