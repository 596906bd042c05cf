"""The architecture search, end to end on a tiny space."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import pytest
from pydantic import ValidationError

from compressors.contract import Change, Each, Workbench
from compressors.latency import estimated_latency, latency_dtype
from compressors.nas import Nas, search, space_to_search
from compressors.nas.candidates import Judge
from compressors.nas.space import smallest
from detection.checkpoint import Detector, fresh
from detection.compact.architecture import Architecture, architecture_of
from detection.costs import count_macs
from detection.frozen import InputError
from detection.spec import Factored, Ranks, Spec
from hardware_profiles.schema.library import load_profile
from hardware_profiles.schema.profile import DType

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
    return fresh(tiny_detector.spec.having(tiny_detector.spec.settings.model_copy(update=wider)), 0)


@pytest.fixture(scope="module")
def found(start: Detector, bench: Workbench) -> tuple[Detector, Change]:
    """One search, shared by the claims about it."""
    return search(start, QUICK, bench)


def latency_s(spec: Spec, bench: Workbench, dtype: DType = "fp32") -> float:
    """The profile's estimate of a network."""
    return estimated_latency(spec, bench.design_profile, dtype).point_s


def recorded(start: Detector, record: dict[str, Any]) -> Spec:
    """The network of a record."""
    return start.spec.having(Architecture.model_validate(record["architecture"]))


def front(change: Change) -> list[dict[str, Any]]:
    """The recorded front."""
    records: list[dict[str, Any]] = change.details["front"]
    return records


def test_the_winner_keeps_to_the_budget(found: tuple[Detector, Change], start: Detector, bench: Workbench) -> None:
    """The budget lies 60 % of the way from the smallest architecture's estimate to the start's, and the winner's within it."""
    winner, change = found
    space = space_to_search(start.spec, QUICK)
    least_s, most_s = (latency_s(one, bench) for one in (space.spec(smallest(space)), start.spec))
    assert change.details["budget_s"] == pytest.approx(least_s + 0.6 * (most_s - least_s))
    assert latency_s(winner.spec, bench) <= change.details["budget_s"] < most_s


def test_every_candidate_on_the_front_keeps_to_the_budget(
    found: tuple[Detector, Change], start: Detector, bench: Workbench
) -> None:
    """The recorded latencies are the profile's estimates of the recorded architectures, none above the budget."""
    for record in front(found[1]):
        assert record["estimated_latency_s"] == latency_s(recorded(start, record), bench)
        assert record["estimated_latency_s"] <= found[1].details["budget_s"]


@pytest.fixture(scope="module")
def contested(start: Detector, bench: Workbench) -> tuple[Detector, Change, set[tuple[float, float]]]:
    """A search where a wider head is more accurate and slower, and (estimated latency, mAP) of all that it judged."""
    judged: set[tuple[float, float]] = set()

    class ByHead(Judge):
        def __call__(self, spec: Spec) -> float:
            reached = architecture_of(spec).head_width / 64
            judged.add((latency_s(spec, bench), reached))
            return reached

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("compressors.nas.method.Judge", ByHead)
        winner, change = search(start, QUICK.model_copy(update={"evaluations": 16, "random_baseline": False}), bench)
    return winner, change, judged


def test_the_front_is_what_none_of_the_judged_beats(contested: tuple[Detector, Change, set[tuple[float, float]]]) -> None:
    """Of 16 those for which no other is at least as fast and as accurate, found one by one; fastest first, and not one alone."""
    _, change, judged = contested
    unbeaten = [own for own in judged if not any(a <= own[0] and b >= own[1] for a, b in judged - {own})]
    assert 1 < len(unbeaten) < len(judged) == 16
    assert [(record["estimated_latency_s"], record["supernet_val_map"]) for record in front(change)] == sorted(unbeaten)


def test_the_winner_is_the_most_accurate_of_the_front(contested: tuple[Detector, Change, set[tuple[float, float]]]) -> None:
    """Within the budget accuracy decides: the chosen one is the slow end of the front, and no judged one is more accurate."""
    winner, change, judged = contested
    assert change.details["chosen"] == front(change)[-1] != front(change)[0]
    assert change.details["chosen"]["supernet_val_map"] == max(reached for _, reached in judged)
    assert change.details["chosen"]["architecture"] == winner.spec.settings.model_dump()


def test_the_search_counts_every_picture(found: tuple[Detector, Change], bench: Workbench) -> None:
    """By hand: one epoch of 24, then five candidates and five random ones on 8 + 6 pictures each, which is what was planned."""
    _, change = found
    assert change.details["evaluated"] == change.details["random_baseline"]["evaluated"] == 5
    assert change.spent.search_images == 24 + (2 * 5 + 1) * (8 + 6) == QUICK.search_images(len(bench.train), len(bench.val))


def test_the_winner_lies_in_the_space_and_is_fresh(found: tuple[Detector, Change], start: Detector, bench: Workbench) -> None:
    """No layer is wider or deeper than at the start, nothing but width and depth changed, and the weights are the seed's."""
    winner, _ = found
    now, was = architecture_of(winner.spec), architecture_of(start.spec)
    assert all(a <= b for a, b in zip(now.stage_widths, was.stage_widths, strict=True))
    assert all(a <= b for a, b in zip(now.stage_depths, was.stage_depths, strict=True))
    assert now.neck_width <= was.neck_width
    assert now.head_width <= was.head_width
    searched = ("stage_widths", "stage_depths", "neck_width", "head_width")
    assert now.model_dump(exclude=set(searched)) == was.model_dump(exclude=set(searched))
    assert winner.digest == fresh(winner.spec, bench.seed).digest


def test_the_search_repeats_under_a_seed(found: tuple[Detector, Change], start: Detector, bench: Workbench) -> None:
    """The same inputs give the same front and winner; another seed judges other candidates."""
    again, change = search(start, QUICK, bench)
    assert again.digest == found[0].digest
    assert change == found[1]
    _, other = search(start, QUICK.model_copy(update={"random_baseline": False}), replace(bench, seed=1))
    assert front(other) != front(change)


def test_the_given_detector_is_left_alone(start: Detector, bench: Workbench) -> None:
    """Neither the searched detector nor the teacher it inherits from changes."""
    teacher = fresh(start.spec, 9)
    digests = start.digest, teacher.digest
    search(start, QUICK.model_copy(update={"evaluations": 1, "random_baseline": False}), replace(bench, teacher=teacher))
    assert (start.digest, teacher.digest) == digests


def test_an_edited_detector_is_refused(start: Detector, bench: Workbench) -> None:
    """A pruned or factored detector has no plain architecture to search in."""
    edited = fresh(start.spec.edited(Factored(layers={"stages.3.0.0": Ranks(inputs=8, outputs=8)})), 0)
    with pytest.raises(InputError, match="give `weights: inherited`: its parts are searched"):
        search(edited, QUICK, bench)


def test_a_space_too_small_for_the_search_is_refused(start: Detector) -> None:
    """One width and one or two depths give two architectures; five cannot be judged, and the message says what to change."""
    single = QUICK.model_copy(update={"width_shares": (1.0,), "budget_share": 1.0})
    with pytest.raises(InputError, match=r"nas\.evaluations: 5 is more than the 2 networks of the space\. .*nas\.width_shares"):
        space_to_search(start.spec, single)
    assert space_to_search(start.spec, single.model_copy(update={"evaluations": 2})).largest == start.spec


@pytest.mark.parametrize("random_baseline", [True, False])
def test_a_budget_too_tight_for_the_search_is_refused_before_training(
    random_baseline: bool, start: Detector, bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Next to nothing above the smallest of two architectures leaves that one alone; no supernet is made to find that out."""
    monkeypatch.setattr("compressors.nas.method.Supernet", None)
    two = {"width_shares": (1.0,), "evaluations": 2, "budget_share": 1e-9, "random_baseline": random_baseline}
    with pytest.raises(InputError, match=r"nas\.evaluations: 2 is more than the 1 .* within the budget, .*nas\.budget_share"):
        search(start, QUICK.model_copy(update=two), bench)


def test_a_search_for_int8_estimates_in_int8(found: tuple[Detector, Change], start: Detector, bench: Workbench) -> None:
    """Budget and candidates are estimated as quantized networks, which on this device are faster; the record says so."""
    winner, change = search(start, QUICK.model_copy(update={"latency_in": "int8", "random_baseline": False}), bench)
    space = space_to_search(start.spec, QUICK)
    least_s, most_s = (latency_s(one, bench, "int8") for one in (space.spec(smallest(space)), space.largest))
    assert change.details["budget_s"] == pytest.approx(least_s + 0.6 * (most_s - least_s))
    assert change.details["budget_s"] < found[1].details["budget_s"]
    assert (change.details["latency_in"], found[1].details["latency_in"]) == ("int8", "float")
    for record in front(change):
        own_s = latency_s(recorded(start, record), bench, "int8")
        assert record["estimated_latency_s"] == own_s <= change.details["budget_s"]
    assert latency_s(winner.spec, bench, "int8") <= change.details["budget_s"]


def test_a_search_for_int8_needs_a_device_that_has_it(start: Detector, bench: Workbench) -> None:
    """The message names the field, the profile, what it multiplies in, and what to do; in float the same device will do."""
    nano = load_profile("jetson-nano")
    for_int8 = QUICK.model_copy(update={"latency_in": "int8"})
    with pytest.raises(
        InputError, match=r"nas\.latency_in: int8 .*'jetson-nano' multiplies in fp32, fp16 only\. Leave it at `float`"
    ):
        search(start, for_int8, replace(bench, design_profile=nano))
    assert (latency_dtype("float", nano, "nas"), latency_dtype("int8", bench.design_profile, "nas")) == ("fp32", "int8")


def test_a_device_that_cannot_run_the_network_is_refused(start: Detector, bench: Workbench) -> None:
    """The Edge TPU takes int8 alone, and the last predictions stay float: in either type the message names the field."""
    edge = replace(bench, design_profile=load_profile("coral-edge-tpu"))
    for latency_in in ("float", "int8"):
        with pytest.raises(InputError, match=r"nas\.latency_in: no estimate in .*int8 alone.*another design profile"):
            search(start, QUICK.model_copy(update={"latency_in": latency_in}), edge)


def test_the_space_may_be_of_another_shape(start: Detector, bench: Workbench) -> None:
    """Without the coarsest level, with the longer step and one branch: whatever wins has that shape, and its weights fit."""
    shape = {"levels": [8, 16], "stem_stride": 4, "head_branches": "shared", "head_depth": 1, "least_depth": 0}
    winner, change = search(start, QUICK.model_copy(update={"space": shape, "evaluations": 4, "random_baseline": False}), bench)
    architecture = architecture_of(winner.spec)
    assert (architecture.levels, architecture.stem_stride, architecture.head_branches) == ((8, 16), 4, "shared")
    assert len(architecture.stage_widths) == 3
    assert set(winner.network().state_dict()) == set(winner.weights)
    assert change.macs_after < change.macs_before


def test_a_space_without_fine_levels_is_refused(start: Detector, bench: Workbench) -> None:
    """Levels are left out from the coarse end; the message names the field and what the detector has."""
    with pytest.raises(InputError, match=r"nas\.space\.levels: \(16, 32\) .* \(8, 16, 32\)"):
        search(start, QUICK.model_copy(update={"space": {"levels": [16, 32]}}), bench)


def test_the_null_proxies_are_what_no_search_would_have_chosen(
    found: tuple[Detector, Change], start: Detector, bench: Workbench
) -> None:
    """The best of the random ones keeps to the budget; the largest is no slower than the search's choice and has its multiply-adds
    at least."""
    proxies = found[1].details["random_baseline"]
    accurate, large = proxies["random_search"], proxies["largest_macs"]
    for record in (accurate, large):
        own = recorded(start, record)
        assert record["estimated_latency_s"] == latency_s(own, bench)
        assert record["macs"] == count_macs(own)
    chosen = found[1].details["chosen"]
    space = space_to_search(start.spec, QUICK)
    least_s = latency_s(space.spec(smallest(space)), bench)
    assert accurate["estimated_latency_s"] <= found[1].details["budget_s"]
    assert large["estimated_latency_s"] <= max(chosen["estimated_latency_s"], least_s)
    assert large["macs"] >= chosen["macs"]


def test_without_null_proxies_the_search_is_the_same(found: tuple[Detector, Change], start: Detector, bench: Workbench) -> None:
    """They are judged beside it: front and winner stay, the pictures of five candidates are saved, and the record says None."""
    alone = QUICK.model_copy(update={"random_baseline": False})
    winner, change = search(start, alone, bench)
    assert winner.digest == found[0].digest
    assert change.details == found[1].details | {"random_baseline": None}
    assert change.spent.search_images == alone.search_images(len(bench.train), len(bench.val)) == 24 + 5 * (8 + 6)


def test_whole_generations_are_judged_in_any_order(found: tuple[Detector, Change], start: Detector, bench: Workbench) -> None:
    """Judged last first, as an executor might, a population of four at a time, the result is the same to the last bit."""
    sizes: list[int] = []

    def last_first(work: Any, items: Any) -> list[Any]:
        sizes.append(len(items))
        return [work(item) for item in reversed(items)][::-1]

    winner, change = search(start, QUICK, replace(bench, each=cast(Each, last_first)))
    assert (winner.digest, change) == (found[0].digest, found[1])
    assert max(sizes[:-2]) <= QUICK.population
    assert sum(sizes[:-2]) == sizes[-2] == QUICK.evaluations
    assert sizes[-1] == 1, "the largest"


def test_the_space_may_be_of_light_blocks_and_see_smaller_pictures(start: Detector, bench: Workbench) -> None:
    """Depthwise blocks throughout, half the sides: whatever wins has both, and costs less for it."""
    shape = {"space": {"block": "depthwise", "levels": [8, 16]}, "input_share": 0.5}
    winner, change = search(start, QUICK.model_copy(update=shape | {"evaluations": 4, "random_baseline": False}), bench)
    architecture = architecture_of(winner.spec)
    assert {architecture.backbone_block, architecture.neck_block, architecture.head_block} == {"depthwise"}
    assert winner.spec.input_size == (32, 48)
    assert change.macs_after < change.macs_before / 8
    assert change.spent.search_images == 24 + 4 * (8 + 6)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"input_share": 0.5}, r"nas\.input_share 0\.5: of \(64, 96\) \(height, width\).*, 32; allowed are 1\."),
        ({"input_share": 0.75, "space": {"levels": [8, 16]}}, r"nas\.input_share 0\.75: .* allowed are 0\.5, 1\."),
        (
            {"space": {"block": "ghost"}, "round_to": 6},
            r"nas\.round_to: 6: ghost blocks halve their width, so it must be a multiple of 4",
        ),
        ({"space": {"levels": [16, 32]}}, r"nas\.space\.levels: \(16, 32\)"),
        ({"space": {"levels": []}}, r"nas\.space\.levels: "),
        ({"space": {"stem_stride": 3}}, r"nas\.space\.stem_stride: .*found 3"),
        ({"space": {"head_branches": "both"}}, r"nas\.space\.head_branches: .*found 'both'"),
        ({"space": {"head_depth": 0}}, r"nas\.space\.head_depth: .*found 0"),
        ({"space": {"block": "fused"}}, r"nas\.space\.block: .*found 'fused'"),
        ({"space": {"least_depth": -1}}, r"nas\.space\.least_depth: .*found -1"),
        ({"space": {"stem_step": 4}}, r"nas\.space\.stem_step: .*settings are .*stem_stride"),
        ({"evaluations": 100_000}, r"nas\.evaluations: 100000 is more than the \d+ networks of the space"),
    ],
)
def test_what_no_space_can_be_is_refused_by_name(start: Detector, settings: dict[str, Any], words: str) -> None:
    """The spec alone tells, so params are refused before anything is trained."""
    with pytest.raises(InputError, match=words):
        space_to_search(start.spec, QUICK.model_copy(update=settings))


def test_a_width_that_cannot_be_halved_is_refused(start: Detector) -> None:
    """A ghost block makes half of its maps: a neck of 17 channels has no half, and the message names the field and the width."""
    odd = start.spec.having(start.spec.settings.model_copy(update={"neck_width": 17}))
    with pytest.raises(InputError, match=r"nas\.space\.block: ghost: ghost blocks halve their width, .* found 17"):
        space_to_search(odd, QUICK.model_copy(update={"space": {"block": "ghost"}}))


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"budget_share": 0}, "budget_share"),
        ({"latency_in": "fp16"}, "latency_in"),
        ({"width_shares": ()}, "width_shares"),
        ({"width_shares": (0.0, 1.0)}, "width_shares"),
        ({"round_to": 0}, "round_to"),
        ({"levels": (8, 16)}, "levels"),
        ({"space": "small"}, "space"),
        ({"input_share": 1.5}, "input_share"),
        ({"supernet_epochs": 0}, "supernet_epochs"),
        ({"evaluations": 0}, "evaluations"),
        ({"population": 3}, "population"),
        ({"recalibration_pictures": 0}, "recalibration_pictures"),
        ({"val_pictures": 0}, "val_pictures"),
    ],
    ids=str,
)
def test_impossible_settings_are_refused(given: dict[str, Any], field: str) -> None:
    """At the door, and the refusal names the field."""
    with pytest.raises(ValidationError) as refused:
        Nas.model_validate(given)
    assert {error["loc"][0] for error in refused.value.errors()} == {field}


def test_labels_tell_variants_apart() -> None:
    """What differs from the detector's own is in the name, or two cells would share one."""
    variants = [
        Nas(), Nas(space={"levels": [8, 16]}), Nas(space={"stem_stride": 4}), Nas(space={"head_branches": "shared"}),
        Nas(space={"head_depth": 1}), Nas(space={"block": "ghost"}), Nas(input_share=0.5), Nas(budget_share=0.25),
        Nas(latency_in="int8"),
    ]  # fmt: skip
    labels = [variant.label() for variant in variants]
    assert labels[0] == "nsga2-0.5"
    assert labels[1] == "nsga2-0.5-levels-8-16"
    assert labels[5] == "nsga2-0.5-block-ghost"
    assert labels[8] == "nsga2-0.5-for-int8"
    assert len(set(labels)) == len(variants)


def test_a_label_does_not_depend_on_how_a_space_is_written() -> None:
    """Options in another order, or named and left open, are the same space."""
    space = {"stem_stride": 4, "head_branches": "shared"}
    assert (
        Nas(space=space).label() == Nas(space=dict(reversed(space.items()))).label() == Nas(space=space | {"levels": None}).label()
    )
