"""What the teacher says of a batch: computed for it, or remembered where pictures come back unchanged. Part of distillation."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from detection.data.augmentation import Augmentation, batches
from detection.data.dataset import Images
from detection.family import Batch, Family, Points
from detection.frozen import InputError
from detection.training import Recipe

MEMORY_LIMIT_BYTES = 4 * 2**30
"""For all that is remembered: what a training may hold besides its own gigabyte on a small machine."""
UNREPEATABLE = ("scale", "brightness", "contrast", "colour", "mosaic")
"""Settings of the augmentation that make a picture new each time. A flip has only two outcomes."""


class Computed:
    """The teacher's outputs for the pictures of a batch, by a forward pass each time."""

    def __init__(self, family: Family, network: nn.Module) -> None:
        self.family, self.network, self.forwards = family, network, 0

    def __call__(self, batch: Batch, half: bool) -> Points:
        """As the network leaves them, without a gradient; from bfloat16 convolutions where half is true."""
        self.forwards += len(batch.images)
        with torch.no_grad(), torch.autocast(batch.images.device.type, torch.bfloat16, enabled=half):
            return self.family.points(self.network, self.family.raw(self.network, batch.images))


class CachedOutputs(Computed):
    """One forward pass for every picture and way of flipping it, all made at the first call.

    Pictures are known by their pixels, so outputs are always those of this very picture; one never seen is a KeyError.
    """

    def __init__(self, family: Family, network: nn.Module, train: Images, recipe: Recipe) -> None:
        super().__init__(family, network)
        self.train, self.recipe = train, recipe
        self.places: dict[bytes, int] = {}
        self.points: Points | None = None

    def __call__(self, batch: Batch, half: bool) -> Points:
        """The remembered outputs of each picture."""
        if self.points is None:
            self.points = self._ask(batch.images.device, half)
        places = torch.tensor([self.places[key] for key in _keys(batch.images)], device=batch.images.device)
        return _each_part(lambda part: part[places], self.points)

    def _ask(self, device: torch.device, half: bool) -> Points:
        """Outputs of every picture in every state, one behind the other; notes the place of each."""
        rows, size, rng = np.arange(len(self.train)), self.recipe.batch_size, np.random.default_rng(0)
        parts: list[Points] = []
        for state in flip_states(self.recipe.augmentation):
            for batch in batches(self.train, rows, size, state, rng):
                self.places |= {key: place for place, key in enumerate(_keys(batch.images), start=self.forwards)}
                parts.append(super().__call__(batch.on(device), half))
                if len(parts) == 1:
                    self._refuse_above_limit(parts[0])
        return _each_part(lambda *same: torch.cat(same), *parts)

    def _refuse_above_limit(self, sample: Points) -> None:
        ways = len(flip_states(self.recipe.augmentation))
        per_view = sum(part.nbytes for part in pytree.tree_leaves(sample) if part is not None) // len(sample.score_logits)
        needed = len(self.train) * ways * per_view
        if needed > MEMORY_LIMIT_BYTES:
            raise InputError(
                f"distillation.cache: the teacher's outputs for {len(self.train)} pictures, each flipped in {ways} ways, take "
                f"{needed / 2**30:.1f} GiB; {MEMORY_LIMIT_BYTES / 2**30:g} GiB are allowed. Set cache to false."
            )


def _each_part(made: Callable[..., Tensor], *points: Points) -> Points:
    """Points with what is made of each of their tensors, or of those in the same place; what is None stays None."""
    return cast(Points, pytree.tree_map(lambda *parts: None if parts[0] is None else made(*parts), *points))


def flip_states(augmentation: Augmentation) -> tuple[Augmentation, ...]:
    """An augmentation for each way in which a picture can be flipped; ValueError where more than flips happens to pictures."""
    found = [f"{name} {getattr(augmentation, name):g}" for name in UNREPEATABLE if getattr(augmentation, name) > 0]
    if found:
        raise ValueError(
            f"outputs can be kept only where flips are all that happens to a picture, but augmentation has {', '.join(found)}. "
            f"Set {', '.join(UNREPEATABLE)} to 0 there, or cache to false."
        )
    states = itertools.product(_outcomes(augmentation.flip_horizontal), _outcomes(augmentation.flip_vertical))
    return tuple(augmentation.model_copy(update={"flip_horizontal": x, "flip_vertical": y}) for x, y in states)


def _outcomes(probability: float) -> tuple[float, ...]:
    return (probability,) if probability in (0.0, 1.0) else (0.0, 1.0)


def _keys(images: Tensor) -> list[bytes]:
    """A digest per picture over its pixels as bytes, which is what they were before they became shares of 255."""
    pixels = (images * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().cpu().numpy()  # (B, height, width, 3)
    return [hashlib.blake2b(picture.data, digest_size=16).digest() for picture in pixels]
