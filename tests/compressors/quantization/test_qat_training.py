"""Quantization-aware training keeps to the recipe as well: its rate, its decay, its cut gradients."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from compressors.quantization.qat import train_quantization_aware
from detection.checkpoint import Detector, fresh
from detection.data.dataset import Images
from detection.training import Recipe
from tests.detection.adapted.test_network_learning_rates import with_rates
from tests.detection.test_training_recipe import ONE_STEP, Pulled, Steep, few, updates

CPU = torch.device("cpu")


def test_the_rate_by_hand(tiny_detector: Detector, tiny_train: Images) -> None:
    """Down a cosine from the first of eight steps on, without warm-up: the peak, .868, half-way .55, .232, and towards a tenth."""
    recipe = Recipe(epochs=4, batch_size=1, learning_rate=1.0, final_share=0.1, warmup_steps=4)
    with updates() as seen:
        train_quantization_aware(tiny_detector, few(tiny_train, 2), recipe, seed=0, device=CPU, objective=Pulled(3.0, 4.0))
    rates = [update.rate for update in seen]
    assert len(rates) == 8
    assert rates[::2] == pytest.approx([1.0, 0.868198, 0.55, 0.231802], rel=1e-5)


def test_only_convolution_weights_decay(tiny_detector: Detector, tiny_train: Images) -> None:
    """Of two that differ in decay alone, convolution weights part in the first step, and biases do not."""
    plain, decayed = (
        train_quantization_aware(tiny_detector, tiny_train, ONE_STEP.model_copy(update={"weight_decay": decay}), seed=0, device=CPU)
        for decay in (0.0, 0.5)
    )
    weights = plain.detector.weights
    apart = {name for name, weight in weights.items() if not torch.equal(weight, decayed.detector.weights[name])}
    assert apart == {name for name, weight in weights.items() if weight.ndim == 4}


@pytest.mark.parametrize(("pull", "expected"), [((300.0, 400.0), [6.0, 8.0]), ((3.0, 4.0), [3.0, 4.0])])
def test_long_gradients_are_cut_to_ten(
    pull: tuple[float, float], expected: list[float], tiny_detector: Detector, tiny_train: Images
) -> None:
    """By hand: 500 becomes 10 in the same direction; 5 stays as it is."""
    objective = Pulled(*pull)
    train_quantization_aware(tiny_detector, tiny_train, ONE_STEP, seed=0, device=CPU, objective=objective)
    assert objective.numbers.grad is not None
    assert objective.numbers.grad.tolist() == pytest.approx(expected)


def test_the_networks_gradients_are_cut_together(tiny_detector: Detector, tiny_train: Images) -> None:
    """A loss a thousand times too steep: at every step all gradients together have the length ten."""
    with updates() as seen:
        train_quantization_aware(tiny_detector, tiny_train, Recipe(epochs=1, batch_size=8), seed=0, device=CPU, objective=Steep())
    assert [update.gradient_norm for update in seen] == pytest.approx([10.0] * 3, rel=1e-4)


def test_parts_learn_by_their_own_factors(tmp_path: Path, tiny_train: Images) -> None:
    """The first step of Adam is the learning rate: a tenth of it where the user says so, and none of what stays."""
    before = fresh(with_rates(tmp_path, '{"score": 0.1, "deep": 0.0}', tiny_train), 0)
    recipe = Recipe(epochs=1, batch_size=24, learning_rate=1e-2)
    after = train_quantization_aware(before, tiny_train, recipe, seed=0, device=CPU).detector
    far = {name: float((after.weights[name] - own).abs().max()) for name, own in before.weights.items()}
    assert far["network.score.bias"] == pytest.approx(1e-3, rel=1e-3)
    assert far["network.sides.bias"] == pytest.approx(1e-2, rel=1e-3)
    assert far["network.deep.1.bias"] == 0.0
