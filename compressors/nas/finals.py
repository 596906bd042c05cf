"""The finals of a search: the best by the supernet are trained like the one that will be handed on, and the best of those is it.

A supernet ranks by shared weights; networks near the top of its list differ by less than it can tell apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from compressors.contract import Workbench
from compressors.nas.candidates import Candidate, val_map_of
from detection.checkpoint import fresh
from detection.data.dataset import Images
from detection.spec import Spec
from detection.training import Recipe, fit


@dataclass(frozen=True)
class Finalist:
    """A candidate and what it reached."""

    candidate: Candidate
    trained_val_map: float
    """On the whole val split, after a training of its own."""

    def as_record(self) -> dict[str, Any]:
        """For the node's record."""
        return self.candidate.as_record() | {"trained_val_map": self.trained_val_map}


def finals(candidates: Sequence[Candidate], count: int, splits: tuple[Images, Images], workbench: Workbench) -> list[Finalist]:
    """The most accurate candidates by the supernet, trained from scratch by the workbench's recipe on train and judged on val.

    Best by the supernet first; of equals the fastest. Trainings draw from the workbench's seed alone, so whoever does them.
    """
    ranked = sorted(candidates, key=lambda own: (-own.val_map, own.latency_s))[:count]
    work = partial(_trained_val_map, splits, workbench.recipe, workbench.seed, workbench.device)
    reached = workbench.each(work, [own.spec for own in ranked])
    return [Finalist(own, val_map) for own, val_map in zip(ranked, reached, strict=True)]


def winner(finalists: Sequence[Finalist]) -> Finalist:
    """The one with the highest val mAP after its training; of equals the fastest."""
    return max(finalists, key=lambda own: (own.trained_val_map, -own.candidate.latency_s))


def _trained_val_map(splits: tuple[Images, Images], recipe: Recipe, seed: int, device: torch.device, spec: Spec) -> float:
    train, val = splits
    trained, _ = fit(fresh(spec, seed), train, recipe, seed=seed, device=device)
    return val_map_of(trained.family, trained.network().to(device).eval(), val)
