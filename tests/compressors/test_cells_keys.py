"""What a node's key depends on, and what it does not."""

from __future__ import annotations

from typing import Any

import pytest

from compressors.cells import METHODS, VERSIONS, Foundation, Menu
from compressors.distillation import Distillation
from compressors.pruning import Pruning
from detection.training import Recipe
from tests.compressors.graph_factory import (
    FOUNDATION,
    LIBRARIES,
    TEACHER_EPOCHS,
    graph,
    named,
    names_of_changed,
    own_methods,
    touched,
)


def test_the_same_plan_gives_the_same_keys() -> None:
    """Keys depend on nothing but the plan: two graphs of it are equal."""
    assert graph() == graph()


@pytest.mark.parametrize(
    "changed",
    [
        {"seed": 1},
        {"training": Recipe(epochs=TEACHER_EPOCHS + 1)},
        {"train_digest": "4" * 64},
        {"device": "cuda"},
        {"libraries": LIBRARIES | {"torch": "2.0"}},
        {"teacher": FOUNDATION.teacher.model_copy(update={"input_size": (96, 96)})},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_what_the_teacher_depends_on_changes_every_key(changed: dict[str, Any]) -> None:
    """Seed, teacher's recipe, training data, device, torch and the teacher's blueprint decide every node."""
    before = graph()
    assert names_of_changed(before, graph(**changed)) == set(named(before))


def test_the_recovery_recipe_changes_what_is_recovered() -> None:
    """Another recovery makes the recovered nodes and their int8 files anew, and leaves teacher, searches and architectures."""
    before = graph()
    after = graph(recovery=FOUNDATION.recovery.model_copy(update={"learning_rate": 5e-4}))
    assert names_of_changed(before, after) == touched(before, lambda node: node.kind == "recovered")
    assert len(names_of_changed(before, after)) == 32 + 64


@pytest.mark.parametrize("method", METHODS)
def test_a_methods_version_changes_the_nodes_that_use_it(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new version of a method touches the nodes that apply it and their descendants, and no other."""
    before = graph()
    monkeypatch.setitem(VERSIONS, method, VERSIONS[method] + 1)
    expected = touched(before, lambda node: method in own_methods(node))
    assert names_of_changed(before, graph()) == expected
    assert 0 < len(expected) < 105


@pytest.mark.parametrize("shared", ["training", "export"])
def test_what_every_node_starts_from_changes_every_key(shared: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """All begins with a training and the file that it is written to."""
    before = graph()
    monkeypatch.setitem(VERSIONS, shared, VERSIONS[shared] + 1)
    assert names_of_changed(before, graph()) == set(named(before))


def test_the_estimates_version_changes_what_was_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    """The searches and their descendants: another estimate would have chosen another architecture. No other node notices."""
    before = graph()
    monkeypatch.setitem(VERSIONS, "estimate", VERSIONS["estimate"] + 1)
    assert names_of_changed(before, graph()) == touched(before, lambda node: node.kind == "search")


@pytest.mark.parametrize(
    ("library", "directly"),
    [
        ("torch-pruning", lambda node: "pruning" in own_methods(node)),
        ("tensorly", lambda node: "low_rank" in own_methods(node)),
        ("optuna", lambda node: "nas" in own_methods(node)),
        ("onnxruntime", lambda node: node.runtime == "onnxruntime"),
        ("openvino", lambda node: node.runtime == "openvino"),
        ("nncf", lambda node: node.runtime == "openvino"),
        ("onnx", lambda node: node.runtime is not None),
    ],
)
def test_a_librarys_version_changes_the_nodes_that_declare_it(library: str, directly: Any) -> None:
    """A new version of a library touches the nodes that work with it and their descendants; another runtime's nodes stay."""
    before = graph()
    expected = touched(before, directly)
    assert names_of_changed(before, graph(libraries=LIBRARIES | {library: "9.9"})) == expected
    assert 0 < len(expected) < 105


@pytest.mark.parametrize("changed", [{"design_profile": "5" * 64}, {"val_digest": "6" * 64}], ids=lambda c: next(iter(c)))
def test_only_searches_depend_on_design_profile_and_val(changed: dict[str, Any]) -> None:
    """Val and the design profile choose an architecture; nodes without nas in their lineage do not notice them."""
    before = graph()
    expected = touched(before, lambda node: node.kind == "search")
    assert names_of_changed(before, graph(**changed)) == expected
    assert not [name for name in expected if "nas" not in name]


def test_the_teacher_is_part_of_a_distilled_key() -> None:
    """The objective is keyed with its teacher, not only through the parent: other distillation, other key, same parent."""
    before = graph()
    after = graph(Menu(distillation=(Distillation(temperature=3.0),)))
    assert names_of_changed(before, after) == touched(before, lambda node: node.objective is not None)
    light = [before.nodes[named(before)[f"architecture lightweight{tail}"]] for tail in ("", "+distillation")]
    assert light[0].steps == light[1].steps
    assert {node.parent for node in light} == {named(before)["teacher"]}


def test_another_runtime_leaves_the_nodes_that_are_there() -> None:
    """A second runtime adds 32 int8 files; every key of the first sweep stays as it is."""
    one, two = graph(runtimes=("openvino",)), graph()
    assert set(one.nodes) < set(two.nodes)
    assert {two.nodes[key].kind for key in set(two.nodes) - set(one.nodes)} == {"quantized"}


def test_a_variant_leaves_the_nodes_of_its_siblings() -> None:
    """More variants of pruning add nodes; every node of the smaller menu keeps its key."""
    small, large = graph(), graph(Menu(pruning=(Pruning(), Pruning(keep_macs=0.3))))
    assert set(small.nodes) < set(large.nodes)
    added = set(large.nodes) - set(small.nodes)
    assert all(any("pruning" in own_methods(node) for node in large.lineage(key)) for key in added)


def test_the_test_split_cannot_reach_a_key() -> None:
    """The foundation, all that a key is made of, has no place for the test split."""
    assert not [name for name in Foundation.model_fields if "test" in name]


def test_swapping_the_reductions_changes_only_nodes_with_both() -> None:
    """low_rank before pruning makes other networks only where a cell has both; steps follow the wanted order."""
    before, after = graph(), graph(reduction=("low_rank", "pruning"))
    assert names_of_changed(before, after) == touched(before, lambda node: {"pruning", "low_rank"} <= own_methods(node))
    both = after.nodes[after.recovered["pruning+low_rank"]]
    assert [step.method for step in both.steps] == ["low_rank", "pruning"]
    assert [step.method for step in before.nodes[before.recovered["pruning+low_rank"]].steps] == ["pruning", "low_rank"]
