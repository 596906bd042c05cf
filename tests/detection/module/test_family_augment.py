"""A user's own augmentation: in trainings, after ours, and drawn by the generator that decides the training."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch

from compressors.nas.group_space import group_space
from compressors.nas.supernet import Supernet, group_part
from detection.brought import ModuleDetector
from detection.checkpoint import Detector, fresh
from detection.data.dataset import Images
from detection.spec import Spec
from detection.testing import check_family
from detection.training import Recipe, fit
from flows.sweep.given_network import network_spec
from tests.places import ROOT

CODE = ROOT / "tests/module_detector/own_points.py"
NOISE = """
    def augment(self, batch, rng):
        noise = torch.randn(batch.images.shape) * rng.uniform(0.1, 0.2)
        return batch._replace(images=(batch.images + noise).clamp(0, 1))
"""


def with_augment(folder: Path, function: str, images: Images) -> Spec:
    """The tiny user's detector for these pictures, with this function."""
    (folder / CODE.name).write_text(CODE.read_text().replace('    suppress = "none"\n', function))
    size = (images.pixels.shape[1], images.pixels.shape[2])
    return network_spec(ModuleDetector(family="own_points:set_family", spec={"width": 8}), folder, size, images.classes)


def trained(spec: Spec, images: Images) -> Detector:
    """After one epoch of three steps."""
    return fit(fresh(spec, 0), images, Recipe(epochs=1, batch_size=8), seed=0, device=torch.device("cpu"))[0]


def test_its_draws_are_those_of_the_seed(tmp_path: Path, tiny_train: Images) -> None:
    """From numpy's generator and from torch: the same training twice, other than without, and torch's own generator stays."""
    spec = with_augment(tmp_path, NOISE, tiny_train)
    first, state = trained(spec, tiny_train), torch.random.get_rng_state()
    torch.rand(1)
    second = trained(spec, tiny_train)
    assert first.digest == second.digest
    torch.random.set_rng_state(state)
    trained(spec, tiny_train)
    assert torch.equal(torch.random.get_rng_state(), state)
    without = trained(with_augment(tmp_path, "    pass\n", tiny_train), tiny_train)
    assert not torch.equal(first.weights["network.score.bias"], without.weights["network.score.bias"])
    assert "augment_is_drawn_by_the_generator" in check_family(spec, tiny_train)


def test_what_a_network_draws_follows_the_seed(tmp_path: Path, tiny_train: Images) -> None:
    """Dropout in a forward, in a training and in a supernet: the same twice, another seed another; torch's own generator stays."""
    dropping = "maps = F.dropout(self.deep(self.middle(self.stem(images))), 0.3, self.training)"
    source = CODE.read_text()
    plain = "maps = self.deep(self.middle(self.stem(images)))"
    assert plain in source
    (tmp_path / CODE.name).write_text(source.replace(plain, dropping))
    size = (tiny_train.pixels.shape[1], tiny_train.pixels.shape[2])
    asked = ModuleDetector(family="own_points:family", spec={"width": 8})
    start = fresh(network_spec(asked, tmp_path, size, tiny_train.classes), 0)
    recipe, cpu, space = Recipe(epochs=1, batch_size=8), torch.device("cpu"), group_space(start.spec, (1.0,), 2)

    def both(seed: int) -> tuple[str, torch.Tensor]:
        torch.rand(1)
        state = torch.random.get_rng_state()
        digest = fit(start, tiny_train, recipe, seed=seed, device=cpu)[0].digest
        supernet = Supernet(start, cpu, partial(group_part, space))
        supernet.train(space, tiny_train, recipe, 1, seed)
        assert torch.equal(torch.random.get_rng_state(), state)
        return digest, supernet.weights["network.score.bias"].detach()

    (first, weights), (second, others) = both(0), both(0)
    assert first == second
    assert torch.equal(weights, others)
    assert both(1)[0] != first


BROKEN = {
    "return batch.images": "augment gives a Tensor; give batch._replace",
    "return batch._replace(images=batch.images[:1])": "augment gives images \\(1, 3, 64, 96\\), not \\(2, 3, 64, 96\\)",
    "return batch._replace(images=batch.images * 255)": "augment gives images outside",
    "return batch._replace(boxes_xyxy_px=batch.boxes_xyxy_px[:, :0])": "augment gives boxes without labels",
    "import random; return batch._replace(images=batch.images * random.random())": "augment draws elsewhere than",
}


@pytest.mark.parametrize("body", BROKEN)
def test_what_it_may_not_give_is_named(body: str, tmp_path: Path, tiny_train: Images) -> None:
    """`sixfold inspect` says what is wrong with the batch."""
    spec = with_augment(tmp_path, f"    def augment(self, batch, rng):\n        {body}\n", tiny_train)
    with pytest.raises(ValueError, match=f"augment_is_drawn_by_the_generator: {BROKEN[body]}"):
        check_family(spec, tiny_train)
