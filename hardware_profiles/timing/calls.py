"""The calls that are timed: of the network alone, and end to end; and whether something else had the core meanwhile."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from hardware_profiles.runtimes.table import Array, Pixels, Session
from hardware_profiles.timing.environment import steal_s, tick_s
from hardware_profiles.timing.mlperf_percentile import percentile_with_confidence

if TYPE_CHECKING:
    from hardware_profiles.timing.protocol import Protocol

Picture = NDArray[np.uint8]
Cores = tuple[int, ...] | None
"""That the process is pinned to; None where the system cannot pin."""
Number = TypeVar("Number", int, float)
MOST_CV = 0.10
"""Of the timed calls of a quiet block. On a quiet core the standard deviation of one network's calls is 2 to 6 % of their mean."""
JITTER_S = 30e-6
"""What a quiet core adds to that deviation however short the calls are: networks of 0.2 to 0.4 ms had deviations of 30 to 45 us
with all of the core and nothing stolen (174 blocks of OpenVINO files, 2.6 GHz Xeon)."""
MOST_STEAL = 0.01
"""Share of a quiet block's time that the hypervisor may have given to others."""
MOST_SLOWDOWN = 1.2
"""Of the contention probe in a quiet block, over its least reading ever. On a Zen 4 server readings were within 4 % of their least
alone, and 1.5 to 1.6 times it with another process on the same physical core."""
LEAST_CPU_SHARE = 0.95
"""Of a core; on an idle core a single-threaded process gets all of it."""
PROBE_ELEMENTS = 16_384
"""Of 4 bytes: 128 KiB with the result, which the second-level caches of servers hold."""
PROBE_CALLS = 25
"""Of 2 to 10 us each; their median is one reading."""


class Hooks(NamedTuple):
    """What surrounds the network, so that end-to-end time is that of the detector and not of the network alone."""

    before: Callable[[Picture, tuple[int, int]], Pixels]
    """Picture (h, w, 3), input size (height, width) -> pixels (1, height, width, 3)."""
    after: Callable[[tuple[Array, ...], Picture, tuple[int, int]], Any]
    """Outputs, picture, input size (height, width) -> final detections."""


class Times(NamedTuple):
    """What one timing of an opened and warm file found; `hardware_profiles.timing.round.Block` explains the fields."""

    p50_s: float
    p90_s: float | None
    cv: float
    cpu_share: float
    end_to_end_p50_s: float | None
    postprocess_p50_s: float | None
    steal_s: float | None
    timed_s: float
    probe_s: float | None = None
    slowdown: float | None = None
    """That reading over the least one known by then."""

    def kept(self) -> dict[str, Any]:
        """The fields that a `hardware_profiles.timing.round.Block` has too."""
        return {name: value for name, value in self._asdict().items() if name != "slowdown"}

    @property
    def contended(self) -> bool:
        """True where something else than the file decided the times, so that they had better be taken again.

        Four signs, since none sees everything. Steal is counted in ticks of 10 ms, and most blocks are shorter than 100 of them:
        n ticks say only that more than n - 1 ticks' worth was taken, so one tick never marks a block. The share of the core
        that we got shows other processes, and the hypervisor too where the kernel takes steal out of our processor time; with
        several threads only when all of them together had less than one core. The spread of the calls has to tell the rest, and
        the probe what comes from the other thread of a physical core.
        """
        certain_steal_s = 0.0 if self.steal_s is None else self.steal_s - tick_s()
        scattered = self.cv > MOST_CV + JITTER_S / self.p50_s
        shared = self.slowdown is not None and self.slowdown > MOST_SLOWDOWN
        return scattered or shared or self.cpu_share < LEAST_CPU_SHARE or certain_steal_s > MOST_STEAL * self.timed_s


class ContentionProbe:
    """Tells by a fixed piece of work whether another process computes on the same physical core, and waits for it to end.

    What a cloud rents out as a core is often one of the two threads of a physical one. While another process uses the other
    thread, this process still gets all of its virtual core, nothing is stolen and calls hardly scatter, yet everything takes
    longer, and not equally: on a Zen 4 server int8 networks of 0.2 to 0.3 ms 1.55 times as long, float ones of 9 ms 1.1 times.
    """

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


def take_times(
    session: Session, inputs: Sequence[Pixels], pictures: Sequence[Picture], hooks: Hooks, protocol: Protocol, cores: Cores
) -> Times:
    """Timed calls of the network on the inputs, then from the pictures to final detections; inputs and pictures take turns."""
    stolen_before_s, started_ns, used_before_ns = steal_s(cores), time.perf_counter_ns(), time.process_time_ns()
    calls_ns = calls_one_by_one_ns(session, inputs, protocol.timed_calls)
    used_ns = time.process_time_ns() - used_before_ns
    whole_ns, after_ns = _end_to_end_ns(session, pictures, hooks, protocol.end_to_end_calls)
    timed_s = (time.perf_counter_ns() - started_ns) * 1e-9
    return times_of(calls_ns, used_ns, difference(steal_s(cores), stolen_before_s), timed_s, whole_ns, after_ns)


def times_of(
    calls_ns: Sequence[int],
    used_ns: int,
    stolen_s: float | None,
    timed_s: float,
    whole_ns: Sequence[int] = (),
    after_ns: Sequence[int] = (),
) -> Times:
    """What single calls amount to; the end-to-end numbers are None where no such calls were made."""
    p90_ns = percentile_with_confidence(calls_ns)
    return Times(
        p50_s=statistics.median(calls_ns) * 1e-9,
        p90_s=None if p90_ns is None else p90_ns * 1e-9,
        cv=float(np.std(calls_ns) / np.mean(calls_ns)),
        cpu_share=used_ns / sum(calls_ns),
        end_to_end_p50_s=statistics.median(whole_ns) * 1e-9 if whole_ns else None,
        postprocess_p50_s=statistics.median(after_ns) * 1e-9 if after_ns else None,
        steal_s=stolen_s,
        timed_s=timed_s,
    )


def warm_up(session: Session, inputs: Sequence[Pixels], least_calls: int, least_s: float) -> None:
    """Call until both are reached: caches, branch predictors and the clock are then those of steady work."""
    started_ns, calls = time.perf_counter_ns(), 0
    while calls < least_calls or (time.perf_counter_ns() - started_ns) * 1e-9 < least_s:
        session(inputs[calls % len(inputs)])
        calls += 1


def calls_one_by_one_ns(session: Session, inputs: Sequence[Pixels], count: int) -> list[int]:
    """Nanoseconds of each call, the inputs taking turns."""
    times_ns = []
    for i in range(count):
        pixels = inputs[i % len(inputs)]
        started_ns = time.perf_counter_ns()
        session(pixels)
        times_ns.append(time.perf_counter_ns() - started_ns)
    return times_ns


def difference(after: Number | None, before: Number | None) -> Number | None:
    """after - before, at least 0; None where either is unknown."""
    return None if after is None or before is None else max(after - before, type(after)(0))


def _end_to_end_ns(session: Session, pictures: Sequence[Picture], hooks: Hooks, count: int) -> tuple[list[int], list[int]]:
    """Nanoseconds of whole passes from picture to detections, and of the part of each that follows the network."""
    whole_ns, after_ns = [], []
    for i in range(count):
        picture = pictures[i % len(pictures)]
        started_ns = time.perf_counter_ns()
        outputs = session(hooks.before(picture, session.input_size))
        answered_ns = time.perf_counter_ns()
        hooks.after(outputs, picture, session.input_size)
        ended_ns = time.perf_counter_ns()
        whole_ns.append(ended_ns - started_ns)
        after_ns.append(ended_ns - answered_ns)
    return whole_ns, after_ns


def _integer_work() -> Callable[[], float]:
    """Seconds of one reading of integer products and sums; both threads of a core share the units that they need."""
    numbers = np.arange(PROBE_ELEMENTS, dtype=np.int32)
    products = np.empty_like(numbers)

    def work_s() -> float:
        times_ns = []
        for _ in range(PROBE_CALLS):
            started_ns = time.perf_counter_ns()
            np.multiply(numbers, numbers, out=products)
            products.sum()
            times_ns.append(time.perf_counter_ns() - started_ns)
        return statistics.median(times_ns) * 1e-9

    return work_s
