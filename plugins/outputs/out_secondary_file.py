"""`<secondary> @type secondary_file`: keeps what the primary output cannot deliver in files, as it was
buffered.

Chunks become `DIRECTORY/BASENAME.0`, `.1`, ... (the first free number), or with `append true` all go to
`DIRECTORY/BASENAME`; with `compress gzip` each chunk is a gzip member and `.gz` is appended.

*Delivery*: a chunk is whole in the file or not at all; a write that fails part-way is taken back and tried
again by the retry rules of the primary's `<buffer>`. Nothing is synced to the disk.

*Differs from Fluentd*: placeholders that would lead out of the directory are refused.
"""

from __future__ import annotations

import os
import re
from typing import ClassVar, Final

from forwarder.api import Chunk, ConfigError, Output, boolean, enum, files, string

_PLACEHOLDER: Final = re.compile(r"\$\{(tag(?:\[\d+\])?|[\w.@-]+)\}")
_DIRECTIVE: Final = re.compile(r"%[-0^#_:]*\d*[a-zA-Z%+]")
_NUMBER: Final = "\0"
"""Where the number stands in a path; no path holds it."""


class SecondaryFileOutput(Output):
    """Undelivered chunks in files."""

    multi_workers_ready = True

    directory = string("Folder; may hold placeholders for the chunk keys.")
    basename = string("Name of the files; may hold placeholders for the chunk keys.", "dump.bin")
    append = boolean("All chunks to one file; false: a file per chunk.", False)
    compress = enum("Compression of the files.", ("text", "gzip"), "text")

    only_secondary: ClassVar[bool] = True

    def configure(self) -> None:
        if "/" in self.basename:
            raise ConfigError("basename should not include `/`", param="basename")
        self._template = os.path.join(self.directory, self.basename)
        self._check_placeholders()
        fixed = self._template.partition("${")[0].partition("%")[0]
        why = files.unwritable_folder(fixed if fixed.endswith("/") else os.path.dirname(fixed))
        if why is not None:
            raise ConfigError(
                f"out_secondary_file: `{self.directory}` should be writable: {why}", param="directory"
            )
        self._pack = files.packer(self.compress)
        self._suffix = ".gz" if self.compress == "gzip" else ""

    def write(self, chunk: Chunk) -> None:
        path = self.extract_placeholders(self._template, chunk)
        files.make_folders(os.path.dirname(path), self.context.dir_permission)
        blocks = self._pack(chunk.blocks())
        if self.append:
            files.append(path + self._suffix, blocks, self.context.file_permission)
        else:
            path += _NUMBER + self._suffix
            files.create(path, _NUMBER, blocks, self.context.file_permission, separator=".")

    def _check_placeholders(self) -> None:
        """Each placeholder needs its chunk key; a chunk key needs no placeholder, unlike in other outputs."""
        keys = self.buffer.keys() if self.chunk_keys is None else self.chunk_keys
        if keys.timekey is None and _DIRECTIVE.search(self._template):
            raise self._incompatible("remove time formats, like `%Y%m%d`")
        for name in _PLACEHOLDER.findall(self._template):
            if name.startswith("tag"):
                if not keys.tag:
                    raise self._incompatible(f"remove the tag placeholder ${{{name}}}")
            elif name != "chunk_id" and name not in keys.fields:
                raise self._incompatible(f"remove the variable placeholder ${{{name}}}")

    def _incompatible(self, what: str) -> ConfigError:
        wrong = "directory" if any(mark in self.directory for mark in ("${", "%")) else "basename"
        return ConfigError(
            f"out_secondary_file: basename or directory has an incompatible placeholder, {what}: it is no "
            "chunk key of the primary", param=wrong,
        )  # fmt: skip
