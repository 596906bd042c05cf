"""How many channels go: targets, floors, grouping, and what is refused."""

from __future__ import annotations

import re
from dataclasses import replace
from types import MappingProxyType
from typing import Any, get_args

import pytest
import torch
from pydantic import ValidationError

from compressors.channels.groups import ChannelGroup, Members, Side
from compressors.channels.importance import Importance
from compressors.channels.ranking import Ranking, channel_alignment, least_step
from compressors.contract import Workbench
from compressors.latency import estimated_latency
from compressors.planning.graph import Menu, cells_of
from compressors.planning.versions import VERSIONS
from compressors.pruning.method import Pruning, prune, refuse_out_of_reach
from compressors.target import Target
from detection.checkpoint import Detector
from detection.frozen import InputError
from hardware_profiles.schema.library import load_profile
from hardware_profiles.schema.profile import Blocks
from tests.compressors.graph_factory import graph, names_of_changed, own_methods, touched
from tests.compressors.pruning import pruning_factory


@pytest.fixture(scope="module")
def lively(tiny_detector: Detector) -> Detector:
    """The tiny detector with no two channels alike."""
    return pruning_factory.lively(tiny_detector)


@pytest.fixture(scope="module")
def four_lanes(workbench: Workbench) -> Workbench:
    """A workbench for a device that computes channels by fours."""
    return replace(workbench, design_profile=load_profile("raspberry-pi-5"))


def group_of(units: int, *others: Side) -> ChannelGroup:
    """A convolution of so many channels, and other sides."""
    every = Members(torch.arange(units), torch.arange(units))
    return ChannelGroup(units, MappingProxyType(dict.fromkeys((Side("conv", "conv", "outputs"), *others), every)))


def kept(ranking: Ranking, step: int) -> list[list[int]]:
    return [units.tolist() for units in ranking.kept(step)]


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"keep_macs": 0}, "keep_macs"),
        ({"keep_macs": 1.1}, "keep_macs"),
        ({"keep_latency": 0}, "keep_latency"),
        ({"round_to": 0}, "round_to"),
        ({"most_removed": 1.0}, "most_removed"),
        ({"most_removed": 0.0}, "most_removed"),
        ({"gradient_pictures": 0}, "gradient_pictures"),
        ({"importance": "l1"}, "importance"),
        ({"grouping": "local"}, "grouping"),
    ],
)
def test_impossible_settings_are_refused(given: dict[str, Any], field: str) -> None:
    """The refusal names the field."""
    with pytest.raises(ValidationError) as refused:
        Pruning.model_validate(given)
    assert [error["loc"] for error in refused.value.errors()] == [(field,)]


@pytest.mark.parametrize(
    ("given", "found"), [({"keep_macs": 0.5, "keep_latency": 0.6}, "both (0.5 and 0.6)"), ({"keep_macs": None}, "neither")]
)
def test_there_is_one_target(given: dict[str, Any], found: str) -> None:
    """Two targets, or none, are refused by a message that names both fields and says what was found."""
    with pytest.raises(ValidationError, match=r"keep_macs, keep_latency: exactly one must be set") as refused:
        Pruning.model_validate(given)
    assert f"but {found} is" in str(refused.value)


def test_the_target_is_half_of_the_multiply_adds_where_nothing_is_said() -> None:
    """An empty configuration, and one that only says null for the other target."""
    assert Pruning() == Pruning(keep_latency=None) == Pruning(keep_macs=0.5)
    assert Pruning(keep_latency=0.6).keep_macs is None


@pytest.mark.parametrize("config", [Pruning(), Pruning(keep_latency=0.7), Pruning(grouping="isomorphic", round_to=4)], ids=str)
def test_a_configuration_survives_its_record(config: Pruning) -> None:
    """What is read back from JSON is the same, nulls included."""
    assert Pruning.model_validate_json(config.model_dump_json()) == config


def test_variants_have_different_names() -> None:
    """Importance, grouping and target are part of a cell's name."""
    variants = tuple(
        Pruning.model_validate({"importance": importance, "grouping": grouping} | target)
        for importance in get_args(Importance)
        for grouping in ("global", "isomorphic")
        for target in ({"keep_macs": 0.5}, {"keep_macs": 0.3}, {"keep_latency": 0.5})
    )
    assert len({variant.label() for variant in variants}) == len(variants)
    menu = Menu(lightweight=(), nas=(), pruning=variants, low_rank=(), distillation=(), quantization=())
    assert "pruning:taylor-isomorphic-latency-0.5" in {cell.name for cell in cells_of(menu)}


@pytest.mark.parametrize(("wanted", "step"), [(1.0, 0), (0.9, 1), (0.75, 2), (0.5, 3), (0.1, 4)])
def test_the_least_step_that_is_enough(wanted: float, step: int) -> None:
    """Costs 1, 0.8, 0.6, 0.4 and 0.2 at steps 0 to 4: the first at or below the wanted one, or the last."""
    costs = [1.0, 0.8, 0.6, 0.4, 0.2]
    assert least_step(costs.__getitem__, 4, wanted) == step


def test_a_bumpy_cost_is_met_all_the_same() -> None:
    """Where the cost rises in between, the step that comes back still costs no more than wanted."""
    costs = [1.0, 0.6, 0.9, 0.7, 0.5, 0.55, 0.3]
    assert all(costs[least_step(costs.__getitem__, 6, wanted)] <= wanted for wanted in (0.95, 0.8, 0.65, 0.5, 0.4))


def test_the_least_important_go_first_wherever_they_are() -> None:
    """Six of twelve units over two groups, floors of two: four of the first group's six and two of the second's."""
    groups = (group_of(6), group_of(6))
    scores = (torch.tensor([1.0, 2, 3, 4, 50, 60]), torch.tensor([10.0, 20, 30, 5.5, 5.7, 70]))
    ranking = Ranking(groups, scores, "global", 0.8, 1)
    assert ranking.steps == 12
    assert kept(ranking, 0) == [[0, 1, 2, 3, 4, 5], [0, 1, 2, 3, 4, 5]]
    assert kept(ranking, 6) == [[4, 5], [0, 1, 2, 5]]


def test_floors_hold_when_everything_may_go() -> None:
    """At the last step each keeps what `most_removed` leaves, rounded up: 2 of 6 at 0.8 (1.2), by fours 4 of 6 and all of 3."""
    groups = (group_of(6), group_of(3))
    scores = (torch.tensor([6.0, 5, 4, 3, 2, 1]), torch.tensor([0.3, 0.2, 0.1]))
    assert kept(Ranking(groups, scores, "global", 0.8, 1), 9) == [[0, 1], [0]]
    assert kept(Ranking(groups, scores, "global", 0.8, 4), 9) == [[0, 1, 2, 3], [0, 1, 2]]


def test_widths_are_rounded_down_once_anything_goes() -> None:
    """Ten units by fours: one that goes takes another along, so that 8 stay; three of ten gone leave 4."""
    ranking = Ranking((group_of(10),), (torch.arange(10.0),), "global", 0.8, 4)
    assert [len(ranking.kept(step)[0]) for step in range(11)] == [10, 8, 8, 4, 4, 4, 4, 4, 4, 4, 4]


def test_what_is_infinitely_important_stays() -> None:
    """Scores of infinity are never among those that go, and nobody else goes in their place beyond the step."""
    groups = (group_of(4), group_of(4))
    ranking = Ranking(groups, (torch.full((4,), torch.inf), torch.tensor([1.0, 2, 3, 4])), "global", 0.9, 1)
    assert kept(ranking, 8) == [[0, 1, 2, 3], [3]]


def test_isomorphic_groups_compete_among_themselves() -> None:
    """Half-way, each class has lost half: globally the two small groups would have lost all but their floors."""
    norm = Side("norm", "norm", "outputs")
    groups = (group_of(4), group_of(4), group_of(4, norm))
    scores = (torch.tensor([1.0, 2, 3, 4]), torch.tensor([5.0, 6, 7, 8]), torch.tensor([90.0, 91, 92, 93]))
    assert kept(Ranking(groups, scores, "global", 0.9, 1), 6) == [[3], [3], [0, 1, 2, 3]]
    assert kept(Ranking(groups, scores, "isomorphic", 0.9, 1), 6) == [[3], [1, 2, 3], [2, 3]]


@pytest.mark.parametrize("grouping", ["global", "isomorphic"])
@pytest.mark.parametrize("importance", ["random", "taylor"])
def test_the_wanted_share_of_latency_stays(importance: str, grouping: str, lively: Detector, four_lanes: Workbench) -> None:
    """85 % of the estimated latency are asked for: at most so much stays, and hardly less."""
    config = Pruning.model_validate({"importance": importance, "grouping": grouping, "keep_latency": 0.85})
    detector, change = prune(lively, config, four_lanes)
    before_s, after_s = (estimated_latency(d.spec, four_lanes.design_profile, "fp32").point_s for d in (lively, detector))
    assert 0.78 <= after_s / before_s <= 0.85
    assert change.details["keep_latency"] == pytest.approx(after_s / before_s)
    assert change.target == Target(method="pruning", setting="keep_latency", asked=0.85, reached=after_s / before_s)
    assert not change.target.missed
    assert "estimated latency on raspberry-pi-5" in change.summary


def test_a_latency_that_cannot_be_estimated_is_refused(lively: Detector, workbench: Workbench) -> None:
    """On a device that takes int8 alone float layers cannot be timed: the message names the field, why, and what to set instead."""
    bench = replace(workbench, design_profile=load_profile("coral-edge-tpu"))
    with pytest.raises(InputError, match=r"pruning\.keep_latency: no estimate in float: .*int8 alone.*pruning\.keep_macs"):
        prune(lively, Pruning(importance="l2", keep_latency=0.8), bench)


def test_a_target_out_of_reach_is_said(lively: Detector, four_lanes: Workbench) -> None:
    """What every operator costs besides its work stays: a hundredth of the latency is not to be had, and the record says so."""
    _, change = prune(lively, Pruning(importance="l2", keep_latency=0.01), four_lanes)
    assert change.target is not None
    assert change.target.missed
    assert "the floors allow no less" in change.summary
    assert change.macs_after < change.macs_before


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"keep_macs": 0.05, "round_to": 4}, r"pruning\.keep_macs: 0\.05 is out of reach: (0\.\d+) .*round_to 4 and most"),
        ({"keep_macs": 0.05}, r"pruning\.keep_macs: 0\.05 .*: (0\.\d+) .*round_to 4 \(that of raspberry-pi-5\)"),
        ({"keep_macs": 0.5, "most_removed": 0.3}, r"pruning\.keep_macs: 0\.5 .*: (0\.\d+) .*most_removed 0\.3\."),
        ({"keep_latency": 0.1}, r"pruning\.keep_latency: 0\.1 .*: (0\.\d+) of the latency estimated on raspberry-pi-5 stay"),
    ],
)
def test_what_the_floors_forbid_is_refused(given: dict[str, Any], words: str, lively: Detector, four_lanes: Workbench) -> None:
    """By its field, with the floors and the least that can be asked for: so much is reached, whatever the importance says."""
    config, profile = Pruning.model_validate(given | {"importance": "l2"}), four_lanes.design_profile
    with pytest.raises(InputError, match=words) as refused:
        refuse_out_of_reach(config, lively, profile)
    found = re.search(words, str(refused.value))
    assert found is not None
    least = float(found.group(1))
    refuse_out_of_reach(config.model_copy(update={config.target[0]: least + 0.001}), lively, profile)
    for importance in ("l2", "random"):
        target = prune(lively, config.model_copy(update={"importance": importance}), four_lanes)[1].target
        assert target is not None
        assert target.reached == pytest.approx(least, abs=0.0006)


def test_isomorphic_pruning_keeps_other_channels(lively: Detector, four_lanes: Workbench) -> None:
    """At the same share of multiply-adds the two groupings do not agree on what goes."""
    kept_by = [
        prune(lively, Pruning(importance="l2", grouping=grouping), four_lanes)[1].details["kept_channels"]
        for grouping in ("global", "isomorphic")
    ]
    assert kept_by[0] != kept_by[1]


@pytest.mark.parametrize(("profile", "lanes"), [("raspberry-pi-5", 4), ("x86-openvino-1t", 16), ("jetson-nano", 1)])
def test_the_alignment_is_that_of_the_float_type(profile: str, lanes: int) -> None:
    """Four float lanes on the one, sixteen on the other; a profile that does not say counts every channel."""
    assert channel_alignment(load_profile(profile)) == lanes


def test_half_precision_has_its_own_alignment() -> None:
    """The Orin computes floats as fp16, by eights, though its profile knows blocks of 4 for fp32 and of 16 for int8."""
    profile = load_profile("jetson-orin-nano")
    assert profile.float_dtype == "fp16"
    assert profile.channel_alignment == Blocks(fp32=4, fp16=8, int8=16)
    assert channel_alignment(profile) == 8


def test_widths_follow_the_design_profile(lively: Detector, four_lanes: Workbench) -> None:
    """Without `round_to` changed widths are multiples of the profile's block, not all of twice the block; the record says so."""
    detector, change = prune(lively, Pruning(importance="l2"), four_lanes)
    edit = detector.spec.edits[-1]
    assert edit.edit == "kept_channels"
    narrowed = [len(rows) for name, rows in change.details["kept_channels"].items() if name in edit.layers]
    assert narrowed
    assert all(width % 4 == 0 for width in narrowed)
    assert any(width % 8 for width in narrowed)
    assert (change.details["round_to"], change.details["design_profile"]) == (4, "raspberry-pi-5")


def test_an_own_rounding_asks_no_profile(lively: Detector, workbench: Workbench, four_lanes: Workbench) -> None:
    """With `round_to` and a share of multiply-adds, the design profile changes nothing."""
    first, second = (prune(lively, Pruning(importance="l2", round_to=2), bench)[0].digest for bench in (workbench, four_lanes))
    assert first == second


@pytest.mark.parametrize(
    ("config", "asks"),
    [
        (Pruning(round_to=8), False),
        (Pruning(), True),
        (Pruning(keep_latency=0.7), True),
        (Pruning(keep_latency=0.7, round_to=8), True),
    ],
    ids=lambda value: value.label() if isinstance(value, Pruning) else str(value),
)
def test_keys_know_the_design_profile_where_it_decides(config: Pruning, asks: bool) -> None:
    """Another design profile makes again what was rounded or stopped by it, and its descendants, and nothing else."""
    menu = Menu(nas=(), low_rank=(), pruning=(config,))
    before = graph(menu)
    expected = touched(before, lambda node: "pruning" in own_methods(node)) if asks else set()
    assert names_of_changed(before, graph(menu, design_profile="5" * 64)) == expected


def test_keys_know_the_estimate_where_it_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    """A new estimate makes again what was pruned to a latency, and leaves what was pruned to a share of multiply-adds."""
    to_macs, to_latency = (Menu(nas=(), low_rank=(), pruning=(config,)) for config in (Pruning(), Pruning(keep_latency=0.7)))
    macs_before, latency_before = graph(to_macs), graph(to_latency)
    monkeypatch.setitem(VERSIONS, "estimate", VERSIONS["estimate"] + 1)
    assert names_of_changed(macs_before, graph(to_macs)) == set()
    expected = touched(latency_before, lambda node: "pruning" in own_methods(node))
    assert names_of_changed(latency_before, graph(to_latency)) == expected
    assert expected
