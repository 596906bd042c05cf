"""Where each activation begins and ends when it is rounded to 8 bits, read off histograms of what training pictures cause.

The calibrators are our own so that both runtimes get the same four. ONNX Runtime's entropy calibrator starts from 128 bins for 128
levels, which leaves it one range to choose from, that of min-max; it has none for the squared error. NNCF has none for entropy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray

from hardware_profiles.runtimes.ranges import LEVELS, Range, Ranges

RangeCalibrator = Literal["minmax", "entropy", "percentile", "mse"]
BINS = 2048
"""Of a histogram: 8 for each level (TensorRT uses 2048 for its 128 levels, Migacz, GTC 2017, S7310)."""
SHORTEST = LEVELS
"""Bins of the shortest range tried, an eighth of the whole: one for each level, so that more clipping gains no precision here."""
CANDIDATES = 113
"""Ranges tried between the shortest and the whole, evenly spaced."""


@dataclass(frozen=True)
class Histogram:
    """How often values of one tensor fell into each of BINS equal bins between the least and the greatest."""

    counts: NDArray[np.int64]
    low: float
    high: float

    @property
    def width(self) -> float:
        """Of one bin."""
        return (self.high - self.low) / len(self.counts)


def observe(float_file: Path, names: Iterable[str], pictures: list[Any]) -> dict[str, Histogram]:
    """A histogram of each named tensor of the file over all pictures, (1, 3, height, width) each.

    The pictures go through the network twice: first for the ends, then for the bins.
    """
    model, wanted = onnx.load(float_file), sorted(names)
    given, computed = model.graph.input[0].name, _computing(model, wanted)

    def values(picture: Any) -> dict[str, Any]:
        found = computed(picture) | {given: picture}
        return {name: value for name, value in found.items() if name in ends and value.dtype.kind == "f"}  # sizes are not rounded

    ends = dict.fromkeys(wanted, (0.0, 0.0))
    for picture in pictures:
        for name, value in values(picture).items():
            low, high = ends[name]
            ends[name] = min(low, float(value.min())), max(high, float(value.max()))
    counts = {name: np.zeros(BINS, np.int64) for name in wanted}
    for picture in pictures:
        for name, value in values(picture).items():
            counts[name] += _counted(value, *ends[name])
    return {name: Histogram(counts[name], *ends[name]) for name in wanted}


def values_of(model: onnx.ModelProto, names: Iterable[str], picture: Any) -> dict[str, Any]:
    """What each named tensor of the model holds for a picture, but for those that hold no floats."""
    return {name: value for name, value in _computing(model, sorted(names))(picture).items() if value.dtype.kind == "f"}


def ranges_of(histograms: dict[str, Histogram], calibrator: RangeCalibrator, percentile: float) -> Ranges:
    """The range of every tensor as this calibrator sees it; percentile counts for the calibrator of that name only."""
    if calibrator == "percentile":
        return {name: by_percentile(histogram, percentile) for name, histogram in histograms.items()}
    return {name: CALIBRATORS[calibrator](histogram) for name, histogram in histograms.items()}


def by_minmax(histogram: Histogram) -> Range:
    """All that occurred."""
    return Range(histogram.low, histogram.high)


def by_percentile(histogram: Histogram, percentile: float) -> Range:
    """This percentage of all values, half of the rest beyond each end (Wu et al., arXiv:2004.09602, section 3.2).

    Where values lie on one side of zero alone, as behind a ReLU, all of the rest is beyond that end: zero has to stay within.
    """
    one_sided = histogram.low >= 0 or histogram.high <= 0
    beyond = (1 - percentile / 100) / (1 if one_sided else 2)
    reached = np.cumsum(histogram.counts) / max(1, histogram.counts.sum())
    first = int(np.searchsorted(reached, beyond, side="right"))
    last = int(np.searchsorted(reached, 1 - beyond, side="left"))
    low = histogram.low + first * histogram.width
    return Range(min(0.0, low), max(0.0, histogram.low + (min(last, len(reached) - 1) + 1) * histogram.width))


def by_mse(histogram: Histogram) -> Range:
    """The range whose rounding and clipping lose least in squares (Banner et al., arXiv:1810.05723, section 3, numerically)."""
    centres = histogram.low + (np.arange(len(histogram.counts)) + 0.5) * histogram.width

    def lost(tried: Range) -> float:
        levels = np.clip(np.rint(centres / tried.scale) + tried.zero_point, 0, LEVELS - 1)
        return float((histogram.counts * (centres - (levels - tried.zero_point) * tried.scale) ** 2).sum())

    return _best(histogram, lost)


def by_entropy(histogram: Histogram) -> Range:
    """The range whose rounded values tell least apart from the values themselves (Migacz, GTC 2017, S7310): least divergence."""
    if histogram.width == 0:
        return by_minmax(histogram)
    counts, bins = histogram.counts.copy(), len(histogram.counts)
    # Zeros are exact in every range, and behind a ReLU they would outweigh all else (as in NVIDIA's pytorch-quantization).
    zero = min(bins - 1, int(-histogram.low / histogram.width))
    counts[zero] = counts[zero + 1] if zero + 1 < bins else counts[zero - 1]

    def diverged(tried: Range) -> float:
        first = round((tried.low - histogram.low) / histogram.width)
        end = min(bins, max(first + SHORTEST, round((tried.high - histogram.low) / histogram.width)))
        inside = counts[first:end]
        clipped = inside.copy()  # what lies outside is counted where it is clipped to
        clipped[0] += counts[:first].sum()
        clipped[-1] += counts[end:].sum()
        return _divergence(clipped, _rounded(inside))

    return _best(histogram, diverged)


CALIBRATORS: dict[RangeCalibrator, Callable[[Histogram], Range]] = {"minmax": by_minmax, "entropy": by_entropy, "mse": by_mse}


def _computing(model: onnx.ModelProto, names: list[str]) -> Callable[[Any], dict[str, Any]]:
    """A function that computes the named tensors of the model but for its input from a picture; the model is changed."""
    import onnxruntime

    known = {value.name for value in (*model.graph.input, *model.graph.output)}
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in known)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    (given,) = (value.name for value in model.graph.input)
    computed = [name for name in names if name != given]
    return lambda picture: dict(zip(computed, session.run(computed, {given: picture}), strict=True))


def _best(histogram: Histogram, cost: Callable[[Range], float]) -> Range:
    """The cheapest share of the whole range, the same of both sides of zero; of equals the widest."""
    shares = np.linspace(1.0, SHORTEST / BINS, CANDIDATES)
    return min((Range(histogram.low * float(share), histogram.high * float(share)) for share in shares), key=cost)


def _counted(values: Any, low: float, high: float) -> NDArray[np.int64]:
    if high == low:
        return np.bincount([0], weights=[values.size], minlength=BINS).astype(np.int64)
    bins = ((values.ravel() - np.float32(low)) * np.float32(BINS / (high - low))).astype(np.int32)
    return np.bincount(np.minimum(bins, BINS - 1), minlength=BINS)


def _rounded(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Counts after values were moved to one of LEVELS levels: each level's are spread over its bins that were not empty."""
    level = np.arange(len(counts)) * LEVELS // len(counts)
    held = np.bincount(level, weights=counts, minlength=LEVELS)
    filled = np.bincount(level, weights=counts > 0, minlength=LEVELS)
    spread: NDArray[np.float64] = np.where(counts > 0, (held / np.maximum(filled, 1))[level], 0.0)
    return spread


def _divergence(reference: NDArray[np.int64], candidate: NDArray[np.float64]) -> float:
    """Kullback-Leibler, of shares; where only the reference has values the candidate is given a thousandth of one."""
    if not reference.any():
        return 0.0
    present = reference > 0
    p = reference[present] / reference.sum()
    q = np.maximum(candidate[present], 1e-3) / max(1e-3, candidate.sum())
    return float((p * np.log(p / q)).sum())
