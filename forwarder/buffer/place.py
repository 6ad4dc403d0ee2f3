"""Where a file buffer lies, and where chunks of a Fluentd would lie that ran with the same configuration."""

from __future__ import annotations

import os
import re
from typing import Final, NamedTuple

SINGLE_SUFFIX: Final = ".buf"


class Place(NamedTuple):
    """The folders and names of one file buffer."""

    store: str
    """Folder of our segments, journal, lock and quarantine."""
    leftovers: tuple[tuple[str, str], ...]
    """Fluentd's chunks: (folder, name with one `*`)."""
    single: bool
    """Whether Fluentd's names are those of `file_single`."""
    shared: bool = True
    """Whether several workers may use it (each has a folder of its own)."""

    def matches(self, pattern: str, name: str) -> bool:
        """Whether a file's name fits the pattern of `leftovers`."""
        before, _, after = pattern.partition("*")
        return re.fullmatch(f"{re.escape(before)}.*{re.escape(after)}", name, re.DOTALL) is not None


def place(
    path: str, suffix: str, *, single: bool, from_root: bool = False, workers: int = 1, worker_id: int = 0
) -> Place:  # fmt: skip
    """What `path` of a `<buffer>` means: a folder, or the pattern `PREFIX.*.SUFFIX`; Fluentd's rules.

    Args:
        suffix: `path_suffix`. from_root: the path was made from `root_dir` and `@id`, worker included.
    """
    path = path.rstrip("/") or "/"
    base = "fsb" if single else "buffer"
    suffix = SINGLE_SUFFIX if single else suffix
    if os.path.isdir(path) or (not os.path.exists(path) and ".*" not in path):
        pattern = f"{base}.*{suffix}"
        if from_root or workers <= 1:
            return Place(path, ((path, pattern),), single)
        own = os.path.join(path, f"worker{worker_id}")
        # worker 0 takes over what one process left before there were several
        folders = (path, own) if worker_id == 0 else (own,)
        return Place(own, tuple((folder, pattern) for folder in folders), single)
    folder, name = os.path.split(path)
    if ".*." in name:
        prefix = "fsb" if single else name.partition(".*.")[0]
        pattern = f"fsb.*{suffix}" if single else name
    elif name.endswith(".*"):
        prefix, pattern = name[:-2], name + suffix
    else:
        prefix, pattern = name, f"{name}.*{suffix}"
    return Place(
        os.path.join(folder, f"{prefix}.store"), ((folder or ".", pattern),), single, shared=False
    )  # fmt: skip


def root_path(root_dir: str, worker_id: int, plugin_id: str) -> str:
    """The path of a buffer that has none, under `<system> root_dir`, for a plugin with an `@id`."""
    return os.path.join(root_dir, f"worker{worker_id}", plugin_id, "buffer")
