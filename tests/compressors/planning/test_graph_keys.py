"""What a node's key depends on, and what it does not."""

from __future__ import annotations

from typing import Any

import pytest

from compressors.distillation import Distillation
from compressors.low_rank import LowRank
from compressors.nas import Nas
from compressors.planning.graph import METHODS, Foundation, Menu, Node
from compressors.planning.versions import VERSIONS
from compressors.pruning import Pruning
from compressors.quantization import Quantization
from detection.training import Recipe
from tests.compressors.graph_factory import (
    FOUNDATION,
    LIBRARIES,
    RECOVERY_EPOCHS,
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
    """Seed, teacher's recipe, training data, device, torch and the teacher's spec decide every node."""
    before = graph()
    assert names_of_changed(before, graph(**changed)) == set(named(before))


def test_the_recovery_recipe_changes_what_is_recovered() -> None:
    """Another recovery makes the recovered nodes and their int8 files again, and leaves teacher, searches and architectures."""
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


def test_the_estimates_version_changes_what_it_decided(monkeypatch: pytest.MonkeyPatch) -> None:
    """Searches and factorings and their descendants: another estimate would have chosen otherwise. No other node notices."""
    before = graph()
    monkeypatch.setitem(VERSIONS, "estimate", VERSIONS["estimate"] + 1)
    assert names_of_changed(before, graph()) == touched(before, estimates)


def estimates(node: Node) -> bool:
    """Whether the node asks the design profile: a search for its budget, low_rank whether thin layers are faster."""
    return node.kind == "search" or "low_rank" in own_methods(node)


@pytest.mark.parametrize(
    ("library", "directly"),
    [
        ("torch-pruning", lambda node: "pruning" in own_methods(node)),
        ("tensorly", lambda node: "low_rank" in own_methods(node)),
        ("optuna", lambda node: "nas" in own_methods(node)),
        ("onnxruntime", lambda node: node.runtime is not None),
        ("openvino", lambda node: node.runtime == "openvino"),
        ("nncf", lambda node: node.runtime == "openvino"),
        ("onnx", lambda node: node.runtime is not None),
    ],
)
def test_a_librarys_version_changes_the_nodes_that_declare_it(library: str, directly: Any) -> None:
    """A new version of a library touches the nodes that work with it and their descendants; no other node notices.

    ONNX Runtime shows the calibration pictures to the network for both runtimes.
    """
    before = graph()
    expected = touched(before, directly)
    assert names_of_changed(before, graph(libraries=LIBRARIES | {library: "9.9"})) == expected
    assert 0 < len(expected) < 105


def test_what_chooses_on_val_depends_on_it() -> None:
    """Val chooses architectures and calibrators; what neither searches nor is quantized does not notice another one."""
    before = graph()
    expected = touched(before, lambda node: node.kind in ("search", "quantized"))
    assert names_of_changed(before, graph(val_digest="6" * 64)) == expected
    assert not [name for name in expected if not {"nas", "quantization"} & set(name.replace("+", " ").split())]


@pytest.mark.parametrize("config", [Quantization(calibrator="mse"), Quantization(precision="float16")], ids=Quantization.label)
def test_a_quantization_without_a_choice_does_not_depend_on_val(config: Quantization) -> None:
    """With one calibrator, or with float16 weights, another val leaves every file as it is."""
    menu = Menu(nas=(), quantization=(config,))
    assert names_of_changed(graph(menu), graph(menu, val_digest="6" * 64)) == set()


def test_training_with_rounding_is_one_node_for_all_runtimes_and_calibrators() -> None:
    """Recovered -> one quantization-aware training -> a file per runtime and calibrator; distilled cells go on being taught."""
    quantizations = tuple(Quantization(qat_epochs=2, calibrator=own) for own in ("val", "mse"))
    of = graph(Menu(lightweight=(), nas=(), pruning=(), low_rank=(), quantization=quantizations))
    aware = [node for node in of.nodes.values() if node.kind == "quantization_aware"]
    assert sorted(node.name for node in aware) == [
        "quantization-aware distillation+quantization",
        "quantization-aware quantization",
    ]
    for node in aware:
        assert node.parent is not None
        assert of.nodes[node.parent].kind == "recovered"
        assert (node.objective is not None) == ("distillation" in node.name)
        assert (node.planned.train_epochs, node.planned.train_images) == (2, 2 * FOUNDATION.train_pictures)
        assert len([child for child in of.nodes.values() if child.parent == node.key]) == 2 * 2


def test_the_recovery_decides_training_with_rounding() -> None:
    """Its schedule is the recovery's but for epochs and rate: another batch size makes it again, another rate of the recovery only
    through the weights that it starts from."""
    rounded = Quantization(qat_epochs=2)
    assert rounded.qat_recipe(Recipe(epochs=9, learning_rate=0.1, precision="bfloat16")) == rounded.qat_recipe(Recipe(epochs=5))
    assert rounded.qat_recipe(Recipe(batch_size=4)) != rounded.qat_recipe(Recipe(batch_size=8))


def test_the_recovery_decides_a_search_that_trains_by_it() -> None:
    """Networks that inherit are recovered to be checked or to be finalists; a search that trains none does not notice."""
    other = FOUNDATION.recovery.model_copy(update={"learning_rate": 5e-4})
    for config, asks in ((Nas(weights="inherited"), False), (Nas(weights="inherited", checked=12), True), (Nas(checked=12), False)):
        menu = Menu(lightweight=(), pruning=(), low_rank=(), nas=(config,))
        before, after = graph(menu), graph(menu, recovery=other)
        (search,) = (node for node in before.nodes.values() if node.kind == "search")
        assert (search.key not in after.nodes) is asks, config
        epochs = {True: RECOVERY_EPOCHS, False: TEACHER_EPOCHS}[config.inherits]
        train, val = FOUNDATION.train_pictures, FOUNDATION.val_pictures
        assert search.planned.search_images == config.search_images(train, val) + config.final_images(epochs, train, val)


def test_what_reads_the_design_profile_depends_on_it() -> None:
    """What is estimated, and pruning, whose widths follow its alignment; other nodes do not notice another design profile."""
    before = graph()
    expected = touched(before, lambda node: estimates(node) or "pruning" in own_methods(node))
    assert names_of_changed(before, graph(design_profile="5" * 64)) == expected
    assert not [name for name in expected if not {"nas", "low_rank", "pruning"} & set(name.replace("+", " ").split())]


def test_factoring_everywhere_asks_no_profile() -> None:
    """Without only_if_faster neither the design profile nor the estimate's version is part of a factored node's key."""
    menu = Menu(nas=(), pruning=(), low_rank=(LowRank(only_if_faster=False),))
    assert names_of_changed(graph(menu), graph(menu, design_profile="5" * 64)) == set()
    defaults = Menu(nas=(), pruning=())
    assert names_of_changed(graph(defaults), graph(defaults, design_profile="5" * 64))


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
