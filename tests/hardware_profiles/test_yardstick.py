"""The yardstick: what it calls a slowdown, how long it waits, and that its work is work."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

import pytest

from hardware_profiles.yardstick import MOST_SLOWDOWN, PAUSE_S, Yardstick


def readings(values: Iterable[float]) -> Callable[[], float]:
    """Work that takes these seconds, one after another."""
    left = iter(values)
    return lambda: next(left)


def test_a_slowdown_is_over_the_least_ever() -> None:
    """5 us at first, 4 later: 6 is then half as much again; the least reading itself is 1, and is remembered."""
    yardstick = Yardstick(work_s=readings([5e-6, 5e-6, 4e-6, 6e-6]))
    assert [yardstick.slowdown() for _ in range(3)] == pytest.approx([1.0, 1.0, 1.5])
    assert yardstick.least_s == 4e-6


def test_what_earlier_processes_read_counts() -> None:
    """A process that has a neighbour from its first moment on is told by what others read before."""
    yardstick = Yardstick(least_s=4e-6, work_s=readings([6e-6]))
    assert yardstick.slowdown() == pytest.approx(1.5)


def test_it_waits_until_the_neighbour_is_done() -> None:
    """Three readings beside a neighbour, then a quiet one: three pauses, and their time off the patience."""
    pauses: list[float] = []
    yardstick = Yardstick(4e-6, patience_s=1.0, work_s=readings([6e-6, 6e-6, 6e-6, 4e-6]), pause=pauses.append)
    assert yardstick.wait() is True
    assert pauses == [PAUSE_S] * 3
    assert yardstick.patience_s == pytest.approx(1.0 - 3 * PAUSE_S)


def test_patience_ends() -> None:
    """All waits share it: the first uses it up, the second returns at once though the neighbour is still there."""
    pauses: list[float] = []
    yardstick = Yardstick(4e-6, patience_s=5 * PAUSE_S, work_s=lambda: 6e-6, pause=pauses.append)
    yardstick.wait()
    assert len(pauses) in (5, 6)  # sums of fiftieths are not exact
    yardstick.wait()
    assert len(pauses) in (5, 6)


def test_without_patience_nothing_is_read() -> None:
    """`patience_s: 0` takes what comes."""
    yardstick = Yardstick(4e-6, patience_s=0.0, work_s=readings([]))
    assert yardstick.wait() is False
    assert yardstick.least_s == 4e-6


def test_its_own_work_takes_time() -> None:
    """Readings are of microseconds and more: work that is optimised away, or done once, would tell nothing."""
    started_s = time.perf_counter()
    yardstick = Yardstick()
    assert 1e-7 < yardstick.least_s < time.perf_counter() - started_s
    assert yardstick.slowdown() >= 1.0
    assert MOST_SLOWDOWN > 1.0
