"""Weights for light blocks from the dense ones they replace, fitted to what those see of training pictures.

A depthwise-separable pair begins as the best product of one spatial kernel and one column of a 1x1 convolution per input channel:
the first term of an SVD (network decoupling, arXiv:1808.05517). Of a ghost block the primary maps are the first half of the dense
block's, and each cheap map is the best 3x3 of its primary map for one of the second half: least squares on the responses, as
channel pruning reconstructs its maps (arXiv:1707.06168).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detection.compact.network import GhostUnit
from detection.family import LightWeights

RIDGE = 1e-6
"""Share of the mean square added to the normal equations' diagonal: they stay solvable where a map is always zero."""


def light_weights(dense: nn.Module, light: nn.Module, batches: Iterable[Tensor]) -> LightWeights:
    """Weights for the light units that take the place of dense ones, fitted to what those see of images; both networks stay.

    Images are (B, 3, height, width), where the dense network is. Units that were light before are not among them.
    """
    fits = _fits(dense, light)
    hooks = [fit.watch() for fit in fits.values()]
    for images in batches:
        with torch.no_grad():
            dense(images)
    for hook in hooks:
        hook.remove()
    return LightWeights(
        {f"{unit}.{name}": tensor for unit, fit in fits.items() for name, tensor in fit.weights().items()}, list(fits)
    )


def _fits(dense: nn.Module, light: nn.Module) -> dict[str, _PairFit | _GhostFit]:
    """Name of each light unit that takes the place of a dense one -> how its weights are found."""
    fits: dict[str, _PairFit | _GhostFit] = {}
    modules = dict(dense.named_modules())
    for name, unit in light.named_modules():
        match modules.get(name):
            case nn.Sequential() as before if len(before) and isinstance(before[0], nn.Conv2d) and before[0].groups == 1:
                if isinstance(unit, GhostUnit):
                    fits[name] = _GhostFit(before)
                elif isinstance(unit, nn.Sequential) and isinstance(unit[0], nn.Sequential):
                    fits[name] = _PairFit(before)
    return fits


class _PairFit:
    """A depthwise convolution and a 1x1 for one dense convolution."""

    def __init__(self, dense: nn.Sequential) -> None:
        self.conv, self.norm = cast(nn.Conv2d, dense[0]), cast(nn.BatchNorm2d, dense[1])
        kernels = self.conv.weight.detach().double().flatten(2).transpose(0, 1)  # (inputs, outputs, k * k)
        columns, strengths, rows = torch.linalg.svd(kernels, full_matrices=False)
        self.spatial = rows[:, 0].reshape(-1, 1, *self.conv.kernel_size)  # (inputs, 1, k, k)
        self.mixing = (columns[:, :, 0] * strengths[:, :1]).T[..., None, None]  # (outputs, inputs, 1, 1)
        self.count = 0
        self.total, self.squares = (self.spatial.new_zeros(len(self.spatial)) for _ in range(2))  # of each input's responses

    def watch(self) -> torch.utils.hooks.RemovableHandle:
        """Begin to look at what passes through the dense unit."""
        return self.conv.register_forward_hook(lambda _conv, x, _output: self._look(x[0]))

    def _look(self, x: Tensor) -> None:
        conv = self.conv
        kernel = self.spatial.to(x.dtype)
        maps = F.conv2d(x, kernel, stride=conv.stride, padding=cast(tuple[int, int], conv.padding), groups=len(kernel)).double()
        self.total += maps.sum((0, 2, 3))
        self.squares += maps.square().sum((0, 2, 3))
        self.count += maps[:, 0].numel()

    def weights(self) -> dict[str, Tensor]:
        """Name within the light unit -> tensor. Of either sign of a product the one whose responses are positive on average: the
        ReLU between passes more of them."""
        mean = self.total / self.count
        variance = (self.squares / self.count - mean**2).clamp(min=0)
        sign = torch.where(mean < 0, -1.0, 1.0)
        between = _identity_norm(mean * sign, variance)
        return (
            {"0.0.weight": self.spatial * sign[:, None, None, None], "1.0.weight": self.mixing * sign[None, :, None, None]}
            | {f"0.1.{name}": tensor for name, tensor in between.items()}
            | {f"1.1.{name}": tensor for name, tensor in self.norm.state_dict().items()}
        )


class _GhostFit:
    """Primary maps as they are, cheap ones fitted to the rest."""

    def __init__(self, dense: nn.Sequential) -> None:
        self.conv, self.norm = cast(nn.Conv2d, dense[0]), cast(nn.BatchNorm2d, dense[1])
        self.primary = (self.conv.out_channels + 1) // 2
        cheap, device = self.conv.out_channels - self.primary, self.conv.weight.device
        self.count = 0
        self.squares = torch.zeros(cheap, 10, 10, dtype=torch.float64, device=device)  # nine neighbours and a one
        self.products = torch.zeros(cheap, 10, dtype=torch.float64, device=device)

    def watch(self) -> torch.utils.hooks.RemovableHandle:
        """Begin to look at what passes through the dense unit."""
        return self.norm.register_forward_hook(lambda _norm, _x, maps: self._look(maps))

    def _look(self, maps: Tensor) -> None:
        """maps (B, outputs, height, width) before the ReLU."""
        cheap = maps.shape[1] - self.primary
        goal = maps[:, self.primary :].double().flatten(2).transpose(0, 1).flatten(1)  # (cheap, B * points)
        seen = maps[:, :cheap].relu().double().flatten(0, 1)[:, None]  # (B * cheap, 1, height, width)
        neighbours = F.unfold(seen, 3, padding=1)  # (B * cheap, 9, points)
        neighbours = torch.unflatten(neighbours, 0, (-1, cheap)).permute(1, 2, 0, 3).flatten(2)  # (cheap, 9, B * points)
        regressors = torch.cat([neighbours, torch.ones_like(neighbours[:, :1])], 1)
        self.squares += regressors @ regressors.transpose(1, 2)
        self.products += (regressors @ goal[..., None]).squeeze(-1)
        self.count += goal.shape[1]

    def weights(self) -> dict[str, Tensor]:
        """Name within the light unit -> tensor."""
        squares, products = self.squares / self.count, self.products / self.count
        scale = squares.diagonal(dim1=1, dim2=2).mean(1)[:, None, None]
        solved = torch.linalg.solve(squares + RIDGE * scale * torch.eye(10, dtype=torch.float64, device=squares.device), products)
        kernel, offset = solved[:, :9], solved[:, 9]
        mean = (kernel * squares[:, 9, :9]).sum(1)
        variance = torch.einsum("ci,cij,cj->c", kernel, squares[:, :9, :9], kernel) - mean**2
        between = _identity_norm(mean, variance.clamp(min=0))
        between["bias"] = between["bias"] + offset
        kept = {name: tensor if tensor.ndim == 0 else tensor[: self.primary] for name, tensor in self.norm.state_dict().items()}
        return (
            {"primary.0.weight": self.conv.weight[: self.primary], "cheap.0.weight": kernel.reshape(-1, 1, 3, 3)}
            | {f"primary.1.{name}": tensor for name, tensor in kept.items()}
            | {f"cheap.1.{name}": tensor for name, tensor in between.items()}
        )


def _identity_norm(mean: Tensor, variance: Tensor) -> dict[str, Tensor]:
    """A normalisation that changes nothing where these are the statistics, in training and in use."""
    return {
        "running_mean": mean,
        "running_var": variance,
        "weight": (variance + nn.BatchNorm2d(1).eps).sqrt(),
        "bias": mean.clone(),
    }
