"""lightweight: the same detector rebuilt from light blocks, to be trained from scratch or from the weights of the dense blocks."""

from __future__ import annotations

from types import MappingProxyType
from typing import ClassVar, Literal

import numpy as np

from compressors.contract import Change, Phase, Settings, Spent, Workbench, describe
from detection.checkpoint import Detector, fresh, inherit
from detection.data.augmentation import batches
from detection.family import family_of
from detection.frozen import PositiveInt
from detection.spec import Spec

PARTS = ("backbone", "neck", "head")


class Lightweight(Settings):
    """Which blocks, and where."""

    phase: ClassVar[Phase] = "architecture"
    method: Literal["lightweight"] = "lightweight"
    block: Literal["depthwise", "ghost"] = "depthwise"
    """`depthwise`: a depthwise convolution and a 1x1, nothing between them (Xception, arXiv:1610.02357); `ghost`: GhostNet's cheap
    maps (arXiv:1911.11907), not for modules of your own."""
    backbone: bool = True
    neck: bool = True
    head: bool = True
    weights: Literal["fresh", "inherited"] = "fresh"
    """`inherited`: light blocks begin as the nearest to the trained dense ones, everything else as it was. Where the sweep trained
    those, their epochs are the cell's, and only the recovery follows. In cells with nas the supernet begins so; what it chooses is
    trained anew, with light blocks as without."""
    inheritance_pictures: PositiveInt = 48
    """Training pictures on which `inherited` looks at what the dense blocks see."""

    def _without_effect(self) -> dict[str, str]:
        return {} if self.weights == "inherited" else {"inheritance_pictures": "with weights inherited"}

    @property
    def inherits(self) -> bool:
        """Whether weights are inherited."""
        return self.weights == "inherited"

    @property
    def parts(self) -> tuple[str, ...]:
        """What is rebuilt."""
        return tuple(part for part in PARTS if getattr(self, part))

    def label(self) -> str:
        """The choice in a word, for tables and MLflow params."""
        where = [] if len(self.parts) == len(PARTS) else self.parts or ["nothing"]
        return "-".join([self.block, *where, *([self.weights] if self.weights != "fresh" else [])])

    def search_images(self, train_pictures: int, _val_pictures: int) -> int:
        """Pictures that go through the given detector before any training."""
        return min(self.inheritance_pictures, train_pictures) if self.weights == "inherited" else 0


def rebuild(detector: Detector, config: Lightweight, workbench: Workbench) -> tuple[Detector, Change]:
    """The detector from light blocks and what changed. 1x1 convolutions and the stem stay dense."""
    before, after, parts = detector.spec, light_spec(detector.spec, config), list(config.parts)
    summary = f"{config.block} blocks in {', '.join(parts) or 'nothing'}"
    rebuilt = fresh(after, workbench.seed)
    if config.weights == "fresh":
        return rebuilt, describe("lightweight", summary, before, after, {"parts": parts})
    rebuilt, units = _inherited(detector, rebuilt, workbench, config.inheritance_pictures)
    details, spent = {"parts": parts, "fitted_units": units}, Spent(search_images=config.search_images(len(workbench.train), 0))
    return rebuilt, describe("lightweight", f"{summary}, weights inherited", before, after, details, spent)


def light_spec(before: Spec, config: Lightweight) -> Spec:
    """The spec with light blocks in the chosen parts; InputError where they cannot be had."""
    light = family_of(before).light
    assert light is not None, "a family without light blocks has no cells with them"
    return light(before, config.block, config.parts)


def _inherited(dense: Detector, light: Detector, workbench: Workbench, pictures: int) -> tuple[Detector, list[str]]:
    """The light detector with the weights of the dense one, and the names of the light units whose weights were fitted.

    Layers that both have alike are copied. Units that were light before, of another kind, keep the fresh weights.
    """
    fit = dense.family.light_weights
    assert fit is not None, "a family without light blocks has no cells with them"
    rng = np.random.default_rng((workbench.seed, 5))
    rows = rng.permutation(len(workbench.train))[:pictures]
    shown = [drawn.images.to(workbench.device) for drawn in batches(workbench.train, rows, workbench.recipe.batch_size, None, rng)]
    copied = inherit(dense, light)
    fitted, units = fit(dense.network().to(workbench.device), copied.network().to(workbench.device), shown)
    weights = dict(copied.weights)
    assert all(weights[name].shape == tensor.shape for name, tensor in fitted.items()), "units of both networks correspond"
    weights |= {name: tensor.detach().to("cpu", weights[name].dtype, copy=True).contiguous() for name, tensor in fitted.items()}
    return Detector(light.spec, MappingProxyType(weights)), units
