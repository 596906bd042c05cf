"""The params section `check`: what the gate calls a regression."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from detection.frozen import Frozen


class Check(Frozen):
    """What counts as a regression."""

    split: Literal["val", "test"] = "test"
    """Whose detections are compared, in the baseline and now."""
    map_drop_points: Annotated[float, Field(gt=0.0, le=100.0)] = 1.0
    """A drop of mAP 50-95 up to this many points (of 100) is accepted."""
    latency_drop_share: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.05
    """A loss of up to this share of the speedup over the control is accepted: fresh processes differ by less than 5 %."""
    alpha: Annotated[float, Field(gt=0.0, lt=0.5)] = 0.05
    """Chance of a false alarm over all mAP comparisons together, and over all latency comparisons together (Holm)."""
    unconfirmed: Literal["warning", "regression"] = "warning"
    """What a cell counts as that looks slower and cannot be measured again here. The default keeps the promise that the gate calls
    nothing slower on one look; `regression` suits a gate that must not pass while the machine that measures is away."""
    draws: Annotated[int, Field(ge=100)] = 1000
    """Of the bootstrap over pictures."""
    seed: int = 0
    """Of the bootstrap."""
