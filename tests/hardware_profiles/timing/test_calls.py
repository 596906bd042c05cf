"""Timed calls by a clock that is wound by hand, and the signs that something else had the core."""

from __future__ import annotations

import numpy as np
import pytest

from hardware_profiles.runtimes.table import Array, Pixels
from hardware_profiles.timing.calls import Hooks, Picture, Times, take_times, times_of, warm_up
from hardware_profiles.timing.environment import tick_s
from hardware_profiles.timing.protocol import Protocol

MS = 1_000_000
PICTURES = [np.zeros((4, 4, 3), np.uint8)]
PIXELS = [np.zeros((1, 2, 2, 3), np.uint8), np.ones((1, 2, 2, 3), np.uint8)]
NOTHING = np.zeros((1, 0, 4), np.float32)


class Clock:
    """Time that passes only where the test says so; the process uses all of it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_ns = 0
        monkeypatch.setattr("hardware_profiles.timing.calls.time.perf_counter_ns", lambda: self.now_ns)
        monkeypatch.setattr("hardware_profiles.timing.calls.time.process_time_ns", lambda: self.now_ns)


class Detector:
    """A session whose calls take the times given, in turn; the pixels it saw."""

    input_size = (2, 2)

    def __init__(self, clock: Clock, *times_ms: int) -> None:
        self.seen: list[Pixels] = []
        self._clock, self._times_ms = clock, times_ms

    def blank(self) -> Pixels:
        return PIXELS[0]

    def __call__(self, pixels: Pixels) -> tuple[Array, Array]:
        self._clock.now_ns += self._times_ms[len(self.seen) % len(self._times_ms)] * MS
        self.seen.append(pixels)
        return NOTHING, NOTHING


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """At nought."""
    return Clock(monkeypatch)


def hooks(clock: Clock, before_ms: int, after_ms: int) -> Hooks:
    """Hooks that take their time."""

    def before(picture: Picture, size: tuple[int, int]) -> Pixels:
        clock.now_ns += before_ms * MS
        return PIXELS[0]

    def after(outputs: tuple[Array, ...], picture: Picture, size: tuple[int, int]) -> None:
        clock.now_ns += after_ms * MS

    return Hooks(before, after)


def test_each_part_has_its_own_time(clock: Clock) -> None:
    """Network 10 ms, 3 ms before and 2 ms after it: 10 alone, 15 end to end, 2 of post-processing, 4 x 10 + 2 x 15 in all."""
    session = Detector(clock, 10)
    found = take_times(session, PIXELS, PICTURES, hooks(clock, 3, 2), Protocol(timed_calls=4, end_to_end_calls=2), None)
    assert (found.p50_s, found.end_to_end_p50_s, found.postprocess_p50_s) == pytest.approx((0.010, 0.015, 0.002))
    assert found.timed_s == pytest.approx(0.070)
    assert (found.cv, found.cpu_share) == pytest.approx((0.0, 1.0))
    assert [pixels.max() for pixels in session.seen[:4]] == [0, 1, 0, 1]  # the inputs take turns


def test_spread_is_that_of_the_calls(clock: Clock) -> None:
    """Times of 8 and 12 ms in turn: median 10, standard deviation 2, so CV 20 %."""
    protocol = Protocol(timed_calls=4, end_to_end_calls=1)
    found = take_times(Detector(clock, 8, 12), PIXELS, PICTURES, hooks(clock, 0, 0), protocol, None)
    assert (found.p50_s, found.cv) == pytest.approx((0.010, 0.2))


def test_raw_calls_amount_to_the_same() -> None:
    """63 calls of 1 ms and one of 5: median 1, p90 the slowest, and nothing end to end where nothing was timed."""
    found = times_of([MS] * 63 + [5 * MS], used_ns=34 * MS, stolen_s=None, timed_s=0.068)
    assert (found.p50_s, found.p90_s) == pytest.approx((0.001, 0.005))
    assert found.cpu_share == pytest.approx(0.5)
    assert (found.end_to_end_p50_s, found.postprocess_p50_s) == (None, None)


def test_warming_up_goes_on_until_both_are_reached(clock: Clock) -> None:
    """7 ms a call: 3 calls and 20 ms need three, 5 calls and 20 ms five, 2 calls and 30 ms five."""
    for calls, seconds, made in ((3, 0.020, 3), (5, 0.020, 5), (2, 0.030, 5)):
        session = Detector(clock, 7)
        warm_up(session, PIXELS, calls, seconds)
        assert len(session.seen) == made


def times(**different: float | None) -> Times:
    """A quiet block of 100 ms, but for what is given."""
    quiet = {"cv": 0.03, "cpu_share": 1.0, "steal_s": 0.0, "timed_s": 0.1}
    rest = {"p50_s": 0.001, "p90_s": None, "end_to_end_p50_s": None, "postprocess_p50_s": None}
    return Times(**(quiet | rest | different))


@pytest.mark.parametrize(
    ("different", "contended"),
    [
        ({}, False),
        ({"steal_s": None}, False),  # a kernel that does not say
        ({"cv": 0.129}, False),
        ({"cv": 0.131}, True),
        ({"cv": 0.19, "p50_s": 0.0003}, False),
        ({"cv": 0.21, "p50_s": 0.0003}, True),
        ({"cpu_share": 0.95}, False),
        ({"cpu_share": 0.94}, True),
        ({"cpu_share": 1.9}, False),  # two threads
        ({"slowdown": 1.19}, False),
        ({"slowdown": 1.21}, True),  # a neighbour on the same physical core
    ],
)
def test_signs_of_contention(different: dict[str, float | None], contended: bool) -> None:
    """A spread above 10 % and 30 us (13 % of a millisecond, 20 % of 0.3), less than 95 % of a core, or a slower probe."""
    assert times(**different).contended is contended


@pytest.mark.parametrize(
    ("timed_s", "ticks", "contended"),
    [
        (0.1, 1, False),  # between nothing and two ticks' worth: in doubt
        (0.1, 2, True),  # more than one tick's worth: over 10 % of the block
        (5.0, 5, False),  # 0.8 to 1.2 %
        (5.0, 7, True),  # at least 1.2 %
    ],
)
def test_a_tick_of_steal_is_left_in_doubt(timed_s: float, ticks: int, contended: bool) -> None:
    """Only what was stolen for certain, all ticks but one, counts against the limit of 1 %."""
    assert times(timed_s=timed_s, steal_s=ticks * tick_s()).contended is contended
