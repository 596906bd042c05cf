"""low_rank: convolutions factored into thinner ones, Tucker-2 for 3x3 (arXiv:1511.06530), SVD for 1x1."""

from __future__ import annotations

from types import MappingProxyType
from typing import Annotated, Literal, cast

import tensorly as tl
import torch
from pydantic import Field
from tensorly.decomposition import partial_tucker
from torch import Tensor, nn

from compressors.contract import Change, Workbench, describe
from detection.blueprint import Factored, Ranks
from detection.checkpoint import Detector
from detection.frozen import Frozen, Share
from detection.network import Network

TUCKER_ITERATIONS = 20
"""Of the alternating fit after its SVD start; on trained kernels the error stops moving before ten."""


class LowRank(Frozen):
    """How much of each kernel to keep."""

    method: Literal["low_rank"] = "low_rank"
    energy: Share = 0.75
    """Share of the squared singular values that the ranks keep, on either side."""
    round_to: Annotated[int, Field(ge=1)] = 8
    """Ranks are rounded up to multiples of this, as channels are."""
    least_saving: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """A layer is factored only where its multiply-adds fall by at least this share: thin layers cost overhead."""

    def label(self) -> str:
        """The choice in a word, for tables and MLflow params."""
        return f"tucker-{self.energy:g}"


def factor(detector: Detector, config: LowRank, workbench: Workbench) -> tuple[Detector, Change]:
    """The detector with its heavy convolutions factored, weights approximated, and the ranks chosen."""
    network = detector.network()
    protected = set(network.protected_layers())
    ranks = {
        name: chosen
        for name, module in network.named_modules()
        if isinstance(module, nn.Conv2d) and name not in protected and (chosen := choose_ranks(module, config)) is not None
    }
    if not ranks:
        return detector, describe("low_rank", "no layer worth factoring", detector.blueprint, detector.blueprint, {"ranks": {}})
    after = detector.blueprint.edited(Factored(layers=ranks))
    weights = dict(detector.weights)
    for name, chosen in ranks.items():
        kernel = weights.pop(f"{name}.weight")
        weights |= {f"{name}.{part}.weight": value for part, value in enumerate(decompose(kernel, chosen))}
    summary = f"{len(ranks)} convolutions factored"
    details = {"ranks": {name: chosen.model_dump() for name, chosen in ranks.items()}}
    ordered = {name: weights[name] for name in Network(after).state_dict()}
    return Detector(after, MappingProxyType(ordered)), describe("low_rank", summary, detector.blueprint, after, details)


def choose_ranks(conv: nn.Conv2d, config: LowRank) -> Ranks | None:
    """Ranks by energy, or None where factoring would not save enough (or the layer is depthwise, or already thin)."""
    if conv.groups > 1 or conv.bias is not None:
        return None
    kernel = conv.weight.detach()
    outputs = _rank(kernel.flatten(1), config)
    if conv.kernel_size == (1, 1):
        dense, thin = conv.in_channels * conv.out_channels, outputs * (conv.in_channels + conv.out_channels)
        return Ranks(inputs=None, outputs=outputs) if thin <= dense * (1 - config.least_saving) else None
    inputs = _rank(kernel.transpose(0, 1).flatten(1), config)
    area = conv.kernel_size[0] * conv.kernel_size[1]
    step_down = conv.stride[0] * conv.stride[1]  # the first 1x1 runs before the stride, on that many times more pixels
    thin = conv.in_channels * inputs * step_down + inputs * outputs * area + outputs * conv.out_channels
    if thin > conv.in_channels * conv.out_channels * area * (1 - config.least_saving):
        return None
    return Ranks(inputs=inputs, outputs=outputs)


def decompose(kernel: Tensor, ranks: Ranks) -> tuple[Tensor, ...]:
    """Kernels of the thin convolutions, in the order they run: exact where the ranks are full.

    kernel: (outputs, inputs, height, width). Tucker-2: (r_in, inputs, 1, 1), (r_out, r_in, height, width), (outputs, r_out, 1, 1).
    """
    if ranks.inputs is None:
        u, s, vt = torch.linalg.svd(kernel.flatten(1), full_matrices=False)
        root = s[: ranks.outputs].sqrt()  # split evenly, so that neither factor trains on another scale
        first = root[:, None] * vt[: ranks.outputs]
        return first[:, :, None, None].contiguous(), (u[:, : ranks.outputs] * root)[:, :, None, None].contiguous()
    with tl.backend_context("pytorch", local_threadsafe=True):
        (core, (left, right)), _ = partial_tucker(
            kernel, rank=[ranks.outputs, ranks.inputs], modes=[0, 1], init="svd", n_iter_max=TUCKER_ITERATIONS
        )
    first = cast(Tensor, right).T[:, :, None, None]
    return first.contiguous(), cast(Tensor, core).contiguous(), cast(Tensor, left)[:, :, None, None].contiguous()


def _rank(unfolded: Tensor, config: LowRank) -> int:
    """The smallest rank that keeps the wanted energy of a matrix, rounded up and at most full."""
    full = min(unfolded.shape)
    energy = torch.linalg.svdvals(unfolded).square()
    kept = energy.cumsum(0) / energy.sum()
    needed = int((kept < config.energy - 1e-6).sum()) + 1
    return min(full, -(-needed // config.round_to) * config.round_to)
