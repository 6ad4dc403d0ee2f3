"""The retry clock, with times as arguments."""

from __future__ import annotations

import pytest

from forwarder.api.testing import Driver
from forwarder.core.delivery import BufferedOutput
from forwarder.core.retry import RetryPolicy, RetryState

PLAIN = RetryPolicy(randomize=False)


def waits(policy: RetryPolicy, most: int) -> list[float]:
    """The waits before each retry, all of which fail at once when they are due; ends when given up."""
    state = RetryState(policy, 0.0, lambda: 0.5)
    now, found = 0.0, []
    while not state.exhausted and len(found) < most:
        found.append(state.next_time - now)
        now = state.next_time
        state.fail(now)
    return found


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (PLAIN, [1, 2, 4, 8, 16]),
        (PLAIN._replace(wait=3.0, base=10.0), [3, 30, 300, 3000, 30000]),
        (PLAIN._replace(max_interval=5.0), [1, 2, 4, 5, 5]),
        (PLAIN._replace(exponential=False, wait=7.0), [7, 7, 7, 7, 7]),
        (PLAIN._replace(max_times=3), [1, 2, 4]),
        (PLAIN._replace(max_times=0), []),
        (PLAIN._replace(max_times=1, forever=True), [1, 2, 4, 8, 16]),
        # the attempt at the very end of the time is made, once
        (PLAIN._replace(timeout=10.0), [1, 2, 4, 3]),
        (PLAIN._replace(timeout=10.0, forever=True), [1, 2, 4, 8, 16]),
    ],
)
def test_waits(policy: RetryPolicy, expected: list[float]) -> None:
    assert waits(policy, 5) == expected


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ("", [1, 2, 4, 8, 16]),
        ("retry_wait 3", [3, 6, 12, 24, 48]),
        ("retry_type periodic", [1, 1, 1, 1, 1]),
        ("retry_exponential_backoff_base 3", [1, 3, 9, 27, 81]),
        ("retry_max_interval 5", [1, 2, 4, 5, 5]),
        ("retry_timeout 10", [1, 2, 4, 3]),
        ("retry_max_times 2", [1, 2]),
        ("retry_max_times 2\nretry_forever true", [1, 2, 4, 8, 16]),
    ],
)
def test_what_the_configuration_says_is_what_the_clock_does(parameters: str, expected: list[float]) -> None:
    text = (
        f"<match **>\n@type test\n<buffer>\nretry_randomize false\n{parameters}\n</buffer>\n"
        "<secondary>\n@type test\n</secondary>\n</match>"
    )
    policy = policy_of(text)
    assert policy.secondary
    assert waits(policy._replace(secondary=False), 5) == expected


def test_randomness_and_the_secondary_share_are_configured() -> None:
    text = "<match **>\n@type test\n<buffer>\n{}\n</buffer>\n</match>"
    assert policy_of(text.format("")).randomize
    assert not policy_of(text.format("retry_randomize false")).randomize
    assert policy_of(text.format("retry_secondary_threshold 0.5")).secondary_threshold == 0.5


def policy_of(text: str) -> RetryPolicy:
    (placed,) = [
        placed
        for placed in Driver(text, start=False).engine.plugins
        if isinstance(placed.node, BufferedOutput)
    ]
    assert isinstance(placed.node, BufferedOutput)
    return placed.node.writer.policy


def test_a_retry_is_given_up_after_the_timeout() -> None:
    assert sum(waits(PLAIN._replace(timeout=100.0), 1000)) == 100.0


def test_jitter_is_an_eighth_either_way() -> None:
    for random, wait in ((0.0, 1.75), (0.5, 2.0), (1.0, 2.25)):
        state = RetryState(RetryPolicy(), 0.0, lambda random=random: random)
        assert state.next_time == 1.0  # the first wait has none
        state.fail(1.0)
        assert state.next_time - 1.0 == pytest.approx(wait)


def test_the_secondary_takes_over_at_its_share_of_the_time() -> None:
    state = RetryState(PLAIN._replace(timeout=10.0, secondary=True), 0.0)
    for now, secondary in ((1.0, False), (3.0, False), (7.0, False)):
        assert state.next_time == now
        assert state.secondary(now) is secondary
        state.fail(now)
    assert state.next_time == 8.0  # not later than 0.8 of the time
    assert state.secondary(8.0)
    state.fail(8.0)
    assert state.next_time == 9.0  # short waits again
    state.fail(9.0)
    assert state.next_time == 10.0
    state.fail(10.0)
    assert not state.exhausted or state.next_time == 10.0


def test_the_time_before_the_secondary_follows_retry_max_times() -> None:
    # four retries take 1 + 2 + 4 + 8 = 15 seconds, 0.8 of them are 12
    state = RetryState(PLAIN._replace(max_times=4, secondary=True), 0.0)
    assert not state.secondary(11.9)
    assert state.secondary(12.0)


def test_forever_leaves_the_secondary_to_unrecoverable_errors() -> None:
    state = RetryState(PLAIN._replace(timeout=1.0, secondary=True, forever=True), 0.0)
    for _ in range(50):
        state.fail(state.next_time)
    assert not state.exhausted
    assert not state.secondary(1e12)


def test_endless_exponentials_stay_finite() -> None:
    state = RetryState(PLAIN._replace(forever=True), 0.0)
    for _ in range(5000):
        state.fail(0.0)
    assert 0 < state.next_time < float("inf")
