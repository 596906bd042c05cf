"""The architecture search, end to end on a tiny space."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from compressors.contract import Change, Workbench
from compressors.latency import estimated_latency
from compressors.nas import Nas, search
from compressors.search_space import search_space
from detection.blueprint import Architecture, Factored, Ranks
from detection.checkpoint import Detector, fresh
from detection.frozen import InputError
from hardware_profiles.library import load_profile

QUICK = Nas(
    budget_share=0.6,
    width_shares=(0.5, 0.75, 1.0),
    supernet_epochs=1,
    evaluations=5,
    population=4,
    recalibration_pictures=8,
    val_pictures=6,
)


@pytest.fixture(scope="module")
def bench(workbench: Workbench) -> Workbench:
    """The workbench with a device on which narrow layers are faster, so that the budget leaves something to choose."""
    return replace(workbench, design_profile=load_profile("raspberry-pi-5"))


@pytest.fixture(scope="module")
def start(tiny_detector: Detector) -> Detector:
    """A detector with widths and a depth to search."""
    wider = {"stage_widths": (32, 48, 64, 64), "stage_depths": (1, 2, 1, 1), "neck_width": 32, "head_width": 32}
    architecture = tiny_detector.blueprint.architecture.model_copy(update=wider)
    return fresh(tiny_detector.blueprint.model_copy(update={"architecture": architecture}), 0)


@pytest.fixture(scope="module")
def found(start: Detector, bench: Workbench) -> tuple[Detector, Change]:
    """One search, shared by the claims about it."""
    return search(start, QUICK, bench)


def latency_s(detector: Detector, architecture: Architecture, bench: Workbench) -> float:
    """The profile's estimate of an architecture."""
    blueprint = detector.blueprint.model_copy(update={"architecture": architecture})
    return estimated_latency(blueprint, bench.design_profile, "fp32").point_s


def front(change: Change) -> list[dict[str, Any]]:
    """The recorded front."""
    records: list[dict[str, Any]] = change.details["front"]
    return records


def test_the_winner_keeps_to_the_budget(found: tuple[Detector, Change], start: Detector, bench: Workbench) -> None:
    """The budget lies 60 % of the way from the smallest architecture's estimate to the start's, and the winner's within it."""
    winner, change = found
    largest = start.blueprint.architecture
    space = search_space(largest, QUICK.width_shares, QUICK.round_to)
    least_s, most_s = (latency_s(start, one, bench) for one in (space.architecture(space.smallest()), largest))
    assert change.details["budget_s"] == pytest.approx(least_s + 0.6 * (most_s - least_s))
    assert latency_s(start, winner.blueprint.architecture, bench) <= change.details["budget_s"] < most_s


def test_every_candidate_on_the_front_keeps_to_the_budget(
    found: tuple[Detector, Change], start: Detector, bench: Workbench
) -> None:
    """The recorded latencies are the profile's estimates of the recorded architectures, none above the budget."""
    for record in front(found[1]):
        architecture = Architecture.model_validate(record["architecture"])
        assert record["estimated_latency_s"] == latency_s(start, architecture, bench)
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


def test_the_search_counts_every_picture(found: tuple[Detector, Change], bench: Workbench) -> None:
    """By hand: one epoch of 24, then five candidates on 8 + 6 pictures, which is what was planned."""
    _, change = found
    assert change.details["evaluated"] == 5
    assert change.spent.search_images == 24 + 5 * (8 + 6) == QUICK.search_images(len(bench.train), len(bench.val))


def test_the_winner_lies_in_the_space_and_is_fresh(found: tuple[Detector, Change], start: Detector, bench: Workbench) -> None:
    """No layer is wider or deeper than at the start, nothing but width and depth changed, and the weights are the seed's."""
    winner, _ = found
    now, was = winner.blueprint.architecture, start.blueprint.architecture
    assert all(a <= b for a, b in zip(now.stage_widths, was.stage_widths, strict=True))
    assert all(a <= b for a, b in zip(now.stage_depths, was.stage_depths, strict=True))
    assert now.neck_width <= was.neck_width
    assert now.head_width <= was.head_width
    searched = ("stage_widths", "stage_depths", "neck_width", "head_width")
    assert now.model_dump(exclude=set(searched)) == was.model_dump(exclude=set(searched))
    assert winner.digest == fresh(winner.blueprint, bench.seed).digest


def test_the_search_repeats_under_a_seed(found: tuple[Detector, Change], start: Detector, bench: Workbench) -> None:
    """The same inputs give the same front and winner; another seed judges other candidates."""
    again, change = search(start, QUICK, bench)
    assert again.digest == found[0].digest
    assert change == found[1]
    _, other = search(start, QUICK, replace(bench, seed=1))
    assert front(other) != front(change)


def test_the_given_detector_is_left_alone(start: Detector, bench: Workbench) -> None:
    """Neither the searched detector nor the teacher it inherits from changes."""
    teacher = fresh(start.blueprint, 9)
    digests = start.digest, teacher.digest
    search(start, QUICK.model_copy(update={"evaluations": 1}), replace(bench, teacher=teacher))
    assert (start.digest, teacher.digest) == digests


def test_an_edited_detector_is_refused(start: Detector, bench: Workbench) -> None:
    """A pruned or factored detector has no plain architecture to search in."""
    edited = fresh(start.blueprint.edited(Factored(layers={"stages.3.0.0": Ranks(inputs=8, outputs=8)})), 0)
    with pytest.raises(InputError, match="before pruning and low_rank"):
        search(edited, QUICK, bench)


def test_a_space_too_small_for_the_search_is_refused(start: Detector, bench: Workbench) -> None:
    """One width and one or two depths give two architectures; five cannot be judged, and the message says what to change."""
    single = QUICK.model_copy(update={"width_shares": (1.0,), "budget_share": 1.0})
    with pytest.raises(InputError, match=r"only 2 different architectures within the budget in 2, but evaluations is 5\. Raise"):
        search(start, single, bench)
