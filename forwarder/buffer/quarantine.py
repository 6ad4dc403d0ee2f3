"""What cannot be delivered because it is broken: kept byte by byte, with a line that says what it is."""

from __future__ import annotations

import json
import os
import time
from typing import Final

NAME: Final = "quarantine"
MANIFEST: Final = "manifest.jsonl"
_PART: Final = 1 << 20


class Quarantine:
    """The folder `quarantine/` of a buffer; made when it is needed."""

    def __init__(self, store: str, dir_mode: int, file_mode: int) -> None:
        self.folder = os.path.join(store, NAME)
        self._dir_mode = dir_mode
        self._file_mode = file_mode

    def copy(self, path: str, offset: int, length: int, *, events: int | None, why: str) -> bool:
        """Copies a range of a file. False where it is here already (from an earlier start).

        `events`: how many were in it; None: not known. Raises OSError.
        """
        name = f"{os.path.basename(path)}.{offset}-{offset + length}.bin"
        target = os.path.join(self.folder, name)
        if os.path.exists(target):
            return False
        self._make()
        copied = 0
        with open(f"{target}.tmp", "wb", opener=self._open) as out, open(path, "rb") as file:
            file.seek(offset)
            while copied < length and (data := file.read(min(_PART, length - copied))):
                copied += out.write(data)
        os.replace(f"{target}.tmp", target)
        self._note(name, path, offset, length, copied=copied, events=events, why=why)
        return True

    def keep(self, path: str, offset: int, length: int) -> bool:
        """Keeps a whole file of which a range cannot be read, under its name: put back into the buffer's
        folder when the disk gives it again, it is delivered. False where it is here already. Raises OSError.
        """
        name = os.path.basename(path)
        self._make()
        try:
            os.link(path, os.path.join(self.folder, name))
        except FileExistsError:
            return False
        self._note(name, path, offset, length, copied=length, events=None, why="unreadable")
        return True

    def move(self, path: str, *, events: int | None, why: str) -> None:
        """Moves a whole file. Raises OSError."""
        self._make()
        size = os.path.getsize(path)
        name = os.path.basename(path)
        os.replace(path, os.path.join(self.folder, name))
        self._note(name, path, 0, size, copied=size, events=events, why=why)

    def _make(self) -> None:
        if not os.path.isdir(self.folder):
            os.makedirs(self.folder, self._dir_mode, exist_ok=True)
            os.chmod(self.folder, self._dir_mode)

    def _open(self, path: str, flags: int) -> int:
        return os.open(path, flags | os.O_CLOEXEC, self._file_mode)

    def _note(
        self, name: str, path: str, offset: int, length: int, *, copied: int, events: int | None, why: str
    ) -> None:  # fmt: skip
        line = {
            "file": name, "from": path, "offset": offset, "bytes": length, "copied_bytes": copied,
            "events": events, "why": why, "found_at": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        }  # fmt: skip
        with open(os.path.join(self.folder, MANIFEST), "a", encoding="utf-8", opener=self._open) as file:
            file.write(json.dumps(line) + "\n")
