"""What the teacher says of a batch: computed for it, or remembered where pictures come back unchanged. Part of distillation."""

from __future__ import annotations

import hashlib
import itertools
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from detection.compact.losses import Batch
from detection.compact.network import Network, Outputs
from detection.data.augmentation import Augmentation, make_batch
from detection.data.dataset import Images
from detection.frozen import InputError
from detection.training import Recipe

MEMORY_LIMIT_BYTES = 4 * 2**30
"""For all that is remembered: what a training may hold beside its own gigabyte on a small machine."""
UNREPEATABLE = ("scale", "brightness", "contrast", "colour")
"""Settings of the augmentation that make a picture new each time. A flip has only two outcomes."""


class TeacherOutputs(Protocol):
    """The teacher's outputs for the pictures of a batch."""

    forwards: int
    """Pictures that went through the teacher so far."""

    def __call__(self, batch: Batch, half: bool) -> Outputs:
        """As the network leaves them, without a gradient; from bfloat16 convolutions where half is true."""
        ...


class Computed:
    """A forward pass for every batch."""

    def __init__(self, network: Network) -> None:
        self.network, self.forwards = network, 0

    def __call__(self, batch: Batch, half: bool) -> Outputs:
        """What the network says of this batch."""
        self.forwards += len(batch.images)
        return _said(self.network, batch.images, half)


class Remembered:
    """One forward pass for every picture and way of flipping it, all made at the first call.

    Pictures are known by their pixels, so what is handed out was said of this very picture; a strange one is a KeyError.
    """

    def __init__(self, network: Network, train: Images, recipe: Recipe) -> None:
        self.network, self.train, self.recipe, self.forwards = network, train, recipe, 0
        self.places: dict[bytes, int] = {}
        self.outputs: Outputs | None = None

    def __call__(self, batch: Batch, half: bool) -> Outputs:
        """What the network said of each picture when it was asked."""
        if self.outputs is None:
            self.outputs = self._ask(batch.images.device, half)
        places = torch.tensor([self.places[key] for key in _keys(batch.images)], device=batch.images.device)
        scores, boxes, features = self.outputs
        return Outputs(scores[places], boxes[places], tuple(feature[places] for feature in features))

    def _ask(self, device: torch.device, half: bool) -> Outputs:
        """Outputs of every picture in every state, one behind the other; notes the place of each."""
        rows, size, rng = np.arange(len(self.train)), self.recipe.batch_size, np.random.default_rng(0)
        parts: list[Outputs] = []
        for state in flip_states(self.recipe.augmentation):
            for start in range(0, len(rows), size):
                images = make_batch(self.train, rows[start : start + size], state, rng).images
                for place, key in enumerate(_keys(images), start=self.forwards):
                    self.places[key] = place
                self.forwards += len(images)
                parts.append(_said(self.network, images.to(device), half))
                if len(parts) == 1:
                    self._refuse_above_limit(parts[0])
        scores, boxes, features = zip(*parts, strict=True)
        return Outputs(torch.cat(scores), torch.cat(boxes), tuple(torch.cat(level) for level in zip(*features, strict=True)))

    def _refuse_above_limit(self, sample: Outputs) -> None:
        ways = len(flip_states(self.recipe.augmentation))
        per_view = sum(part.nbytes for part in (*sample[:2], *sample.features)) // len(sample.score_logits)
        needed = len(self.train) * ways * per_view
        if needed > MEMORY_LIMIT_BYTES:
            raise InputError(
                f"distillation.cache: the teacher's outputs for {len(self.train)} pictures, each flipped in {ways} ways, take "
                f"{needed / 2**30:.1f} GiB; {MEMORY_LIMIT_BYTES / 2**30:g} GiB are allowed. Set cache to false."
            )


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


def _said(network: Network, images: Tensor, half: bool) -> Outputs:
    with torch.no_grad(), torch.autocast(images.device.type, torch.bfloat16, enabled=half):
        outputs: Outputs = network(images)
    return outputs


def _keys(images: Tensor) -> list[bytes]:
    """A digest per picture over its pixels as bytes, which is what they were before they became shares of 255."""
    pixels = (images * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().cpu().numpy()  # (B, height, width, 3)
    return [hashlib.blake2b(picture.data, digest_size=16).digest() for picture in pixels]
