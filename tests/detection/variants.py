"""One spec of every kind that compression makes, at toy size, and weights in which no part is neutral."""

from __future__ import annotations

from types import MappingProxyType

import torch

from detection.checkpoint import Detector, fresh
from detection.spec import Factored, KeptChannels, LayerWidth, Ranks, Spec
from tests.conftest import TINY

PLAIN = Spec(classes=("ring", "disc", "bar"), input_size=(64, 96), settings=TINY)
DEPTHWISE = TINY.model_copy(update={"backbone_block": "depthwise", "neck_block": "depthwise", "head_block": "depthwise"})
GHOST = TINY.model_copy(update={"backbone_block": "ghost", "neck_block": "ghost", "head_block": "ghost"})

SHORT = TINY.model_copy(
    update={
        "levels": (8, 16), "stem_stride": 4, "head_branches": "shared",
        "stage_widths": (TINY.stem_width, 16, 24), "stage_depths": (0, 1, 2),
    }
)  # fmt: skip

NARROWER = KeptChannels(
    layers={  # inside the residual block of the third stage, 12 channels become 5
        "stages.2.1.reduce.0": LayerWidth(inputs=24, outputs=5),
        "stages.2.1.reduce.1": LayerWidth(inputs=5, outputs=5),
        "stages.2.1.expand.0": LayerWidth(inputs=5, outputs=24),
    }
)
NARROWER_DEPTHWISE = KeptChannels(
    layers={  # the same place, where the block is made of depthwise pairs
        "stages.2.1.reduce.1.0": LayerWidth(inputs=24, outputs=5),
        "stages.2.1.reduce.1.1": LayerWidth(inputs=5, outputs=5),
        "stages.2.1.expand.0": LayerWidth(inputs=5, outputs=5),
        "stages.2.1.expand.1.0": LayerWidth(inputs=5, outputs=24),
    }
)
THINNER = Factored(
    layers={
        "stages.3.0.0": Ranks(inputs=6, outputs=7),  # 3x3, 24 -> 32, stride 2
        "stages.2.1.reduce.0": Ranks(inputs=4, outputs=3),  # 3x3 inside the block
        "neck.laterals.2.0": Ranks(inputs=None, outputs=5),  # 1x1, 32 -> 16
    }
)

VARIANTS = {
    "dense": PLAIN,
    "depthwise": PLAIN.model_copy(update={"settings": DEPTHWISE}),
    "ghost": PLAIN.model_copy(update={"settings": GHOST}),
    "short": PLAIN.model_copy(update={"settings": SHORT}),
    "pruned": PLAIN.edited(NARROWER),
    "pruned-depthwise": PLAIN.model_copy(update={"settings": DEPTHWISE}).edited(NARROWER_DEPTHWISE),
    "factored": PLAIN.edited(THINNER),
    "pruned-factored": PLAIN.edited(NARROWER).edited(THINNER),
}


def lively(spec: Spec, seed: int = 0) -> Detector:
    """A detector in which normalisations shift and scale, as after training: folding them wrongly would show.

    Kernels keep the size of the signal, whatever the layers' own initialisation, so that every part has a say in the answer.
    """
    generator = torch.Generator().manual_seed(seed)
    weights = dict(fresh(spec, seed).weights)
    for name, tensor in weights.items():
        if tensor.ndim == 4:
            halved = f"{name.removesuffix('0.weight')}1.0.weight" not in weights  # by a ReLU, which the first of a pair has not
            gain = 2 if halved else 1
            weights[name] = torch.randn(tensor.shape, generator=generator) * (gain / tensor[0].numel()) ** 0.5
        elif name.endswith("running_var"):
            weights[name] = torch.rand(tensor.shape, generator=generator) + 0.5
        elif tensor.ndim == 1 and tensor.is_floating_point():  # means, scales and biases
            weights[name] = tensor + 0.3 * torch.randn(tensor.shape, generator=generator)
    return Detector(spec, MappingProxyType(weights))
