"""nas: widths and depths searched for this data set, in a supernet, under a latency budget of the design profile."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import optuna
import torch
from pydantic import Field

from compressors.contract import Change, Spent, Workbench, describe
from compressors.latency import estimated_latency
from compressors.search_space import SearchSpace, search_space
from compressors.supernet import Supernet, draw, inherit
from detection.augmentation import make_batch
from detection.blueprint import Architecture
from detection.boxes import Array
from detection.checkpoint import Detector, fresh
from detection.dataset import Images
from detection.evaluation import accuracy, detect
from detection.frozen import Frozen, InputError, PositiveInt, Share
from detection.network import Network

ASKS_PER_EVALUATION = 50
"""Candidates over the budget and repeats cost nothing; the search gives up after so many per evaluation it may make."""


class Nas(Frozen):
    """How large the space is and how long to look."""

    method: Literal["nas"] = "nas"
    budget_share: Share = 0.5
    """Where the latency budget lies between the smallest architecture of the space (0) and the one searched from (1).

    Estimated float latency on the design profile. A plain share of the start's latency would be out of reach for small networks,
    where the fixed cost of every operator is most of it.
    """
    width_shares: Annotated[tuple[Share, ...], Field(min_length=1)] = (0.5, 0.625, 0.75, 0.875, 1.0)
    round_to: PositiveInt = 8
    supernet_epochs: PositiveInt = 10
    evaluations: PositiveInt = 32
    """Candidates whose val mAP is measured."""
    population: Annotated[int, Field(ge=4)] = 8
    recalibration_pictures: PositiveInt = 48
    val_pictures: PositiveInt = 64
    """The first so many of the val split judge the candidates."""

    def label(self) -> str:
        """The choice in a word, for tables and MLflow params."""
        return f"nsga2-{self.budget_share:g}"

    def search_images(self, train_pictures: int, val_pictures: int) -> int:
        """Pictures that a search on splits of these sizes puts through networks."""
        per_candidate = min(self.recalibration_pictures, train_pictures) + min(self.val_pictures, val_pictures)
        return self.supernet_epochs * train_pictures + self.evaluations * per_candidate


@dataclass(frozen=True)
class Candidate:
    """One evaluated architecture."""

    architecture: Architecture
    val_map: float
    latency_s: float


def search(detector: Detector, config: Nas, workbench: Workbench) -> tuple[Detector, Change]:
    """The best architecture within the budget, with fresh weights, and the whole front that was found."""
    if detector.blueprint.edits:
        raise InputError("nas: searches an unedited architecture, so it comes before pruning and low_rank.")
    space = search_space(detector.blueprint.architecture, config.width_shares, config.round_to)
    supernet = Supernet(inherit(workbench.teacher, detector), workbench.device)
    images = supernet.train(space, workbench.train, workbench.recipe, config.supernet_epochs, workbench.seed)
    judge = _Judge(supernet, config, workbench)
    least_s, most_s = judge.latency_s(space.architecture(space.smallest())), judge.latency_s(space.largest)
    budget_s = least_s + config.budget_share * (most_s - least_s)
    candidates = _explore(space, config, budget_s, judge, workbench.seed)
    best = max(candidates, key=lambda c: (c.val_map, -c.latency_s))
    after = detector.blueprint.model_copy(update={"architecture": best.architecture})
    details = {
        "budget_s": budget_s,
        "design_profile": workbench.design_profile.id,
        "evaluated": len(candidates),
        "front": [_as_record(c) for c in _front(candidates)],
        "chosen": _as_record(best),
    }
    summary = f"{len(candidates)} of {_size(space)} architectures judged, chosen at {best.latency_s / budget_s:.0%} of the budget"
    spent = Spent(search_images=images + judge.images)
    return fresh(after, workbench.seed), describe("nas", summary, detector.blueprint, after, details, spent)


class _Judge:
    """Val mAP of a candidate with the supernet's weights, and how many pictures that took so far."""

    def __init__(self, supernet: Supernet, config: Nas, workbench: Workbench) -> None:
        rng = np.random.default_rng((workbench.seed, 2))
        rows = rng.permutation(len(workbench.train))[: config.recalibration_pictures]
        self.recalibration = make_batch(workbench.train, rows, None, rng).images.to(workbench.device)
        self.val = _first(workbench.val, config.val_pictures)
        self.supernet, self.workbench, self.images = supernet, workbench, 0

    def val_map(self, architecture: Architecture) -> float:
        network = self.supernet.extract(architecture, self.recalibration)
        self.images += len(self.recalibration) + len(self.val)
        return accuracy(self.val.ground_truth, detect(lambda pixels: _infer(network, pixels), self.val)).map_50_95

    def latency_s(self, architecture: Architecture) -> float:
        blueprint = self.supernet.blueprint.model_copy(update={"architecture": architecture})
        return estimated_latency(blueprint, self.workbench.design_profile, "fp32").point_s


def _explore(space: SearchSpace, config: Nas, budget_s: float, judge: _Judge, seed: int) -> list[Candidate]:
    """NSGA-II on (val mAP up, latency down) by ask and tell; the smallest architecture is always judged."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.NSGAIISampler(population_size=config.population, seed=seed)
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
    study.enqueue_trial(space.smallest())
    found: dict[str, Candidate] = {}
    rng = np.random.default_rng((seed, 3))
    for ask in range(config.evaluations * ASKS_PER_EVALUATION):
        if len(found) == config.evaluations:
            break
        if len(study.trials) % 2 and ask > config.evaluations * 4:
            study.enqueue_trial(draw(space, rng))  # a converged population repeats itself: stir it
        trial = study.ask()
        choice = {name: trial.suggest_categorical(name, options) for name, options in space.options().items()}
        architecture = space.architecture(choice)
        latency_s, key = judge.latency_s(architecture), architecture.model_dump_json()
        if latency_s > budget_s:
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
            continue
        if key not in found:
            found[key] = Candidate(architecture, judge.val_map(architecture), latency_s)
        study.tell(trial, [found[key].val_map, latency_s])
    if len(found) < config.evaluations:
        raise InputError(
            f"nas: found only {len(found)} different architectures within the budget in {_size(space)}, but evaluations is "
            f"{config.evaluations}. Raise budget_share or width_shares, or lower evaluations."
        )
    return list(found.values())


def _front(candidates: list[Candidate]) -> list[Candidate]:
    """Candidates that no other beats in both respects, fastest first."""
    front: list[Candidate] = []
    for candidate in sorted(candidates, key=lambda c: (c.latency_s, -c.val_map)):
        if not front or candidate.val_map > front[-1].val_map:
            front.append(candidate)
    return front


def _infer(network: Network, pixels: Array) -> tuple[Array, Array]:
    with torch.no_grad():
        boxes, scores = network.decode(network(torch.from_numpy(pixels).to(network.points_px.device)))
    return boxes.cpu().numpy(), scores.cpu().numpy()


def _first(images: Images, count: int) -> Images:
    """The first pictures of a split, ground truth included."""
    if count >= len(images):
        return images
    ids = set(images.picture_ids[:count])
    truth = images.ground_truth
    return Images(
        split=images.split,
        pixels=images.pixels[:count],
        boxes_xyxy_px=images.boxes_xyxy_px[:count],
        labels=images.labels[:count],
        picture_ids=images.picture_ids[:count],
        letterboxes=images.letterboxes[:count],
        classes=images.classes,
        ground_truth=truth
        | {
            "images": [picture for picture in truth["images"] if picture["id"] in ids],
            "annotations": [annotation for annotation in truth["annotations"] if annotation["image_id"] in ids],
        },
        digest=images.digest,
    )


def _size(space: SearchSpace) -> int:
    return int(np.prod([len(options) for options in space.options().values()]))


def _as_record(candidate: Candidate) -> dict[str, object]:
    return {
        "architecture": candidate.architecture.model_dump(),
        "supernet_val_map": candidate.val_map,
        "estimated_latency_s": candidate.latency_s,
    }
