"""How much memory one process may keep: `<system> memory_limit_size`, or a share of what there is.

Sources: cgroups(7), `memory.max` and `memory.high` of cgroup v2, `memory.limit_in_bytes` of v1, of the
process's own group and of all above it (the least of them counts), and `MemTotal` of proc_meminfo(5).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from forwarder.config.system import SystemConfig

_OF_GROUP: Final = 0.5
"""Share of a limit that was set for us: the interpreter and the batches at hand need the rest."""
_OF_MACHINE: Final = 0.25
"""Share of a machine that others use too."""
_CHUNK_SHARE: Final = 4
"""The largest chunk: outputs hold whole chunks, some twice."""
_LEAST_CHUNK_BYTES: Final = 64 << 10
_UNLIMITED: Final = 1 << 60
"""cgroup v1 says so by a number near 2**63."""


def limit_bytes(system: SystemConfig, root: Path = Path("/")) -> int:
    """What each of the workers may keep; 0: no limit is known. `root`: where /proc and /sys are."""
    found = system.memory_limit_size or _detected(root)
    return found // max(1, system.workers)


def largest_chunk(limit: int) -> int | None:
    """The largest chunk that fits a budget of so many bytes; None: any does."""
    return max(_LEAST_CHUNK_BYTES, limit // _CHUNK_SHARE) if limit else None


def _detected(root: Path) -> int:
    shares = [int(limit * _OF_GROUP) for limit in _group_limits(root) if 0 < limit < _UNLIMITED]
    with suppress(OSError, ValueError):
        for line in (root / "proc/meminfo").read_text().splitlines():
            name, _, value = line.partition(":")
            if name == "MemTotal":
                shares.append(int(int(value.split()[0]) * 1024 * _OF_MACHINE))
    return min(shares, default=0)


def _group_limits(root: Path) -> Iterator[int]:
    mounts = root / "sys/fs/cgroup"
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not controllers:
            yield from _upwards(mounts, path, ("memory.max", "memory.high"))
        elif "memory" in controllers.split(","):
            yield from _upwards(mounts / "memory", path, ("memory.limit_in_bytes",))


def _upwards(mount: Path, path: str, names: tuple[str, ...]) -> Iterator[int]:
    # in a container the path may be the host's, and only the mount's own files are there
    group = mount / path.lstrip("/")
    for folder in (group, *group.parents):
        for name in names:
            with suppress(OSError, ValueError):  # "max"
                yield int((folder / name).read_text())
        if folder == mount:
            return
