"""Is int8 faster here? A network's float and int8 files, made untrained and timed in turn: the time is not in the weights."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from compressors.quantization.method import LEAST_PICTURES, Quantization, pack
from detection.checkpoint import Detector
from detection.evaluation import as_input
from detection.export import export_onnx
from hardware_profiles.runtimes.interface import Session, SessionError
from hardware_profiles.runtimes.table import open_session
from hardware_profiles.timing.calls import calls_one_by_one_ns, warm_up

TURNS, CALLS = 8, 12
"""Of each file; a turn of one follows a turn of the other, so that a neighbour on the processor slows both."""
WARM_CALLS, WARM_S = 10, 0.2
CLEARLY_FASTER = 1.05
"""Times; less is noise of so short a look."""


class Int8Timing(NamedTuple):
    """One runtime's times on this machine."""

    runtime: str
    float_s: float
    int8_s: float

    def sentence(self) -> str:
        """What was found, and what to plan where int8 does not pay."""
        gain = self.float_s / self.int8_s
        times = f"timed here, untrained: {self.runtime} takes {self.int8_s * 1e3:.3g} ms in int8, {self.float_s * 1e3:.3g} in float"
        if gain >= CLEARLY_FASTER:
            return f"{times}: int8 is {gain:.2f}x as fast"
        return f"{times}: int8 does not pay ({gain:.2f}x); `quantization: [{{precision: float16}}]` makes the file smaller"


def int8_timings(
    detector: Detector, shown: Sequence[NDArray[np.uint8]], runtimes: Sequence[str], threads: int
) -> Iterator[Int8Timing]:  # fmt: skip
    """For each runtime that is installed here; none where there are too few pictures to calibrate on."""
    if len(shown) < LEAST_PICTURES:
        return
    quick = Quantization(calibrator="minmax", pictures=LEAST_PICTURES)
    for runtime in runtimes:
        with tempfile.TemporaryDirectory(prefix="sixfold-inspect-") as folder:
            exported, target = Path(folder) / "float.onnx", Path(folder) / "int8"
            export_onnx(detector, exported)
            target.mkdir()
            try:
                file = pack(detector, quick, runtime, list(shown), target).file
                sessions = [open_session(runtime, own, threads) for own in (exported, file)]
            except SessionError:
                continue
            yield Int8Timing(runtime, *_medians_s(sessions, [as_input(own) for own in shown]))


def _medians_s(sessions: Sequence[Session], inputs: Sequence[NDArray[np.uint8]]) -> tuple[float, float]:
    times_ns: tuple[list[int], list[int]] = ([], [])
    for session in sessions:
        warm_up(session, inputs, WARM_CALLS, WARM_S)
    for _ in range(TURNS):
        for session, own in zip(sessions, times_ns, strict=True):
            own.extend(calls_one_by_one_ns(session, inputs, CALLS))
    float_s, int8_s = (float(np.median(own)) * 1e-9 for own in times_ns)
    return float_s, int8_s
