"""Networks below a trained detector: narrower by its channel groups, without some of its blocks, with its own weights."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from compressors.channels.groups import without
from compressors.contract import Workbench
from compressors.latency import operators_of_graph
from compressors.nas import Nas, search
from compressors.nas.candidates import val_map_of
from compressors.nas.group_space import BLOCK, WIDTH, GroupSpace, group_space
from compressors.nas.ranking import check_ranking
from compressors.nas.shared_graph import SharedGraph, SharedGraphs
from compressors.nas.space import draw, size_of, smallest
from compressors.nas.supernet import Supernet, group_part
from compressors.nas.task import task_of
from detection.brought import ModuleDetector
from detection.checkpoint import Detector, fresh
from detection.costs import count_macs
from detection.data.augmentation import make_batch
from detection.data.dataset import Images
from detection.family import Reduction
from detection.frozen import InputError
from detection.spec import Skipped, Spec
from detection.training import Recipe, fit
from flows.sweep.given_network import network_spec
from hardware_profiles.schema.library import load_profile
from tests.places import ROOT

CPU = torch.device("cpu")
SHARES, CANDIDATES = (0.25, 0.5, 0.75, 1.0), 20
QUICK = Nas.model_validate({
    "weights": "inherited", "width_shares": SHARES, "round_to": 2, "supernet_epochs": 1, "evaluations": 5, "population": 4,
    "recalibration_pictures": 8, "val_pictures": 6, "gradient_pictures": 10,
})  # fmt: skip


@pytest.fixture(scope="module")
def module(tiny_detector: Detector) -> Spec:
    """A user's own network for the tiny pictures."""
    asked = ModuleDetector(family="own_points:family", spec={"width": 8})
    return network_spec(asked, ROOT / "tests/module_detector", tiny_detector.spec.input_size, tiny_detector.spec.classes)


@pytest.fixture(scope="module")
def space(module: Spec) -> GroupSpace:
    """What lies below it."""
    return group_space(module, SHARES, 2)


@pytest.fixture(scope="module")
def bench(workbench: Workbench, module: Spec) -> Workbench:
    """A workbench with the user's network, for a device on which narrow layers are faster."""
    return replace(workbench, teacher=fresh(module, 0), design_profile=load_profile("raspberry-pi-5"), recipe=Recipe(batch_size=12))


def pictures(train: Images) -> Tensor:
    """Two training pictures as networks see them."""
    return make_batch(train, np.arange(2), None, np.random.default_rng(0)).images


def test_the_decisions_are_those_of_its_groups(space: GroupSpace) -> None:
    """By hand: the stem has 8 channels, the middle 16, and so has the residual stream, one group with the block that adds to it."""
    stream, stem, middle = (f"{WIDTH}network.{layer}.0" for layer in ("block", "stem", "middle"))
    block = f"{BLOCK}network.block"
    assert space.options() == {stream: (4, 8, 12, 16), middle: (4, 8, 12, 16), stem: (2, 4, 6, 8), block: (0, 1)}
    assert size_of(space) == 4**3 * 2


def test_the_largest_choice_is_the_detector(space: GroupSpace, module: Spec) -> None:
    """No edit, and the weights as they are."""
    largest = space.spec({name: options[-1] for name, options in space.options().items()})
    assert largest == module == space.largest
    weights = fresh(module, 0).weights
    assert all(torch.equal(own, weights[name]) for name, own in space.weights(largest, weights).items())


def test_a_network_of_the_space_has_its_part_of_the_weights(space: GroupSpace, module: Spec, tiny_train: Images) -> None:
    """The same as pruning to these units and leaving out the block by hand: weight by weight, and in what it predicts."""
    order = [torch.arange(group.units).flip(0) for group in space.groups]
    scores = [torch.arange(float(group.units)) for group in space.groups]  # the last is the most important
    ordered, detector = space.ordered(scores), fresh(module, 3)
    choice = dict(zip(space.widths, (4, 8, 6), strict=True)) | {f"{BLOCK}network.block": 0}
    spec = ordered.spec(choice)
    assert spec.edits[-1] == Skipped(blocks=("network.block",))
    weights = ordered.weights(spec, detector.weights)
    kept = [own[:units].sort().values for own, units in zip(order, (4, 8, 6), strict=True)]
    pruned = without(detector, space.groups, kept)
    assert {name: tensor.shape for name, tensor in weights.items()} == {
        name: tensor.shape for name, tensor in pruned.weights.items() if not name.startswith("network.block.")
    }
    assert all(torch.equal(tensor, pruned.weights[name]) for name, tensor in weights.items())
    mine, theirs = (own.network().get_submodule("network") for own in (Detector(spec, weights), pruned))
    theirs.block = nn.Identity()
    with torch.no_grad():
        torch.testing.assert_close(mine(pictures(tiny_train)), theirs(pictures(tiny_train)))


def test_one_graph_tells_what_exports_tell(space: GroupSpace) -> None:
    """Twenty networks, float and int8: every operator with its multiply-adds, its elements and its channels."""
    graph, rng = SharedGraph(space, {}), np.random.default_rng(0)
    choices = [smallest(space), *(draw(space, rng) for _ in range(CANDIDATES - 1))]
    specs = [space.spec(choice) for choice in choices]
    assert len({spec.model_dump_json() for spec in specs}) > CANDIDATES / 2
    for index, spec in enumerate(specs):
        dtype = "int8" if index % 2 else "fp32"
        assert graph.operators(spec, dtype) == operators_of_graph(spec, dtype), choices[index]
    assert graph.is_exact(0)


def _of_runs(spec: Spec, runs: int) -> Spec:
    """A user's network whose block runs as often."""
    settings = cast(Any, spec.settings)
    return spec.having(settings.model_copy(update={"spec": settings.spec | {"repeats": runs}}))


def test_a_smaller_number_leaves_out_what_it_has_no_more(space: GroupSpace, module: Spec) -> None:
    """A setting as a decision: its graphs are of their own, edits of layers that go go, and of the weights those that stay."""
    reduction = Reduction((1, 2), _of_runs, lambda weight, runs: runs == 2 or not weight.startswith("network.middle"))
    largest = _of_runs(module, 2)
    reduced = replace(space, largest=largest, reductions={"runs": reduction}, given={})
    whole = {name: options[-1] for name, options in reduced.options().items()}
    assert reduced.options()["runs"] == (1, 2)
    assert reduced.spec(whole) == largest
    assert reduced.choice_of(largest) == whole
    narrow = smallest(reduced)
    less = reduced.spec(narrow)
    assert cast(Any, less.settings).spec["repeats"] == 1
    assert not [edit for edit in less.edits if "network.middle" in edit.model_dump_json()]
    assert reduced.choice_of(less) == narrow
    assert {name for name in reduced.weights(less, fresh(largest, 0).weights) if name.startswith("network.middle")} == set()
    assert reduced.nearest([1, 1, 1], keep_blocks=True)["runs"] == 2


def test_each_number_has_a_graph_of_its_own(space: GroupSpace, module: Spec) -> None:
    """A block that runs twice is two nodes, as in an export."""
    largest = _of_runs(module, 2)
    reduced = replace(
        space, largest=largest, blocks=(), reductions={"runs": Reduction((1, 2), _of_runs, lambda *_: True)}, given={}
    )
    graphs = SharedGraphs(reduced, 0)
    for runs in (1, 2):
        spec = reduced.spec(smallest(reduced) | {"runs": runs})
        assert graphs.operators(spec, "fp32") == operators_of_graph(spec)


def test_a_graph_that_tells_something_else_is_not_used(space: GroupSpace) -> None:
    """A layer taken for another one: the comparison with exports notices."""
    graph = SharedGraph(space, {})
    (first, second, *_) = graph.layers
    graph.layers[first], graph.layers[second] = graph.layers[second], graph.layers[first]
    assert not graph.is_exact(0)


def test_gradients_reach_the_units_that_a_network_has(space: GroupSpace, module: Spec, tiny_train: Images) -> None:
    """One step along the smallest network moves the most important units and nothing else of any weight."""
    detector = fresh(module, 0)
    ordered = space.ordered([torch.arange(float(group.units)) for group in space.groups])
    only = replace(ordered, widths={name: options[:1] for name, options in space.widths.items()}, blocks=())
    supernet = Supernet(detector, CPU, part=lambda network, spec, weights: only.weights(spec, weights))
    assert supernet.train(only, tiny_train, Recipe(batch_size=len(tiny_train), weight_decay=0.0), 1, 0) == len(tiny_train)
    moved = {name: (tensor.detach() != detector.weights[name]) for name, tensor in supernet.weights.items()}
    assert moved["network.stem.0.weight"].flatten(1).any(1).tolist() == [False] * 6 + [True] * 2
    assert moved["network.score.weight"].flatten(2).any(2).any(0).tolist() == [False] * 12 + [True] * 4


def test_a_sandwich_sees_three_networks_a_step(space: GroupSpace, module: Spec, tiny_train: Images) -> None:
    """The largest, the smallest and one in between: three times the pictures."""
    supernet = Supernet(fresh(module, 0), CPU, lambda network, spec, weights: space.weights(spec, weights), sandwich=True)
    assert supernet.train(space, tiny_train, Recipe(batch_size=10), 1, 0) == 3 * len(tiny_train)


def test_the_part_of_a_group_space_goes_by_its_choice(space: GroupSpace, module: Spec) -> None:
    """What the supernet asks is what the space says."""
    spec, weights = space.spec(smallest(space)), fresh(module, 0).weights
    part = group_part(space, nn.Identity(), spec, weights)
    assert {name: tensor.shape for name, tensor in part.items()} == {
        name: tensor.shape for name, tensor in fresh(spec, 0).weights.items()
    }


def test_a_search_that_inherits_hands_on_the_weights(bench: Workbench, module: Spec) -> None:
    """Within the budget, counted as planned, and with the detector's own weights: what the supernet learned only ranks."""
    result, change = search(bench.teacher, QUICK, bench)
    chosen = change.details["chosen"]
    assert chosen["estimated_latency_s"] <= change.details["budget_s"]
    assert change.details["evaluated"] == 5
    assert set(change.details["random_baseline"]) == {"evaluated", "random_search", "by_importance"}
    assert change.macs_after == count_macs(result.spec) < change.macs_before
    ordering, sandwich, judged = 10, 3 * len(bench.train), (2 * 5 + 1) * (8 + 6)
    assert change.spent.search_images == ordering + sandwich + judged == QUICK.search_images(len(bench.train), len(bench.val))
    assert result.spec.settings == module.settings
    task = task_of(bench.teacher, QUICK, bench)
    assert isinstance(task.space, GroupSpace)
    task.space.spec(next(own for own in _choices(task.space) if task.space.spec(own) == result.spec))
    own = task.space.weights(result.spec, bench.teacher.weights)
    assert all(torch.equal(tensor, own[name]) for name, tensor in result.weights.items())
    again, _ = search(bench.teacher, QUICK, bench)
    assert again.digest == result.digest


def test_finalists_that_inherit_are_recovered(bench: Workbench) -> None:
    """By the recovery's schedule, from the detector's own weights; the pictures are those that were planned."""
    config = QUICK.model_copy(update={"finalists": 2, "random_baseline": False})
    short = replace(bench, recovery=Recipe(epochs=2, batch_size=12), recipe=Recipe(epochs=9, batch_size=12))
    result, change = search(bench.teacher, config, short)
    shown = change.details["finalists"]
    assert len(shown) == 2
    train, val = len(bench.train), len(bench.val)
    assert change.spent.search_images == config.search_images(train, val) + config.final_images(2, train, val)
    assert config.final_images(2, train, val) == 2 * (2 * train + val)
    (won,) = (own for own in shown if own["edits"] == change.details["chosen"].get("edits"))
    trained, _ = fit(result, bench.train, short.recovery, seed=bench.seed, device=bench.device)
    assert won["trained_val_map"] == val_map_of(result.spec, trained.network(), bench.val)
    assert [config.asks_recovery, QUICK.asks_recovery] == [True, False]


def test_a_search_checks_its_ranking(bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twelve networks that were drawn at random: judged by the supernet and trained, which tells whether the two agree."""
    reached, judged = iter(range(100)), iter(range(100))
    monkeypatch.setattr("compressors.nas.candidates._trained_val_map", lambda *_: next(reached) / 100)
    monkeypatch.setattr("compressors.nas.candidates.val_map_of", lambda *_: next(judged) / 100)
    config = QUICK.model_copy(update={"evaluations": 12, "checked": 12, "random_baseline": False})
    _, change = search(bench.teacher, config, bench)
    assert change.ranking is not None
    assert (change.ranking.networks, round(change.ranking.tau, 9), change.ranking.is_chance) == (12, 1.0, False)
    assert "its ranking: tau +1.00 [+1.00, +1.00] over 12 trained networks" in change.summary
    train, val = len(bench.train), len(bench.val)
    assert change.spent.search_images == config.search_images(train, val) + config.final_images(bench.recovery.epochs, train, val)


def test_too_few_to_check_are_refused() -> None:
    """Less than a dozen says nothing, and no more can be checked than are drawn."""
    for checked in (5, 40):
        with pytest.raises(ValidationError, match=f"checked {checked}: fewer than 12 networks say next to nothing"):
            Nas(checked=checked)
    assert Nas(checked=12).checked == 12


def test_rankings_by_hand() -> None:
    """The same order, the reverse, chance, and nothing to tell apart."""
    order, rng = list(np.linspace(0.1, 0.6, 12)), np.random.default_rng(0)
    same, reverse = check_ranking(order, order, 0), check_ranking(order, order[::-1], 0)
    assert (round(same.tau, 9), round(same.low, 9), same.is_chance) == (1.0, 1.0, False)
    assert (round(reverse.tau, 9), reverse.is_chance) == (-1.0, True)
    chance = check_ranking(order, list(rng.random(12)), 0)
    assert chance.low < chance.tau < chance.high
    assert chance.is_chance
    assert check_ranking(order, [0.5] * 12, 0).tau == 0.0


def test_a_search_for_fresh_weights_draws_them(bench: Workbench) -> None:
    """A network of the user's groups that will be trained anew."""
    config = QUICK.model_copy(update={"weights": "fresh", "gradient_pictures": Nas().gradient_pictures})
    result, change = search(bench.teacher, config, bench)
    assert result.digest == fresh(result.spec, bench.seed).digest
    assert change.spent.search_images == config.search_images(len(bench.train), len(bench.val))


def test_the_first_judged_are_what_pruning_would_keep(bench: Workbench) -> None:
    """By two rankings, with the block and without: as many of the most important units as the budget allows, and no fewer."""
    task = task_of(bench.teacher, QUICK, bench)
    assert isinstance(task.space, GroupSpace)
    budget_s = (task.least_s + task.most_s) / 2
    ranked = task.ranked(budget_s)
    assert [choice[f"{BLOCK}network.block"] for choice in ranked] == [1, 1, 0, 0]
    for choice in ranked:
        assert task.latency_s(task.space.spec(choice)) <= budget_s
        assert choice != smallest(task.space)


def test_nothing_to_search_is_an_error(module: Spec, monkeypatch: pytest.MonkeyPatch) -> None:
    """Widths below the multiple and no block: one message that says what to do."""
    monkeypatch.setattr("compressors.nas.group_space.family_of", lambda spec: replace(fresh(spec, 0).family, skippable=None))
    with pytest.raises(InputError, match=r"nas: no layer of this network can be narrowed and no block left out.*sixfold inspect"):
        group_space(module, SHARES, 64)


def _choices(space: GroupSpace) -> list[dict[str, int]]:
    """All of them."""
    rows: list[dict[str, int]] = [{}]
    for name, options in space.options().items():
        rows = [row | {name: option} for row in rows for option in options]
    return rows
