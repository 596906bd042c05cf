"""Differences of mAP against values worked by hand, and against scipy and pycocotools."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import math
from typing import Any

import hotcoco
import numpy as np
import pytest
from scipy import stats

from detection.frozen import InputError
from flows.stats import map_bootstrap
from flows.stats.map_bootstrap import (
    NO_DIFFERENCE,
    Difference,
    detectable_difference,
    drawn_aps,
    drawn_difference,
    map_difference,
)
from tests.places import SHARED

FIXTURES = SHARED / "fixtures" / "coco_eval"
needs_fixtures = pytest.mark.skipif(not FIXTURES.is_dir(), reason="the COCO fixtures (../shared/fixtures/coco_eval) are not here")
PAIRS = [
    pytest.param(
        "instances_val2014_100", "instances_val2014_fakebbox100_results",
        (0.5045806987, 0.6969727247, 0.5729816669, 0.5856257209, 0.5193996948, 0.5013978986,
         0.3868127796, 0.5936795763, 0.5953529829, 0.6398109626, 0.5664205979, 0.5642905983), id="val2014"),
    pytest.param(
        "edge_gt", "edge_dt",
        (0.712871, 0.712871, 0.712871, 0.663366, 1.0, 1.0, 0.428571, 0.714286, 0.714286, 0.666667, 1.0, 1.0), id="edge"),
]  # fmt: skip


def truth_of(boxes_per_picture: list[int]) -> dict[str, Any]:
    """Ground truth of one class: disjoint 20 x 20 boxes in a row."""
    annotations = [
        {"image_id": picture, "category_id": 1, "bbox": [40 * box, 10, 20, 20], "area": 400, "iscrowd": 0}
        for picture, boxes in enumerate(boxes_per_picture, start=1)
        for box in range(boxes)
    ]
    return {
        "images": [{"id": picture, "width": 200, "height": 100} for picture in range(1, len(boxes_per_picture) + 1)],
        "categories": [{"id": 1, "name": "disc"}],
        "annotations": [{"id": row, **own} for row, own in enumerate(annotations, start=1)],
    }


def found(picture: int, score: float, box: int = 0) -> dict[str, Any]:
    """A detection right on a box."""
    return {"image_id": picture, "category_id": 1, "bbox": [40 * box, 10, 20, 20], "score": score}


def between(truth: dict[str, Any], a: list[dict[str, Any]], b: list[dict[str, Any]], **how: int) -> Difference:
    """Of one pair of results."""
    return map_difference(truth, [(a, b)], **how)


def coco_map(ground_truth: dict[str, Any], detections: list[dict[str, Any]]) -> float:
    """mAP 50-95 by hotcoco."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = hotcoco.COCO(ground_truth)
        evaluation = hotcoco.COCOeval(truth, truth.load_res(detections), "bbox")
        evaluation.run()
    return float(evaluation.stats[0])


def test_the_difference_of_a_missed_half_by_hand() -> None:
    """10 boxes, 5 found and no false ones: recall 0.5 is reached at 51 of 101 points, so b is 51/101 - 1 against a perfect a."""
    truth = truth_of([1] * 10)
    everything = [found(picture, 1.0 - picture / 100) for picture in range(1, 11)]
    difference = between(truth, everything, everything[:5], seed=0, draws=200)
    assert difference.mean == pytest.approx(51 / 101 - 1.0)
    assert difference.low < difference.mean < difference.high < 0.0


def test_the_error_is_the_analytic_one() -> None:
    """Without false positives AP is recall, whose paired standard error is that of the mean of per-picture differences.

    hotcoco's `compare` gives 0.76 of it, which is why the draws are ours.
    """
    draw = np.random.default_rng(0)
    truth = truth_of([1] * 200)
    in_a, in_b = draw.random(200) < 0.8, draw.random(200) < 0.6
    a = [found(row + 1, 0.5 + row / 1000) for row in range(200) if in_a[row]]
    b = [found(row + 1, 0.5 + row / 1000) for row in range(200) if in_b[row]]
    analytic = float((in_b.astype(float) - in_a).std()) / math.sqrt(200)
    difference = between(truth, a, b, seed=1, draws=4000)
    assert (difference.high - difference.low) / (2 * 1.959964) == pytest.approx(analytic, rel=0.06)


def test_p_is_of_the_normal_with_that_error() -> None:
    """A difference of one analytic error, in 400 boxes of which 20 more are found, has the p of a normal at its distance."""
    truth = truth_of([1] * 400)
    a = [found(picture, 1.0 - picture / 1000) for picture in range(1, 221)]  # 220 of 400
    b = [found(picture, 1.0 - picture / 1000) for picture in range(41, 281)]  # 240 of 400: 40 lost, 60 won
    analytic = math.sqrt((100 - 20 * 20 / 400) / 400 / 400)
    difference = between(truth, a, b, seed=2, draws=2000)
    assert difference.p == pytest.approx(2 * stats.norm.sf(20 / 400 / analytic), abs=0.02)


def test_a_picture_drawn_twice_counts_twice() -> None:
    """AP under weights is hotcoco's AP of a set in which every picture is there as often as it was drawn."""
    draw = np.random.default_rng(3)
    truth = truth_of([1, 2, 3, 2, 1, 0, 3])
    detections = [found(int(draw.integers(1, 8)), float(draw.random()), int(draw.integers(0, 3))) for _ in range(30)]
    times_drawn = np.array([2, 0, 1, 3, 0, 1, 0])
    repeated, copies = truth_of([]), []
    for picture, times in enumerate(times_drawn, start=1):
        for _ in range(times):
            fresh = len(repeated["images"]) + 1
            repeated["images"].append({"id": fresh, "width": 200, "height": 100})
            for own in [own for own in truth["annotations"] if own["image_id"] == picture]:
                repeated["annotations"].append({**own, "image_id": fresh, "id": len(repeated["annotations"]) + 1})
            copies += [{**own, "image_id": fresh} for own in detections if own["image_id"] == picture]
    weighted = map_bootstrap._class_aps(map_bootstrap._match(truth, detections, "a"), times_drawn[None, :])
    assert weighted[0, 0] == pytest.approx(coco_map(repeated, copies), abs=1e-12)


def test_the_detectable_difference_is_the_normal_tests() -> None:
    """At 5 % two-sided and power 0.8 it is 1.959964 + 0.841621 standard errors; without an error there is none."""
    difference = Difference(mean=0.0, low=-0.02, high=0.02, p=1.0, error=0.01)
    assert detectable_difference(difference, 0.05) == pytest.approx(0.02801585, rel=1e-6)
    assert detectable_difference(difference.model_copy(update={"error": None}), 0.05) is None


def test_equal_results_differ_by_nothing() -> None:
    """The same detections twice: what NO_DIFFERENCE says without drawing."""
    detections = [found(picture, 0.5) for picture in range(1, 6)]
    assert between(truth_of([1] * 10), detections, detections, seed=0, draws=100) == NO_DIFFERENCE


def test_the_seed_is_all_that_decides_the_draws() -> None:
    """Same seed, same interval; another seed, another interval of the same observed difference."""
    truth, a = truth_of([1] * 20), [found(picture, 1.0 - picture / 100) for picture in range(1, 21)]
    first, again, other = (between(truth, a, a[::2], seed=seed, draws=100) for seed in (4, 4, 5))
    assert first == again
    assert other.mean == first.mean
    assert (other.low, other.high) != (first.low, first.high)


def test_no_detections_at_all_are_map_0() -> None:
    """A detector that found nothing loses everything."""
    a = [found(picture, 0.9) for picture in range(1, 11)]
    assert between(truth_of([1] * 10), a, [], seed=0, draws=100).mean == pytest.approx(-1.0)


def test_one_picture_decides_nothing() -> None:
    """Its bootstrap has no spread; the interval is everything and p is 1."""
    difference = between(truth_of([2]), [found(1, 0.9)], [found(1, 0.9), found(1, 0.8, box=1)], seed=0, draws=100)
    assert (difference.low, difference.high, difference.p) == (-1.0, 1.0, 1.0)


def test_detections_of_another_split_are_refused() -> None:
    """A picture id the ground truth does not have is named."""
    with pytest.raises(InputError, match="picture id 99 is not in the ground truth"):
        between(truth_of([1] * 3), [found(1, 0.9)], [found(99, 0.9)], seed=0, draws=100)


def test_ground_truth_without_boxes_is_refused() -> None:
    """There is no mAP to differ."""
    with pytest.raises(InputError, match="no box that counts"):
        between(truth_of([0] * 3), [found(1, 0.9)], [], seed=0, draws=100)


# ---- the mean over several pairs ----


def test_the_mean_over_pairs_by_hand() -> None:
    """One pair loses half of ten boxes (51/101 - 1), the other nothing: the mean is half of that."""
    truth = truth_of([1] * 10)
    everything = [found(picture, 1.0 - picture / 100) for picture in range(1, 11)]
    pairs = [(everything, everything[:5]), (everything, everything)]
    assert map_difference(truth, pairs, seed=0, draws=100).mean == pytest.approx((51 / 101 - 1.0) / 2)


def test_the_same_pair_again_adds_nothing() -> None:
    """A draw takes the same pictures for every pair: three equal pairs have the interval of one, to rounding."""
    truth, a = truth_of([1] * 20), [found(picture, 1.0 - picture / 100) for picture in range(1, 21)]
    once = between(truth, a, a[::3], seed=4, draws=200)
    thrice = map_difference(truth, [(a, a[::3])] * 3, seed=4, draws=200)
    for name in ("mean", "low", "high", "error"):
        assert getattr(thrice, name) == pytest.approx(getattr(once, name), abs=1e-12)


def test_pairs_are_drawn_too() -> None:
    """One detector finds all, the other nothing, so every draw of pictures differs by 1; with the pair turned round beside it the
    mean is 0, and drawing two of the two gives -1, 0, 0 or 1: a spread of sqrt(1/2), the deviation of -1 and 1 with divisor 2, over
    sqrt(2)."""
    truth, everything = truth_of([1] * 10), [found(picture, 1.0 - picture / 100) for picture in range(1, 11)]
    difference = map_difference(truth, [(everything, []), ([], everything)], seed=0, draws=4000)
    assert difference.mean == pytest.approx(0.0)
    assert (difference.low, difference.high) == (pytest.approx(-1.0), pytest.approx(1.0))
    assert difference.error == pytest.approx(math.sqrt(0.5), rel=0.03)


def test_of_three_pairs_alone_the_interval_runs_from_the_worst_to_the_best() -> None:
    """-1, 0 and 1 whatever the pictures: the worst is drawn three times in one draw of 27, more often than 2.5 %."""
    truth, everything = truth_of([1] * 10), [found(picture, 1.0 - picture / 100) for picture in range(1, 11)]
    pairs = [(everything, []), (everything, everything), ([], everything)]
    difference = map_difference(truth, pairs, seed=0, draws=4000)
    assert (difference.low, difference.high) == (pytest.approx(-1.0), pytest.approx(1.0))


def test_pictures_and_pairs_add_their_variances() -> None:
    """Recall in 400 boxes, two pairs that lose 10 % and 30 % of other pictures: the variance is that of the mean over pictures plus
    that of two values 0.2 apart, 0.1^2 / 2."""
    truth = truth_of([1] * 400)
    everything = [found(picture, 1.0 - picture / 1000) for picture in range(1, 401)]
    pairs = [(everything, [own for own in everything if own["image_id"] > lost]) for lost in (40, 120)]
    lost = np.array([[picture <= 40, picture <= 120] for picture in range(1, 401)], dtype=float)
    weights = np.array([[2.0, 0.0], [1.0, 1.0], [1.0, 1.0], [0.0, 2.0]]) / 2  # the four draws of two pairs
    over_pictures = float(np.mean([(lost @ own).var() / 400 for own in weights]))
    difference = map_difference(truth, pairs, seed=1, draws=4000)
    assert difference.error == pytest.approx(math.sqrt(over_pictures + 0.1**2 / 2), rel=0.03)


def test_detections_of_another_split_are_refused_by_pair() -> None:
    """Which of the pairs is wrong is named."""
    good = [found(1, 0.9)]
    with pytest.raises(InputError, match="detections b of pair 2: picture id 99 is not in the ground truth"):
        map_difference(truth_of([1] * 3), [(good, good), (good, [found(99, 0.9)])], seed=0, draws=100)


def test_results_drawn_one_by_one_differ_as_in_pairs() -> None:
    """Drawing each result once, to compare it with many, gives every number of the paired bootstrap to the last digit."""
    truth = truth_of([1, 2] * 20)
    first = [found(picture, 1.0 - picture / 100) for picture in range(1, 41)]
    second = [found(picture, 1.0 - picture / 50) for picture in range(1, 41, 2)]
    aps = [drawn_aps(truth, own, seed=3, draws=200) for own in (first, second)]
    assert drawn_difference(*aps) == between(truth, first, second, seed=3, draws=200)


# ---- the evaluator everything rests on ----


def load(name: str) -> Any:
    """A fixture."""
    return json.loads((FIXTURES / f"{name}.json").read_text())


@needs_fixtures
@pytest.mark.parametrize(("truth_name", "results_name", "expected"), PAIRS)
def test_hotcoco_gives_the_published_twelve_numbers(truth_name: str, results_name: str, expected: tuple[float, ...]) -> None:
    """All twelve COCO numbers of both fixtures, to 1e-6."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = hotcoco.COCO(load(truth_name))
        evaluation = hotcoco.COCOeval(truth, truth.load_res(load(results_name)), "bbox")
        evaluation.run()
    assert list(evaluation.stats) == pytest.approx(list(expected), abs=1e-6)


@needs_fixtures
@pytest.mark.parametrize(("truth_name", "results_name", "expected"), PAIRS)
def test_pycocotools_agrees_with_hotcoco(truth_name: str, results_name: str, expected: tuple[float, ...]) -> None:
    """The reference evaluator gives the same twelve numbers, to 1e-6."""
    pycoco = pytest.importorskip("pycocotools.coco", reason="pycocotools is a dev extra")
    pycocoeval = pytest.importorskip("pycocotools.cocoeval", reason="pycocotools is a dev extra")
    with contextlib.redirect_stdout(io.StringIO()):
        truth = pycoco.COCO()
        truth.dataset = load(truth_name)
        truth.createIndex()
        evaluation = pycocoeval.COCOeval(truth, truth.loadRes(load(results_name)), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    assert list(evaluation.stats) == pytest.approx(list(expected), abs=1e-6)


@needs_fixtures
@pytest.mark.parametrize(("truth_name", "results_name", "expected"), PAIRS)
def test_our_draws_start_from_coco_map(truth_name: str, results_name: str, expected: tuple[float, ...]) -> None:
    """With every picture counted once, our AP is COCO's: crowds, ties, area borders and empty classes included."""
    truth, results = load(truth_name), load(results_name)
    worse = copy.deepcopy(results)[::2]
    observed = between(truth, results, worse, seed=0, draws=10).mean
    assert observed == pytest.approx(coco_map(truth, worse) - expected[0], abs=1e-6)
