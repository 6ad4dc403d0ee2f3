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
from forwarder.api.errors import UnrecoverableError
from forwarder.buffer import fluentd
from forwarder.buffer.file import RottenRecordError

if TYPE_CHECKING:
    from collections.abc import Callable

    from forwarder.buffer.chunk import BufferChunk
    from forwarder.core.context import PluginContext
    from forwarder.core.rejected import Piece

BROKEN: Final = (RottenRecordError, fluentd.TornChunkError)
"""Raised where a chunk's content is not what was written."""
_UNSAFE: Final = re.compile(r'[ "/\\:;|*<>?]')


def rot(error: BaseException) -> Exception | None:
    """What of `BROKEN` an error is or was raised because of: a plugin may have an error of its own for it."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, BROKEN):
            return seen
        seen = seen.__cause__ or seen.__context__
    return None


def kept(chunk: BufferChunk | Piece, context: PluginContext, *, copy: bool) -> Exception | None:
    """Writes the content of a chunk that was refused for good. Gives what went wrong, which is logged.

    `copy` False: only says that there is no copy (`disable_chunk_backup`).
    """
    if not copy:
        context.log.warning("disable_chunk_backup is true: chunk is thrown away", chunk_id=chunk.id.hex())
        return None
    folder = os.path.join(
        base_folder(context.root_dir), "backup", f"worker{context.worker_id}", _safe(context.id)
    )
    path = os.path.join(folder, f"{chunk.id.hex()}.log")
    try:
        files.make_folders(folder, context.dir_permission)
        files.append(path, chunk.blocks(), context.file_permission)
    except Exception as error:
        context.log.error("cannot back up a bad chunk", chunk_id=chunk.id.hex(), error=error)
        return error
    context.log.warning("bad chunk is moved", path=path, chunk_id=chunk.id.hex())
    return None


def evacuated(chunk: BufferChunk, context: PluginContext, pack: Callable[[bytes], bytes] | None) -> bool:
    """Writes a chunk whose retries are over, with its metadata. False where it must stay where it is."""
    folder = os.path.join(base_folder(context.root_dir), "buffer", _safe(context.id))
    try:
        files.make_folders(folder, context.dir_permission)
        path = fluentd.write(folder, chunk, pack, context.file_permission)
    except UnrecoverableError as error:  # too large to be decompressed: nobody can use it
        context.log.error("cannot evacuate a chunk", chunk_id=chunk.id.hex(), error=error)
        return True
    except (OSError, *BROKEN) as error:
        context.log.error("cannot evacuate a chunk: it stays", chunk_id=chunk.id.hex(), error=error)
        return False
    context.log.warning("chunk is evacuated", path=path, chunk_id=chunk.id.hex())
    return True


def base_folder(root_dir: str | None) -> str:
    """Below which an operator finds things."""
    return root_dir or os.environ.get("FLUENT_BACKUP_DIR") or "/tmp/fluent"


def _safe(plugin_id: str) -> str:
    return _UNSAFE.sub("_", plugin_id)
