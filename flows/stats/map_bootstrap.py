"""Differences of mAP between two results on the same pictures, by a paired bootstrap over hotcoco's matches."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import hotcoco
import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from detection.frozen import Frozen, InputError
from flows.progress import steps
from flows.records.schema import ArtifactRecord, ScoredSplit
from flows.records.store import Store, read_detections
from flows.stats.latency import POWER

MIN_PICTURES = 2
"""One picture drawn again and again is always itself: its bootstrap would claim certainty."""
DRAWN_WEIGHTS_AT_ONCE = 4_000_000
"""Draws x detections held at a time; 32 MB of float64."""
RECALL_THRESHOLDS = np.linspace(0.0, 1.0, 101)
"""COCO's 101 points of the precision-recall curve."""
IOU_THRESHOLDS = 10
"""COCO's 0.50, 0.55 .. 0.95."""


class Difference(Frozen):
    """A difference of mAP 50-95 on the same pictures, b minus a: above 0 when b is better. Shares of 1, not points."""

    mean: float
    """The observed difference."""
    low: float
    high: float
    p: float
    """Two-sided, that the difference is 0."""
    error: float | None = None
    """Standard error, of the bootstrap; None where there is none."""


NO_DIFFERENCE = Difference(mean=0.0, low=0.0, high=0.0, p=1.0, error=0.0)
"""Of one file and itself: nothing to draw for."""


def artifact_difference(
    ground_truth: dict[str, Any],
    split: ScoredSplit,
    pair: tuple[ArtifactRecord, ArtifactRecord],
    store: Store,
    *,
    seed: int,
    draws: int,
) -> Difference:
    """Of two scored files: mAP on the split of the second minus that of the first; a file does not differ from itself."""
    if pair[0].digest == pair[1].digest:
        return NO_DIFFERENCE
    first, second = (read_detections(store.file(own.on(split).detections)) for own in pair)
    return map_difference(ground_truth, [(first, second)], seed=seed, draws=draws)


def map_difference(
    ground_truth: dict[str, Any],
    pairs: Sequence[tuple[list[dict[str, Any]], list[dict[str, Any]]]],
    *,
    seed: int,
    draws: int,
    confidence: float = 0.95,
) -> Difference:
    """The difference of mAP 50-95 of two results (a, b), b minus a, with a percentile interval; of several pairs the mean.

    A paired bootstrap over pictures: all results are matched once, by hotcoco; each draw takes as many pictures as there are, with
    replacement, the same for all results, and counts a picture as often as it was drawn. hotcoco's own `compare` counts a drawn
    picture once, which leaves 63 % of the pictures in a draw and makes intervals 24 % too narrow. p is of the normal with the
    bootstrap's standard error, so it has no floor of 1 / draws and survives a correction for a hundred comparisons.

    A draw also takes as many pairs as there are, with replacement: the interval holds the chance of the pictures and that of the
    pairs, for instance of networks trained with several seeds. Of few pairs it says too little: draws from k of them have the
    variance with divisor k, (k - 1) / k of the one that estimates without bias.
    """
    assert pairs, "a mean is of something"
    generator, pictures = np.random.default_rng(seed), len(ground_truth["images"])
    times_drawn = _times_drawn(generator, pictures, draws if pictures >= MIN_PICTURES else 0)
    sides = [f" of pair {number}" if len(pairs) > 1 else "" for number in range(1, len(pairs) + 1)]
    matches = [[_match(ground_truth, own[i], f"{'ab'[i]}{side}") for i in (0, 1)] for own, side in zip(pairs, sides, strict=True)]
    of_pairs = np.stack([_mean(_class_aps(b, times_drawn) - _class_aps(a, times_drawn)) for a, b in matches], axis=1)
    observed = float(np.mean(of_pairs[0]))
    if math.isnan(observed):
        raise InputError("the ground truth has no box that counts, so there is no mAP. Give a split with labelled boxes.")
    if pictures < MIN_PICTURES:
        return Difference(mean=observed, low=-1.0, high=1.0, p=1.0)
    pairs_drawn = generator.multinomial(len(pairs), np.full(len(pairs), 1.0 / len(pairs)), size=draws)  # (draws, pairs)
    return _summed_up(observed, (of_pairs[1:] * pairs_drawn).sum(axis=1) / len(pairs), confidence)


def drawn_aps(
    ground_truth: dict[str, Any], detections: list[dict[str, Any]], *, seed: int, draws: int, name: str = "given"
) -> NDArray[np.float64]:
    """AP 50-95 of each class over all pictures, then in each draw of them, (1 + draws, classes); NaN where there is no box.

    The slow half of `map_difference`: a result that is compared with many is matched and drawn once.
    """
    pictures = len(ground_truth["images"])
    assert pictures >= MIN_PICTURES, "one picture is always itself"
    return _class_aps(_match(ground_truth, detections, name), _times_drawn(np.random.default_rng(seed), pictures, draws))


def drawn_difference(aps_a: NDArray[np.float64], aps_b: NDArray[np.float64]) -> Difference:
    """What `map_difference` says of two results, b minus a, from the `drawn_aps` of both with the same seed and draws."""
    assert aps_a.shape == aps_b.shape, "the same draws of the same classes"
    differences = _mean(aps_b - aps_a)
    return _summed_up(float(differences[0]), differences[1:], 0.95)


def detectable_difference(difference: Difference, level: float) -> float | None:
    """The smallest difference of mAP that a two-sided test at this level finds with a probability of POWER on these pictures."""
    if difference.error is None:
        return None
    return float(ndtri(1.0 - level / 2.0) + ndtri(POWER)) * difference.error


def _times_drawn(generator: np.random.Generator, pictures: int, draws: int) -> NDArray[np.int64]:
    """How often each picture counts, (1 + draws, pictures): once each, then as often as it was drawn."""
    once = np.ones((1, pictures), dtype=np.int64)
    return np.concatenate([once, generator.multinomial(pictures, np.full(pictures, 1.0 / pictures), size=draws)]) if draws else once


def _summed_up(observed: float, differences: NDArray[np.float64], confidence: float) -> Difference:
    """The percentile interval of drawn differences around the observed one."""
    differences = differences[~np.isnan(differences)]  # a draw without any box has no mAP
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(differences, (tail, 1.0 - tail))
    error = float(differences.std(ddof=1))
    p = 2.0 * float(ndtr(-abs(observed) / error)) if error else float(observed == 0.0)  # of the normal
    return Difference(mean=observed, low=float(low), high=float(high), p=p, error=error)


@dataclass(frozen=True)
class _ClassMatches:
    """The matched detections of one class, best score first."""

    picture: NDArray[np.int64]  # (D,), row of the picture each detection is in
    hit: NDArray[np.bool_]  # (T, D), matched a box that counts, at each of T IoU thresholds
    ignored: NDArray[np.bool_]  # (T, D), matched a crowd: neither hit nor miss
    boxes: NDArray[np.int64]  # (pictures,), boxes that count in each picture


def _match(ground_truth: dict[str, Any], detections: list[dict[str, Any]], name: str) -> list[_ClassMatches]:
    """Detections matched to boxes per class, COCO's way: by hotcoco, whole area range, at most 100 a picture."""
    rows = {picture["id"]: row for row, picture in enumerate(ground_truth["images"])}
    strangers = {detection["image_id"] for detection in detections} - set(rows)
    if strangers:
        raise InputError(
            f"detections {name}: picture id {min(strangers)} is not in the ground truth ({len(strangers)} such ids). "
            "Detections and ground truth have to be of the same split."
        )
    truth = hotcoco.COCO(ground_truth)
    evaluation = hotcoco.COCOeval(truth, truth.load_res(detections), "bbox")
    evaluation.params.area_rng, evaluation.params.area_rng_lbl = [[0.0, 1e10]], ["all"]
    evaluation.evaluate()
    by_class: dict[int, list[dict[str, Any]]] = {category["id"]: [] for category in ground_truth["categories"]}
    for matched in evaluation.eval_imgs:
        if matched is not None:
            by_class[matched["category_id"]].append(matched)
    return [_join(matched, rows) for matched in by_class.values()]


def _join(matched: list[dict[str, Any]], rows: dict[int, int]) -> _ClassMatches:
    boxes = np.zeros(len(rows), dtype=np.int64)
    for picture in matched:
        boxes[rows[picture["image_id"]]] = len(picture["gtIgnore"]) - sum(picture["gtIgnore"])
    found = [picture for picture in matched if picture["dtScores"]]
    if not found:
        nothing = np.zeros((IOU_THRESHOLDS, 0), dtype=np.bool_)
        return _ClassMatches(np.zeros(0, dtype=np.int64), nothing, nothing, boxes)
    order = np.argsort(-np.concatenate([picture["dtScores"] for picture in found]), kind="stable")
    picture_rows = np.concatenate([np.full(len(picture["dtScores"]), rows[picture["image_id"]]) for picture in found])
    ignored = np.concatenate([np.asarray(picture["dtIgnore"], dtype=np.bool_) for picture in found], axis=1)
    taken = np.concatenate([np.asarray(picture["dtMatched"], dtype=np.bool_) for picture in found], axis=1)
    return _ClassMatches(picture_rows[order], (taken & ~ignored)[:, order], ignored[:, order], boxes)


def _class_aps(matches: list[_ClassMatches], times_drawn: NDArray[Any]) -> NDArray[np.float64]:
    """AP 50-95 of each class in each draw, (draws, classes); NaN where a draw has no box of the class."""
    classes = []
    for own in matches:
        at_once = max(1, DRAWN_WEIGHTS_AT_ONCE // max(1, len(own.picture)))
        starts = range(0, len(times_drawn), at_once)
        chunks = [_chunk_aps(own, times_drawn[at : at + at_once]) for at in steps(starts, len(starts), "bootstrap", "chunks")]
        classes.append(np.concatenate(chunks))
    return np.stack(classes, axis=1)


def _chunk_aps(matches: _ClassMatches, times_drawn: NDArray[Any]) -> NDArray[np.float64]:
    """AP over IoU thresholds in each draw, (draws,): every detection weighs as often as its picture was drawn."""
    boxes = (times_drawn @ matches.boxes).astype(np.float64)  # (draws,)
    weights = times_drawn[:, matches.picture].astype(np.float64)  # (draws, D)
    seen = weights.cumsum(axis=1)  # detections up to and with each, were none ignored
    total = np.zeros(len(times_drawn))
    with np.errstate(divide="ignore", invalid="ignore"):  # 0 / 0 in draws without a box, or before the first drawn detection
        for hit, ignored in zip(matches.hit, matches.ignored, strict=True):
            hits = weights[:, hit].cumsum(axis=1)  # (draws, H); precision falls between hits, so the curve is known at hits alone
            counted = seen[:, hit] if not ignored.any() else (weights * ~ignored).cumsum(axis=1)[:, hit]
            precision = np.nan_to_num(hits / counted)
            envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
            reached = np.searchsorted(RECALL_THRESHOLDS, hits / boxes[:, None], side="right")  # thresholds at or under each recall
            total += (np.diff(reached, axis=1, prepend=0) * envelope).sum(axis=1)
    return np.where(boxes > 0, total / (len(matches.hit) * len(RECALL_THRESHOLDS)), np.nan)


def _mean(class_differences: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean over the classes a draw has boxes of, (draws,); NaN where it has none."""
    present = ~np.isnan(class_differences)
    with np.errstate(invalid="ignore"):
        means: NDArray[np.float64] = np.nansum(class_differences, axis=1) / present.sum(axis=1)
    return means
