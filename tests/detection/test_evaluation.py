"""Accuracy is COCO's: the published numbers, perfect and empty detections, and boxes in the original pictures' pixels."""

from __future__ import annotations

import contextlib
import copy
import io
import json
from typing import Any, Literal

import numpy as np
import pytest

from detection.boxes import Array, Detections, fit_of, fitted, select
from detection.data.dataset import Images
from detection.evaluation import (
    IOU_THRESHOLD,
    MOST_DETECTIONS,
    SCORE_THRESHOLD,
    accuracy,
    as_coco,
    as_input,
    as_planes,
    detect,
    selected,
)
from tests.places import SHARED

FIXTURES = SHARED / "fixtures" / "coco_eval"
needs_fixtures = pytest.mark.skipif(not FIXTURES.is_dir(), reason="the COCO fixtures (../shared/fixtures/coco_eval) are not here")
PAIRS = [
    pytest.param("instances_val2014_100", "instances_val2014_fakebbox100_results",
                 (0.5045806987, 0.6969727247, 0.5729816669), id="val2014"),
    pytest.param("edge_gt", "edge_dt", (0.712871, 0.712871, 0.712871), id="edge"),
]  # fmt: skip


def load(name: str) -> Any:
    """A fixture."""
    return json.loads((FIXTURES / f"{name}.json").read_text())


def perfect(truth: dict[str, Any]) -> list[dict[str, Any]]:
    """Every object found, exactly, with full score."""
    return [
        {"image_id": own["image_id"], "category_id": own["category_id"], "bbox": own["bbox"], "score": 1.0}
        for own in truth["annotations"]
        if not own["iscrowd"]
    ]


def knowing(images: Images) -> Any:
    """A runtime that knows the pictures and answers with their true boxes, in pixels of the input."""
    answers = {as_input(images.pixels[row]).tobytes(): row for row in range(len(images))}

    def infer(pixels: Array) -> tuple[Array, Array]:
        row = answers[pixels.tobytes()]
        scores = np.zeros((len(images.labels[row]), len(images.classes)), np.float32)
        scores[np.arange(len(scores)), images.labels[row]] = 0.9
        return images.boxes_xyxy_px[row][None], scores[None]

    return infer


@needs_fixtures
@pytest.mark.parametrize(("truth_name", "results_name", "expected"), PAIRS)
def test_the_published_numbers(truth_name: str, results_name: str, expected: tuple[float, float, float]) -> None:
    """pycocotools' first three numbers on both fixtures: crowds, ties and empty categories included."""
    found = accuracy(load(truth_name), load(results_name))
    assert (found.map_50_95, found.map_50, found.map_75) == pytest.approx(expected, abs=1e-6)


@needs_fixtures
@pytest.mark.parametrize(("truth_name", "results_name", "expected"), PAIRS)
def test_per_class_is_pycocotools(truth_name: str, results_name: str, expected: tuple[float, float, float]) -> None:
    """Each class scored alone by pycocotools gives the same number; a class without ground truth is absent; their mean is mAP."""
    pycoco = pytest.importorskip("pycocotools.coco", reason="pycocotools is a dev extra")
    pycocoeval = pytest.importorskip("pycocotools.cocoeval", reason="pycocotools is a dev extra")
    found = accuracy(load(truth_name), load(results_name)).per_class
    wanted: dict[str, float] = {}
    with contextlib.redirect_stdout(io.StringIO()):
        truth = pycoco.COCO()
        truth.dataset = load(truth_name)
        truth.createIndex()
        results = truth.loadRes(load(results_name))
        for category in truth.dataset["categories"]:
            evaluation = pycocoeval.COCOeval(truth, results, "bbox")
            evaluation.params.catIds = [category["id"]]
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
            if evaluation.stats[0] > -1:
                wanted[category["name"]] = float(evaluation.stats[0])
    assert found == pytest.approx(wanted, abs=1e-6)
    assert np.mean(list(found.values())) == pytest.approx(expected[0], abs=1e-6)


def test_perfect_detections_are_1(tiny_val: Images) -> None:
    """Averaging averages gave a perfect model 98.9 % elsewhere."""
    found = accuracy(tiny_val.ground_truth, perfect(tiny_val.ground_truth))
    assert (found.map_50_95, found.map_50, found.map_75) == pytest.approx((1.0, 1.0, 1.0), abs=1e-12)
    present = {tiny_val.classes[label] for labels in tiny_val.labels for label in labels}
    assert found.per_class == pytest.approx(dict.fromkeys(present, 1.0), abs=1e-12)


def test_final_detections_are_chosen_as_the_family_does(tiny_val: Images) -> None:
    """A runtime that gives every object twice: suppression leaves one of each, `best` takes them as they are."""
    infer, objects = knowing(tiny_val), sum(len(labels) for labels in tiny_val.labels)

    def twice(pixels: Array) -> tuple[Array, Array]:
        return tuple(np.repeat(part, 2, axis=1) for part in infer(pixels))  # type: ignore[return-value]

    assert len(detect(twice, tiny_val)) == len(detect(twice, tiny_val, "nms")) <= objects
    assert len(detect(twice, tiny_val, "best")) == 2 * objects


@pytest.mark.parametrize(("select_by", "iou_threshold"), [("nms", IOU_THRESHOLD), ("best", None)])
def test_outputs_of_many_pictures_are_selected_as_those_of_one(
    select_by: Literal["nms", "best"], iou_threshold: float | None, tiny_val: Images
) -> None:
    """Boxes and scores of all pictures in arrays give what a runtime gives that sees one at a time, and that is each picture's own
    selection under its own id; they are taken one by one, as they come."""
    rng, count = np.random.default_rng(0), len(tiny_val)
    corners = rng.uniform(0, 40, (count, 60, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(8, 24, (count, 60, 2))], 2).astype(np.float32)
    scores = rng.uniform(-0.1, 1, (count, 60, len(tiny_val.classes))).clip(0).astype(np.float32)
    answers = {as_input(pixels).tobytes(): row for row, pixels in enumerate(tiny_val.pixels)}

    def infer(pixels: Array) -> tuple[Array, Array]:
        row = answers[pixels.tobytes()]
        return boxes[row : row + 1], scores[row : row + 1]

    found = selected(iter(zip(boxes, scores, strict=True)), tiny_val, select_by)
    assert found == detect(infer, tiny_val, select_by)
    expected = [select(boxes[row], scores[row], SCORE_THRESHOLD, iou_threshold, MOST_DETECTIONS) for row in range(count)]
    own = [as_coco(final, tiny_val.fits[row], tiny_val.picture_ids[row]) for row, final in enumerate(expected)]
    assert found == [one for picture in own for one in picture]
    assert len({one["image_id"] for one in found}) == count


def test_no_detections_are_0(tiny_val: Images) -> None:
    """Not an error, and not -1."""
    found = accuracy(tiny_val.ground_truth, [])
    assert (found.map_50_95, found.map_50, found.map_75) == (0.0, 0.0, 0.0)


def test_no_detections_are_0_in_every_class(tiny_val: Images) -> None:
    """Only a class without ground truth is absent: a class never found has 0, whether or not another one was found."""
    present = {tiny_val.classes[label] for labels in tiny_val.labels for label in labels}
    assert accuracy(tiny_val.ground_truth, []).per_class == dict.fromkeys(present, 0.0)


def test_half_the_classes_missed_by_hand() -> None:
    """Of two classes one is found exactly and the other never: 1 and 0, mean a half; the third has no objects and is absent."""
    truth = {
        "images": [{"id": 1, "height": 100, "width": 100}],
        "categories": [{"id": 3, "name": "c"}, {"id": 1, "name": "a"}, {"id": 2, "name": "b"}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 50, 50], "area": 2500, "iscrowd": 0},
            {"id": 2, "image_id": 1, "category_id": 3, "bbox": [50, 50, 40, 40], "area": 1600, "iscrowd": 0},
        ],
    }
    found = accuracy(truth, [{"image_id": 1, "category_id": 3, "bbox": [50, 50, 40, 40], "score": 0.5}])
    assert found.per_class == pytest.approx({"a": 0.0, "c": 1.0}, abs=1e-12)
    assert (found.map_50_95, found.map_50, found.map_75) == pytest.approx((0.5, 0.5, 0.5))


def test_one_overlap_decides_the_thresholds_by_hand() -> None:
    """A box of 100 x 100 found as 100 x 81 overlaps by 0.81: right at 0.50, 0.55, ..., 0.80, so at 7 of 10 thresholds."""
    truth = {
        "images": [{"id": 1, "height": 200, "width": 200}],
        "categories": [{"id": 1, "name": "a"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 100, 100], "area": 10000, "iscrowd": 0}],
    }
    found = accuracy(truth, [{"image_id": 1, "category_id": 1, "bbox": [0, 0, 100, 81], "score": 0.5}])
    assert (found.map_50_95, found.map_50, found.map_75) == pytest.approx((0.7, 1.0, 1.0))


def test_scoring_changes_neither_truth_nor_results(tiny_val: Images) -> None:
    """Both are stored and used again: the evaluator may not write into them."""
    truth, results = copy.deepcopy(tiny_val.ground_truth), perfect(tiny_val.ground_truth)
    before = copy.deepcopy((truth, results))
    accuracy(truth, results)
    assert (truth, results) == before


def test_results_are_in_pixels_of_the_original_by_hand() -> None:
    """100 x 200 pixels in 64 x 96: scale 0.48, 8 px above. Boxes become xywh, labels ids from 1, digits are cut."""
    final = Detections(np.array([[24, 20, 72, 44]], np.float32), np.array([0.1234567], np.float32), np.array([4]))
    assert as_coco(final, fit_of((100, 200), (64, 96)), 17) == [
        {"image_id": 17, "category_id": 5, "bbox": [50.0, 25.0, 100.0, 50.0], "score": 0.12346}
    ]


def test_results_can_be_written_as_json() -> None:
    """No numpy numbers are left in them."""
    final = Detections(np.array([[1, 2, 3, 4]], np.float32), np.array([0.5], np.float32), np.array([0]))
    assert json.loads(json.dumps(as_coco(final, fit_of((64, 96), (64, 96)), 1)))[0]["bbox"] == [1.0, 2.0, 2.0, 2.0]


def test_a_file_takes_a_picture_as_it_is_stored() -> None:
    """(height, width, 3) bytes stay bytes, one picture of a batch, contiguous."""
    picture = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    found = as_input(picture[:, ::-1])
    assert (found.shape, found.dtype, found.flags.c_contiguous) == ((1, 4, 6, 3), np.uint8, True)
    np.testing.assert_array_equal(found[0], picture[:, ::-1])


def test_planes_are_channels_first_and_scaled() -> None:
    """(height, width, 3) bytes become (1, 3, height, width) in [0, 1], contiguous, float32."""
    picture = np.zeros((4, 6, 3), np.uint8)
    picture[1, 5] = (255, 51, 0)
    found = as_planes(picture)
    assert found.shape == (1, 3, 4, 6)
    assert found.dtype == np.float32
    assert found.flags.c_contiguous
    np.testing.assert_allclose(found[0, :, 1, 5], [1.0, 0.2, 0.0], rtol=1e-6)
    assert found.sum() == pytest.approx(1.2)


def test_a_runtime_that_knows_everything_scores_1(tiny_val: Images) -> None:
    """The way from inputs to boxes, through suppression and back to the original pictures, loses nothing."""
    results = detect(knowing(tiny_val), tiny_val)
    assert {result["image_id"] for result in results} == set(tiny_val.picture_ids)
    assert accuracy(tiny_val.ground_truth, results).map_50_95 == pytest.approx(1.0, abs=1e-6)


def test_letterboxed_pictures_score_1_too() -> None:
    """Upright and wide pictures in one split: padding and scale are undone for each by its own letterbox."""
    sizes = ((128, 96), (100, 200))
    truth = {
        "images": [{"id": 1, "height": 128, "width": 96}, {"id": 2, "height": 100, "width": 200}],
        "categories": [{"id": 1, "name": "a"}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "bbox": [10, 20, 30, 40], "area": 1200, "iscrowd": 0},
            {"id": 2, "image_id": 2, "category_id": 1, "bbox": [50, 25, 100, 50], "area": 5000, "iscrowd": 0},
        ],
    }
    fits = tuple(fit_of(size, (64, 96)) for size in sizes)
    pictures = [np.full((*size, 3), 50 * row, np.uint8) for row, size in enumerate(sizes)]
    images = Images(
        split="val",
        pixels=np.stack([fitted(picture, (64, 96)) for picture in pictures]),
        boxes_xyxy_px=(np.array([[29, 10, 44, 30]], np.float32), np.array([[24, 20, 72, 44]], np.float32)),
        labels=(np.array([0]), np.array([0])),
        picture_ids=(1, 2),
        fits=fits,
        classes=("a",),
        ground_truth=truth,
        digest="0" * 64,
    )
    results = detect(knowing(images), images)
    assert [result["bbox"] for result in results] == [[10.0, 20.0, 30.0, 40.0], [50.0, 25.0, 100.0, 50.0]]
    assert accuracy(truth, results).map_50_95 == pytest.approx(1.0)


def test_a_picture_gives_100_detections_at_most(tiny_val: Images) -> None:
    """COCO looks at no more, so no more are stored."""
    corners = np.stack(np.meshgrid(np.arange(0, 96, 6), np.arange(0, 64, 6)), -1).reshape(-1, 2).astype(np.float32)
    boxes = np.concatenate([corners, corners + 5], 1)
    scores = np.full((len(boxes), 1), 0.5, np.float32)
    assert len(boxes) > MOST_DETECTIONS
    assert len(detect(lambda _: (boxes[None], scores[None]), tiny_val)) == MOST_DETECTIONS * len(tiny_val)
