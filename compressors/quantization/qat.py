"""Quantization-aware training (QAT): the network meets the levels of int8 while it can still move its weights.

Jacob et al. (arXiv:1712.05877, section 3) and Krishnamoorthi (arXiv:1806.08342, section 3.2): normalisations are folded into the
convolutions and stay there, weights are rounded per output channel, maps within a range that follows what occurs.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from compressors.quantization.fake_quantize import fake_quantized
from detection.checkpoint import Detector
from detection.data.dataset import Images
from detection.frozen import Frozen
from detection.training import Objective, Recipe, TrainingRecord, drawing, optimizer_of, rate_factors, shuffled, update
from hardware_profiles.runtimes.ranges import Range, Ranges

RANGES_FILE = "ranges.json"


class LearnedRanges(Frozen):
    """Where the rounded maps ended when training did, by the node of the traced network that makes each."""

    maps: dict[str, tuple[float, float]]


class Rounded(NamedTuple):
    """What a quantization-aware training gives back."""

    detector: Detector
    ranges: Ranges
    """By node, see `FakeQuantizedNetwork.ranges`."""
    record: TrainingRecord


def train_quantization_aware(
    detector: Detector,
    train: Images,
    recipe: Recipe,
    *,
    seed: int,
    device: torch.device,
    float_stem: bool = False,
    objective: Objective | None = None,
    on_epoch: Callable[[int, float], None] | None = None,
) -> Rounded:
    """The detector after the recipe with rounding, the ranges it was rounded in, and what that took. The one given is not changed.

    The recipe is that of `Quantization.qat_recipe`. Without a moving average: the rate ends so low that the weights stand still.
    """
    started_s, family = time.perf_counter(), detector.family
    network = detector.network().to(device)
    rounded = fake_quantized(network, family.protected(network), float_stem=float_stem)
    graph = rounded.graph.to(device).train()
    own = [*graph.parameters(), *(objective.parameters() if objective else ())]
    optimizer = optimizer_of(own, recipe, rate_factors(family, network, graph.named_parameters(remove_duplicate=False)))
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    total_steps, steps, losses = math.ceil(len(train) / recipe.batch_size) * recipe.epochs, 0, list[float]()
    for epoch in range(recipe.epochs):
        rng, total = np.random.default_rng((seed, epoch)), 0.0
        with drawing(device, seed, epoch):
            for drawn in shuffled(detector.spec, train, recipe, epoch / recipe.epochs, rng):
                batch = drawn.on(device)
                raw, value = family.learn(network, batch, half=False, forward=graph)
                if objective is not None:
                    value = objective(network, raw, batch, value, half=False)
                total += _finite(value, epoch) * len(batch.images)
                update(optimizer, parameters, value, _learning_rate(recipe, steps, total_steps))
                steps += 1
        losses.append(total / len(train))
        if on_epoch:
            on_epoch(epoch + 1, losses[-1])
    record = TrainingRecord(
        epochs=recipe.epochs,
        images=recipe.epochs * len(train),
        steps=steps,
        train_s=time.perf_counter() - started_s,
        loss_per_epoch=tuple(losses),
    )
    return Rounded(rounded.detector(detector), rounded.ranges(), record)


def save_ranges(ranges: Ranges, folder: Path) -> None:
    """Write the learned ranges into the folder of a detector."""
    (folder / RANGES_FILE).write_text(LearnedRanges(maps=dict(ranges.items())).model_dump_json(indent=1) + "\n")


def load_ranges(folder: Path) -> Ranges | None:
    """The learned ranges of a folder, or None where its detector was not trained quantization-aware."""
    file = folder / RANGES_FILE
    if not file.is_file():
        return None
    return {node: Range(*ends) for node, ends in LearnedRanges.model_validate_json(file.read_text()).maps.items()}


def _finite(value: Tensor, epoch: int) -> float:
    """The loss as a number; FloatingPointError where it is none, before the weights become none and have no range."""
    number = float(value.detach())
    if not math.isfinite(number):
        raise FloatingPointError(f"the loss became {number} in epoch {epoch + 1} with rounding: lower `qat_learning_rate`")
    return number


def _learning_rate(recipe: Recipe, step: int, total_steps: int) -> float:
    """A cosine from the peak; weights are trained already, so it needs no warm-up."""
    cosine = (1 + math.cos(math.pi * step / total_steps)) / 2
    return recipe.learning_rate * (recipe.final_share + (1 - recipe.final_share) * cosine)
