"""The contention probe: a fixed piece of work that tells whether another process computes on the same physical core.

What a cloud rents out as a core is often one of the two threads of a physical one. While another process uses the other thread,
this process still gets all of its virtual core, nothing is stolen, calls hardly scatter, and yet everything takes
longer: on a Zen 4 server int8 networks of 0.2 to 0.3 ms 1.55 times as long, float ones of 9 ms 1.1 times. So ratios are wrong too.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np

from hardware_profiles.timing.calls import MOST_SLOWDOWN

ELEMENTS = 16_384
"""Of 4 bytes: 128 KiB with the result, which the second-level caches of servers hold."""
CALLS = 25
"""Of 2 to 10 us each; their median is one reading."""


class ContentionProbe:
    """Readings of the same work on this core, the least of them known, and the patience to wait for one like it."""

    def __init__(
        self,
        least_s: float | None = None,
        contention_wait_s: float = 0.0,
        work_s: Callable[[], float] | None = None,
        clock_s: Callable[[], float] = time.perf_counter,
    ) -> None:
        """`least_s`: of earlier processes on this core; `contention_wait_s`: for all waits together; the rest is for tests."""
        self._work_s, self._clock_s = work_s or _integer_work(), clock_s
        self.least_s = self._work_s() if least_s is None else least_s
        self.contention_wait_s = contention_wait_s
        """What is left of it."""

    def read_s(self) -> float:
        """Seconds that the work takes now."""
        reading_s = self._work_s()
        self.least_s = min(self.least_s, reading_s)
        return reading_s

    def wait(self) -> float:
        """Return when the core is this process's own again, or when patience is at an end: the seconds that it took.

        It reads on and on, for a core that sleeps meanwhile would be slow afterwards by itself.
        """
        started_s, waited_s = self._clock_s(), 0.0
        while waited_s < self.contention_wait_s and self.read_s() > MOST_SLOWDOWN * self.least_s:
            waited_s = self._clock_s() - started_s
        self.contention_wait_s -= waited_s
        return waited_s


def _integer_work() -> Callable[[], float]:
    """Seconds of one reading of integer products and sums; both threads of a core share the units that they need."""
    numbers = np.arange(ELEMENTS, dtype=np.int32)
    products = np.empty_like(numbers)

    def work_s() -> float:
        times_ns = []
        for _ in range(CALLS):
            started_ns = time.perf_counter_ns()
            np.multiply(numbers, numbers, out=products)
            products.sum()
            times_ns.append(time.perf_counter_ns() - started_ns)
        return statistics.median(times_ns) * 1e-9

    return work_s
