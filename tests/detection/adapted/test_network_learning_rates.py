"""Parts of a user's network that learn slower than the rest, or not at all, by the names of modules."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from detection.brought import ModuleDetector
from detection.checkpoint import fresh
from detection.data.dataset import Images
from detection.family import family_of
from detection.frozen import InputError
from detection.spec import Separated, Spec
from detection.testing import check_family
from detection.training import Recipe, fit, rate_factors
from flows.sweep.given_network import network_spec
from tests.places import ROOT

CODE = ROOT / "tests/module_detector/own_points.py"
ONE_STEP = Recipe(epochs=1, batch_size=24, learning_rate=1e-2, ema_decay=0.0, weight_decay=0.5, warmup_steps=0)
"""All pictures at once, and the average is the last weights."""


def with_rates(folder: Path, rates: str, images: Images) -> Spec:
    """The tiny user's detector for these pictures, of which `learning_rates` gives what this expression does."""
    source = CODE.read_text().replace('suppress = "none"', f"learning_rates = lambda self, network: {rates}")
    (folder / CODE.name).write_text(source)
    size = (images.pixels.shape[1], images.pixels.shape[2])
    return network_spec(ModuleDetector(family="own_points:set_family", spec={"width": 8}), folder, size, images.classes)


def moved(spec: Spec, images: Images) -> dict[str, float]:
    """Parameter -> the farthest that one of its numbers goes in a step; of the user's own names."""
    before = fresh(spec, 0)
    after, _ = fit(before, images, ONE_STEP, seed=0, device=torch.device("cpu"))
    names = dict(before.network().named_parameters())
    return {name.removeprefix("network."): float((after.weights[name] - before.weights[name]).abs().max()) for name in names}


def test_what_does_not_learn_stays(tmp_path: Path, tiny_train: Images) -> None:
    """Factor 0, also of the parts that a depthwise pair has; the innermost module counts, and all others move."""
    spec = with_rates(tmp_path, '{"stem": 0.0, "deep": 0, "block": 0.0, "block.0": 1.0}', tiny_train)
    assert "learning_rates_are_of_modules" in check_family(spec, tiny_train)
    far = moved(spec.edited(Separated(layers=("network.deep.0",))), tiny_train)
    assert {name for name, own in far.items() if own == 0.0} == {
        "stem.0.weight", "stem.1.weight", "stem.1.bias", "deep.0.0.weight", "deep.0.1.weight", "deep.1.weight", "deep.1.bias",
        "block.1.weight", "block.1.bias",
    }  # fmt: skip


def test_a_tenth_of_the_rate_goes_a_tenth_as_far(tmp_path: Path, tiny_train: Images) -> None:
    """The first step of Adam is the learning rate, whatever the gradient; there are no other parameters in biases to decay."""
    far = moved(with_rates(tmp_path, '{"score": 0.1}', tiny_train), tiny_train)
    assert far["score.bias"] == pytest.approx(1e-3, rel=1e-3)
    assert far["sides.bias"] == pytest.approx(1e-2, rel=1e-3)


def test_parameters_of_the_same_names_may_stand_in(tmp_path: Path, tiny_train: Images) -> None:
    """The whole network goes by an empty name; a copy's parameters have the factors of the network's."""
    spec = with_rates(tmp_path, '{"": 0.5, "score": 0.25}', tiny_train)
    network, copied = fresh(spec, 0).network(), fresh(spec, 0).network()
    factors = rate_factors(family_of(spec), network, copied.named_parameters())
    names = {own: name for name, own in copied.named_parameters()}
    found = {names[own]: factor for own, factor in factors.items()}
    assert found.keys() == set(names.values())
    assert {name for name, factor in found.items() if factor != 0.5} == {"network.score.weight", "network.score.bias"}
    assert found["network.score.bias"] == 0.25


@pytest.mark.parametrize(
    ("rates", "message"),
    [
        ('{"backbone": 0.1}', r"learning_rates names 'backbone', which the network does not have. It has stem, stem\.0"),
        ('{"stem": -1.0}', r"learning_rates gives 'stem' the factor -1\.0\. It has to be a number from 0"),
        ('{"stem": "slow"}', r"learning_rates gives 'stem' the factor 'slow'"),
    ],
)
def test_what_cannot_be_a_factor_is_refused(rates: str, message: str, tmp_path: Path, tiny_train: Images) -> None:
    """A training says so, and `sixfold inspect` before it."""
    spec = with_rates(tmp_path, rates, tiny_train)
    with pytest.raises(InputError, match=message):
        moved(spec, tiny_train)
    with pytest.raises(ValueError, match=f"1 of .* claims do not hold:\n- learning_rates_are_of_modules: .*{message}"):
        check_family(spec, tiny_train)
