"""Augmentation moves boxes and pixels together, and draws the same for the same generator."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from detection.boxes import Fit
from detection.data.augmentation import Augmentation, _move_boxes, make_batch
from detection.data.dataset import Images
from detection.family import Batch

HEIGHT, WIDTH = 64, 96
ALIKE = Augmentation(flip_horizontal=0.0, flip_vertical=0.0, scale=0.0, brightness=0.0, contrast=0.0, colour=0.0)
"""Nothing happens."""
MOVED = ALIKE.model_copy(update={"flip_horizontal": 0.5, "flip_vertical": 0.5, "scale": 0.3})
"""Everything that moves, nothing that recolours."""
RED, GREEN = 0, 1


def scene(*objects: tuple[int, tuple[int, int, int, int]]) -> Images:
    """One picture: on black, a filled rectangle in its own channel for each (label, box)."""
    pixels = np.zeros((1, HEIGHT, WIDTH, 3), np.uint8)
    for label, (x1, y1, x2, y2) in objects:
        pixels[0, y1:y2, x1:x2, label] = 255
    return Images(
        split="train",
        pixels=pixels,
        boxes_xyxy_px=(np.array([box for _, box in objects], np.float32).reshape(-1, 4),),
        labels=(np.array([label for label, _ in objects], np.int64),),
        picture_ids=(1,),
        fits=(Fit(1.0, 1.0, 0, 0),),
        classes=("red", "green", "blue"),
        ground_truth={},
        digest="0" * 64,
    )


def augmented(images: Images, how: Augmentation | None, seed: int = 0) -> Batch:
    """The only picture, as a batch of one."""
    return make_batch(images, np.array([0]), how, np.random.default_rng(seed))


def found_box(batch: Batch, channel: int) -> NDArray[np.float64]:
    """Where the rectangle of one channel is: its outermost pixels that are more than half covered (grey padding is less)."""
    covered = batch.images[0, channel].numpy() > 0.5
    rows, columns = np.nonzero(covered)
    return np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1], np.float64)


@pytest.mark.parametrize(
    ("flips", "expected"),
    [
        ((0.0, 0.0), (10, 20, 30, 50)),
        ((1.0, 0.0), (66, 20, 86, 50)),  # 96 - 30, 96 - 10
        ((0.0, 1.0), (10, 14, 30, 44)),  # 64 - 50, 64 - 20
        ((1.0, 1.0), (66, 14, 86, 44)),
    ],
)
def test_flips_by_hand(flips: tuple[float, float], expected: tuple[int, int, int, int]) -> None:
    """Boxes go to the mirrored place, exactly, and so does every pixel."""
    how = ALIKE.model_copy(update={"flip_horizontal": flips[0], "flip_vertical": flips[1]})
    batch = augmented(scene((RED, (10, 20, 30, 50))), how)
    assert batch.boxes_xyxy_px[0].tolist() == [list(expected)]
    wanted = torch.zeros(3, HEIGHT, WIDTH)
    wanted[RED, expected[1] : expected[3], expected[0] : expected[2]] = 1.0
    torch.testing.assert_close(batch.images[0], wanted)


@pytest.mark.parametrize("seed", range(30))
def test_the_box_stays_around_its_pixels(seed: int) -> None:
    """After any flip, zoom and shift, the rectangle is found in the picture where its box is, within a pixel."""
    batch = augmented(scene((RED, (30, 20, 60, 40))), MOVED, seed)
    np.testing.assert_allclose(batch.boxes_xyxy_px[0, 0].numpy(), found_box(batch, RED), atol=1.0)


def test_boxes_are_not_off_by_half_a_pixel() -> None:
    """A round spot in the middle of its box stays in the middle to a twentieth of a pixel, in every draw where it is whole.

    Pixels are counted by their centres in OpenCV and boxes by their edges: mixing them up costs 1 px in a flip.
    """
    images, gaps = scene((RED, (36, 20, 60, 44))), []
    y, x = np.indices((HEIGHT, WIDTH)) + 0.5
    images.pixels[0, ..., RED] = (255 * np.exp(-((x - 48) ** 2 + (y - 32) ** 2) / 18)).astype(np.uint8)
    for seed in range(60):
        batch = augmented(images, MOVED, seed)
        x1, y1, x2, y2 = batch.boxes_xyxy_px[0, 0].tolist()
        if min(x1, y1, WIDTH - x2, HEIGHT - y2) > 1:
            spot = batch.images[0, RED].numpy() * ((x > x1) & (x < x2) & (y > y1) & (y < y2))
            gaps.append([(x * spot).sum() / spot.sum() - (x1 + x2) / 2, (y * spot).sum() / spot.sum() - (y1 + y2) / 2])
    assert len(gaps) > 10
    np.testing.assert_allclose(gaps, 0.0, atol=0.05)


def test_labels_stay_with_their_boxes() -> None:
    """One object near each side: in every draw what is left has the colour of its label, also when the first one is dropped."""
    counts = set()
    for seed in range(60):
        batch = augmented(scene((RED, (2, 20, 14, 40)), (GREEN, (82, 20, 94, 40))), MOVED.model_copy(update={"scale": 0.8}), seed)
        labels = batch.labels[0][batch.present[0]].tolist()
        counts.add(tuple(labels))
        for label, box in zip(labels, batch.boxes_xyxy_px[0], strict=False):
            np.testing.assert_allclose(box.numpy(), found_box(batch, label), atol=1.0)
    assert {(RED, GREEN), (RED,), (GREEN,)} <= counts


@pytest.mark.parametrize("seed", range(20))
def test_boxes_stay_inside_the_picture(seed: int) -> None:
    """Strong zooms and shifts leave no side outside and no box without area."""
    how = MOVED.model_copy(update={"scale": 0.9})
    batch = augmented(scene((0, (0, 0, 40, 30)), (1, (50, 30, 96, 64)), (2, (30, 20, 60, 40))), how, seed)
    boxes = batch.boxes_xyxy_px[0][batch.present[0]]
    assert (boxes >= 0).all()
    assert (boxes <= torch.tensor([WIDTH, HEIGHT, WIDTH, HEIGHT])).all()
    assert (boxes[:, 2:] > boxes[:, :2]).all()


@pytest.mark.parametrize(
    ("shift_px", "expected"), [(-8.0, []), (-7.0, [[0.0, 2.0, 3.0, 12.0]]), (95.0, []), (91.0, [[91.0, 2.0, 96.0, 12.0]])]
)
def test_what_is_mostly_outside_is_dropped(shift_px: float, expected: list[list[float]]) -> None:
    """A box 10 px wide shifted until 2, 3, 1 or 5 px are left: a quarter must be visible, and is cut at the border."""
    move = np.array([[1.0, 0.0, shift_px], [0.0, 1.0, 2.0]])
    boxes, kept = _move_boxes(np.array([[0, 0, 10, 10]], np.float32), move, (HEIGHT, WIDTH))
    assert boxes.tolist() == expected
    assert kept.tolist() == [bool(expected)]


def test_without_augmentation_pixels_and_boxes_are_as_stored() -> None:
    """Only scaled to [0, 1] and put in the order (B, 3, height, width)."""
    images = scene((RED, (10, 20, 30, 50)))
    for batch in (augmented(images, None), augmented(images, ALIKE)):
        assert batch.images.shape == (1, 3, HEIGHT, WIDTH)
        np.testing.assert_allclose(batch.images[0].permute(1, 2, 0).numpy() * 255, images.pixels[0], atol=1e-4)
        np.testing.assert_array_equal(batch.boxes_xyxy_px[0].numpy(), images.boxes_xyxy_px[0])


def test_colours_change_and_boxes_do_not() -> None:
    """Light and contrast move no box; the pixels stay in [0, 1], and differ from picture to picture."""
    images = scene((RED, (10, 20, 30, 50)))
    how = ALIKE.model_copy(update={"brightness": 0.2, "contrast": 0.2, "colour": 0.05})
    batches = [augmented(images, how, seed) for seed in range(8)]
    for batch in batches:
        np.testing.assert_array_equal(batch.boxes_xyxy_px[0].numpy(), images.boxes_xyxy_px[0])
        assert batch.images.min() >= 0
        assert batch.images.max() <= 1
    assert len({round(batch.images.mean().item(), 4) for batch in batches}) == 8


def test_brightness_is_added_by_hand() -> None:
    """Without contrast and colour, every channel of mid-grey moves by one amount of at most a fifth of the range."""
    images = scene()
    images.pixels[:] = 128
    how = ALIKE.model_copy(update={"brightness": 0.2})
    moves = np.array([np.unique(augmented(images, how, seed).images.numpy() * 255) for seed in range(20)]) - 128
    assert moves.shape == (20, 1)
    assert moves.min() < -10
    assert moves.max() > 10
    assert np.abs(moves).max() <= 51


def bands(*levels: int) -> Images:
    """One grey picture in upright bands of these levels, all equally wide."""
    images = scene()
    images.pixels[:] = np.repeat(levels, WIDTH // len(levels))[None, :, None]
    return images


def levels_in(batch: Batch, count: int) -> NDArray[np.float64]:
    """What became of so many bands: (band, channel), each in one colour throughout."""
    colours = np.stack(np.split(batch.images[0].numpy().astype(np.float64) * 255, count, axis=2)).transpose(0, 2, 3, 1)
    colours = colours.reshape(count, -1, 3)
    assert (np.ptp(colours, axis=1) == 0).all()
    return np.asarray(colours[:, 0])


def test_contrast_spreads_about_the_middle() -> None:
    """By hand: of 64, 128 and 192 the middle stays and the ends move apart or together by up to a fifth of 64, both alike.

    All three channels are equal, and a level is cut to a whole number.
    """
    spreads, how = [], ALIKE.model_copy(update={"contrast": 0.2})
    for seed in range(30):
        found = levels_in(augmented(bands(64, 128, 192), how, seed), 3)
        assert (np.ptp(found, axis=1) == 0).all()
        dark, middle, light = found[:, 0]
        assert middle == pytest.approx(128)
        assert light - 128 == pytest.approx(128 - dark, abs=1.01)
        spreads.append(light - 128)
    assert 64 * 0.8 - 1 <= min(spreads) < 55
    assert 73 < max(spreads) <= 64 * 1.2


def test_colour_tints_the_channels_apart() -> None:
    """By hand: 228 lies 100 above the middle, so each channel moves by up to 5 either way, by itself; the middle stays grey."""
    tints, how = [], ALIKE.model_copy(update={"colour": 0.05})
    for seed in range(30):
        middle, light = levels_in(augmented(bands(128, 228), how, seed), 2)
        assert middle == pytest.approx(128)
        tints.append(light - 228)
    assert np.abs(tints).max() <= 5 + 1.01
    assert (np.min(tints, axis=0) < -3).all()
    assert (np.max(tints, axis=0) > 3).all()
    assert np.abs(np.corrcoef(np.transpose(tints)) - np.eye(3)).max() < 0.6


def test_pictures_are_zoomed_in_and_out() -> None:
    """With a scale of .25, by 4/5 to 5/4, as often in as out, width and height alike; the shift is an eighth of a side at most."""
    images, how = scene((RED, (44, 28, 52, 36))), ALIKE.model_copy(update={"scale": 0.25})
    boxes = np.array([augmented(images, how, seed).boxes_xyxy_px[0, 0].tolist() for seed in range(200)])
    zooms = (boxes[:, 2:] - boxes[:, :2]) / 8
    np.testing.assert_allclose(zooms[:, 0], zooms[:, 1], rtol=1e-4)
    assert 0.8 <= zooms.min() < 0.82
    assert 1.22 < zooms.max() <= 1.25
    assert 80 < (zooms[:, 0] > 1).sum() < 120
    shifts = ((boxes[:, 2:] + boxes[:, :2]) / 2 - (48, 32)) / (WIDTH, HEIGHT)
    assert np.abs(shifts).max() <= 0.125
    assert (shifts.min(0) < -0.115).all()
    assert (shifts.max(0) > 0.115).all()
    assert abs(np.corrcoef(shifts.T)[0, 1]) < 0.2


def test_shorter_rows_are_padded() -> None:
    """Two pictures with two and no boxes: room for two, the second's marked as absent."""
    two, none = scene((0, (0, 0, 10, 10)), (1, (20, 20, 30, 30))), scene()
    both = Images(
        split="train",
        pixels=np.concatenate([two.pixels, none.pixels]),
        boxes_xyxy_px=two.boxes_xyxy_px + none.boxes_xyxy_px,
        labels=two.labels + none.labels,
        picture_ids=(1, 2),
        fits=two.fits * 2,
        classes=two.classes,
        ground_truth={},
        digest="0" * 64,
    )
    batch = make_batch(both, np.array([1, 0]), ALIKE, np.random.default_rng(0))
    assert batch.present.tolist() == [[False, False], [True, True]]
    assert batch.boxes_xyxy_px.shape == (2, 2, 4)
    assert batch.labels.tolist() == [[0, 0], [0, 1]]
    assert make_batch(both, np.array([1]), None, np.random.default_rng(0)).present.tolist() == [[False]]


def test_the_same_generator_gives_the_same_batch(tiny_train: Images) -> None:
    """Seed for seed equal, bit for bit; another seed gives another batch, and the data stay as they were."""
    before = tiny_train.pixels[:4].copy(), [boxes.copy() for boxes in tiny_train.boxes_xyxy_px[:4]]
    first, again, other = (make_batch(tiny_train, np.arange(4), Augmentation(), np.random.default_rng(seed)) for seed in (7, 7, 8))
    for name in ("images", "boxes_xyxy_px", "labels", "present"):
        assert torch.equal(getattr(first, name), getattr(again, name)), name
    assert not torch.equal(first.images, other.images)
    np.testing.assert_array_equal(tiny_train.pixels[:4], before[0])
    for own, old in zip(tiny_train.boxes_xyxy_px[:4], before[1], strict=True):
        np.testing.assert_array_equal(own, old)
