"""A detector whose channels all differ, and what it says with channels held at zero."""

from __future__ import annotations

from types import MappingProxyType
from typing import cast

import numpy as np
import torch

from detection.checkpoint import Detector
from detection.compact.network import Outputs
from detection.data.dataset import Images
from detection.evaluation import as_planes


def lively(detector: Detector) -> Detector:
    """The same detector with normalisations as training leaves them: no two channels alike."""
    generator = torch.Generator().manual_seed(0)
    weights = dict(detector.weights)
    for name, tensor in weights.items():
        if name.endswith(("running_mean", "1.bias")):
            weights[name] = torch.randn(tensor.shape, generator=generator) / 10
        elif name.endswith("running_var") or (name.endswith("1.weight") and tensor.ndim == 1):
            weights[name] = torch.rand(tensor.shape, generator=generator) + 0.5
    return Detector(detector.spec, MappingProxyType(weights))


def answers(detector: Detector, images: Images) -> Outputs:
    """What the detector says of two pictures."""
    pixels = torch.from_numpy(np.concatenate([as_planes(images.pixels[row]) for row in range(2)]))
    with torch.no_grad():
        return cast(Outputs, detector.network()(pixels))


def silenced(detector: Detector, kept: dict[str, list[int]]) -> Detector:
    """The whole detector with every channel that is not kept held at zero by its normalisation instead of being removed."""
    weights = dict(detector.weights)
    for norm, rows in kept.items():
        for part in ("weight", "bias"):
            values = torch.zeros_like(weights[f"{norm}.{part}"])
            values[rows] = weights[f"{norm}.{part}"][rows]
            weights[f"{norm}.{part}"] = values
    return Detector(detector.spec, MappingProxyType(weights))
