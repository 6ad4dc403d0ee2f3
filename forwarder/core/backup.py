"""Copies of chunks that cannot be delivered, where an operator finds them.

Fluentd's places, below `<system> root_dir`, else FLUENT_BACKUP_DIR, else /tmp/fluent: what an output
refuses for good goes to `backup/workerN/ID/CHUNK.log` as bare content; what a file buffer gives up after
its retries goes to `buffer/ID/` as chunk files of Fluentd, which can be put back into the buffer's folder
(`forwarder buffer retry`).
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Final

from forwarder.api import files
from forwarder.buffer import fluentd

if TYPE_CHECKING:
    from collections.abc import Callable

    from forwarder.buffer.chunk import BufferChunk
    from forwarder.core.context import PluginContext

_UNSAFE: Final = re.compile(r'[ "/\\:;|*<>?]')


def backup(chunk: BufferChunk, context: PluginContext) -> str:
    """Writes the content of a chunk that was refused for good. Gives the path. Raises OSError."""
    folder = os.path.join(_base(context), "backup", f"worker{context.worker_id}", _safe(context.id))
    files.make_folders(folder, context.dir_permission)
    path = os.path.join(folder, f"{chunk.id.hex()}.log")
    files.append(path, chunk.blocks(), context.file_permission)
    return path


def evacuate(chunk: BufferChunk, context: PluginContext, pack: Callable[[bytes], bytes] | None) -> str:
    """Writes a chunk whose retries are over, with its metadata. Gives the path. Raises OSError."""
    folder = os.path.join(_base(context), "buffer", _safe(context.id))
    files.make_folders(folder, context.dir_permission)
    return fluentd.write(folder, chunk, pack, context.file_permission)


def _base(context: PluginContext) -> str:
    return context.root_dir or os.environ.get("FLUENT_BACKUP_DIR") or "/tmp/fluent"


def _safe(plugin_id: str) -> str:
    return _UNSAFE.sub("_", plugin_id)
