"""Intervals and tests against values worked by hand, and against scipy, statsmodels and pycocotools."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import math
from pathlib import Path
from typing import Any

import hotcoco
import numpy as np
import pytest
from scipy import stats

from detection.frozen import InputError
from flows import statistics
from flows.statistics import holm, log_ratio_interval, paired_map_difference, speedup_change

FIXTURES = Path(__file__).parents[3] / "shared" / "fixtures" / "coco_eval"
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
NOW_S, NOW_CONTROL_S = (1.00, 1.10, 0.95, 1.05, 1.02), (2.10, 2.15, 1.98, 2.08, 2.05)
BEFORE_S, BEFORE_CONTROL_S = (0.98, 1.01, 0.99, 1.04, 1.00, 0.97), (2.00, 2.03, 1.97, 2.09, 2.01, 1.99)


def logs(cell_s: tuple[float, ...], control_s: tuple[float, ...]) -> list[float]:
    """Log speedups per round."""
    return [math.log(control / cell) for cell, control in zip(cell_s, control_s, strict=True)]


def test_the_speedup_is_the_geometric_mean_over_rounds() -> None:
    """Rounds that are 2, 4 and 8 times faster are 4 times faster."""
    assert log_ratio_interval((1.0, 1.0, 1.0), (2.0, 4.0, 8.0)).ratio == pytest.approx(4.0)


def test_the_interval_is_students_worked_by_hand() -> None:
    """Logs of ln 2, 2 ln 2, 3 ln 2: error ln 2 / sqrt 3, t(0.975, 2) = 4.302653, so 4 times or over 2 to the power 2.484138."""
    low, high = log_ratio_interval((1.0, 1.0, 1.0), (2.0, 4.0, 8.0)).interval or (0.0, 0.0)
    assert (low, high) == pytest.approx((4.0 / 2.0**2.484138, 4.0 * 2.0**2.484138), rel=1e-5)


def test_interval_and_p_are_those_of_scipys_one_sample_test() -> None:
    """scipy's ttest_1samp on the log ratios gives the same numbers."""
    expected = stats.ttest_1samp(logs(NOW_S, NOW_CONTROL_S), 0.0)
    found = log_ratio_interval(NOW_S, NOW_CONTROL_S)
    assert found.interval == pytest.approx(np.exp(expected.confidence_interval(0.95)))
    assert found.p == pytest.approx(expected.pvalue)


@pytest.mark.parametrize("rounds", [1, 2])
def test_few_rounds_give_a_ratio_without_an_interval(rounds: int) -> None:
    """One or two rounds say nothing of their spread."""
    found = log_ratio_interval((1.0,) * rounds, (3.0,) * rounds)
    assert (found.ratio, found.interval, found.p) == (pytest.approx(3.0), None, None)


def test_the_control_against_itself_is_exactly_one() -> None:
    """Equal rounds have ratio 1, an interval of no width and p 1."""
    found = log_ratio_interval(NOW_S, NOW_S)
    assert (found.ratio, found.interval, found.p) == (1.0, (1.0, 1.0), 1.0)


def test_what_slows_both_in_a_round_does_not_count() -> None:
    """A machine three times slower in one round leaves ratio and interval as they were."""
    slow = (1.0, 3.0, 1.0, 1.0, 1.0)
    slowed = log_ratio_interval(
        [s * t for s, t in zip(NOW_S, slow, strict=True)], [s * t for s, t in zip(NOW_CONTROL_S, slow, strict=True)]
    )
    assert slowed.interval == pytest.approx(log_ratio_interval(NOW_S, NOW_CONTROL_S).interval)


def test_five_rounds_cover_what_they_claim() -> None:
    """Of 2000 seeded sets of five rounds with a true speedup of 2, 95 % of the intervals hold it (binomial limits at 4 sigma)."""
    draw = np.random.default_rng(7)
    covered = 0
    for _ in range(2000):
        interval = log_ratio_interval(
            np.exp(draw.normal(0.0, 0.05, 5)).tolist(), (2.0 * np.exp(draw.normal(0.0, 0.05, 5))).tolist()
        ).interval
        assert interval is not None
        covered += interval[0] <= 2.0 <= interval[1]
    assert abs(covered / 2000 - 0.95) < 4 * math.sqrt(0.95 * 0.05 / 2000)


def test_a_change_of_speedup_is_scipys_welch_test() -> None:
    """scipy's ttest_ind with unequal variances gives the same interval and p."""
    expected = stats.ttest_ind(logs(NOW_S, NOW_CONTROL_S), logs(BEFORE_S, BEFORE_CONTROL_S), equal_var=False)
    found = speedup_change(NOW_S, NOW_CONTROL_S, BEFORE_S, BEFORE_CONTROL_S)
    assert found.interval == pytest.approx(np.exp(expected.confidence_interval(0.95)))
    assert found.p == pytest.approx(expected.pvalue)


def test_a_change_needs_rounds_on_both_sides() -> None:
    """Two rounds before leave the change without an interval, however many there are now."""
    assert speedup_change(NOW_S, NOW_CONTROL_S, (1.0, 1.0), (2.0, 2.0)).interval is None


def test_a_slower_machine_does_not_change_the_speedup() -> None:
    """All times doubled, cell and control: the change is 1."""
    found = speedup_change([2 * s for s in NOW_S], [2 * s for s in NOW_CONTROL_S], NOW_S, NOW_CONTROL_S)
    assert found.ratio == pytest.approx(1.0)


def test_holm_by_hand() -> None:
    """0.01, 0.04, 0.03 times 3, 1, 2 in order of size, never falling: 0.03, 0.06, 0.06."""
    assert holm([0.01, 0.04, 0.03]) == pytest.approx((0.03, 0.06, 0.06))


def test_holm_of_nothing_is_nothing() -> None:
    """No test made, no p value."""
    assert holm([]) == ()


# ---- mAP differences ----


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
    difference = paired_map_difference(truth, everything, everything[:5], seed=0, draws=200)
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
    difference = paired_map_difference(truth, a, b, seed=1, draws=4000)
    assert (difference.high - difference.low) / (2 * 1.959964) == pytest.approx(analytic, rel=0.06)


def test_p_is_of_the_normal_with_that_error() -> None:
    """A difference of one analytic error, in 400 boxes of which 20 more are found, has the p of a normal at its distance."""
    truth = truth_of([1] * 400)
    a = [found(picture, 1.0 - picture / 1000) for picture in range(1, 221)]  # 220 of 400
    b = [found(picture, 1.0 - picture / 1000) for picture in range(41, 281)]  # 240 of 400: 40 lost, 60 won
    analytic = math.sqrt((100 - 20 * 20 / 400) / 400 / 400)
    difference = paired_map_difference(truth, a, b, seed=2, draws=2000)
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
    weighted = statistics._class_aps(statistics._match(truth, detections, "a"), times_drawn[None, :])
    assert weighted[0, 0] == pytest.approx(coco_map(repeated, copies), abs=1e-12)


def test_equal_results_differ_by_nothing() -> None:
    """The same detections twice: difference 0, interval of no width, p 1."""
    detections = [found(picture, 0.5) for picture in range(1, 6)]
    difference = paired_map_difference(truth_of([1] * 10), detections, detections, seed=0, draws=100)
    assert (difference.mean, difference.low, difference.high, difference.p) == (0.0, 0.0, 0.0, 1.0)


def test_the_seed_is_all_that_decides_the_draws() -> None:
    """Same seed, same interval; another seed, another interval of the same observed difference."""
    truth, a = truth_of([1] * 20), [found(picture, 1.0 - picture / 100) for picture in range(1, 21)]
    first, again, other = (paired_map_difference(truth, a, a[::2], seed=seed, draws=100) for seed in (4, 4, 5))
    assert first == again
    assert other.mean == first.mean
    assert (other.low, other.high) != (first.low, first.high)


def test_no_detections_at_all_are_map_0() -> None:
    """A detector that found nothing loses everything."""
    a = [found(picture, 0.9) for picture in range(1, 11)]
    assert paired_map_difference(truth_of([1] * 10), a, [], seed=0, draws=100).mean == pytest.approx(-1.0)


def test_one_picture_decides_nothing() -> None:
    """Its bootstrap has no spread; the interval is everything and p is 1."""
    difference = paired_map_difference(truth_of([2]), [found(1, 0.9)], [found(1, 0.9), found(1, 0.8, box=1)], seed=0, draws=100)
    assert (difference.low, difference.high, difference.p) == (-1.0, 1.0, 1.0)


def test_detections_of_another_split_are_refused() -> None:
    """A picture id the ground truth does not have is named."""
    with pytest.raises(InputError, match="picture id 99 is not in the ground truth"):
        paired_map_difference(truth_of([1] * 3), [found(1, 0.9)], [found(99, 0.9)], seed=0, draws=100)


def test_ground_truth_without_boxes_is_refused() -> None:
    """There is no mAP to differ."""
    with pytest.raises(InputError, match="no box that counts"):
        paired_map_difference(truth_of([0] * 3), [found(1, 0.9)], [], seed=0, draws=100)


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
    observed = paired_map_difference(truth, results, worse, seed=0, draws=10).mean
    assert observed == pytest.approx(coco_map(truth, worse) - expected[0], abs=1e-6)
