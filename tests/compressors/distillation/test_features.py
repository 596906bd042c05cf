"""What each feature term measures, and what it brings along to measure it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from compressors.distillation.features import (
    MGD_MASKED_SHARE,
    FeaturesBy,
    FeatureTerm,
    channel_wise_divergence,
    pearson_distance,
)

TERMS: tuple[FeaturesBy, ...] = ("pkd", "cwd", "mgd")
TEACHER, STUDENT = (16, 16, 16), (8, 8, 8)
"""Channels of their maps, level by level."""


def maps(seed: int, shape: tuple[int, ...] = (2, 3, 4, 5)) -> Tensor:
    """Feature maps of two pictures."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def pyramid(width: int, seed: int) -> tuple[Tensor, ...]:
    """Features of three levels of 64 x 96 pixels."""
    return tuple(maps(seed + level, (2, width, 64 // level, 96 // level)) for level in (8, 16, 32))


def test_pearson_distance_is_one_minus_the_correlation() -> None:
    """Channel by channel against numpy's coefficient; a scale and an offset change nothing, a sign turns 0 into 2."""
    own, taught = maps(0), maps(1)
    expected = np.mean([1 - np.corrcoef(own[:, c].flatten(), taught[:, c].flatten())[0, 1] for c in range(3)])
    assert float(pearson_distance(own, taught)) == pytest.approx(float(expected), abs=1e-5)
    assert float(pearson_distance(3 * taught + 1, taught)) == pytest.approx(0.0, abs=1e-5)
    assert float(pearson_distance(-taught, taught)) == pytest.approx(2.0, abs=1e-5)


def test_channel_wise_divergence_compares_where_channels_look() -> None:
    """Softmax over the positions and KL by numpy; an offset changes nothing, the order of positions in both does not either."""
    own, taught = maps(0), maps(1)

    def over_positions(of: Tensor) -> Any:
        weights = np.exp(of.double().numpy().reshape(2, 3, -1))
        return weights / weights.sum(-1, keepdims=True)

    mine, theirs = over_positions(own), over_positions(taught)
    expected = (theirs * np.log(theirs / mine)).sum(-1).mean()
    assert float(channel_wise_divergence(own, taught)) == pytest.approx(float(expected), rel=1e-4)
    assert float(channel_wise_divergence(own + 7.0, taught)) == pytest.approx(float(expected), rel=1e-4)
    assert float(channel_wise_divergence(own.flip(3), taught.flip(3))) == pytest.approx(float(expected), rel=1e-4)
    assert float(channel_wise_divergence(taught, taught)) == pytest.approx(0.0, abs=1e-6)


def test_masked_generation_by_hand() -> None:
    """With a generator that hands its input on, the maps of all ones differ from themselves by 1 wherever they are masked."""
    term = FeatureTerm("mgd", TEACHER, TEACHER, seed=3)
    for generator in term.generators:
        assert isinstance(generator, nn.Sequential)
        for convolution in generator:
            if isinstance(convolution, nn.Conv2d):
                nn.init.dirac_(convolution.weight)
                nn.init.zeros_(convolution.bias)  # type: ignore[arg-type]
    ones = tuple(torch.ones_like(level) for level in pyramid(16, 0))
    draws = torch.Generator().manual_seed(3)
    hidden = [float((torch.rand((2, 1, *level.shape[2:]), generator=draws) < MGD_MASKED_SHARE).float().mean()) for level in ones]
    assert float(term(ones, ones).detach()) == pytest.approx(np.mean(hidden), abs=1e-6)
    assert hidden[0] == pytest.approx(MGD_MASKED_SHARE, abs=0.1)


def test_masks_hide_positions_not_channels() -> None:
    """A generator's input is zero in all channels of a position or in none, and each call draws other positions."""
    term = FeatureTerm("mgd", TEACHER, TEACHER, seed=0)
    seen: list[Tensor] = []
    term.generators[0].register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    ones = tuple(torch.ones_like(level) for level in pyramid(16, 0))
    for _ in range(2):
        term(ones, ones)
    assert all(set(one.mean(1).flatten().tolist()) == {0.0, 1.0} for one in seen)
    assert not torch.equal(seen[0], seen[1])


@pytest.mark.parametrize("by", TERMS)
def test_a_term_repeats_with_its_seed_and_leaves_the_generator_alone(by: FeaturesBy) -> None:
    """Equal seeds give equal adapters, generators and masks, wherever the global generator stands; another seed gives others."""
    own, taught = pyramid(8, 0), pyramid(16, 9)
    values = []
    for seed in (1, 1, 2):
        state = torch.random.get_rng_state()
        term = FeatureTerm(by, TEACHER, STUDENT, seed)
        values.append([float(term(own, taught).detach()) for _ in range(2)])
        assert torch.equal(torch.random.get_rng_state(), state)
        torch.rand(3)
    assert values[0] == values[1] != values[2]


@pytest.mark.parametrize("by", TERMS)
def test_every_parameter_of_a_term_and_every_level_gets_a_gradient(by: FeaturesBy) -> None:
    """Adapters and generators are trained along, and the student's features of each level are pulled at."""
    term = FeatureTerm(by, TEACHER, STUDENT, seed=0)
    own = tuple(level.requires_grad_() for level in pyramid(8, 0))
    term(own, pyramid(16, 9)).backward()
    assert all(level.grad is not None and level.grad.abs().sum() > 0 for level in own)
    assert all(parameter.grad is not None for parameter in term.parameters())


def test_adapters_stand_only_where_widths_differ() -> None:
    """Eight channels are led to sixteen by a 1x1 convolution per level; equal widths need none and train nothing extra."""
    needed = FeatureTerm("pkd", TEACHER, STUDENT, seed=0)
    assert [tuple(adapter.weight.shape) for adapter in needed.adapters if isinstance(adapter, nn.Conv2d)] == [(16, 8, 1, 1)] * 3
    assert len(list(needed.parameters())) == 6
    assert not list(FeatureTerm("cwd", TEACHER, TEACHER, seed=0).parameters())


def test_a_generator_is_as_wide_as_the_teacher() -> None:
    """MGD brings two 3x3 convolutions per level, sixteen channels to sixteen, beside the adapters."""
    term = FeatureTerm("mgd", TEACHER, STUDENT, seed=0)
    shapes = [tuple(parameter.shape) for name, parameter in term.named_parameters() if "generators" in name and "weight" in name]
    assert shapes == [(16, 16, 3, 3)] * 6
