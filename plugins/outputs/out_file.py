"""`<match> @type file`: appends events to files, or writes a file per chunk.

*Delivery*: at least once per chunk. A chunk whose write fails part-way (disk full) is taken out of the file
again before the retry, so that no line is torn or doubled. Nothing is synced to the disk: the operating
system writes when it likes. A memory buffer's chunks are lost with the process; the default is a file buffer.

Files are named as Fluentd names them: `x.20231114.log` with `append true`, else one file per chunk with the
first free number: `x.20231114_0.log`, `x.20231114_1.log`.

Buffered in files like Fluentd's: without `path` in `<buffer>` (and without `@id` and `root_dir`) in the
folder `path`.

*Differs from Fluentd*: `symlink_path` points to the newest file that was written, because a chunk in the
buffer has no file of its own to point to. Between processes and threads a file is protected by a lock on
itself (`flock`) rather than by a lock file beside it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from typing import Any, ClassVar, Final

from forwarder.api import (
    Chunk,
    ConfigError,
    EventBatch,
    Output,
    boolean,
    enum,
    files,
    formatter_section,
    optional_section,
    placeholders,
    string,
)
from forwarder.api.inject import Inject

_INDEX: Final = "_**"
_LINKS_MAX: Final = 1000
_SUFFIXES: Final = {"text": "", "gzip": ".gz", "zstd": ".zstd"}


class FileOutput(Output):
    """Events in files."""

    multi_workers_ready = True

    path = string("File; may hold `${tag}`, `${field}`, time directives, and `*` for the time slot.")
    add_path_suffix = boolean("Append path_suffix to path.", True)
    path_suffix = string("What add_path_suffix appends.", ".log")
    append = boolean("Append to the file of that name; false: a new file per chunk.", False)
    compress = enum("Compression of the files: one member (gzip) or frame (zstd) per chunk.",
                    ("text", "gz", "gzip", "zstd"), "text")  # fmt: skip
    time_slice_format = string(
        "Old form of timekey: the time slot in the file's name, as fine as its directives.", None
    )
    recompress = boolean("No effect: chunks are never compressed in the buffer.", False)
    symlink_path = string("A symbolic link to the newest file.", None)
    symlink_path_use_relative = boolean("The link's target is relative to the link's folder.", False)
    format = formatter_section("How an event is written.", default="out_file")
    inject = optional_section(Inject, "Fields to add.")

    flat_buffer: ClassVar[bool] = True
    buffer_defaults: ClassVar[Mapping[str, Any]] = {
        "@type": "file", "chunk_keys": ["time"], "timekey": 86400,
    }  # fmt: skip

    def configure(self) -> None:
        keys = self.buffer.keys() if self.chunk_keys is None else self.chunk_keys
        if self.inject is not None:
            self.inject.bind(self.context, keys.fields)
        method = "gzip" if self.compress == "gz" else self.compress
        self._pack = files.packer(method)
        self._template = path_template(
            self.path,
            keys.timekey,
            append=self.append,
            suffix=(self.path_suffix if self.add_path_suffix else "") + _SUFFIXES[method],
            star_suffix=_SUFFIXES[method],
            slot=self.time_slice_format,
        )
        if self.as_secondary:
            # It need not tell apart what the primary's other chunk keys do.
            tag = "${tag" in self._template
            fields = tuple(placeholders.fields(self._template))
            placeholders.validate("path", self._template, keys._replace(tag=tag, fields=fields))
        else:
            self.placeholder_validate("path", self._template)
        self._check_writable()
        self._links: dict[str, tuple[int, float]] = {}
        self._links_lock = threading.Lock()

    def default_buffer_path(self) -> str:
        # as Fluentd: a folder of the name that all files start with
        return self.path if self.path != self._template else f"{self.path}.buffer"

    def format_batch(self, batch: EventBatch) -> bytes:
        if self.inject is not None:
            batch = self.inject.apply(batch)
        return self.format.format_batch(batch)

    def write(self, chunk: Chunk) -> None:
        path = self.extract_placeholders(self._template, chunk)
        blocks = self._pack(chunk.blocks())
        files.make_folders(os.path.dirname(path), self.context.dir_permission)
        if self.append:
            files.append(path, blocks, self.context.file_permission)
        else:
            path = files.create(path, _INDEX, blocks, self.context.file_permission)
        if self.symlink_path is not None:
            self._link(self.symlink_path, path, chunk)

    def _check_writable(self) -> None:
        """Looks at the part of the path that is the same for all chunks."""
        fixed = self._template
        for mark in ("${", "%", _INDEX):
            fixed = fixed.partition(mark)[0]
        if fixed == self._template:
            why = files.unwritable(fixed)
        else:
            why = files.unwritable_folder(os.path.dirname(fixed))
        if why is not None:
            raise ConfigError(f"out_file: {fixed!r} is not writable: {why}", param="path")

    def _link(self, template: str, path: str, chunk: Chunk) -> None:
        """Points the link to `path`, unless it points to a later time slot's file already."""
        link = self.extract_placeholders(template, chunk)
        order = (chunk.key.timekey or 0, chunk.created_at)
        target = os.path.abspath(path)
        if self.symlink_path_use_relative:
            target = os.path.relpath(target, os.path.dirname(os.path.abspath(link)))
        with self._links_lock:
            if order < self._links.get(link, order):
                return
            if len(self._links) >= _LINKS_MAX:
                self._links.clear()
            self._links[link] = order
            try:
                files.make_folders(os.path.dirname(link), self.context.dir_permission)
                files.replace_link(link, target)
            except OSError as error:
                # the chunk is written: a retry would write it twice
                self.log_repeated(f"cannot make the symbolic link {link}: {error}")


def path_template(
    path: str, timekey: int | None, *, append: bool, suffix: str, star_suffix: str, slot: str | None = None
) -> str:  # fmt: skip
    """`path` with the directives of the time slot, the place of the number, and the suffix.

    Args:
        timekey: length of a time slot in seconds; None: time is no chunk key.
        suffix: behind a path without `*`. star_suffix: behind one with `*`.
        slot: `time_slice_format`, instead of the directives that timekey asks for.

    Raises:
        ConfigError: `*` without time slots, or a path with some of the slot's directives and not all.
    """
    index = "" if append else _INDEX
    directives = [] if timekey is None else _directives(timekey)
    if "*" in path:
        if timekey is None:
            raise ConfigError("path including '*' must be used with buffer chunk key 'time'", param="path")
        return path.replace("*", (slot or "".join(directives)) + index) + star_suffix
    if slot and directives:
        return f"{path}.{slot}{index}{suffix}"
    present = [directive for directive in directives if directive in path]
    if present and len(present) < len(directives):
        missing = ", ".join(directive for directive in directives if directive not in present)
        raise ConfigError(f"insufficient timestamp placeholders in path: {missing} is missing", param="path")
    if directives and not present:
        path += "." + "".join(directives)
    return path + index + suffix


def _directives(timekey: int) -> list[str]:
    directives = ["%Y", "%m", "%d"]
    for limit, directive in ((86400, "%H"), (3600, "%M"), (60, "%S")):
        if timekey < limit:
            directives.append(directive)
    return directives
