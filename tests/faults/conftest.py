"""Daemons that end with the test. The modules beside the tests are imported by their plain names."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

_HERE = Path(__file__).parent
sys.path[:0] = [str(_HERE), str(_HERE.parent / "component")]

from daemon import Daemon, Faulty  # noqa: E402

SOURCE = _HERE / "faulty_disk.c"


@pytest.fixture(scope="session")
def shim(tmp_path_factory: pytest.TempPathFactory, tools: Any) -> Path:
    """The library that makes a disk fail."""
    compiler = tools.need("cc")
    library = tmp_path_factory.mktemp("shim") / "faulty_disk.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, SOURCE, "-ldl"], check=True)
    return library


def _end(daemons: list[Daemon]) -> None:
    for daemon in daemons:
        daemon.peer.close()
        if daemon.process is not None:
            daemon.kill()


@pytest.fixture
def make_daemon(tmp_path: Path) -> Iterator[Callable[..., Daemon]]:
    """A function that makes a daemon, not started yet; takes what `Daemon` takes behind the folder."""
    made: list[Daemon] = []

    def make(**options: Any) -> Daemon:
        made.append(Daemon(tmp_path, **options))
        return made[-1]

    yield make
    _end(made)


@pytest.fixture
def faulty(tmp_path: Path, shim: Path) -> Iterator[Callable[..., Faulty]]:
    """A function that makes a daemon whose disk and clock are wrong when told to, and starts it."""
    made: list[Faulty] = []

    def make(more: str = "", **options: str) -> Faulty:
        made.append(Faulty(tmp_path, shim, more, **options))
        made[-1].start()
        return made[-1]

    yield make
    _end([*made])
