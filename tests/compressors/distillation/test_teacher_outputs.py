"""The teacher's outputs are the same whether computed for a batch or remembered, and remembered only where that is true."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import compressors.distillation.teacher_outputs
from compressors.distillation import Distillation, teach
from compressors.distillation.teacher_outputs import CachedOutputs, Computed, flip_states
from detection.checkpoint import Detector, fresh
from detection.data.augmentation import Augmentation, make_batch
from detection.data.dataset import Images
from detection.frozen import InputError
from detection.training import Recipe, fit

CPU = torch.device("cpu")
BOTH_FLIPS = Augmentation(flip_horizontal=0.5, flip_vertical=0.5, scale=0, brightness=0, contrast=0, colour=0)
RECIPE = Recipe(epochs=6, batch_size=8, augmentation=BOTH_FLIPS)


def test_the_ways_in_which_pictures_are_flipped() -> None:
    """Two sides where a flip may happen or not, one where it always or never does; both at once make four."""
    states = [(state.flip_horizontal, state.flip_vertical) for state in flip_states(BOTH_FLIPS)]
    assert states == [(0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (1.0, 1.0)]
    one = BOTH_FLIPS.model_copy(update={"flip_horizontal": 1.0, "flip_vertical": 0.0})
    assert flip_states(one) == (one,)


@pytest.mark.parametrize("name", ["scale", "brightness", "contrast", "colour", "mosaic"])
def test_pictures_that_never_come_back_are_refused(name: str) -> None:
    """The message names what makes them new, and what to set."""
    asked = "Set scale, brightness, contrast, colour, mosaic to 0 there, or cache to false"
    with pytest.raises(ValueError, match=rf"augmentation has {name} 0.1. {asked}"):
        flip_states(BOTH_FLIPS.model_copy(update={name: 0.1}))


def test_what_is_remembered_is_what_would_be_computed(tiny_detector: Detector, tiny_train: Images) -> None:
    """Shuffled batches of pictures flipped at random get the same outputs to rounding, and each view was asked about once."""
    family, network = tiny_detector.family, tiny_detector.network()
    computed, remembered = Computed(family, network), CachedOutputs(family, network, tiny_train, RECIPE)
    rng = np.random.default_rng(3)
    for _ in range(6):
        batch = make_batch(tiny_train, rng.permutation(len(tiny_train))[:7], BOTH_FLIPS, rng)
        found, expected = remembered(batch, half=False), computed(batch, half=False)
        torch.testing.assert_close(found.score_logits, expected.score_logits, rtol=0, atol=1e-5)
        torch.testing.assert_close(found.side_logits, expected.side_logits, rtol=0, atol=1e-5)
        torch.testing.assert_close(found.features, expected.features, rtol=0, atol=1e-5)
        assert not found.score_logits.requires_grad
    assert remembered.forwards == 4 * len(tiny_train)
    assert computed.forwards == 6 * 7


def test_memory_keeps_the_precision_of_the_network(tiny_detector: Detector, tiny_train: Images) -> None:
    """bfloat16 logits are kept as such: half the bytes and no rounding more."""
    batch = make_batch(tiny_train, np.arange(4), None, np.random.default_rng(0))
    outputs = CachedOutputs(tiny_detector.family, tiny_detector.network(), tiny_train, RECIPE)(batch, half=True)
    assert outputs.score_logits.dtype == outputs.features[0].dtype == torch.bfloat16


def test_a_picture_never_seen_has_no_outputs(tiny_detector: Detector, tiny_train: Images) -> None:
    """A brighter picture is another one: nothing that was said of its original is handed out."""
    batch = make_batch(tiny_train, np.arange(4), None, np.random.default_rng(0))
    with pytest.raises(KeyError):
        CachedOutputs(tiny_detector.family, tiny_detector.network(), tiny_train, RECIPE)(
            batch._replace(images=batch.images * 0.9), half=False
        )


def test_more_than_the_memory_holds_is_refused(
    tiny_detector: Detector, tiny_train: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message says how much it would be, what is allowed, and what to set; by hand 96 views of 126 points."""
    monkeypatch.setattr(compressors.distillation.teacher_outputs, "MEMORY_LIMIT_BYTES", 2**20)
    per_view = 4 * 126 * (10 + 16 + 16)  # float32; ten classes, four sides of four bins, sixteen channels
    batch = make_batch(tiny_train, np.arange(4), None, np.random.default_rng(0))
    with pytest.raises(
        InputError, match=rf"24 pictures, each flipped in 4 ways, take {96 * per_view / 2**30:.1f} GiB.*cache to false"
    ):
        CachedOutputs(tiny_detector.family, tiny_detector.network(), tiny_train, RECIPE)(batch, half=False)
    monkeypatch.setattr(compressors.distillation.teacher_outputs, "MEMORY_LIMIT_BYTES", 96 * per_view)
    CachedOutputs(tiny_detector.family, tiny_detector.network(), tiny_train, RECIPE)(batch, half=False)


def test_a_training_with_memory_is_the_training_without(tiny_detector: Detector, tiny_train: Images) -> None:
    """Six epochs: the losses agree to rounding, and the teacher is asked 4 instead of 6 times about each picture, as planned."""
    student = fresh(tiny_detector.spec, 5)
    losses, forwards = [], []
    for config in (Distillation(), Distillation(cache=True)):
        objective = teach(config, tiny_detector, student, CPU, train=tiny_train, recipe=RECIPE)
        _, record = fit(student, tiny_train, RECIPE, seed=0, device=CPU, objective=objective)
        losses.append(record.loss_per_epoch)
        forwards.append(objective.teacher_forwards)
        assert objective.teacher_forwards == config.teacher_forwards(RECIPE, len(tiny_train))
    assert forwards == [6 * 24, 4 * 24]
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-3)


def test_a_short_training_does_not_look_ahead(tiny_detector: Detector, tiny_train: Images) -> None:
    """Three epochs meet at most three of a picture's four views: asking for all would cost more than it saves."""
    short = RECIPE.model_copy(update={"epochs": 3})
    config = Distillation(cache=True)
    assert type(teach(config, tiny_detector, tiny_detector, CPU, train=tiny_train, recipe=short).outputs) is Computed
    assert config.teacher_forwards(short, 24) == 3 * 24
    assert isinstance(teach(config, tiny_detector, tiny_detector, CPU, train=tiny_train, recipe=RECIPE).outputs, CachedOutputs)


def test_memory_without_pictures_is_refused(tiny_detector: Detector) -> None:
    """Where a training keeps its pictures to itself nothing can be looked up."""
    with pytest.raises(ValueError, match="cache: needs the pictures and the recipe"):
        teach(Distillation(cache=True), tiny_detector, tiny_detector, CPU)
