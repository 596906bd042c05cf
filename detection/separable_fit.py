"""A depthwise convolution and a 1x1 for a dense one, fitted by least squares to the maps that it makes of pictures.

The two are solved for in turns. They begin as the best product of one spatial kernel and one column of a 1x1 convolution per input
channel, the first term of an SVD (network decoupling, arXiv:1808.05517).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

RIDGE = 1e-5
"""Share of the mean square added to the normal equations' diagonal: they stay solvable where a map is always zero, or where there
are fewer places than unknowns."""
LEAST_NORM = 1e-12
"""Of what is divided by."""
TURNS = 6
"""In which the 1x1 convolution of a pair is solved for; the spatial kernels in between. More change nothing that shows."""


class Moments(NamedTuple):
    """Of regressors (R) and goals (G), over all places of all pictures."""

    covariance: Tensor  # (..., R, R)
    with_goal: Tensor  # (..., R, G)
    mean: Tensor  # (..., R)
    goal_mean: Tensor  # (..., G)


class Sums:
    """Adds up batch by batch, in float64, what moments are made of."""

    def __init__(self) -> None:
        self.count, self.products = 0, torch.zeros(())

    def add(self, regressors: Tensor, goals: Tensor) -> None:
        """Regressors (..., R, places) and goals (..., G, places)."""
        columns = torch.cat([regressors, torch.ones_like(regressors[..., :1, :])], -2).double()
        self.count += columns.shape[-1]
        self.products = self.products + columns @ torch.cat([columns, goals.double()], -2).transpose(-1, -2)

    def moments(self, *, centred: bool = True) -> Moments:
        """Of all that was added: about the means, or about zero for a fit that has no constant."""
        products, regressors = self.products / self.count, self.products.shape[-2] - 1
        means = products[..., -1, :]
        mean, goal_mean = means[..., :regressors], means[..., regressors + 1 :]
        covariance, with_goal = products[..., :-1, :regressors], products[..., :-1, regressors + 1 :]
        if centred:
            covariance = covariance - mean[..., :, None] * mean[..., None, :]
            with_goal = with_goal - mean[..., :, None] * goal_mean[..., None, :]
        return Moments(covariance, with_goal, mean, goal_mean)


def patches_of(conv: nn.Conv2d, maps: Tensor) -> Tensor:
    """What a convolution sees of one picture's maps (inputs, height, width): (inputs * k * k, places)."""
    mode = "constant" if conv.padding_mode == "zeros" else conv.padding_mode
    padded = F.pad(maps[None], conv._reversed_padding_repeated_twice, mode)  # as the layer itself pads, "same" included
    return F.unfold(padded, conv.kernel_size, conv.dilation, stride=conv.stride)[0]


def decoupled(kernel: Tensor) -> tuple[Tensor, Tensor]:
    """The nearest pair to a kernel (outputs, inputs, height, width), in float64: spatial kernels (inputs, k * k) of length 1, and
    1x1 weights (outputs, inputs)."""
    u, s, vt = torch.linalg.svd(kernel.detach().double().flatten(2).transpose(0, 1), full_matrices=False)
    return vt[:, 0], (u[:, :, 0] * s[:, :1]).T


def products_for(moments: Moments, spatial: Tensor, ridge: float = RIDGE) -> tuple[Tensor, Tensor]:
    """Spatial kernels (inputs, k * k) and 1x1 weights (outputs, inputs) whose products come nearest to the goal, by turns."""
    covariance, (inputs, places) = moments.covariance, spatial.shape
    for turn in range(TURNS):
        rows = on_the_diagonal(spatial)
        mixing = torch.linalg.solve(ridged(rows @ covariance @ rows.T, ridge), rows @ moments.with_goal).T
        if turn < TURNS - 1:
            alike = (mixing.T @ mixing).repeat_interleave(places, 0).repeat_interleave(places, 1)
            own = (moments.with_goal * mixing.T.repeat_interleave(places, 0)).sum(1)
            spatial = torch.linalg.solve(ridged(alike * covariance, ridge), own).reshape(inputs, places)
            spatial = spatial / spatial.norm(dim=1, keepdim=True).clamp(min=LEAST_NORM)
    return spatial, mixing


def on_the_diagonal(spatial: Tensor) -> Tensor:
    """(inputs, k * k) -> (inputs, inputs * k * k): what each kernel makes of all patches."""
    return torch.diag_embed(spatial.T).permute(1, 2, 0).flatten(1)


def ridged(matrices: Tensor, ridge: float = RIDGE) -> Tensor:
    """With this share of their mean on the diagonals."""
    return matrices + ridge * mean_square(matrices) * torch.eye(matrices.shape[-1], dtype=matrices.dtype, device=matrices.device)


def mean_square(matrices: Tensor) -> Tensor:
    """Of the diagonals, (..., 1, 1)."""
    return matrices.diagonal(dim1=-2, dim2=-1).mean(-1).clamp(min=LEAST_NORM)[..., None, None]


def set_weights(conv: nn.Conv2d, weights: Tensor) -> None:
    """Give a convolution these weights, in whatever shape they are."""
    with torch.no_grad():
        conv.weight.copy_(weights.reshape(conv.weight.shape))


class _SeenError(Exception):
    """Ends a forward pass of which all that matters has been seen."""


def seen(network: nn.Module, images: Tensor, module: nn.Module, calls: int = 1) -> list[tuple[Tensor, Tensor]]:
    """What a module was given and what it made of it, call by call in one forward pass, which ends after that many calls.

    Copies: the ReLU after it may overwrite them.
    """
    found: list[tuple[Tensor, Tensor]] = []

    def keep(_module: nn.Module, given: tuple[Tensor, ...], made: Tensor) -> None:
        found.append((given[0].clone(), made.clone()))
        if len(found) == calls:
            raise _SeenError

    hook = module.register_forward_hook(keep)
    try:
        with torch.no_grad():
            network(images)
    except _SeenError:
        pass
    finally:
        hook.remove()
    return found


def as_computed(network: nn.Module, modules: Mapping[str, nn.Module], images: Tensor) -> list[str]:
    """The modules' names in the order in which a forward pass reaches them, as often as it does."""
    reached: list[str] = []
    hooks = [module.register_forward_pre_hook(lambda *_, name=name: reached.append(name)) for name, module in modules.items()]
    with torch.no_grad():
        network(images)
    for hook in hooks:
        hook.remove()
    return reached
