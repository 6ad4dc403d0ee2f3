"""What the benchmark takes for a failure of forwarder: doubles, and losses that nobody counted."""

import pytest

from bench.rows import unexplained

CLEAN = {"missing": 0, "kernel_drops": 0, "doubled": 0, "unnumbered": 0}


@pytest.mark.parametrize(
    ("counts", "every_loss", "wrong"),
    [
        ({}, False, ""),
        ({}, True, ""),
        ({"doubled": 2}, False, "2 doubled"),
        ({"unnumbered": 3}, False, "3 unnumbered"),
        ({"missing": 5, "kernel_drops": 5}, False, ""),
        ({"missing": 5, "kernel_drops": 5}, True, "5 lost"),
        ({"missing": 6, "kernel_drops": 5}, False, "1 lost"),
        ({"missing": 1, "doubled": 1}, True, "1 doubled, 1 lost"),
    ],
)
def test_unexplained(counts: dict[str, int], every_loss: bool, wrong: str) -> None:
    assert unexplained(CLEAN | counts, every_loss) == wrong
