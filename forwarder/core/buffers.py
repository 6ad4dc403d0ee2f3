"""From a `<buffer>` section to a buffer: which kind, and where its files are."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from forwarder.api.buffering import FILE_ONLY, FILE_TYPES
from forwarder.api.errors import ConfigError
from forwarder.buffer.file import FileBuffer, FileOptions
from forwarder.buffer.limits import Limits
from forwarder.buffer.memory import MemoryBuffer
from forwarder.buffer.place import place, root_path
from forwarder.buffer.saved import Saved
from forwarder.core.implements import overrides

if TYPE_CHECKING:
    from forwarder.api.buffering import BufferSection
    from forwarder.api.plugin import Output
    from forwarder.buffer.compression import Codec
    from forwarder.buffer.file import Recovery
    from forwarder.buffer.stage import Buffer
    from forwarder.config.diagnostics import Diagnostics
    from forwarder.config.element import Element
    from forwarder.config.system import SystemConfig
    from forwarder.core.context import PluginContext


class Buffers:
    """Makes the buffers of a configuration; no two may share a path."""

    def __init__(
        self, system: SystemConfig, diagnostics: Diagnostics, chunk_bytes: int | None = None
    ) -> None:
        """`chunk_bytes`: the largest chunk that there is memory for."""
        self._system = system
        self._diagnostics = diagnostics
        self._chunk_bytes = chunk_bytes
        self._taken: dict[str, str] = {}

    def make(self, plugin: Output, context: PluginContext, packing: Codec, element: Element) -> Buffer:
        """The buffer of an output; touches no file. Raises ConfigError."""
        section = plugin.buffer
        limits = self._within(Limits.of(section), section, element)
        if section.type not in FILE_TYPES:
            position = next(iter(element.children("buffer")), element).position
            for name in FILE_ONLY:
                if name in section.given:
                    self._diagnostics.warning(
                        f"{name} has no effect: the buffer is kept in memory", position,
                        section=element.title, param=name, hint="set @type file",
                    )  # fmt: skip
            return MemoryBuffer(limits, packing, self._saved(plugin, context, packing, element))
        plugin_id = element.get("@id")
        root_dir = self._system.root_dir
        path, from_root = section.path or None, False
        if path is None and plugin_id and root_dir:
            path, from_root = root_path(root_dir, context.worker_id, plugin_id), True
        if path is None:
            path = plugin.default_buffer_path()
        if path is None:
            raise ConfigError(
                "buffer path is not configured: set path in <buffer>, or @id here and root_dir in <system>",
                param="buffer",
            )
        where = place(
            path, section.path_suffix, single=section.type == "file_single", from_root=from_root,
            workers=self._system.workers, worker_id=context.worker_id,
        )  # fmt: skip
        if not where.shared and self._system.workers > 1:
            raise ConfigError(
                f"buffer path {path!r} names files: with several workers it must be a folder, or made from "
                "root_dir and @id", param="buffer",
            )  # fmt: skip
        taken = self._taken.setdefault(os.path.abspath(where.store), context.id)
        if taken != context.id:
            raise ConfigError(f"buffer path {path!r} is used by {taken} already", param="buffer")
        entries = not overrides(plugin, "format_batch")
        if section.type == "file_single" and section.chunk_format != "auto":
            entries = section.chunk_format == "msgpack"
        options = FileOptions(
            where, packing, section.mode("file_permission", context.file_permission),
            section.mode("dir_permission", context.dir_permission), section.fsync, section.fsync_interval,
            fields=section.keys().fields, entries=entries, count_events=section.calc_num_records,
        )  # fmt: skip

        def report(message: str, error: OSError) -> None:
            context.log_repeated(message, level="error", error=error)

        return FileBuffer(limits, options, report)

    def _saved(
        self, plugin: Output, context: PluginContext, packing: Codec, element: Element
    ) -> Saved | None:
        """Where a stop saves what is left in memory: needs a folder, and a name that stays the same."""
        plugin_id, root_dir = element.get("@id"), self._system.root_dir
        if not plugin_id or not root_dir:
            return None

        def report(message: str, error: Exception) -> None:
            context.log.error(message, error=error)

        folder = os.path.join(os.path.dirname(root_path(root_dir, context.worker_id, plugin_id)), "saved")
        return Saved(
            folder, packing, fields=plugin.buffer.keys().fields,
            entries=not overrides(plugin, "format_batch"), dir_mode=context.dir_permission,
            file_mode=context.file_permission, report=report,
        )  # fmt: skip

    def _within(self, limits: Limits, section: BufferSection, element: Element) -> Limits:
        """With chunks that there is memory for."""
        most = self._chunk_bytes
        if most is None or limits.chunk_bytes <= most:
            return limits
        if "chunk_limit_size" in section.given:
            position = next(iter(element.children("buffer")), element).position
            self._diagnostics.warning(
                f"chunk_limit_size {limits.chunk_bytes} is more than there is memory for: {most} is used",
                position, section=element.title, param="chunk_limit_size",
                hint="see memory_limit_size of <system>",
            )  # fmt: skip
        return limits._replace(chunk_bytes=most)


def recovered(found: Recovery, context: PluginContext) -> None:
    """Books and logs what a buffer held at the start."""
    lost = sum(found.lost.values())
    context.counters.recover(found.events + lost)
    for reason, count in found.lost.items():
        context.counters.lose(count, reason)
    if found.chunks:
        context.log.info(
            "buffer recovered", chunks=found.chunks, events=found.events, bytes=found.size_bytes,
            from_fluentd=found.imported,
        )  # fmt: skip
    if found.bad_ranges or lost:
        context.log.error(
            "parts of the buffer are broken: moved to quarantine", bytes=found.bad_bytes,
            ranges=found.bad_ranges, events=lost, ranges_with_unknown_events=found.unknown_ranges,
        )  # fmt: skip
    if found.journal_entries:
        context.log.warning(
            "entries of the buffer's journal are broken: chunks may be delivered twice",
            entries=found.journal_entries,
        )  # fmt: skip
