"""How many chunks may be on their way at once."""

from __future__ import annotations

import time
from contextlib import ExitStack
from threading import Event, Thread

import pytest

from forwarder.plugins.outputs.elasticsearch.pressure import Pressure


def flight(pressure: Pressure, count: int, pushed_back: int) -> None:
    """`count` chunks together on their way, some of which find no room."""
    with ExitStack() as stack:
        turns = [stack.enter_context(pressure.turn()) for _ in range(count)]
        for turn in turns[:pushed_back]:
            turn.push_back()


def test_one_flight_halves_the_limit_once() -> None:
    pressure = Pressure(8)
    flight(pressure, 8, 8)
    assert (pressure.limit, pressure.pushbacks) == (4.0, 8)
    flight(pressure, 4, 1)
    assert pressure.limit == 2.0, "those beside the one that found no room do not raise it either"
    for _ in range(3):
        flight(pressure, 1, 1)
    assert pressure.limit == 1.0


def test_a_turn_that_waited_may_be_pushed_back_again() -> None:
    pressure = Pressure(8)
    with pressure.turn() as turn:
        turn.push_back()
        turn.push_back()
    assert pressure.limit == 2.0


def test_four_full_rounds_add_one() -> None:
    pressure = Pressure(4)
    flight(pressure, 4, 1)
    flight(pressure, 1, 1)
    assert pressure.limit == 1.0
    for _ in range(4):
        flight(pressure, 1, 0)
    assert 1.7 < pressure.limit <= 2.0
    for _ in range(60):
        flight(pressure, 1, 0)
    assert pressure.limit == 4.0, "no further than it was"


def test_who_rests_lets_others_go() -> None:
    pressure = Pressure(1)
    with pressure.turn() as turn:
        turn.push_back()
        with turn.rest(0.0):
            flight(pressure, 1, 0)
        assert pressure.in_flight == 1
        started = time.monotonic()
        with turn.rest(0.05):
            pass
        assert time.monotonic() - started >= 0.05, "nobody goes while the cluster wants to be left alone"


def test_a_failure_says_nothing_about_room() -> None:
    pressure = Pressure(2)
    flight(pressure, 1, 1)
    with pytest.raises(OSError, match="gone"), pressure.turn():
        raise OSError("gone")
    assert (pressure.limit, pressure.in_flight) == (1.0, 0)


def test_who_is_too_many_waits() -> None:
    pressure = Pressure(2)
    entered = Event()

    def third() -> None:
        with pressure.turn():
            entered.set()

    with pressure.turn() as first, pressure.turn():
        first.push_back()
        thread = Thread(target=third)
        thread.start()
        assert not entered.wait(0.05)
        assert pressure.in_flight == 2
    assert entered.wait(10)
    thread.join(10)
    assert pressure.in_flight == 0
