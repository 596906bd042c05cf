"""Overlap, letterboxing and selection, against values worked by hand and a plain suppression in Python."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
import torch

from detection.boxes import (
    LETTERBOX_GREY,
    Array,
    Detections,
    Resize,
    area_px2,
    fit_of,
    fitted,
    generalized_iou,
    pairwise_iou,
    select,
)

ODD_SIZES = [(37, 91), (91, 37), (480, 640), (1, 50), (333, 333), (719, 1281)]
INPUT_SIZE = (64, 96)


def boxes(*rows: tuple[float, float, float, float]) -> Array:
    """Boxes xyxy."""
    return np.array(rows, dtype=np.float32).reshape(-1, 4)


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        ((0, 0, 10, 20), 1.0),
        ((5, 0, 15, 20), 1 / 3),  # 5 x 20 of 10 x 20 + 10 x 20 - 5 x 20
        ((0, 10, 10, 30), 1 / 3),  # the same, downwards
        ((2, 5, 7, 9), 20 / 200),  # contained: 5 x 4 of 10 x 20
        ((10, 0, 20, 20), 0.0),  # sharing an edge
        ((11, 21, 20, 30), 0.0),  # apart on both axes: the product of two negative gaps is no overlap
        ((5, 5, 5, 5), 0.0),  # without area
    ],
)
def test_overlap_by_hand(other: tuple[float, float, float, float], expected: float) -> None:
    """A box of 10 x 20 with another, either way round."""
    a, b = torch.tensor([[0.0, 0.0, 10.0, 20.0]]), torch.tensor([other], dtype=torch.float32)
    assert pairwise_iou(a, b).item() == pytest.approx(expected)
    assert pairwise_iou(b, a).item() == pytest.approx(expected)


def test_every_pair_of_every_picture_is_compared() -> None:
    """(2, 3, 4) with (2, 5, 4) gives (2, 3, 5), each entry that of its two boxes alone."""
    corners = torch.rand(2, 8, 2, generator=torch.Generator().manual_seed(0)) * 50
    sides = torch.rand(2, 8, 2, generator=torch.Generator().manual_seed(1)) * 50
    all_boxes = torch.cat([corners, corners + sides], -1)
    a, b = all_boxes[:, :3], all_boxes[:, 3:]
    found = pairwise_iou(a, b)
    assert found.shape == (2, 3, 5)
    for picture, i, j in np.ndindex(2, 3, 5):
        assert found[picture, i, j] == pairwise_iou(a[picture, i : i + 1], b[picture, j : j + 1])
    assert found.max() > 0.2


def test_two_boxes_without_area_do_not_divide_by_zero() -> None:
    """Padding is boxes of zeros: their overlap is 0, not NaN; a box turned inside out has no area either."""
    nothing = torch.zeros(1, 4)
    assert pairwise_iou(nothing, nothing).item() == 0.0
    assert area_px2(torch.tensor([5.0, 5.0, 2.0, 9.0])).item() == 0.0
    assert area_px2(torch.tensor([1.0, 2.0, 4.0, 8.0])).item() == 18.0


@pytest.mark.parametrize(
    ("picture_size", "scale", "top_px", "left_px"),
    [
        ((64, 64), 1.0, 0, 16),  # square into wide: bars left and right
        ((64, 192), 0.5, 16, 0),  # wider still: bars above and below
        ((128, 96), 0.5, 0, 24),  # upright
        ((32, 48), 2.0, 0, 0),  # same shape, enlarged
        ((100, 200), 0.48, 8, 0),  # 48 x 96
    ],
)
def test_the_fit_by_hand(picture_size: tuple[int, int], scale: float, top_px: int, left_px: int) -> None:
    """Sizes are (height, width): exchanging them would put the bars on the wrong sides."""
    fit = fit_of(picture_size, INPUT_SIZE)
    assert (fit.scale_y, fit.scale_x) == pytest.approx((scale, scale))
    assert (fit.top_px, fit.left_px) == (top_px, left_px)


def test_a_stretched_picture_by_hand() -> None:
    """128 x 48 into 64 x 96 is halved in height and doubled in width, without bars; its boxes likewise."""
    fit = fit_of((128, 48), INPUT_SIZE, "stretch")
    assert fit == (0.5, 2.0, 0, 0, 1.0)
    np.testing.assert_allclose(fit.to_input(boxes((10, 20, 30, 40))), [[20, 10, 60, 20]])
    picture = np.full((128, 48, 3), (10, 20, 30), np.uint8)
    assert (fitted(picture, INPUT_SIZE, "stretch") == (10, 20, 30)).all()


@pytest.mark.parametrize("resize", get_args(Resize))
@pytest.mark.parametrize("picture_size", ODD_SIZES, ids=str)
def test_boxes_come_back_from_the_input(picture_size: tuple[int, int], resize: Resize) -> None:
    """There and back is the same box, and the whole picture lies inside the input, to a pixel of rounding."""
    height_px, width_px = picture_size
    fit = fit_of(picture_size, INPUT_SIZE, resize)
    own = boxes((0, 0, width_px, height_px), (0.1 * width_px, 0.2 * height_px, 0.7 * width_px, 0.9 * height_px))
    there = fit.to_input(own)
    assert there.dtype == np.float32
    np.testing.assert_allclose(fit.to_original(there), own, atol=1e-2)
    assert (there >= -1).all()
    assert (there <= [97, 65, 97, 65]).all()


def test_a_letterbox_resized_afterwards_by_hand() -> None:
    """100 x 200 into 64 x 96 is 0.48 with 8 px above; at half of that size a corner at (50, 25) is at (12, 10), and comes back."""
    fit = fit_of((100, 200), INPUT_SIZE)._replace(resized=0.5)
    own = boxes((50, 25, 150, 75))
    np.testing.assert_allclose(fit.to_input(own), [[12, 10, 36, 22]], atol=1e-4)
    np.testing.assert_allclose(fit.to_original(fit.to_input(own)), own, atol=1e-3)


@pytest.mark.parametrize("resize", get_args(Resize))
@pytest.mark.parametrize("picture_size", [size for size in ODD_SIZES if min(size) > 10], ids=str)
def test_pixels_and_boxes_move_together(picture_size: tuple[int, int], resize: Resize) -> None:
    """A white rectangle drawn in the picture is found in the input where its box went, within a pixel."""
    height_px, width_px = picture_size
    x1, y1, x2, y2 = width_px // 4, height_px // 3, width_px * 3 // 4, height_px * 5 // 6
    picture = np.zeros((*picture_size, 3), np.uint8)
    picture[y1:y2, x1:x2] = 255
    rows, columns = np.nonzero(fitted(picture, INPUT_SIZE, resize)[..., 0] > 130)  # above the grey of the padding
    found = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    np.testing.assert_allclose(fit_of(picture_size, INPUT_SIZE, resize).to_input(boxes((x1, y1, x2, y2)))[0], found, atol=1.0)


def test_padding_is_grey_and_channels_stay_in_place() -> None:
    """A square picture in a wide input: 16 grey columns on either side, its red still red."""
    picture = np.zeros((64, 64, 3), np.uint8)
    picture[..., 0] = 200
    canvas = fitted(picture, INPUT_SIZE)
    assert canvas.shape == (64, 96, 3)
    assert (canvas[:, :16] == LETTERBOX_GREY).all()
    assert (canvas[:, 80:] == LETTERBOX_GREY).all()
    assert (canvas[:, 16:80] == (200, 0, 0)).all()


def test_the_better_of_two_that_overlap_stays() -> None:
    """10 x 10 boxes a pixel apart overlap by 90/110: above 0.8 the worse falls, below 0.83 both stay; best first."""
    own, scores = boxes((0, 0, 10, 10), (1, 0, 11, 10)), np.array([[0.4], [0.7]], np.float32)
    strict, lenient = (select(own, scores, 0.1, threshold, 100) for threshold in (0.8, 0.83))
    np.testing.assert_array_equal(strict.boxes_xyxy_px, own[1:])
    np.testing.assert_allclose(strict.scores, [0.7])
    np.testing.assert_array_equal(lenient.boxes_xyxy_px, own[::-1])


def test_classes_do_not_suppress_each_other() -> None:
    """One point with two likely classes gives two detections with the same box."""
    found = select(boxes((5, 5, 20, 20)), np.array([[0.3, 0.02, 0.9]], np.float32), 0.1, 0.5, 100)
    assert found.labels.tolist() == [2, 0]
    np.testing.assert_allclose(found.scores, [0.9, 0.3])
    np.testing.assert_array_equal(found.boxes_xyxy_px, boxes((5, 5, 20, 20), (5, 5, 20, 20)))


def test_classes_do_not_suppress_each_other_across_the_border() -> None:
    """A box that reaches over the top left corner has nothing to do with one of another class at the bottom right."""
    own = boxes((60, 60, 100, 100), (-41, -41, -1, -1))
    found = select(own, np.array([[0.9, 0.0], [0.0, 0.8]], np.float32), 0.1, 0.5, 100)
    assert found.labels.tolist() == [0, 1]


def test_the_limit_keeps_the_best() -> None:
    """Of five boxes far apart the two with the highest scores stay, in order; the threshold itself is not enough."""
    own = boxes(*((100 * i, 0, 100 * i + 10, 10) for i in range(5)))
    scores = np.array([[0.2], [0.9], [0.1], [0.8], [0.5]], np.float32)
    assert select(own, scores, 0.05, 0.5, 2).boxes_xyxy_px[:, 0].tolist() == [100.0, 300.0]
    assert select(own, scores, 0.5, 0.5, 100).boxes_xyxy_px[:, 0].tolist() == [100.0, 300.0]


def test_without_a_threshold_nothing_is_suppressed() -> None:
    """Equal boxes of one class all stay, the first `most`, best first: set predictors give each object once."""
    own, scores = boxes(*[(0, 0, 10, 10)] * 3), np.array([[0.4, 0.0], [0.7, 0.3], [0.05, 0.6]], np.float32)
    found = select(own, scores, 0.1, None, 3)
    np.testing.assert_allclose(found.scores, [0.7, 0.6, 0.4])
    assert found.labels.tolist() == [0, 1, 0]
    assert [part.dtype.name for part in found] == ["float32", "float32", "int64"]
    assert len(select(own, scores, 0.1, 0.5, 3).scores) == 2


def test_only_the_best_candidates_enter() -> None:
    """With room for two candidates, the two best of four pairs are all that is looked at."""
    own = boxes((0, 0, 10, 10), (100, 0, 110, 10))
    found = select(own, np.array([[0.2, 0.6], [0.7, 0.1]], np.float32), 0.05, 0.5, 100, candidates=2)
    np.testing.assert_allclose(found.scores, [0.7, 0.6])
    assert found.labels.tolist() == [0, 1]


@pytest.mark.parametrize("points", [0, 3])
def test_nothing_found_is_empty_arrays(points: int) -> None:
    """No points, or none above the threshold: arrays of the usual shapes and types, without rows."""
    found = select(np.zeros((points, 4), np.float32), np.zeros((points, 2), np.float32), 0.1, 0.5, 100)
    assert (found.boxes_xyxy_px.shape, found.scores.shape, found.labels.shape) == ((0, 4), (0,), (0,))
    assert [part.dtype.name for part in found] == ["float32", "float32", "int64"]


@pytest.mark.parametrize("seed", range(5))
def test_selection_is_the_textbook_suppression(seed: int) -> None:
    """On crowded random boxes of three classes, exactly what the loop everybody knows keeps."""
    rng = np.random.default_rng(seed)
    corners = rng.uniform(0, 60, (80, 2))
    own = np.concatenate([corners, corners + rng.uniform(5, 40, (80, 2))], 1).astype(np.float32)
    scores = rng.random((80, 3)).astype(np.float32)
    found, wanted = select(own, scores, 0.3, 0.4, 1000), textbook(own, scores, 0.3, 0.4)
    assert 10 < len(wanted.scores) < (scores > 0.3).sum()
    for ours, theirs in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def textbook(own: Array, scores: Array, score_threshold: float, iou_threshold: float) -> Detections:
    """Take the best, strike out what it overlaps in its class, repeat."""
    pairs = sorted(zip(*np.nonzero(scores > score_threshold), strict=True), key=lambda pair: -scores[pair])
    overlap = pairwise_iou(torch.from_numpy(own), torch.from_numpy(own)).numpy()
    kept: list[tuple[int, int]] = []
    for point, label in pairs:
        if all(label != other_label or overlap[point, other] <= iou_threshold for other, other_label in kept):
            kept.append((point, label))
    points, labels = (np.array(column, dtype=np.int64) for column in zip(*kept, strict=True))
    return Detections(own[points], scores[points, labels], labels)


def test_generalized_iou_by_hand() -> None:
    """Equal boxes have 1; halves that overlap by a third of the union lose nothing; apart, it falls below 0 with the gap."""
    a = torch.tensor([[0.0, 0.0, 2.0, 2.0]] * 3)
    b = torch.tensor([[0.0, 0.0, 2.0, 2.0], [1.0, 0.0, 3.0, 2.0], [3.0, 0.0, 4.0, 2.0]])
    torch.testing.assert_close(generalized_iou(a, b), torch.tensor([1.0, 2 / 6, -(8 - 6) / 8]))
