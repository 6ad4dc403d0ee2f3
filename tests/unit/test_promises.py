"""docs/what-can-be-lost.md: every promise names tests, and every test that it names exists."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/what-can-be-lost.md"
UNPROVED = "nobody can promise it"


def rows() -> Iterator[str]:
    """The last cell of each row: the tests."""
    for line in PAGE.read_text().splitlines():
        if line.startswith("| ") and not line.startswith("| what happens |"):
            yield line.rstrip().rstrip("|").rsplit("|", 1)[1].strip()


def exists(name: str) -> bool:
    """`FILE` or `FILE::TEST`."""
    path, _, test = name.partition("::")
    file = ROOT / path
    if not file.is_file():
        return False
    pattern = rf"^ *(def|fn) {re.escape(test)}\("
    return not test or re.search(pattern, file.read_text(), re.MULTILINE) is not None


@pytest.mark.parametrize("cell", list(rows()))
def test_a_promise_is_proved(cell: str) -> None:
    named = re.findall(r"`([^`]+)`", cell)
    assert named or cell.startswith(UNPROVED), "a promise without a test"
    assert [name for name in named if not exists(name)] == []


def test_there_are_promises() -> None:
    assert len(list(rows())) > 40
    assert not exists("tests/unit/test_promises.py::test_that_is_not_there")
