"""Mosaics: four pictures in one, boxes where their pixels are, only when asked for, and not at the end of a training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from detection import training
from detection.boxes import LETTERBOX_GREY
from detection.checkpoint import Detector
from detection.data.augmentation import LEAST_VISIBLE, MOSAIC_ZOOM, Augmentation, _mosaic, _Picture, batches, make_batch
from detection.data.dataset import Images
from detection.training import Recipe, fit

HEIGHT, WIDTH = 64, 96
STILL = Augmentation(flip_horizontal=0.0, scale=0.0, brightness=0.0, contrast=0.0, colour=0.0, mosaic=1.0)
"""Mosaics, and nothing else."""
MOVED = STILL.model_copy(update={"flip_horizontal": 0.5, "flip_vertical": 0.5, "scale": 0.3})
COLOURS = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255))
"""Of the objects, by label."""
FIRST_BOXES = [
    [0.0, 17.4934, 9.7391, 52.5521],
    [7.2414, 8.7671, 17.9979, 26.6945],
    [25.4880, 0.0, 41.2606, 22.4679],
    [7.6446, 10.9459, 24.5332, 35.0725],
]
"""Of four pictures, by commit bacdf61, where there were no mosaics."""


def picture(label: int, box: tuple[int, int, int, int], ground: int = 0) -> _Picture:
    """A filled rectangle on an even ground, in the colour of its label."""
    pixels = np.full((HEIGHT, WIDTH, 3), ground, np.uint8)
    x1, y1, x2, y2 = box
    pixels[y1:y2, x1:x2] = COLOURS[label]
    return _Picture(pixels, np.array([box], np.float32), np.array([label]))


def seen(pixels: NDArray[np.uint8], label: int) -> NDArray[np.bool_]:
    """Where the colour of a label covers more than half of a pixel; the grey where no picture is covers less."""
    return np.asarray(((pixels > 127) == (np.array(COLOURS[label]) > 127)).all(-1))


def test_boxes_follow_their_pixels() -> None:
    """Of each object the box is what can be seen, within a pixel; without a box is only what is mostly cut off."""
    kept, boxes_px = 0, [(30, 20, 60, 40), (5, 5, 25, 35), (60, 30, 92, 60), (40, 40, 70, 60)]
    for seed in range(60):
        found = _mosaic([picture(label, box) for label, box in enumerate(boxes_px)], MOVED, np.random.default_rng(seed))
        boxes = dict(zip(found.labels.tolist(), found.boxes_xyxy_px, strict=True))
        kept += len(boxes)
        for label, (x1, y1, x2, y2) in enumerate(boxes_px):
            rows, columns = np.nonzero(seen(found.pixels, label))
            if label in boxes:
                corners = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
                np.testing.assert_allclose(boxes[label], corners, atol=1.0)
            else:
                assert len(rows) < (LEAST_VISIBLE + 0.05) * (x2 - x1) * (y2 - y1) * 1.3**2
    assert 100 < kept < 240, "many are whole, some cut off"


def test_four_pictures_meet_in_a_point() -> None:
    """Each has its corner; they meet between a quarter and three quarters of either side, and not always in the same place."""
    points = set()
    for seed in range(20):
        parts = [picture(label, (0, 0, WIDTH, HEIGHT)) for label in range(4)]
        pixels = _mosaic(parts, STILL, np.random.default_rng(seed)).pixels
        grey = (pixels == LETTERBOX_GREY).all(-1)
        left, top = seen(pixels, 0) | seen(pixels, 2), seen(pixels, 0) | seen(pixels, 1)
        x, y = np.nonzero(left.any(0))[0].max() + 1, np.nonzero(top.any(1))[0].max() + 1
        assert WIDTH / 4 - 1 <= x <= WIDTH * 3 / 4
        assert HEIGHT / 4 - 1 <= y <= HEIGHT * 3 / 4
        for label, corner in enumerate((np.s_[:y, :x], np.s_[:y, x:], np.s_[y:, :x], np.s_[y:, x:])):
            assert (seen(pixels, label) | grey)[corner].mean() > 0.95, "smooth edges against the grey are neither"
            assert seen(pixels, label)[corner].any()
        points.add((x, y))
    assert len(points) > 15


def test_pictures_are_drawn_between_half_and_own_size() -> None:
    """A box of 12 x 8 px that is not cut has between half of its sides and all of them, the same share of both."""
    zooms = []
    for seed in range(60):
        found = _mosaic([picture(0, (42, 28, 54, 36))] * 4, STILL, np.random.default_rng(seed))
        sides = found.boxes_xyxy_px[:, 2:] - found.boxes_xyxy_px[:, :2]
        zooms += [side / 12 for side, other in sides if abs(side / 12 - other / 8) < 1e-4]
    assert MOSAIC_ZOOM <= min(zooms) < 0.52
    assert 0.98 < max(zooms) <= 1.0001


def test_pictures_without_boxes_are_fine(tiny_train: Images) -> None:
    """Four of them are one more picture without boxes; those of the data stay as they were."""
    empty = replace(
        tiny_train,
        boxes_xyxy_px=(np.zeros((0, 4), np.float32),) * len(tiny_train),
        labels=(np.zeros(0, np.int64),) * len(tiny_train),
    )
    before = tiny_train.pixels[:4].copy()
    batch = make_batch(empty, np.arange(4), Augmentation(mosaic=1.0), np.random.default_rng(0))
    assert not batch.present.any()
    assert (batch.images.shape, batch.labels.dtype) == ((4, 3, 64, 96), torch.int64)
    np.testing.assert_array_equal(tiny_train.pixels[:4], before)


def test_as_many_become_mosaics_as_asked(tiny_train: Images) -> None:
    """At 0.5 half of the pictures, each by its own draw; the rest are as they were."""
    rows = np.tile(np.arange(len(tiny_train)), 10)
    how = STILL.model_copy(update={"mosaic": 0.5})
    batch = make_batch(tiny_train, rows, how, np.random.default_rng(0))
    whole = torch.from_numpy(tiny_train.pixels[rows]).permute(0, 3, 1, 2) / 255
    same = (batch.images == whole).flatten(1).all(1).float()
    assert 0.4 < same.mean() < 0.6
    assert len(set(same.view(10, -1).sum(0).tolist())) > 1


def test_without_mosaics_nothing_is_drawn_for_them(tiny_train: Images) -> None:
    """Each picture moves the generator on by flips (2), zoom, shift (2), contrast, colour (3) and brightness, and no more."""
    used, by_hand = np.random.default_rng(7), np.random.default_rng(7)
    make_batch(tiny_train, np.arange(4), Augmentation(), used)
    by_hand.random(4 * 10)
    assert used.random() == by_hand.random()


def test_without_mosaics_batches_are_those_of_before(tiny_train: Images) -> None:
    """Means of four pictures and their first boxes, as the code before there were mosaics gave them."""
    batch = make_batch(tiny_train, np.arange(4), Augmentation(flip_vertical=0.5), np.random.default_rng(7))
    np.testing.assert_allclose(batch.images.mean((1, 2, 3)), [0.1151, 0.3777, 0.4813, 0.3106], atol=1e-4)
    np.testing.assert_allclose(batch.boxes_xyxy_px[:, 0], FIRST_BOXES, atol=1e-3)


def test_a_recipe_without_mosaics_is_written_as_before() -> None:
    """Node keys hold it: what is stored stays findable. What is set is written, and read again."""
    usual = {"flip_horizontal": 0.5, "flip_vertical": 0.0, "scale": 0.25, "brightness": 0.2, "contrast": 0.2, "colour": 0.05}
    assert Recipe().model_dump(mode="json")["augmentation"] == usual
    asked = Augmentation(mosaic=0.5, mosaic_until=0.9)
    assert asked.model_dump() == usual | {"mosaic": 0.5, "mosaic_until": 0.9}
    assert Augmentation.model_validate_json(asked.model_dump_json()) == asked


@pytest.mark.parametrize(("until", "expected"), [(0.8, [1, 1, 1, 1, 0]), (1.0, [1] * 5), (0.3, [1, 1, 0, 0, 0])])
def test_a_training_ends_without_mosaics(
    until: float, expected: list[float], tiny_detector: Detector, tiny_train: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An epoch that begins when that share of the training is done has none."""
    asked = []

    def noted(images: Images, rows: NDArray[np.int64], size: int, how: Augmentation, rng: np.random.Generator) -> object:
        asked.append(how.mosaic)
        return batches(images, rows[:4], size, how, rng)

    monkeypatch.setattr(training, "batches", noted)
    recipe = Recipe(epochs=5, augmentation=Augmentation(mosaic=1.0, mosaic_until=until))
    fit(tiny_detector, tiny_train, recipe, seed=0, device=torch.device("cpu"))
    assert asked == expected


def test_a_resumed_training_draws_the_same_mosaics(
    tiny_detector: Detector, tiny_train: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupted in the third epoch of five and continued, it ends in the weights of the whole one."""
    recipe = Recipe(epochs=5, batch_size=12, augmentation=Augmentation(mosaic=0.7, mosaic_until=0.6))
    device = torch.device("cpu")
    monkeypatch.setattr(training, "STORED_EVERY_EPOCHS", 1)

    def cut(epoch: int, _: float) -> None:
        if epoch == 3:
            raise InterruptedError

    whole, _ = fit(tiny_detector, tiny_train, recipe, seed=0, device=device)
    with pytest.raises(InterruptedError):
        fit(tiny_detector, tiny_train, recipe, seed=0, device=device, resume=tmp_path, on_epoch=cut)
    again, _ = fit(tiny_detector, tiny_train, recipe, seed=0, device=device, resume=tmp_path)
    assert again.digest == whole.digest
    plain, _ = fit(tiny_detector, tiny_train, recipe.model_copy(update={"augmentation": Augmentation()}), seed=0, device=device)
    assert plain.digest != whole.digest
