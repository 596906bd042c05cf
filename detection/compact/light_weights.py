"""Weights for light blocks from the dense ones they replace, fitted to what those make of training pictures.

Unit by unit, in the order in which the network computes them, each is fitted to the maps of the dense unit, from what reaches it in
the light network so far: a later unit mends what earlier ones lost, as in channel pruning (arXiv:1707.06168, section 3.2). All fits
are least squares.

Of a depthwise-separable pair the two convolutions are solved for in turns. They begin as the best product of one spatial kernel and
one column of a 1x1 convolution per input channel, the first term of an SVD (network decoupling, arXiv:1808.05517). Of a ghost block
the primary maps are the first half of the dense block's, and each cheap map is the best 3x3 of its primary map for one of the rest.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple, Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detection.compact.network import GhostUnit
from detection.family import LightWeights

RIDGE = 1e-5
"""Share of the mean square added to the normal equations' diagonal: they stay solvable where a map is always zero, or where there
are fewer places than unknowns."""
LEAST_NORM = 1e-12
"""Of what is divided by."""
TURNS = 6
"""In which the 1x1 convolution of a pair is solved for; the spatial kernels in between. More change nothing that shows."""


def light_weights(dense: nn.Module, light: nn.Module, batches: Sequence[Tensor]) -> LightWeights:
    """Weights for the light units that take the place of dense ones, fitted on images; both networks stay.

    Images are (B, 3, height, width), where the networks are; the light network has the dense one's weights where both are alike.
    Units that were light before are not among the fitted.
    """
    light = copy.deepcopy(light)
    fits = _fits(dense, light)
    for name in _as_computed(dense, fits, batches[0]):
        fit = fits[name]
        for images in batches:
            fit.look(*_seen(dense, light, fit, images))
        fit.finish()
    return LightWeights({f"{unit}.{name}": own for unit in fits for name, own in fits[unit].light.state_dict().items()}, list(fits))


def _fits(dense: nn.Module, light: nn.Module) -> dict[str, _Fit]:
    """Name of each light unit that takes the place of a dense one -> how its weights are found."""
    fits: dict[str, _Fit] = {}
    modules = dict(dense.named_modules())
    for name, unit in light.named_modules():
        match modules.get(name):
            case nn.Sequential() as before if len(before) and isinstance(before[0], nn.Conv2d) and before[0].groups == 1:
                if isinstance(unit, GhostUnit):
                    fits[name] = _GhostFit(before, unit)
                elif isinstance(unit, nn.Sequential) and isinstance(unit[1], nn.Sequential):
                    fits[name] = _PairFit(before, unit)
    return fits


def _as_computed(dense: nn.Module, fits: dict[str, _Fit], images: Tensor) -> list[str]:
    """The names in the order in which a forward pass reaches them."""
    reached: list[str] = []
    hooks = [fit.dense.register_forward_pre_hook(lambda *_, name=name: reached.append(name)) for name, fit in fits.items()]
    with torch.no_grad():
        dense(images[:1])
    for hook in hooks:
        hook.remove()
    return reached


def _seen(dense: nn.Module, light: nn.Module, fit: _Fit, images: Tensor) -> tuple[Tensor, Tensor]:
    """What reaches a light unit, and the maps that the dense unit makes before its ReLU."""
    with torch.no_grad(), _caught(fit.light) as reaching, _caught(fit.dense[2]) as made:
        dense(images)
        light(images)
    return reaching[0], made[0]


@contextmanager
def _caught(module: nn.Module) -> Iterator[list[Tensor]]:
    """A list that fills with copies of what is given to the module while the block runs: a ReLU overwrites its input."""
    given: list[Tensor] = []
    hook = module.register_forward_pre_hook(lambda _module, inputs: given.append(inputs[0].clone()))
    try:
        yield given
    finally:
        hook.remove()


class _Fit(Protocol):
    """How the weights of one light unit are found."""

    @property
    def dense(self) -> nn.Sequential:
        """The unit that is replaced: convolution, normalisation, ReLU."""
        ...

    @property
    def light(self) -> nn.Module:
        """The unit in its place."""
        ...

    def look(self, x: Tensor, maps: Tensor) -> None:
        """Add up what the fit needs: what reaches the light unit, and the maps of the dense one before its ReLU."""
        ...

    def finish(self) -> None:
        """Give the light unit its weights."""
        ...


class _Moments(NamedTuple):
    """Of regressors (R) and goals (G), over all places of all pictures."""

    covariance: Tensor  # (..., R, R)
    with_goal: Tensor  # (..., R, G)
    mean: Tensor  # (..., R)
    goal_mean: Tensor  # (..., G)


class _Sums:
    """Adds up batch by batch, in float64, what moments are made of."""

    def __init__(self) -> None:
        self.count, self.products = 0, torch.zeros(())

    def add(self, regressors: Tensor, goals: Tensor) -> None:
        """Regressors (..., R, places) and goals (..., G, places)."""
        columns = torch.cat([regressors, torch.ones_like(regressors[..., :1, :])], -2).double()
        self.count += columns.shape[-1]
        self.products = self.products + columns @ torch.cat([columns, goals.double()], -2).transpose(-1, -2)

    def moments(self) -> _Moments:
        """Of all that was added."""
        products, regressors = self.products / self.count, self.products.shape[-2] - 1
        means = products[..., -1, :]
        mean, goal_mean = means[..., :regressors], means[..., regressors + 1 :]
        covariance = products[..., :-1, :regressors] - mean[..., :, None] * mean[..., None, :]
        with_goal = products[..., :-1, regressors + 1 :] - mean[..., :, None] * goal_mean[..., None, :]
        return _Moments(covariance, with_goal, mean, goal_mean)


class _PairFit:
    """A depthwise convolution and a 1x1 for one dense convolution."""

    def __init__(self, dense: nn.Sequential, light: nn.Sequential) -> None:
        self.dense, self.light, self.sums = dense, light, _Sums()

    def look(self, x: Tensor, maps: Tensor) -> None:
        """As `_Fit` says."""
        conv = cast(nn.Conv2d, self.dense[0])
        for own, goal in zip(x, maps, strict=True):  # one by one: patches take nine times the memory of maps
            patches = F.unfold(own[None], conv.kernel_size, padding=cast(int, conv.padding), stride=conv.stride)
            self.sums.add(patches[0], goal.flatten(1))

    def finish(self) -> None:
        """As `_Fit` says."""
        moments = self.sums.moments()
        kernels = cast(nn.Conv2d, self.dense[0]).weight.detach().double().flatten(2).transpose(0, 1)  # (inputs, outputs, k * k)
        spatial, mixing = _products_for(moments, torch.linalg.svd(kernels, full_matrices=False)[2][:, 0])
        depthwise, pointwise = cast(nn.Conv2d, self.light[0]), cast(nn.Sequential, self.light[1])
        _set(depthwise, spatial)
        _set(cast(nn.Conv2d, pointwise[0]), mixing)
        _normalise(cast(nn.BatchNorm2d, pointwise[1]), mixing @ _on_the_diagonal(spatial), moments)


def _on_the_diagonal(spatial: Tensor) -> Tensor:
    """(inputs, k * k) -> (inputs, inputs * k * k): what each kernel makes of all patches."""
    return torch.diag_embed(spatial.T).permute(1, 2, 0).flatten(1)


def _products_for(moments: _Moments, spatial: Tensor) -> tuple[Tensor, Tensor]:
    """Spatial kernels (inputs, k * k) and 1x1 weights (outputs, inputs) whose products come nearest to the goal, by turns."""
    covariance, (inputs, places) = _ridged(moments.covariance), spatial.shape
    for turn in range(TURNS):
        rows = _on_the_diagonal(spatial)
        mixing = torch.linalg.solve(_ridged(rows @ covariance @ rows.T), rows @ moments.with_goal).T
        if turn < TURNS - 1:
            alike = (mixing.T @ mixing).repeat_interleave(places, 0).repeat_interleave(places, 1)
            own = (moments.with_goal * mixing.T.repeat_interleave(places, 0)).sum(1)
            spatial = torch.linalg.solve(_ridged(alike * covariance), own).reshape(inputs, places)
            spatial = spatial / spatial.norm(dim=1, keepdim=True).clamp(min=LEAST_NORM)
    return spatial, mixing


class _GhostFit:
    """Primary maps as they are, cheap ones fitted to the rest."""

    def __init__(self, dense: nn.Sequential, light: GhostUnit) -> None:
        self.dense, self.light, self.sums = dense, light, _Sums()
        self.kept = len(cast(nn.Conv2d, light.primary[0]).weight)
        first = {name: own if own.ndim == 0 else own[: self.kept] for name, own in dense.state_dict().items()}
        light.primary.load_state_dict(first)

    def look(self, x: Tensor, maps: Tensor) -> None:
        """As `_Fit` says."""
        cheap = maps.shape[1] - self.kept
        with torch.no_grad():
            seen = self.light.primary(x)[:, :cheap]
        neighbours = F.unfold(seen.flatten(0, 1)[:, None], 3, padding=1)  # (B * cheap, 9, points)
        neighbours = torch.unflatten(neighbours, 0, (-1, cheap)).permute(1, 2, 0, 3).flatten(2)  # (cheap, 9, B * points)
        self.sums.add(neighbours, maps[:, self.kept :].transpose(0, 1).flatten(1)[:, None])

    def finish(self) -> None:
        """As `_Fit` says."""
        moments = self.sums.moments()
        kernels = torch.linalg.solve(_ridged(moments.covariance), moments.with_goal)[..., 0]  # (cheap, 9)
        _set(cast(nn.Conv2d, self.light.cheap[0]), kernels)
        _normalise(cast(nn.BatchNorm2d, self.light.cheap[1]), kernels, moments._replace(goal_mean=moments.goal_mean[:, 0]))


def _set(conv: nn.Conv2d, weights: Tensor) -> None:
    with torch.no_grad():
        conv.weight.copy_(weights.reshape(conv.weight.shape))


def _ridged(matrices: Tensor) -> Tensor:
    """With RIDGE on the diagonals."""
    scale = matrices.diagonal(dim1=-2, dim2=-1).mean(-1).clamp(min=LEAST_NORM)[..., None, None]
    return matrices + RIDGE * scale * torch.eye(matrices.shape[-1], dtype=matrices.dtype, device=matrices.device)


def _normalise(norm: nn.BatchNorm2d, weights: Tensor, moments: _Moments) -> None:
    """Set a normalisation after convolutions of these weights (G, R): it changes nothing but the mean, which is the goals'.

    So it does in use and, by what passes through it, in training.
    """
    mean = (weights * moments.mean).sum(-1)
    variance = (weights[..., None, :] @ moments.covariance @ weights[..., :, None])[..., 0, 0]
    found = {"running_mean": mean, "running_var": variance, "weight": (variance + norm.eps).sqrt(), "bias": moments.goal_mean}
    norm.load_state_dict({**norm.state_dict(), **found})
