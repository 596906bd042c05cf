"""The candidates of a search: how accuracy and latency of one are found, and the finals of the best.

A supernet ranks by shared weights; networks near the top of its list differ by less than it can tell apart. In the finals they are
trained like the one that a search returns, and the best of those is it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import nn

from compressors.contract import Each, Workbench
from compressors.latency import estimated_latency
from compressors.nas.supernet import Supernet
from detection.boxes import Array
from detection.checkpoint import Detector, fresh
from detection.costs import count_macs
from detection.data.augmentation import make_batch
from detection.data.dataset import Images
from detection.evaluation import accuracy, as_planes, selected
from detection.family import family_of
from detection.frozen import InputError
from detection.spec import Spec
from detection.training import Recipe, fit
from hardware_profiles.schema.profile import DType, HardwareProfile, ProfileError

if TYPE_CHECKING:
    from compressors.nas.task import Task

Latency = Callable[[Spec], float]
"""Estimated seconds of a detector for one picture."""
JUDGED_AT_ONCE = 16
"""Pictures. 100 of 96x128 through a network of 0.78 M parameters took 0.24 to 0.34 s of processor time, one by one 0.47."""


@dataclass(frozen=True)
class Candidate:
    """One evaluated network of the space."""

    spec: Spec
    val_map: float
    """With the supernet's weights."""
    latency_s: float

    def as_record(self) -> dict[str, Any]:
        """For the node's record."""
        edits = [edit.model_dump(mode="json") for edit in self.spec.edits]
        return {
            **({"edits": edits} if edits else {"architecture": self.spec.settings.model_dump()}),
            "supernet_val_map": self.val_map,
            "estimated_latency_s": self.latency_s,
            "macs": count_macs(self.spec),
        }


class Finalist(NamedTuple):
    """A candidate and the val mAP, on the whole split, that it reached after a training of its own."""

    candidate: Candidate
    trained_val_map: float


class Judge:
    """Val mAP of a network of the space with the supernet's weights. The same wherever it is asked."""

    def __init__(self, supernet: Supernet, train: Images, val: Images, pictures: tuple[int, int], seed: int) -> None:
        """Pictures are (to recalibrate the normalisations on, to judge by)."""
        rng = np.random.default_rng((seed, 2))
        rows = rng.permutation(len(train))[: pictures[0]]
        self.recalibration = make_batch(train, rows, None, rng).images.to(supernet.device)
        self.val = val if pictures[1] >= len(val) else val.taking(np.arange(pictures[1]))
        self.supernet = supernet

    def __call__(self, spec: Spec) -> float:
        """mAP on the val pictures, normalisations recalibrated."""
        return val_map_of(spec, self.supernet.extract(spec, self.recalibration), self.val)

    @property
    def pictures_each(self) -> int:
        """Pictures that go through the network of one candidate."""
        return len(self.recalibration) + len(self.val)


def latency_on(profile: HardwareProfile, dtype: DType) -> Latency:
    """Detector -> its estimated latency on the profile. Asked of a device that cannot run it, it raises InputError."""

    def latency_s(spec: Spec) -> float:
        try:
            return estimated_latency(spec, profile, dtype).point_s
        except ProfileError as error:
            raise InputError(f"nas.latency_in: no estimate in {dtype}: {error}. Name another design profile.") from error

    return latency_s


def val_map_of(spec: Spec, network: nn.Module, val: Images) -> float:
    """mAP of a spec's network in evaluation mode on these pictures, JUDGED_AT_ONCE at a time."""
    family = family_of(spec)
    device = next(network.parameters()).device

    def outputs() -> Iterator[tuple[Array, Array]]:
        for first in range(0, len(val), JUDGED_AT_ONCE):
            planes = [as_planes(val.pixels[row]) for row in range(first, min(first + JUDGED_AT_ONCE, len(val)))]
            with torch.no_grad():
                boxes, scores = family.decode(network, family.raw(network, torch.from_numpy(np.concatenate(planes)).to(device)))
            yield from zip(boxes.cpu().numpy(), scores.cpu().numpy(), strict=True)

    return accuracy(val.ground_truth, selected(outputs(), val, family.select(spec))).map_50_95


@dataclass(frozen=True)
class Training:
    """How networks of a search are trained to be compared: as the one that is chosen will be, by labels alone."""

    inheriting: Callable[[Spec], Detector] | None
    """Weights that a network begins with; None: fresh ones."""
    recipe: Recipe
    splits: tuple[Images, Images]
    seed: int
    device: torch.device

    @classmethod
    def of(cls, task: Task, inherits: bool, splits: tuple[Images, Images], workbench: Workbench) -> Training:
        """By the recovery where weights are inherited, else by the schedule of architectures."""
        begin, recipe = (task.inheriting, workbench.recovery) if inherits else (None, workbench.recipe)
        return cls(begin, recipe, splits, workbench.seed, workbench.device)

    def begun(self, spec: Spec) -> Detector:
        """A network as its training begins with it."""
        return fresh(spec, self.seed) if self.inheriting is None else self.inheriting(spec)

    def val_maps(self, specs: Sequence[Spec], each: Each) -> list[float]:
        """mAP of each on the whole val split after its training. Trainings draw from the seed alone, so whoever does them."""
        return each(partial(_trained_val_map, self.splits, self.recipe, self.seed, self.device), [self.begun(own) for own in specs])


def finals(candidates: Sequence[Candidate], count: int, training: Training, each: Each) -> list[Finalist]:
    """The most accurate candidates by the supernet, of equals the fastest, trained and judged on val; in the supernet's order."""
    ranked = sorted(candidates, key=lambda own: (-own.val_map, own.latency_s))[:count]
    reached = training.val_maps([own.spec for own in ranked], each)
    return [Finalist(own, val_map) for own, val_map in zip(ranked, reached, strict=True)]


def best_finalist(finalists: Sequence[Finalist]) -> Finalist:
    """The one with the highest val mAP after its training; of equals the fastest."""
    return max(finalists, key=lambda own: (own.trained_val_map, -own.candidate.latency_s))


def _trained_val_map(splits: tuple[Images, Images], recipe: Recipe, seed: int, device: torch.device, begun: Detector) -> float:
    train, val = splits
    trained, _ = fit(begun, train, recipe, seed=seed, device=device)
    return val_map_of(begun.spec, trained.network().to(device).eval(), val)
