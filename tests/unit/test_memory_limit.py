"""How much memory there is: cgroups of both kinds, and the machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from forwarder.api.errors import ConfigError
from forwarder.config import Diagnostics, parse_text
from forwarder.config.system import SystemConfig, read_system
from forwarder.core.memory import largest_chunk, limit_bytes

MIB = 1 << 20
MACHINE = "MemTotal:        4194304 kB\nMemFree: 1 kB\n"


def system(text: str = "") -> SystemConfig:
    diagnostics = Diagnostics()
    found = read_system(parse_text(f"<system>\n{text}\n</system>", "test.conf", diagnostics), diagnostics)
    diagnostics.raise_errors()
    return found


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"proc/meminfo": MACHINE}, 1024),
        ({"proc/meminfo": "nonsense"}, 0),
        ({}, 0),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": f"{128 * MIB}\n"}, 64),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "max\n", "proc/meminfo": MACHINE}, 1024),
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/memory.max": f"{200 * MIB}\n"}, 100),
        (
            {
                "proc/self/cgroup": "0::/a/b\n",
                "sys/fs/cgroup/a/memory.max": f"{200 * MIB}\n",
                "sys/fs/cgroup/a/b/memory.high": f"{100 * MIB}\n",
                "proc/meminfo": MACHINE,
            },
            50,
        ),
        # v1 in a container: the path is the host's
        (
            {
                "proc/self/cgroup": "9:cpu:/docker/1\n4:memory:/docker/1\n0::/\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{64 * MIB}\n",
            },
            32,
        ),
        (
            {
                "proc/self/cgroup": "4:cpu,memory:/\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
                "proc/meminfo": MACHINE,
            },
            1024,
        ),
    ],
)
def test_what_is_detected(tmp_path: Path, files: dict[str, str], expected: int) -> None:
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert limit_bytes(system(), tmp_path) == expected * MIB
    assert limit_bytes(system("workers 2"), tmp_path) == expected * MIB // 2


def test_what_is_configured(tmp_path: Path) -> None:
    assert limit_bytes(system("memory_limit_size 30m\nworkers 3"), tmp_path) == 10 * MIB
    assert limit_bytes(system()) > 0  # of this machine
    with pytest.raises(ConfigError, match="memory_limit_size: expected at least 1m"):
        system("memory_limit_size 10k")


def test_the_largest_chunk() -> None:
    assert largest_chunk(0) is None
    assert largest_chunk(64 * MIB) == 16 * MIB
    assert largest_chunk(1) == 64 << 10
