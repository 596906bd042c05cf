"""The training loop: repeatable, resumable to the bit, counted exactly, and it learns."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import MappingProxyType

import pytest
import torch
from torch import Tensor, nn

from detection.checkpoint import Detector
from detection.data.augmentation import Augmentation
from detection.data.dataset import Images
from detection.family import Batch, Raw
from detection.training import Recipe, TrainingRecord, fit

CPU = torch.device("cpu")
SHORT = Recipe(epochs=4, batch_size=10, augmentation=Augmentation(flip_horizontal=0.0))
"""24 pictures: two batches of ten and one of four an epoch."""


class PowerCutError(Exception):
    """The training was interrupted."""


def train(detector: Detector, images: Images, recipe: Recipe = SHORT, seed: int = 0) -> tuple[Detector, TrainingRecord]:
    """A plain training."""
    return fit(detector, images, recipe, seed=seed, device=CPU)


@pytest.fixture(autouse=True)
def stored_every_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a training is given a folder for its state."""
    monkeypatch.setattr("detection.training.STORED_EVERY_EPOCHS", 1)


@pytest.fixture(scope="module")
def whole(tiny_detector: Detector, tiny_train: Images) -> tuple[Detector, TrainingRecord]:
    """An uninterrupted training by the short recipe."""
    return train(tiny_detector, tiny_train)


def test_pictures_are_counted_one_by_one(whole: tuple[Detector, TrainingRecord]) -> None:
    """4 epochs of 24 pictures in batches of 10: 96 pictures in 12 steps, the batch of four being counted as four."""
    record = whole[1]
    assert (record.images, record.steps, record.epochs, len(record.loss_per_epoch)) == (96, 12, 4, 4)
    assert record.train_s > 0


def test_the_loss_falls(tiny_detector: Detector, tiny_train: Images) -> None:
    """Sixty steps on two dozen pictures are enough to see it."""
    recipe = SHORT.model_copy(update={"epochs": 10, "batch_size": 4, "learning_rate": 5e-3})
    losses = train(tiny_detector, tiny_train, recipe)[1].loss_per_epoch
    assert all(math.isfinite(loss) for loss in losses)
    assert losses[-1] < 0.9 * losses[0]


def test_the_detector_given_stays_as_it_was(tiny_detector: Detector, tiny_train: Images) -> None:
    """Training gives another detector of the same spec and leaves its own input alone."""
    before = tiny_detector.digest
    after, _ = train(tiny_detector, tiny_train, SHORT.model_copy(update={"epochs": 1}))
    assert tiny_detector.digest == before != after.digest
    assert after.spec == tiny_detector.spec


def test_the_seed_decides_everything(whole: tuple[Detector, TrainingRecord], tiny_detector: Detector, tiny_train: Images) -> None:
    """Again with the same seed, whatever the global generators hold: the same weights bit for bit. Another seed: others."""
    torch.manual_seed(99)
    again, record = train(tiny_detector, tiny_train)
    other, _ = train(tiny_detector, tiny_train, seed=1)
    assert again.digest == whole[0].digest != other.digest
    assert record.loss_per_epoch == whole[1].loss_per_epoch


@pytest.mark.parametrize("stop_after", [1, 2, 3])
def test_a_resumed_training_is_the_whole_one(
    stop_after: int, whole: tuple[Detector, TrainingRecord], tiny_detector: Detector, tiny_train: Images, tmp_path: Path
) -> None:
    """Interrupted in any epoch and started again, it redoes only what was not stored and ends in the same weights, bit for bit."""
    seen: list[int] = []

    def watch(epoch: int, _: float) -> None:
        seen.append(epoch)
        if len(seen) == stop_after:
            raise PowerCutError

    with pytest.raises(PowerCutError):
        fit(tiny_detector, tiny_train, SHORT, seed=0, device=CPU, resume=tmp_path, on_epoch=watch)
    again, record = fit(tiny_detector, tiny_train, SHORT, seed=0, device=CPU, resume=tmp_path, on_epoch=watch)
    assert seen == [*range(1, stop_after + 1), *range(stop_after, 5)]
    assert again.digest == whole[0].digest
    assert record.loss_per_epoch == whole[1].loss_per_epoch
    assert (record.images, record.steps) == (whole[1].images, whole[1].steps)


def test_state_is_kept_as_often_as_asked(
    tiny_detector: Detector, tiny_train: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every second epoch but not after the last, one state at a time, and no half-written one beside it."""
    kept: list[tuple[int, list[str]]] = []

    def look(epoch: int, _: float) -> None:
        kept.append((epoch, sorted(path.name for path in tmp_path.iterdir())))

    monkeypatch.setattr("detection.training.STORED_EVERY_EPOCHS", 2)
    recipe = SHORT.model_copy(update={"epochs": 5, "batch_size": 24})
    fit(tiny_detector, tiny_train, recipe, seed=0, device=CPU, resume=tmp_path, on_epoch=look)
    two, four = (["epoch-2.safetensors", "state.json"], ["epoch-4.safetensors", "state.json"])
    assert kept == [(1, []), (2, []), (3, two), (4, two), (5, four)]
    assert json.loads((tmp_path / "state.json").read_text())["epoch"] == 4


def test_what_a_crash_left_half_written_is_ignored(
    whole: tuple[Detector, TrainingRecord], tiny_detector: Detector, tiny_train: Images, tmp_path: Path
) -> None:
    """Without state.json there is no state: weights or a partial manifest alone do not count, and the training starts afresh."""
    (tmp_path / "epoch-2.safetensors").write_bytes(b"half")
    (tmp_path / "state.partial").write_text('{"epoch": 2')
    again, _ = fit(tiny_detector, tiny_train, SHORT, seed=0, device=CPU, resume=tmp_path)
    assert again.digest == whole[0].digest


def test_a_loss_that_is_no_number_stops_the_training(tiny_detector: Detector, tiny_train: Images) -> None:
    """A NaN in the weights is found in the first epoch, and the message says what to change."""
    poisoned = dict(tiny_detector.weights)
    poisoned["heads.0.score.bias"] = torch.full_like(poisoned["heads.0.score.bias"], math.nan)
    with pytest.raises(FloatingPointError, match="nan in epoch 1: lower `learning_rate`"):
        train(Detector(tiny_detector.spec, MappingProxyType(poisoned)), tiny_train)


class Adapted:
    """The labels' loss plus a bowl around 1 for a number of its own."""

    def __init__(self) -> None:
        self.number = nn.Parameter(torch.zeros(1))

    def __call__(self, network: nn.Module, raw: Raw, batch: Batch, loss: Tensor, *, half: bool) -> Tensor:
        return loss + 100 * (self.number - 1).square().sum()

    def parameters(self) -> list[nn.Parameter]:
        return [self.number]


def test_parameters_of_the_objective_are_trained_along(tiny_detector: Detector, tiny_train: Images) -> None:
    """A feature adapter, say: its parameter moves towards lower loss, and is no part of the detector."""
    objective = Adapted()
    after, _ = fit(tiny_detector, tiny_train, SHORT.model_copy(update={"epochs": 1}), seed=0, device=CPU, objective=objective)
    assert 0 < objective.number.item() < 1
    assert set(after.weights) == set(tiny_detector.weights)


def test_their_state_is_resumed_too(tiny_detector: Detector, tiny_train: Images, tmp_path: Path) -> None:
    """An interrupted training with such an objective ends with the same number, to the bit, from a fresh one."""
    expected = Adapted()
    fit(tiny_detector, tiny_train, SHORT, seed=0, device=CPU, objective=expected)

    def stop(epoch: int, _: float) -> None:
        if epoch == 3:
            raise PowerCutError

    with pytest.raises(PowerCutError):
        fit(tiny_detector, tiny_train, SHORT, seed=0, device=CPU, objective=Adapted(), resume=tmp_path, on_epoch=stop)
    found = Adapted()
    fit(tiny_detector, tiny_train, SHORT, seed=0, device=CPU, objective=found, resume=tmp_path)
    assert found.number.item() == expected.number.item()


def test_bfloat16_trains_float32_weights(tiny_detector: Detector, tiny_train: Images) -> None:
    """Only the convolutions of training are shortened: what comes back is float32, finite, and not what float32 gives."""
    one = SHORT.model_copy(update={"epochs": 1})
    short, record = train(tiny_detector, tiny_train, one.model_copy(update={"precision": "bfloat16"}))
    assert math.isfinite(record.loss_per_epoch[0])
    assert {tensor.dtype for tensor in short.weights.values()} == {torch.float32, torch.int64}
    assert all(tensor.isfinite().all() for tensor in short.weights.values())
    assert short.digest != train(tiny_detector, tiny_train, one)[0].digest


def test_without_averaging_the_last_weights_come_back(tiny_detector: Detector, tiny_train: Images) -> None:
    """One step with an average that forgets at once moves no weight further than Adam can: by the learning rate.

    Each number moves by at most the rate (Adam's first step is sign-like) plus decay, and most move.
    """
    recipe = SHORT.model_copy(update={"epochs": 1, "batch_size": 24, "ema_decay": 0.0, "learning_rate": 1e-3, "weight_decay": 0.0})
    after, _ = train(tiny_detector, tiny_train, recipe)
    moves = [
        (after.weights[name] - tensor).abs() for name, tensor in tiny_detector.weights.items() if name.endswith(("weight", "bias"))
    ]
    assert max(move.max().item() for move in moves) == pytest.approx(1e-3, rel=0.01)
    slower, _ = train(tiny_detector, tiny_train, recipe.model_copy(update={"learning_rate": 1e-4}))
    assert max(
        (slower.weights[name] - tensor).abs().max().item()
        for name, tensor in tiny_detector.weights.items()
        if name.endswith(("weight", "bias"))
    ) == pytest.approx(1e-4, rel=0.05)
