"""A prepared folder is read as it was written: boxes in the network's pixels, crowds left out, everything in the digest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detection.boxes import Fit
from detection.data.dataset import SPLITS, Images, Prepared, SplitSummary, load_prepared, load_split, split_digest
from detection.frozen import InputError

TRUTH: dict[str, Any] = {
    "images": [
        {"id": 7, "file_name": "wide.png", "height": 100, "width": 200},  # scale 0.48, 8 px of padding above
        {"id": 3, "file_name": "upright.png", "height": 128, "width": 96},  # scale 0.5, 24 px of padding to the left
        {"id": 5, "file_name": "empty.png", "height": 64, "width": 96},
    ],
    "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
    "annotations": [
        {"id": 1, "image_id": 3, "category_id": 2, "bbox": [10, 20, 30, 40], "area": 1200, "iscrowd": 0},
        {"id": 2, "image_id": 7, "category_id": 1, "bbox": [50, 25, 100, 50], "area": 5000, "iscrowd": 0},
        {"id": 3, "image_id": 7, "category_id": 2, "bbox": [0, 0, 200, 100], "area": 20000, "iscrowd": 1},
        {"id": 4, "image_id": 7, "category_id": 2, "bbox": [0, 0, 25, 50], "area": 1250, "iscrowd": 0},
    ],
}
PIXELS = np.arange(3 * 64 * 96 * 3, dtype=np.uint32).astype(np.uint8).reshape(3, 64, 96, 3)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A prepared folder, written by hand, the same in every split."""
    summary = SplitSummary(pictures=3, boxes=3, digest=split_digest(PIXELS.shape, PIXELS, TRUTH))
    for split in SPLITS:
        np.save(tmp_path / f"{split}.npy", PIXELS)
        (tmp_path / f"{split}.json").write_text(json.dumps(TRUTH))
    prepared = Prepared(
        name="pets", classes=("cat", "dog"), input_size=(64, 96), splits=dict.fromkeys(SPLITS, summary), digest="1" * 64
    )
    (tmp_path / "prepared.json").write_text(prepared.model_dump_json(by_alias=True))
    return tmp_path


@pytest.fixture
def images(folder: Path) -> Images:
    """Its val split."""
    return load_split(folder, "val")


def test_boxes_are_in_pixels_of_the_input_by_hand(images: Images) -> None:
    """xywh of the original becomes xyxy of the letterboxed picture: times the scale, plus the padding, in the pictures' order."""
    np.testing.assert_allclose(images.boxes_xyxy_px[0], [[24, 20, 72, 44], [0, 8, 12, 32]], atol=1e-4)
    np.testing.assert_allclose(images.boxes_xyxy_px[1], [[29, 10, 44, 30]], atol=1e-4)
    assert images.picture_ids == (7, 3, 5)
    assert images.fits == (Fit(0.48, 0.48, 8, 0), Fit(0.5, 0.5, 0, 24), Fit(1.0, 1.0, 0, 0))


def test_labels_count_from_0(images: Images) -> None:
    """Category id 1 is label 0; they stand in the order of the boxes."""
    assert [labels.tolist() for labels in images.labels] == [[0, 1], [1], []]
    assert images.classes == ("cat", "dog")


def test_a_picture_without_boxes_has_an_empty_array(images: Images) -> None:
    """Of the usual shape and type, so that nobody needs to ask."""
    assert images.boxes_xyxy_px[2].shape == (0, 4)
    assert images.boxes_xyxy_px[2].dtype == np.float32
    assert images.labels[2].dtype == np.int64


def test_crowds_are_scored_but_not_learned(images: Images) -> None:
    """Three boxes may be learned from; all four annotations stay in the ground truth, where COCO ignores crowds itself."""
    assert sum(map(len, images.boxes_xyxy_px)) == 3
    assert len(images) == 3
    assert images.ground_truth == TRUTH


def test_pixels_are_mapped_not_read(images: Images) -> None:
    """A data set may be larger than memory; nobody can write to it."""
    assert isinstance(images.pixels, np.memmap)
    np.testing.assert_array_equal(images.pixels, PIXELS)
    with pytest.raises(ValueError, match="read-only"):
        images.pixels[0, 0, 0, 0] = 1


def test_the_digest_is_the_recorded_one(images: Images) -> None:
    """It identifies the split in every node's key, so it must be that of the content."""
    assert images.digest == split_digest(images.pixels.shape, images.pixels, images.ground_truth)


def test_anything_else_is_another_digest() -> None:
    """One pixel, the shape of the same bytes, or a hundredth of a pixel in one box; but not the order of the keys."""
    other_pixel = PIXELS.copy()
    other_pixel[2, 63, 95, 2] ^= 1
    moved = json.loads(json.dumps(TRUTH))
    moved["annotations"][0]["bbox"][0] += 0.01
    variants = [(PIXELS, TRUTH), (other_pixel, TRUTH), (PIXELS.reshape(3, 96, 64, 3), TRUTH), (PIXELS, moved)]
    assert len({split_digest(pixels.shape, pixels, truth) for pixels, truth in variants}) == 4
    assert split_digest(PIXELS.shape, PIXELS, dict(reversed(TRUTH.items()))) == split_digest(PIXELS.shape, PIXELS, TRUTH)
    assert split_digest(PIXELS.shape, np.asfortranarray(PIXELS), TRUTH) == split_digest(PIXELS.shape, PIXELS, TRUTH)


def test_nothing_prepared_is_an_input_error(folder: Path) -> None:
    """The manifest is written last: without it the folder counts as empty, and the message names the command."""
    (folder / "prepared.json").unlink()
    for read in (load_prepared, lambda path: load_split(path, "val")):
        with pytest.raises(InputError, match=r"prepared\.json: no prepared data here. Run `sixfold prepare`"):
            read(folder)


def test_a_manifest_of_another_schema_is_refused(folder: Path) -> None:
    """A later version's folder is not read as if it were ours."""
    manifest = json.loads((folder / "prepared.json").read_text())
    (folder / "prepared.json").write_text(json.dumps(manifest | {"schema": 2}))
    with pytest.raises(InputError, match="of another version"):
        load_prepared(folder)


def test_prepare_writes_what_is_read_here(tiny_prepared: Path, tiny_train: Images) -> None:
    """The stage's own folder: 24 pictures whose boxes lie inside the input, and whose digest is that of its content."""
    assert len(tiny_train) == 24
    assert load_prepared(tiny_prepared).splits["train"].boxes == sum(map(len, tiny_train.boxes_xyxy_px)) > 0
    boxes = np.concatenate(tiny_train.boxes_xyxy_px)
    assert (boxes >= -0.01).all()
    assert (boxes <= np.array([96, 64, 96, 64]) + 0.01).all()
    assert tiny_train.digest == split_digest(tiny_train.pixels.shape, tiny_train.pixels, tiny_train.ground_truth)


def test_a_smaller_input_by_hand(images: Images) -> None:
    """At half the size each pixel is the mean of four, boxes halve, and detections go back to the same original pixels."""
    half = images.at((32, 48))
    means = PIXELS.reshape(3, 32, 2, 48, 2, 3).astype(float).mean((2, 4))
    assert np.abs(half.pixels - means).max() <= 0.5
    np.testing.assert_allclose(half.boxes_xyxy_px[1], [[14.5, 5, 22, 15]], atol=1e-4)
    for small, own, fit, before in zip(half.boxes_xyxy_px, images.boxes_xyxy_px, half.fits, images.fits, strict=True):
        np.testing.assert_allclose(fit.to_original(small), before.to_original(own), atol=1e-3)
    assert (half.labels, half.picture_ids, half.ground_truth) == (images.labels, images.picture_ids, images.ground_truth)


def test_their_own_size_changes_nothing(images: Images) -> None:
    """The split itself comes back, its pixels still mapped, not read."""
    assert images.at((64, 96)) is images


@pytest.mark.parametrize("size", [(96, 64), (32, 32), (128, 192), (48, 96)], ids=str)
def test_another_shape_or_a_larger_size_is_refused(images: Images, size: tuple[int, int]) -> None:
    """Both sizes are in the message, and what to do instead."""
    with pytest.raises(InputError) as caught:
        images.at(size)
    assert str(caught.value).startswith(f"input_size {size} (height, width): the pictures were prepared at (64, 96)")
    assert "Set data.input_size and run `sixfold prepare` again" in str(caught.value)


def test_some_rows_in_another_order(images: Images) -> None:
    """Pixels, boxes, labels and ids of these rows, as ordered; of the ground truth what belongs to them."""
    taken = images.taking(np.array([2, 0]))
    assert taken.picture_ids == (5, 7)
    np.testing.assert_array_equal(taken.pixels, PIXELS[[2, 0]])
    for row, source in enumerate((2, 0)):
        np.testing.assert_array_equal(taken.boxes_xyxy_px[row], images.boxes_xyxy_px[source])
        np.testing.assert_array_equal(taken.labels[row], images.labels[source])
        assert taken.fits[row] == images.fits[source]
    assert {picture["id"] for picture in taken.ground_truth["images"]} == {5, 7}
    assert [own["id"] for own in taken.ground_truth["annotations"]] == [2, 3, 4]
    assert taken.ground_truth["categories"] == TRUTH["categories"]
