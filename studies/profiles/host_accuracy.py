"""How well a host profile predicts cells of a family that its fit has not seen: the headline of docs/profiles.md."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from detection.frozen import Frozen
from hardware_profiles.estimate.fit.calibration import calibrate
from hardware_profiles.estimate.model import Estimate, estimate
from hardware_profiles.schema.library import load_profile
from hardware_profiles.schema.profile import DType, HardwareProfile
from studies.measurement.intervals import rate
from studies.profiles.host_cells import LEFT_OUT, HostCell, HostRun

TARGET_MAPE: dict[DType, float] = {"fp32": 0.15, "int8": 0.20}
DTYPES = tuple(TARGET_MAPE)
TARGET_TAU = 0.85
ON_FAMILIES = "whole architectures left out"


@dataclass(frozen=True)
class Prediction:
    """One cell as predicted by a fit without its family."""

    cell: HostCell
    left_out: str
    ours: Estimate
    by_flops_s: float
    by_parameters_s: float


class HostPoint(Frozen):
    """What the figure shows of one predicted cell."""

    cell: str
    dtype: DType
    left_out: str
    measured_s: float
    estimated_s: float


class Share(Frozen):
    """A count out of a total, with the exact 95 % interval of the share (Clopper-Pearson)."""

    hits: int
    of: int
    low: float
    high: float


class Ranking(Frozen):
    """Kendall's tau over pairs whose measured ranges do not overlap: of the others nobody can say which is faster."""

    concordant: int
    discordant: int

    @property
    def pairs(self) -> int:
        """That were compared."""
        return self.concordant + self.discordant

    @property
    def tau(self) -> float:
        """Between -1 (every pair the wrong way round) and 1."""
        return (self.concordant - self.discordant) / self.pairs


class TypeErrors(Frozen):
    """Mean absolute percentage errors of one type, as shares, on the cells that were left out."""

    dtype: DType
    left_out: str
    cells: int
    ours: float
    flops: float
    parameters: float


class HostAccuracy(HostRun):
    """One host profile on the cells of one sweep."""

    files: int
    errors: tuple[TypeErrors, ...]
    """Per family left out and type, then over both families (`left_out` "either")."""
    ranking: Ranking
    ranking_flops: Ranking
    ranking_parameters: Ranking
    covered_90: tuple[Share, ...]
    """Per type, in the order of DTYPES."""
    points: tuple[HostPoint, ...]

    def error(self, dtype: DType) -> TypeErrors:
        """Over both left-out families."""
        return next(own for own in self.errors if own.dtype == dtype and own.left_out == "either")

    @property
    def covered_90_by_type(self) -> tuple[tuple[DType, Share], ...]:
        """Each share with its type."""
        return tuple(zip(DTYPES, self.covered_90, strict=True))


class Summary(Frozen):
    """Everything that the generated part of docs/profiles.md shows, as docs/profiles.json keeps it."""

    command: str
    host: tuple[HostAccuracy, ...]


def judge(run: HostRun, cells: Sequence[HostCell]) -> HostAccuracy:
    """Errors, ranking and coverage on the cells with light blocks and then on those with searched widths, each left out whole."""
    profile = load_profile(run.profile)
    found = [own for family in LEFT_OUT for own in predict(profile, cells, family)]
    return HostAccuracy(
        **run.model_dump(),
        files=len(cells),
        errors=tuple(_errors(found, left_out, dtype) for left_out in (*LEFT_OUT, "either") for dtype in DTYPES),
        ranking=_ranking(found, lambda own: own.ours.point_s),
        ranking_flops=_ranking(found, lambda own: own.by_flops_s),
        ranking_parameters=_ranking(found, lambda own: own.by_parameters_s),
        covered_90=tuple(_coverage([own for own in found if own.cell.dtype == dtype]) for dtype in DTYPES),
        points=tuple(
            HostPoint(
                cell=own.cell.name,
                dtype=own.cell.dtype,
                left_out=own.left_out,
                measured_s=own.cell.latency_s,
                estimated_s=own.ours.point_s,
            )
            for own in found
        ),
    )


def predict(profile: HardwareProfile, cells: Sequence[HostCell], left_out: str) -> list[Prediction]:
    """The cells that contain a method, predicted by a fit on those that do not."""
    kept = [cell for cell in cells if left_out not in cell.methods]
    fitted = calibrate(profile, kept, validated_on=ON_FAMILIES)
    found = []
    for cell in cells:
        if left_out in cell.methods:
            same = [own for own in kept if own.dtype == cell.dtype]
            found.append(
                Prediction(
                    cell,
                    left_out,
                    estimate(cell.operators, fitted),
                    by_flops_s=cell.macs * _constant([(own.macs, own.latency_s) for own in same]),
                    by_parameters_s=cell.params * _constant([(own.params, own.latency_s) for own in same]),
                )
            )
    return found


def _constant(pairs: Sequence[tuple[int, float]]) -> float:
    """Seconds per unit of size, the middle of the kept cells of the same type."""
    return math.exp(sum(math.log(seconds / size) for size, seconds in pairs) / len(pairs))


def _errors(found: Sequence[Prediction], left_out: str, dtype: DType) -> TypeErrors:
    own = [one for one in found if one.cell.dtype == dtype and left_out in (one.left_out, "either")]

    def off(seconds: float, one: Prediction) -> float:
        return abs(seconds / one.cell.latency_s - 1)

    return TypeErrors(
        dtype=dtype,
        left_out=left_out,
        cells=len({one.cell.name for one in own}),
        ours=sum(off(one.ours.point_s, one) for one in own) / len(own),
        flops=sum(off(one.by_flops_s, one) for one in own) / len(own),
        parameters=sum(off(one.by_parameters_s, one) for one in own) / len(own),
    )


def _ranking(found: Sequence[Prediction], by: Callable[[Prediction], float]) -> Ranking:
    """Over pairs that one fit predicted; float and int8 files rank among each other, as they do for whoever chooses among them."""
    concordant = discordant = 0
    for one, other in itertools.combinations(found, 2):
        (low, high), (other_low, other_high) = one.cell.interval_s, other.cell.interval_s
        if one.left_out == other.left_out and (high < other_low or other_high < low):
            agree = (one.cell.latency_s < other.cell.latency_s) == (by(one) < by(other))
            concordant, discordant = concordant + agree, discordant + (not agree)
    return Ranking(concordant=concordant, discordant=discordant)


def _coverage(found: Sequence[Prediction]) -> Share:
    hits = sum(own.ours.low_s <= own.cell.latency_s <= own.ours.high_s for own in found)
    low, high = rate(hits, len(found)).ci95
    return Share(hits=hits, of=len(found), low=low, high=high)
