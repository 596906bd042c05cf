"""Numbers of a host profile that whole networks cannot tell apart, from chains of one operator: time against length.

    python -m hardware_profiles.estimate.fit.microbenchmark x86-onnxruntime-1t

prints what starting an operator costs, how fast depthwise and first convolutions run, and what a softmax and a Resize cost;
`--write FILE` makes a profile with these numbers and their sources, `--folder` says where your own profiles lie. Run it on a quiet
machine.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from hardware_profiles.estimate.fit.operator_chains import Chain, write_chain
from hardware_profiles.estimate.graph.read import read_operators
from hardware_profiles.estimate.model import PICTURE_CHANNELS, Operator, ideal_s, memory_s
from hardware_profiles.runtimes.table import open_session, runtime_version
from hardware_profiles.schema.authoring import text_of
from hardware_profiles.schema.library import load_profile
from hardware_profiles.schema.profile import Calibrations, ClassUtilisation, DType, HardwareProfile, PerClass
from hardware_profiles.schema.validation import GREATEST_UTILISATION
from hardware_profiles.timing.contention import Yardstick
from hardware_profiles.timing.round import choose_cores

LENGTHS = (8, 16, 32, 64)
"""Operators in a chain; the slope over them is the time of one, whatever goes before and after."""
CALLS = 40
"""Per file and round; their median counts, and the median over rounds."""
ROUNDS = 5
PATIENCE_S = 120.0
"""Spent at most on waiting for neighbours on the same physical core, on top of a minute or two of timing."""
LEAST_SHARE = 0.1
"""An effect of less than this share of what it is part of is taken for none: rounds differ by as much."""
MORE_THAN_MOVING = 2.0
"""A Resize gets a number of its own where it takes so many times as long as moving its data."""
PICTURE_SIZE = (192, 256)
"""(height, width) of chains whose maps are large."""
OF_TYPE = ("op_overhead_us", "partial_place_ns", "picture_place_ns", "softmax_ns", "resize_ns")
OF_CLASS = ("depthwise", "depthwise_partial", "picture")
"""Fields of a profile, by type and by class, that chains know about."""
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
    """What the chains of one type say, in the profile's own terms; None where it costs nothing to speak of."""

    dtype: DType
    op_overhead_us: float
    depthwise: float
    depthwise_partial: float
    picture: float | None
    """None where no first convolution of this type reads the three colours by themselves."""
    picture_place_ns: float | None
    partial_place_ns: float | None
    softmax_ns: float | None
    """None for int8: a softmax is computed in float."""
    resize_ns: float | None
    zero_point_us: float | None
    """None for float."""
    rounds: int
    spread: float
    """Greatest round over least of the operator overhead."""


def measure_chains(
    profile: HardwareProfile, dtype: DType, folder: Path, rounds: int = ROUNDS, timer: Timer | None = None
) -> ChainNumbers:
    """The numbers of one type on this machine, by the profile's runtime and threads, timed in this process."""
    bench = _Bench(profile, dtype == "int8", folder, rounds, timer or session_timer(profile, CALLS))
    tiny = bench.tiny
    picture, picture_place_ns = bench.picture()
    return ChainNumbers(
        dtype=dtype,
        op_overhead_us=tiny.middle_s * 1e6,
        depthwise=bench.depthwise(2 * bench.block),
        depthwise_partial=bench.depthwise(2 * bench.block - bench.block // 2),
        picture=picture,
        picture_place_ns=picture_place_ns,
        partial_place_ns=bench.partial_place_ns(),
        softmax_ns=None if bench.quantized else bench.softmax_ns(),
        resize_ns=bench.resize_ns(),
        zero_point_us=bench.zero_point_us() if bench.quantized else None,
        rounds=rounds,
        spread=tiny.greatest_s / max(tiny.least_s, 1e-9),
    )


def with_chains(profile: HardwareProfile, numbers: Sequence[ChainNumbers]) -> HardwareProfile:
    """The profile with these numbers in place of its own, and where they come from."""
    document, sources = profile.model_dump(by_alias=True), dict(profile.sources)
    kind = "processor time" if profile.threads == 1 else "time"
    for found in numbers:
        whence = (
            f"measured: {kind} over length of chains of {LENGTHS[0]} to {LENGTHS[-1]} operators, median of {found.rounds} rounds "
            f"of {CALLS} calls, {runtime_version(profile.runtime)}, {profile.threads} thread{'s' if profile.threads > 1 else ''}; "
            f"rounds within a factor of {found.spread:.2f}"
        )
        own = {f"{name}.{found.dtype}": getattr(found, name) for name in OF_TYPE}
        own |= {f"class_utilisation.{found.dtype}.{name}": getattr(found, name) for name in OF_CLASS}
        own |= {"zero_point_us": found.zero_point_us} if found.dtype == "int8" else {}
        document["class_utilisation"][found.dtype] = document["class_utilisation"][found.dtype] or {}
        for field, value in own.items():
            *path, last = field.split(".")
            parent = document
            for part in path:
                parent = parent[part]
            parent[last] = None if value is None else _rounded(value)
        sources = {field: text for field, text in sources.items() if field not in own}
        sources |= dict.fromkeys((field for field, value in own.items() if value is not None), whence)
    return HardwareProfile.model_validate(document | {"sources": sources})


def session_timer(profile: HardwareProfile, calls: int, patience_s: float = PATIENCE_S) -> Timer:
    """Median seconds of so many calls of a file in the profile's runtime: of processor time where one thread does it all.

    Each timing waits for the physical core to be ours, in all no longer than patience_s.
    """
    clock = time.process_time if profile.threads == 1 else time.perf_counter
    yardstick = Yardstick(patience_s=patience_s)

    def timed(path: Path) -> float:
        session = open_session(profile.runtime, path, profile.threads)
        pixels = session.blank()
        yardstick.wait()
        times_s = []
        for call in range(calls + 5):
            started_s = clock()
            session(pixels)
            if call >= 5:  # the first calls fill caches
                times_s.append(clock() - started_s)
        return statistics.median(times_s)

    return timed


@dataclass(frozen=True)
class _Bench:
    """Chains of one type, timed by one runtime."""

    profile: HardwareProfile
    quantized: bool
    folder: Path
    rounds: int
    timed: Timer

    @property
    def block(self) -> int:
        """Channels that are computed together; 16 where the profile does not say."""
        return self.profile.channel_alignment.of("int8" if self.quantized else "fp32") or 16

    @cached_property
    def tiny(self) -> Slope:
        """Of operators with next to nothing to do."""
        return self.slope(Chain("pointwise", self.block, (32, 32), (2, 2), self.quantized))

    def slope(self, chain: Chain) -> Slope:
        """Least-squares slope of time over length, in each round; lengths take turns within a round."""
        files = {length: write_chain(chain, length, self.folder, self.profile.runtime) for length in LENGTHS}
        slopes_s = []
        for _ in range(self.rounds):
            times_s = [self.timed(files[length]) for length in LENGTHS]
            slopes_s.append(float(np.polyfit(LENGTHS, times_s, 1)[0]))
        return Slope(statistics.median(slopes_s), min(slopes_s), max(slopes_s))

    def depthwise(self, channels: int) -> float:
        """Share of the peak that depthwise convolutions of so many channels reach."""
        chain = Chain("depthwise", channels, PICTURE_SIZE, (48, 64), self.quantized)
        own = next(operator for operator in self.operators(chain) if operator.kind == "depthwise")
        known = PerClass(depthwise=1.0, depthwise_partial=1.0) if channels % self.block else PerClass(depthwise=1.0)
        classes = ClassUtilisation(fp32=known, fp16=known, int8=known)  # padded as the class that it is measured for is
        ideal = ideal_s(own, self.profile.model_copy(update={"class_utilisation": classes}))
        return ideal / max(self.slope(chain).middle_s - self.tiny.middle_s, 1e-9)

    def picture(self) -> tuple[float | None, float | None]:
        """Share of the peak that the first convolution reaches, and nanoseconds that each of its places costs besides.

        A large picture against a small one, next to nothing behind it; with twice the channels only the multiply-adds double. A
        first convolution over rows is like any other and has neither number.
        """
        without = self.profile.model_copy(update={"class_utilisation": ClassUtilisation()})
        ideal, spent, places = [], [], 0
        for channels in (self.block, 2 * self.block):
            sizes = {PICTURE_SIZE: (6, 8), (32, 32): (1, 1)}
            chains = [Chain("pointwise", channels, size, own, self.quantized) for size, own in sizes.items()]
            files = [write_chain(chain, 1, self.folder, self.profile.runtime) for chain in chains]
            first = [next(own for own in read_operators(path, self.profile.runtime) if own.macs) for path in files]
            if first[0].input_channels > PICTURE_CHANNELS:
                return None, None
            spent.append(statistics.median(self.timed(files[0]) - self.timed(files[1]) for _ in range(self.rounds)))
            ideal.append(ideal_s(first[0], without) - ideal_s(first[1], without))
            places = first[0].places - first[1].places
        share = (ideal[1] - ideal[0]) / max(spent[1] - spent[0], (ideal[1] - ideal[0]) / GREATEST_UTILISATION)
        besides_s = spent[0] - ideal[0] / share
        if besides_s < LEAST_SHARE * spent[0]:
            return sum(ideal) / max(sum(spent), 1e-9), None
        return share, besides_s * 1e9 / places

    def partial_place_ns(self) -> float | None:
        """What a place costs more where half a block of channels is written than where a whole one is, at the same padded work."""
        size = (48, 64)
        whole, half = (
            self.slope(Chain("dense", channels, PICTURE_SIZE, size, self.quantized)).middle_s
            for channels in (self.block, self.block // 2)
        )
        return (half - whole) * 1e9 / math.prod(size) if half > (1 + LEAST_SHARE) * whole else None

    def softmax_ns(self) -> float:
        """Of one element."""
        channels, size = 2 * self.block, (24, 32)
        spent_s = self.slope(Chain("softmax", channels, PICTURE_SIZE, size, self.quantized)).middle_s - self.tiny.middle_s
        return max(spent_s, 0.0) * 1e9 / (math.prod(size) * channels)

    def resize_ns(self) -> float | None:
        """Of one output element; None where a Resize costs about what moving its data does."""
        pair, back = (Chain(operator, 2 * self.block, PICTURE_SIZE, (12, 16), self.quantized) for operator in ("resize", "patch"))
        own = next(operator for operator in self.operators(pair) if operator.op_type == "Resize")
        spent_s = self.slope(pair).middle_s - self.slope(back).middle_s - self.tiny.middle_s
        return spent_s * 1e9 / own.output_elements if spent_s > MORE_THAN_MOVING * memory_s(own, self.profile) else None

    def zero_point_us(self) -> float | None:
        """What a 3x3 convolution costs more with a zero point than without."""
        without, shifted = (
            self.slope(Chain("dense", 2 * self.block, (96, 128), (12, 16), quantized=True, zero_point=zero)).middle_s
            for zero in (0, 77)
        )
        return (shifted - without) * 1e6 if shifted > (1 + LEAST_SHARE) * without else None

    def operators(self, chain: Chain) -> Sequence[Operator]:
        """Of the longest of these chains, as the runtime executes it."""
        return read_operators(write_chain(chain, LENGTHS[-1], self.folder, self.profile.runtime), self.profile.runtime)


def _rounded(value: float) -> float:
    """Three significant digits: more than a repetition confirms."""
    return float(f"{value:.3g}")


def _main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description="Measure per-operator costs of a host profile, on a quiet machine.")
    parser.add_argument("profile", help="name of a host profile, for instance x86-onnxruntime-1t")
    parser.add_argument("--folder", type=Path, help="where profiles of your own lie")
    parser.add_argument("--write", type=Path, help="a new profile with these numbers; its name is the file's")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    chosen = parser.parse_args(arguments)
    profile = load_profile(chosen.profile, chosen.folder)
    if chosen.write is not None and (chosen.write.exists() or not chosen.write.parent.is_dir()):
        parser.error(f"--write {chosen.write}: must be a new file in a folder that is there.")
    if (cores := choose_cores(profile.threads)) is not None:
        os.sched_setaffinity(0, cores)
    timer = session_timer(profile, CALLS)
    with tempfile.TemporaryDirectory() as folder:
        numbers = [measure_chains(profile, dtype, Path(folder), chosen.rounds, timer) for dtype in profile.dtypes]
    for own in numbers:
        print(own)
    if chosen.write is not None:
        try:
            made = with_chains(profile, numbers)
        except ValueError as error:  # a slope of noise may come out negative
            parser.error(f"--write {chosen.write}: not written, measure again on a quiet machine. {error}")
        made = made.model_copy(update={"id": chosen.write.stem, "calibration": Calibrations()})
        about = f"{profile.name}: {profile.id} with costs of operators from chains."
        chosen.write.write_text(text_of(made, about), encoding="utf-8")
        print(f"Next: `sixfold profiles calibrate {chosen.write.stem} MEASUREMENTS.csv`, for it is no longer fitted to anything.")
    return 0


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))
