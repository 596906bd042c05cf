"""Numbers of a host profile that whole networks cannot tell apart, from chains of one operator: time against length.

    python -m hardware_profiles.overhead x86-onnxruntime-1t

prints what starting an operator costs, how fast depthwise and first convolutions run, and what a softmax costs. Run it on a
quiet machine; `with_chains` puts the numbers into the profile with their sources.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hardware_profiles.chains import Chain, write_chain
from hardware_profiles.estimate import ideal_s
from hardware_profiles.graph import read_operators
from hardware_profiles.library import load_profile
from hardware_profiles.measure import choose_cores
from hardware_profiles.profile import ClassUtilisation, DType, HardwareProfile, PerClass
from hardware_profiles.runtimes import open_session, runtime_version

LENGTHS = (8, 16, 32, 64)
"""Operators in a chain; the slope over them is the time of one, whatever goes before and after."""
CALLS = 40
"""Per file and round; their median counts, and the median over rounds."""
ROUNDS = 5
Timer = Callable[[Path], float]
"""File -> seconds of one inference."""


@dataclass(frozen=True)
class Slope:
    """Seconds that one more operator takes: the middle round, the least and the greatest."""

    middle_s: float
    least_s: float
    greatest_s: float


@dataclass(frozen=True)
class ChainNumbers:
    """What the chains of one type say. Utilisations are shares of the profile's peak, as in `class_utilisation`."""

    dtype: DType
    op_overhead_us: float
    depthwise: float
    depthwise_partial: float
    picture: float
    softmax_ns: float | None
    """None for int8: a softmax is computed in float."""
    zero_point_us: float | None
    """None for float, and where zero points cost nothing to speak of."""
    rounds: int
    spread: float
    """Greatest round over least of the operator overhead."""


def measure_chains(
    profile: HardwareProfile, dtype: DType, folder: Path, rounds: int = ROUNDS, timer: Timer | None = None
) -> ChainNumbers:
    """The numbers of one type on this machine, by the profile's runtime and threads, timed in this process."""
    timed = timer or session_timer(profile, CALLS)
    quantized, block = dtype == "int8", profile.channel_alignment.of(dtype) or 16
    tiny = _slope(Chain("pointwise", block, (32, 32), 8, quantized), folder, rounds, timed)

    def utilisation(channels: int) -> float:
        chain = Chain("depthwise", channels, (192, 256), 2, quantized)
        slope = _slope(chain, folder, rounds, timed)
        return _ideal_s(chain, folder, profile) / max(slope.middle_s - tiny.middle_s, 1e-9)

    softmax = None if quantized else _slope(Chain("softmax", 2 * block, (192, 256), 4, False), folder, rounds, timed)
    return ChainNumbers(
        dtype=dtype,
        op_overhead_us=tiny.middle_s * 1e6,
        depthwise=utilisation(2 * block),
        depthwise_partial=utilisation(2 * block - block // 2),
        picture=_picture(profile, block, quantized, folder, rounds, timed),
        softmax_ns=max(softmax.middle_s - tiny.middle_s, 0.0) * 1e9 / (24 * 32 * 2 * block) if softmax else None,
        zero_point_us=_zero_point_us(block, folder, rounds, timed) if quantized else None,
        rounds=rounds,
        spread=tiny.greatest_s / max(tiny.least_s, 1e-9),
    )


def with_chains(profile: HardwareProfile, numbers: Sequence[ChainNumbers]) -> HardwareProfile:
    """The profile with these numbers in place of its own, and where they come from."""
    overhead, softmax, classes = profile.op_overhead_us, profile.softmax_ns, profile.class_utilisation
    sources, zero_point_us = dict(profile.sources), profile.zero_point_us
    kind = "processor time" if profile.threads == 1 else "time"
    for found in numbers:
        whence = (
            f"measured: {kind} over length of chains of {LENGTHS[0]} to {LENGTHS[-1]} operators, median of {found.rounds} rounds "
            f"of {CALLS} calls, {runtime_version(profile.runtime)}, {profile.threads} thread{'s' if profile.threads > 1 else ''}; "
            f"rounds within a factor of {found.spread:.2f}"
        )
        overhead = overhead.model_copy(update={found.dtype: _rounded(found.op_overhead_us)})
        own = (classes.of(found.dtype) or PerClass()).model_copy(
            update={name: _rounded(getattr(found, name)) for name in ("depthwise", "depthwise_partial", "picture")}
        )
        classes = classes.model_copy(update={found.dtype: own})
        fields = [f"op_overhead_us.{found.dtype}"]
        fields += [f"class_utilisation.{found.dtype}.{name}" for name in ("depthwise", "depthwise_partial", "picture")]
        if found.softmax_ns is not None:
            softmax = softmax.model_copy(update={found.dtype: _rounded(found.softmax_ns)})
            fields.append(f"softmax_ns.{found.dtype}")
        if found.dtype == "int8":
            zero_point_us = None if found.zero_point_us is None else _rounded(found.zero_point_us)
            fields += [] if zero_point_us is None else ["zero_point_us"]
            sources = {field: text for field, text in sources.items() if field != "zero_point_us"}
        sources |= dict.fromkeys(fields, whence)
    changed = {
        "op_overhead_us": overhead,
        "softmax_ns": softmax,
        "class_utilisation": classes,
        "zero_point_us": zero_point_us,
        "sources": sources,
    }
    return HardwareProfile.model_validate(profile.model_copy(update=changed).model_dump(by_alias=True))


def session_timer(profile: HardwareProfile, calls: int) -> Timer:
    """Median seconds of so many calls of a file in the profile's runtime: of processor time where one thread does it all."""
    clock = time.process_time if profile.threads == 1 else time.perf_counter

    def timed(path: Path) -> float:
        session = open_session(profile.runtime, path, profile.threads)
        pixels = session.blank()
        times_s = []
        for call in range(calls + 5):
            started_s = clock()
            session(pixels)
            if call >= 5:  # the first calls fill caches
                times_s.append(clock() - started_s)
        return statistics.median(times_s)

    return timed


def _slope(chain: Chain, folder: Path, rounds: int, timed: Timer) -> Slope:
    """Least-squares slope of time over length, in each round; lengths take turns within a round."""
    files = {length: write_chain(chain, length, folder) for length in LENGTHS}
    slopes_s = []
    for _ in range(rounds):
        times_s = [timed(files[length]) for length in LENGTHS]
        slopes_s.append(float(np.polyfit(LENGTHS, times_s, 1)[0]))
    return Slope(statistics.median(slopes_s), min(slopes_s), max(slopes_s))


def _zero_point_us(block: int, folder: Path, rounds: int, timed: Timer) -> float | None:
    """What a 3x3 convolution costs more with a zero point than without; None below a tenth of its time."""
    without, shifted = (
        _slope(Chain("dense", 2 * block, (96, 128), 4, quantized=True, zero_point=zero), folder, rounds, timed).middle_s
        for zero in (0, 77)
    )
    return (shifted - without) * 1e6 if shifted > 1.1 * without else None


def _ideal_s(chain: Chain, folder: Path, profile: HardwareProfile) -> float:
    """Seconds of one operator of the chain at the full peak, padded as the class that it is measured for is."""
    longest = read_operators(write_chain(chain, LENGTHS[-1], folder), profile.runtime)
    own = next(operator for operator in longest if operator.kind == "depthwise")
    block = profile.channel_alignment.of("int8" if own.quantized else "fp32") or 1
    partial = own.output_channels % block != 0
    known = PerClass(depthwise=1.0, depthwise_partial=1.0) if partial else PerClass(depthwise=1.0)
    classes = ClassUtilisation(fp32=known, fp16=known, int8=known)
    return ideal_s(own, profile.model_copy(update={"class_utilisation": classes}))


def _picture(profile: HardwareProfile, block: int, quantized: bool, folder: Path, rounds: int, timed: Timer) -> float:
    """Utilisation of the first convolution: a large picture against a small one, with next to nothing behind it."""
    large, small = (Chain("pointwise", block, size, 8, quantized) for size in ((192, 256), (32, 32)))
    files = [write_chain(chain, 1, folder) for chain in (large, small)]
    spent_s = statistics.median(timed(files[0]) - timed(files[1]) for _ in range(rounds))
    without = profile.model_copy(update={"class_utilisation": ClassUtilisation()})
    ideal = [ideal_s(next(op for op in read_operators(path, profile.runtime) if op.macs), without) for path in files]
    return (ideal[0] - ideal[1]) / max(spent_s, 1e-9)


def _rounded(value: float) -> float:
    """Three significant digits: more than a repetition confirms."""
    return float(f"{value:.3g}")


def _main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description="Measure per-operator costs of a host profile, on a quiet machine.")
    parser.add_argument("profile", help="name of a host profile, for instance x86-onnxruntime-1t")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    chosen = parser.parse_args(arguments)
    profile = load_profile(chosen.profile)
    if (cores := choose_cores(profile.threads)) is not None:
        os.sched_setaffinity(0, cores)
    with tempfile.TemporaryDirectory() as folder:
        for dtype in profile.dtypes:
            print(measure_chains(profile, dtype, Path(folder), chosen.rounds))
    return 0


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))
