"""A detector with its convolutions factored by tensorly's Tucker-2, ranks at a share of the channels."""

from __future__ import annotations

from types import MappingProxyType

import tensorly
from tensorly.decomposition import partial_tucker

from compressors.low_rank.method import factorable
from detection.checkpoint import Detector
from detection.costs import count_macs
from detection.spec import Factored, Ranks
from studies.peers.chains import Tucker
from studies.peers.torch_pruning import Reduced

ROUND_TO = 8
"""Ranks are multiples of this, as torch-pruning's README recommends for channels: runtimes are slow on others in int8."""


def factor(detector: Detector, config: Tucker) -> Reduced:
    """The detector with a 1x1, kxk and 1x1 convolution in place of every kxk one that needs fewer weights so.

    Ranks are the same share of input and output channels everywhere; 1x1 convolutions and the last predictions stay.
    """
    weights, ranks = dict(detector.weights), dict[str, Ranks]()
    for name, kernel in factorable(detector).items():
        if kernel.ndim != 4 or kernel.shape[2:].numel() == 1:
            continue
        outputs, inputs, height, width = kernel.shape
        right, left = (rank(config.rank_share, channels) for channels in (inputs, outputs))
        if right * inputs + right * left * height * width + left * outputs >= kernel.numel():
            continue  # the stem reads three channels
        with tensorly.backend_context("pytorch", local_threadsafe=True):
            (core, (last, first)), _ = partial_tucker(kernel, rank=[left, right], modes=[0, 1], init="svd")
        ranks[name] = Ranks(inputs=right, outputs=left)
        del weights[f"{name}.weight"]
        for part, own in enumerate((first.T[:, :, None, None], core, last[:, :, None, None])):
            weights[f"{name}.{part}.weight"] = own.contiguous()
        if f"{name}.bias" in weights:
            weights[f"{name}.2.bias"] = weights.pop(f"{name}.bias")
    after = detector.spec.edited(Factored(layers=ranks))
    ordered = {name: weights[name] for name in detector.family.build(after).state_dict()}
    before, reached = count_macs(detector.spec), count_macs(after)
    print(f"{config.label()}: {before:,} -> {reached:,} multiply-adds, {reached / before:.3f} of them", flush=True)
    details = {"factored": len(ranks), "keep_macs": reached / before}
    return Reduced(Detector(after, MappingProxyType(ordered)), details, 0)


def rank(share: float, channels: int) -> int:
    """The multiple of ROUND_TO nearest to this share of the channels, at least one of them; all channels where there are fewer."""
    return min(channels, max(ROUND_TO, ROUND_TO * round(share * channels / ROUND_TO)))
