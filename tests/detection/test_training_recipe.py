"""What the recipe says is what happens to the weights: rate, warm-up, decay, cut gradients, and the average that comes back."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from detection.checkpoint import Detector
from detection.data.dataset import Images
from detection.family import Batch, Raw
from detection.training import Recipe, fit

CPU = torch.device("cpu")
ONE_STEP = Recipe(epochs=1, batch_size=24, learning_rate=1e-2, ema_decay=0.0, weight_decay=0.0)
"""All 24 pictures at once, and the average is the last weights."""


class Update(NamedTuple):
    """What an optimizer was handed at one step."""

    rate: float
    gradient_norm: float
    """Of all its parameters together."""


@contextmanager
def updates() -> Iterator[list[Update]]:
    """Every step of every optimizer meanwhile."""
    seen: list[Update] = []

    def look(optimizer: torch.optim.Optimizer, _args: Any, _kwargs: Any) -> None:
        (rate,) = {group["lr"] for group in optimizer.param_groups}
        gradients = [p.grad.flatten() for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        seen.append(Update(rate, torch.cat(gradients).norm().item()))

    hook = register_optimizer_step_pre_hook(look)
    try:
        yield seen
    finally:
        hook.remove()


class Pulled:
    """An objective that leaves the network alone and pulls at two numbers of its own: the pull is their gradient."""

    def __init__(self, *pull: float) -> None:
        self.pull, self.numbers = torch.tensor(pull), nn.Parameter(torch.zeros(2))

    def __call__(self, network: nn.Module, raw: Raw, batch: Batch, loss: Tensor, *, half: bool) -> Tensor:
        return (self.pull * self.numbers).sum()

    def parameters(self) -> list[nn.Parameter]:
        return [self.numbers]


class Steep:
    """The labels' loss many times over."""

    def __call__(self, network: nn.Module, raw: Raw, batch: Batch, loss: Tensor, *, half: bool) -> Tensor:
        return loss * 1000

    def parameters(self) -> list[nn.Parameter]:
        return []


class Watching:
    """The labels' loss, which keeps what the network held whenever it was asked."""

    def __init__(self) -> None:
        self.network: nn.Module | None = None
        self.parameters_before: list[dict[str, Tensor]] = []
        self.statistics_after: list[dict[str, Tensor]] = []
        """A step moves them before the objective is asked, and the parameters behind it."""

    def __call__(self, network: nn.Module, raw: Raw, batch: Batch, loss: Tensor, *, half: bool) -> Tensor:
        self.network = network
        self.parameters_before.append(held(network.named_parameters()))
        self.statistics_after.append(held(network.named_buffers()))
        return loss

    def parameters(self) -> list[nn.Parameter]:
        return []


def held(tensors: Any) -> dict[str, Tensor]:
    """A copy in double precision."""
    return {name: tensor.detach().double() for name, tensor in tensors}


def few(images: Images, count: int) -> Images:
    """The first pictures alone."""
    own = {field: getattr(images, field)[:count] for field in ("pixels", "boxes_xyxy_px", "labels", "picture_ids", "fits")}
    return replace(images, **own)


def rates(detector: Detector, images: Images, recipe: Recipe) -> list[float]:
    """The rate of every step."""
    with updates() as seen:
        fit(detector, images, recipe, seed=0, device=CPU, objective=Pulled(3.0, 4.0))
    return [update.rate for update in seen]


def test_the_rate_by_hand(tiny_detector: Detector, tiny_train: Images) -> None:
    """Of 100 steps 20 rise evenly to the peak, and 80 go down a cosine to a tenth of it.

    At a quarter, a half and three of the way down: .1 + .9 * (1 + cos) / 2, where the cosine is 1/sqrt 2, 0 and -1/sqrt 2.
    """
    recipe = Recipe(epochs=20, batch_size=1, learning_rate=1.0, warmup_steps=20, final_share=0.1)
    found = rates(tiny_detector, few(tiny_train, 5), recipe)
    assert len(found) == 100
    assert found[:20] == pytest.approx([(step + 1) / 20 for step in range(20)])
    assert [found[step] for step in (20, 40, 60, 80)] == pytest.approx([1.0, 0.868198, 0.55, 0.231802], rel=1e-5)
    assert found[99] == pytest.approx(0.1, abs=1e-3)


@pytest.mark.parametrize(("warmup_steps", "first"), [(0, [1.0, 0.99446]), (1, [1.0, 1.0]), (50, [0.25, 0.5, 0.75, 1.0, 1.0])])
def test_a_warm_up_takes_a_fifth_of_the_steps_at_most(
    warmup_steps: int, first: list[float], tiny_detector: Detector, tiny_train: Images
) -> None:
    """Of twenty steps four, whatever more is asked for; without one the first step is the peak."""
    recipe = Recipe(epochs=10, batch_size=1, learning_rate=1.0, warmup_steps=warmup_steps, final_share=0.1)
    found = rates(tiny_detector, few(tiny_train, 2), recipe)
    assert len(found) == 20
    assert found[: len(first)] == pytest.approx(first, rel=1e-5)


def test_the_rate_is_how_far_weights_go(tiny_detector: Detector, tiny_train: Images) -> None:
    """Adam moves what is pulled evenly by the rate at each step: by the sum of all rates, whatever the pull and the decay."""
    recipe = Recipe(epochs=5, batch_size=1, learning_rate=1e-2, warmup_steps=2, final_share=0.1, weight_decay=1.0)
    objective = Pulled(3.0, -4.0)
    fit(tiny_detector, few(tiny_train, 2), recipe, seed=0, device=CPU, objective=objective)
    total = sum(rates(tiny_detector, few(tiny_train, 2), recipe))
    assert objective.numbers.tolist() == pytest.approx([-total, total], rel=1e-4)


def test_the_average_by_hand(tiny_detector: Detector, tiny_train: Images) -> None:
    """Replayed from the weights of 20 steps: each moves it by 1 - decay * (1 - e^(-step / 2)), two being a tenth of the steps.

    Running statistics are averaged alike; the last weights are elsewhere.
    """
    objective, recipe = Watching(), Recipe(epochs=5, batch_size=6, learning_rate=1e-2, warmup_steps=2, ema_decay=0.9)
    after, record = fit(tiny_detector, tiny_train, recipe, seed=0, device=CPU, objective=objective)
    assert objective.network is not None
    last = held(objective.network.named_parameters())
    average = {name: tensor.double() for name, tensor in tiny_detector.weights.items()}
    steps = zip([*objective.parameters_before[1:], last], objective.statistics_after, strict=True)
    for step, (parameters, statistics) in enumerate(steps, start=1):
        share = 1 - 0.9 * (1 - math.exp(-step / 2))
        for name, now in (statistics | parameters).items():
            if name in average:
                average[name] += (now - average[name]) * share
    assert record.steps == 20
    for name, tensor in after.weights.items():
        if tensor.is_floating_point():
            torch.testing.assert_close(tensor.double(), average[name], rtol=1e-4, atol=1e-6, msg=name)
        else:
            assert tensor == 20, name
    assert not torch.allclose(average["stem.0.weight"], last["stem.0.weight"], rtol=1e-2)


def test_only_convolution_weights_decay(tiny_detector: Detector, tiny_train: Images) -> None:
    """By hand: one step at .01 with a decay of .5 takes .005 of what a weight was, and nothing from normalisations and biases."""
    plain, decayed = (
        fit(tiny_detector, tiny_train, ONE_STEP.model_copy(update={"weight_decay": decay}), seed=0, device=CPU)[0].weights
        for decay in (0.0, 0.5)
    )
    assert {tensor.ndim for tensor in plain.values()} == {0, 1, 4}
    for name, start in tiny_detector.weights.items():
        taken = 0.005 * start if start.ndim == 4 else torch.zeros_like(start)
        torch.testing.assert_close(plain[name] - decayed[name], taken, rtol=1e-3, atol=1e-6, msg=name)


@pytest.mark.parametrize(("pull", "expected"), [((300.0, 400.0), [6.0, 8.0]), ((3.0, 4.0), [3.0, 4.0])])
def test_long_gradients_are_cut_to_ten(
    pull: tuple[float, float], expected: list[float], tiny_detector: Detector, tiny_train: Images
) -> None:
    """By hand: 500 becomes 10 in the same direction; 5 stays as it is."""
    objective = Pulled(*pull)
    fit(tiny_detector, tiny_train, ONE_STEP, seed=0, device=CPU, objective=objective)
    assert objective.numbers.grad is not None
    assert objective.numbers.grad.tolist() == pytest.approx(expected)


def test_the_networks_gradients_are_cut_together(tiny_detector: Detector, tiny_train: Images) -> None:
    """A loss a thousand times too steep: at every step all gradients together have the length ten."""
    with updates() as seen:
        fit(tiny_detector, tiny_train, Recipe(epochs=1, batch_size=8), seed=0, device=CPU, objective=Steep())
    assert [update.gradient_norm for update in seen] == pytest.approx([10.0] * 3, rel=1e-4)
