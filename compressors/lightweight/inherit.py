"""A light detector that knows what the dense one knew: its family fits the light blocks to what the dense ones see of pictures."""

from __future__ import annotations

from collections.abc import Iterator
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from torch import Tensor

from compressors.contract import Workbench
from detection.checkpoint import Detector, inherit
from detection.data.augmentation import make_batch


class Inheritance(NamedTuple):
    """A light detector that knows what the dense one knew."""

    detector: Detector
    units: list[str]
    """Names of the light units whose weights were fitted."""
    images: int
    """Pictures that went through the dense detector."""


def inherited(dense: Detector, light: Detector, workbench: Workbench, pictures: int) -> Inheritance:
    """The light detector with the weights of the dense one; neither of the two is changed.

    Layers that both have alike are copied. Units that were light before, of another kind, keep the fresh weights.
    """
    fit = dense.family.light_weights
    assert fit is not None, "a family without light blocks has no cells with them"
    rng = np.random.default_rng((workbench.seed, 5))
    rows = rng.permutation(len(workbench.train))[:pictures]

    def batches() -> Iterator[Tensor]:
        for start in range(0, len(rows), workbench.recipe.batch_size):
            drawn = make_batch(workbench.train, rows[start : start + workbench.recipe.batch_size], None, rng)
            yield drawn.images.to(workbench.device)

    fitted, units = fit(dense.network().to(workbench.device), light.network(), batches())
    weights = dict(inherit(dense, light).weights)
    assert all(weights[name].shape == tensor.shape for name, tensor in fitted.items()), "units of both networks correspond"
    weights |= {name: tensor.detach().to("cpu", weights[name].dtype, copy=True).contiguous() for name, tensor in fitted.items()}
    return Inheritance(Detector(light.spec, MappingProxyType(weights)), units, len(rows))
