"""The generated data is what its boxes say, the same every time, and honest between splits."""

from __future__ import annotations

import numpy as np
import pytest

from detection.data.dataset import SPLITS
from detection.data.generated import GeneratedSource, Material, PictureCounts, Scenes, compose, material, read_generated

CLEAR = GeneratedSource(
    objects=(1, 1), opacity=(1.0, 1.0), blur_px=(0.0, 0.0), noise=(0.0, 0.0), contrast=(60.0, 60.0), object_size_px=(12.0, 40.0)
)
"""One digit, nothing that blurs its edge."""
CROWDED = GeneratedSource(objects=(6, 6), object_size_px=(30.0, 48.0))


def grey(parts: Material) -> Material:
    """The same glyphs over plain grey, so that every pixel that differs is ink."""
    return parts._replace(photographs=(np.full((200, 200, 3), 128, dtype=np.uint8),))


@pytest.mark.parametrize("seed", range(20))
def test_boxes_are_tight_around_the_ink(seed: int) -> None:
    """On plain grey, the pixels that clearly differ reach every edge of the box within a pixel, and none lies outside.

    The soft edge of a stroke fades over a pixel or two: ink counts from 0.3 coverage, what is compared here from about 0.3
    of the strongest difference.
    """
    pixels, boxes, labels = compose(CLEAR, grey(material("train")), np.random.default_rng(seed))
    assert len(boxes) == len(labels) == 1
    differs = np.abs(pixels.astype(int) - np.median(pixels, axis=(0, 1))).sum(2)
    rows, columns = np.nonzero(differs > 0.3 * differs.max())
    found = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    np.testing.assert_allclose(boxes[0], found, atol=1)


def test_the_same_seed_gives_the_same_pictures() -> None:
    """Twice the same, and another seed or split gives others."""
    first, again = (Scenes(CROWDED, 3, "train").picture(5) for _ in range(2))
    np.testing.assert_array_equal(first.pixels(), again.pixels())
    np.testing.assert_array_equal(first.boxes_xyxy_px, again.boxes_xyxy_px)
    assert (first.pixels() != Scenes(CROWDED, 4, "train").picture(5).pixels()).any()
    assert (first.pixels() != Scenes(CROWDED, 3, "val").picture(5).pixels()).any()


def test_more_pictures_leave_the_first_ones_alone() -> None:
    """Asking for five instead of two begins with the same two."""
    counts = PictureCounts(train=2, val=1, test=1), PictureCounts(train=5, val=1, test=1)
    few, many = (list(read_generated(GeneratedSource(pictures=own), 0).splits["train"]) for own in counts)
    assert (len(few), len(many)) == (2, 5)
    for a, b in zip(few, many, strict=False):
        np.testing.assert_array_equal(a.pixels(), b.pixels())


def test_no_glyph_is_in_two_splits() -> None:
    """Together the splits hold each of the 1,797 glyphs of the collection once."""
    from sklearn.datasets import load_digits

    per_split = [np.concatenate(material(split).glyphs) for split in SPLITS]
    ours = np.sort(np.concatenate(per_split).reshape(-1, 64), axis=0)
    theirs = np.sort((load_digits().data / 16).astype(np.float32), axis=0)
    assert [len(glyphs) for glyphs in per_split] == [1078, 360, 359]
    np.testing.assert_array_equal(ours, theirs)


def test_no_part_of_a_photograph_is_in_two_splits() -> None:
    """The strips of all splits lie side by side: put back in order they are the whole photographs, no column twice."""
    from sklearn.datasets import load_sample_images

    train, val, test = (material(split).photographs for split in SPLITS)
    for number, photo in enumerate(load_sample_images().images):
        a, c, e = train[3 * number : 3 * number + 3]
        np.testing.assert_array_equal(np.concatenate([a, val[number], c, test[number], e], axis=1), photo)


def test_boxes_lie_inside_and_sizes_are_as_asked() -> None:
    """All boxes are whole pixels inside the picture, and turned digits of 30 to 48 px are 15 to 70 px long."""
    for index in range(30):
        picture = Scenes(CROWDED, 0, "test").picture(index)
        assert picture.pixels().shape == (96, 128, 3)
        x1, y1, x2, y2 = picture.boxes_xyxy_px.T
        assert x1.min() >= 0
        assert y1.min() >= 0
        assert x2.max() <= 128
        assert y2.max() <= 96
        assert (x1 < x2).all()
        assert (y1 < y2).all()
        longer = np.maximum(x2 - x1, y2 - y1)
        assert ((longer >= 15) & (longer <= 70)).all()


def test_a_crowded_scene_goes_without_rather_than_hide_a_digit() -> None:
    """Where hardly any ink may be hidden, six large digits do not fit: scenes have fewer, but never none."""
    strict = CROWDED.model_copy(update={"most_hidden": 0.01})
    counts = [len(Scenes(strict, 0, "train").picture(index).labels) for index in range(30)]
    assert 1 <= min(counts) < 6


def test_ink_never_vanishes_into_black_or_white() -> None:
    """On a black and on a white photograph a digit still differs by most of its contrast."""
    for level in (0, 255):
        parts = material("train")._replace(photographs=(np.full((200, 200, 3), level, dtype=np.uint8),))
        for seed in range(10):
            pixels, _, _ = compose(CLEAR.model_copy(update={"contrast": (40.0, 40.0)}), parts, np.random.default_rng(seed))
            differs = np.abs(pixels.astype(int) - np.median(pixels, axis=(0, 1)))
            assert differs.max() >= 20  # the tint halves a channel at most


def test_every_class_is_there() -> None:
    """Sixty pictures show all ten digits."""
    labels = np.concatenate([Scenes(GeneratedSource(), 0, "val").picture(index).labels for index in range(60)])
    assert set(labels.tolist()) == set(range(10))
