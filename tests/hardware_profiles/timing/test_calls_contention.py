"""The probe: its least reading, how long it waits, and that its work is work."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from itertools import count

from hardware_profiles.timing.calls import ContentionProbe


def readings(values: Iterable[float]) -> Callable[[], float]:
    """Work that takes these seconds, one after another."""
    left: Iterator[float] = iter(values)
    return lambda: next(left)


def ticking() -> Callable[[], float]:
    """A clock that is a second later at every look."""
    seconds = count()
    return lambda: float(next(seconds))


def test_the_least_reading_is_remembered() -> None:
    """5 us at first, 4 later, then 6."""
    probe = ContentionProbe(work_s=readings([5e-6, 5e-6, 4e-6, 6e-6]))
    assert [probe.read_s() for _ in range(3)] == [5e-6, 4e-6, 6e-6]
    assert probe.least_s == 4e-6


def test_what_earlier_processes_read_counts() -> None:
    """A process that has a neighbour from its first moment on knows by what others read before."""
    probe = ContentionProbe(least_s=4e-6, work_s=readings([6e-6]))
    probe.read_s()
    assert probe.least_s == 4e-6


def test_it_waits_until_the_neighbour_is_done() -> None:
    """Three readings beside a neighbour, then a quiet one: three seconds by this clock, and so much off the patience."""
    probe = ContentionProbe(4e-6, 10.0, readings([6e-6, 6e-6, 6e-6, 4e-6]), ticking())
    assert probe.wait() == 3.0
    assert probe.contention_wait_s == 7.0


def test_a_quiet_core_is_not_waited_for() -> None:
    """One reading up to a fifth above the least is enough."""
    probe = ContentionProbe(4e-6, 10.0, readings([4.7e-6]), ticking())
    assert probe.wait() == 0.0
    assert probe.contention_wait_s == 10.0


def test_patience_ends() -> None:
    """All waits share it: the first uses it up, the second returns at once though the neighbour is still there."""
    probe = ContentionProbe(4e-6, 5.0, lambda: 6e-6, ticking())
    assert [probe.wait(), probe.wait()] == [5.0, 0.0]


def test_without_patience_nothing_is_read() -> None:
    """`contention_wait_s: 0` takes what comes."""
    assert ContentionProbe(4e-6, 0.0, readings([])).wait() == 0.0


def test_its_own_work_takes_time() -> None:
    """Readings are of microseconds and more: work that is optimised away, or done once, would tell nothing."""
    started_s = time.perf_counter()
    probe = ContentionProbe()
    assert 1e-7 < probe.least_s < time.perf_counter() - started_s
