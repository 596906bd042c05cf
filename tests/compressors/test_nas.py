"""The architecture search, end to end on a tiny space."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from compressors.contract import Change, Workbench
from compressors.latency import estimated_latency
from compressors.nas import Nas, search
from detection.blueprint import Architecture, Factored, Ranks
from detection.checkpoint import Detector, fresh
from detection.frozen import InputError

QUICK = Nas(
    latency_share=0.95,
    width_shares=(0.5, 0.75, 1.0),
    supernet_epochs=1,
    evaluations=5,
    population=4,
    recalibration_pictures=8,
    val_pictures=6,
)


@pytest.fixture(scope="module")
def found(tiny_detector: Detector, workbench: Workbench) -> tuple[Detector, Change]:
    """One search, shared by the claims about it."""
    return search(tiny_detector, QUICK, workbench)


def latency_s(detector: Detector, architecture: Architecture, workbench: Workbench) -> float:
    """The profile's estimate of an architecture."""
    blueprint = detector.blueprint.model_copy(update={"architecture": architecture})
    return estimated_latency(blueprint, workbench.design_profile, "fp32").point_s


def front(change: Change) -> list[dict[str, Any]]:
    """The recorded front."""
    records: list[dict[str, Any]] = change.details["front"]
    return records


def test_the_winner_keeps_to_the_budget(found: tuple[Detector, Change], tiny_detector: Detector, workbench: Workbench) -> None:
    """The budget is 95 % of the start's estimate on the design profile, and the chosen architecture's estimate lies within."""
    winner, change = found
    start_s = latency_s(tiny_detector, tiny_detector.blueprint.architecture, workbench)
    assert change.details["budget_s"] == pytest.approx(0.95 * start_s)
    assert latency_s(tiny_detector, winner.blueprint.architecture, workbench) <= change.details["budget_s"]


def test_every_candidate_on_the_front_keeps_to_the_budget(
    found: tuple[Detector, Change], tiny_detector: Detector, workbench: Workbench
) -> None:
    """The recorded latencies are the profile's estimates of the recorded architectures, none above the budget."""
    for record in front(found[1]):
        architecture = Architecture.model_validate(record["architecture"])
        assert record["estimated_latency_s"] == latency_s(tiny_detector, architecture, workbench)
        assert record["estimated_latency_s"] <= found[1].details["budget_s"]


def test_no_candidate_on_the_front_beats_another(found: tuple[Detector, Change]) -> None:
    """Along the front both latency and mAP rise: each candidate is faster or more accurate than any other."""
    records = front(found[1])
    latencies = [record["estimated_latency_s"] for record in records]
    maps = [record["supernet_val_map"] for record in records]
    assert latencies == sorted(set(latencies))
    assert maps == sorted(set(maps))
    assert 1 <= len(records) <= QUICK.evaluations


def test_the_winner_is_the_most_accurate_of_the_front(found: tuple[Detector, Change]) -> None:
    """Within the budget accuracy decides, so the chosen one is the slow and accurate end of the front."""
    winner, change = found
    assert change.details["chosen"] == front(change)[-1]
    assert Architecture.model_validate(change.details["chosen"]["architecture"]) == winner.blueprint.architecture


def test_the_search_counts_every_picture(found: tuple[Detector, Change], workbench: Workbench) -> None:
    """By hand: one epoch of 24, then five candidates on 8 + 6 pictures, which is what was planned."""
    _, change = found
    assert change.details["evaluated"] == 5
    assert change.spent.search_images == 24 + 5 * (8 + 6) == QUICK.search_images(len(workbench.train), len(workbench.val))


def test_the_winner_is_within_the_space_and_fresh(found: tuple[Detector, Change], tiny_detector: Detector, workbench: Workbench) -> None:
    """No layer is wider or deeper than at the start, nothing but width and depth changed, and the weights are the seed's."""
    winner, _ = found
    now, was = winner.blueprint.architecture, tiny_detector.blueprint.architecture
    assert all(a <= b for a, b in zip(now.stage_widths, was.stage_widths, strict=True))
    assert all(a <= b for a, b in zip(now.stage_depths, was.stage_depths, strict=True))
    assert now.neck_width <= was.neck_width
    assert now.head_width <= was.head_width
    searched = ("stage_widths", "stage_depths", "neck_width", "head_width")
    assert now.model_dump(exclude=set(searched)) == was.model_dump(exclude=set(searched))
    assert winner.digest == fresh(winner.blueprint, workbench.seed).digest


def test_the_search_repeats_under_a_seed(found: tuple[Detector, Change], tiny_detector: Detector, workbench: Workbench) -> None:
    """The same inputs give the same front and winner; another seed judges other candidates."""
    again, change = search(tiny_detector, QUICK, workbench)
    assert again.digest == found[0].digest
    assert change == found[1]
    _, other = search(tiny_detector, QUICK, replace(workbench, seed=1))
    assert front(other) != front(change)


def test_the_given_detector_is_left_alone(tiny_detector: Detector, workbench: Workbench) -> None:
    """Neither the searched detector nor the teacher it inherits from changes."""
    teacher = fresh(tiny_detector.blueprint, 9)
    digests = tiny_detector.digest, teacher.digest
    search(tiny_detector, QUICK.model_copy(update={"evaluations": 1}), replace(workbench, teacher=teacher))
    assert (tiny_detector.digest, teacher.digest) == digests


def test_an_edited_detector_is_refused(tiny_detector: Detector, workbench: Workbench) -> None:
    """A pruned or factored detector has no plain architecture to search in."""
    edited = fresh(tiny_detector.blueprint.edited(Factored(layers={"stages.3.0.0": Ranks(inputs=8, outputs=8)})), 0)
    with pytest.raises(InputError, match="before pruning and low_rank"):
        search(edited, QUICK, workbench)
