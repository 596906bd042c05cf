"""A fixed piece of work that tells whether somebody else computes on the same physical core.

What a cloud rents out as a core is often one of the two threads of a physical one. When the other thread belongs to a busy
neighbour, this process still gets all of its virtual core, nothing is stolen, calls hardly scatter, and yet everything takes
longer: on a Zen 4 server int8 networks of 0.2 to 0.3 ms 1.55 times as long, float ones of 9 ms 1.1 times. So ratios are wrong too.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np

ELEMENTS = 16_384
"""Of 4 bytes: 128 KiB with the result, which the second-level caches of servers hold."""
READINGS = 25
"""Of 2 to 10 us each; their median is one reading of the yardstick."""
MOST_SLOWDOWN = 1.2
"""Of a quiet block. On that server readings were within 4 % of their least alone and 1.5 to 1.6 times it beside a neighbour."""
PAUSE_S = 0.02
"""Between two looks while waiting."""


class Yardstick:
    """Readings of the same work in this process, the least of them known, and the patience to wait for one like it."""

    def __init__(
        self,
        least_s: float | None = None,
        patience_s: float = 0.0,
        work_s: Callable[[], float] | None = None,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        """`least_s`: of earlier processes on this core; `patience_s`: for all waits together; the rest is for tests."""
        self._work_s, self._pause = work_s or _integer_work(), pause
        self.least_s = self._work_s() if least_s is None else least_s
        self.patience_s = patience_s
        """What is left of it."""

    def slowdown(self) -> float:
        """A reading now over the least ever, at least 1."""
        reading_s = self._work_s()
        self.least_s = min(self.least_s, reading_s)
        return reading_s / self.least_s

    def wait(self) -> bool:
        """Return when the core is this process's own again, or when patience is at an end; True where it had to wait."""
        before_s = self.patience_s
        while self.patience_s > 0 and self.slowdown() > MOST_SLOWDOWN:
            self._pause(PAUSE_S)
            self.patience_s -= PAUSE_S
        return self.patience_s < before_s


def _integer_work() -> Callable[[], float]:
    """Seconds that one reading of integer products and sums takes; both threads of a core share the units they need."""
    numbers = np.arange(ELEMENTS, dtype=np.int32)
    products = np.empty_like(numbers)

    def work_s() -> float:
        times_ns = []
        for _ in range(READINGS):
            started_ns = time.perf_counter_ns()
            np.multiply(numbers, numbers, out=products)
            products.sum()
            times_ns.append(time.perf_counter_ns() - started_ns)
        return statistics.median(times_ns) * 1e-9

    return work_s
