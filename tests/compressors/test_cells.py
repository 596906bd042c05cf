"""From the menu to cells, from cells to nodes, and what a node's key depends on."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from compressors.cells import CONTROL, METHODS, VERSIONS, Foundation, Graph, Menu, Node, cells_of, graph_of
from compressors.distillation import Distillation
from compressors.low_rank import LowRank
from compressors.nas import Nas
from compressors.pruning import Pruning
from compressors.quantization import Quantization
from detection.blueprint import Architecture, Blueprint
from detection.training import Recipe

RUNTIMES = ("onnxruntime", "openvino")
TRAIN_PICTURES, VAL_PICTURES = 100, 40
TEACHER_EPOCHS, RECOVERY_EPOCHS = 7, 3
LIBRARIES = dict.fromkeys(("torch", "onnx", "onnxruntime", "openvino", "nncf", "torch-pruning", "tensorly", "optuna"), "1.0")
FOUNDATION = Foundation(
    teacher=Blueprint(classes=("a", "b"), input_size=(64, 96), architecture=Architecture()),
    training=Recipe(epochs=TEACHER_EPOCHS),
    recovery=Recipe(epochs=RECOVERY_EPOCHS, learning_rate=1e-3),
    seed=0,
    train_digest="1" * 64,
    val_digest="2" * 64,
    train_pictures=TRAIN_PICTURES,
    val_pictures=VAL_PICTURES,
    device="cpu",
    threads=1,
    teacher_threads=2,
    design_profile="3" * 64,
    libraries=LIBRARIES,
)


def graph(menu: Menu | None = None, runtimes: tuple[str, ...] = RUNTIMES, **changed: Any) -> Graph:
    """The default menu's graph, with some of the foundation changed."""
    return graph_of(cells_of(menu or Menu()), FOUNDATION.model_copy(update=changed), runtimes)


def named(of: Graph) -> dict[str, str]:
    """Node name -> key."""
    return {node.name: key for key, node in of.nodes.items()}


def names_of_changed(before: Graph, after: Graph) -> set[str]:
    """Names of the nodes whose key differs between two graphs that have the same names."""
    old, new = named(before), named(after)
    assert old.keys() == new.keys()
    return {name for name in old if old[name] != new[name]}


def own_methods(node: Node) -> set[str]:
    """Methods that this node itself applies."""
    return {step.method for step in node.steps} | ({"distillation"} if node.objective else set())


def touched(before: Graph, directly: Any) -> set[str]:
    """Names of the nodes for which directly(node) holds, and of all that descend from them."""
    return {node.name for key, node in before.nodes.items() if any(directly(ancestor) for ancestor in before.lineage(key))}


def test_the_default_menu_has_a_cell_for_every_subset() -> None:
    """Six methods, taken or left: 64 cells, no two of the same name, no subset twice."""
    cells = cells_of(Menu())
    assert len({cell.name for cell in cells}) == len(cells) == 64
    wanted = {frozenset(chosen) for size in range(7) for chosen in itertools.combinations(METHODS, size)}
    assert {frozenset(config.method for config in cell.configs) for cell in cells} == wanted


def test_the_control_comes_first_and_fewest_methods_next() -> None:
    """The control is named `none` and has no method; after it the number of methods never falls."""
    cells = cells_of(Menu())
    assert cells[0].name == CONTROL == "none"
    assert cells[0].configs == ()
    sizes = [len(cell.configs) for cell in cells]
    assert sizes == sorted(sizes)
    assert cells[-1].name == "lightweight+nas+pruning+low_rank+distillation+quantization"


def test_names_list_the_methods_in_their_order() -> None:
    """A name is the methods joined by +, in the order of METHODS, and says exactly what the cell holds."""
    for cell in cells_of(Menu())[1:]:
        methods = cell.name.split("+")
        assert methods == sorted(methods, key=list(METHODS).index)
        assert methods == [config.method for config in cell.configs]


def test_config_returns_the_variant_or_none() -> None:
    """A cell gives the configuration of a method it uses, and None for one that it does not."""
    pruned = next(cell for cell in cells_of(Menu()) if cell.name == "pruning")
    assert pruned.config("pruning") == Pruning()
    assert pruned.config("nas") is None


def test_two_variants_multiply_the_grid() -> None:
    """Two prunings and two quantizations: 3 * 3 * 2^4 = 144 cells, each with a name of its own that tells the variant."""
    menu = Menu(pruning=(Pruning(), Pruning(importance="l2")), quantization=(Quantization(), Quantization(calibrator="percentile")))
    cells = cells_of(menu)
    assert len({cell.name for cell in cells}) == len(cells) == 144
    assert "pruning:l2-0.5+quantization:int8-percentile" in {cell.name for cell in cells}
    assert "low_rank" in {cell.name for cell in cells}


def test_a_method_without_variants_takes_no_part() -> None:
    """Without nas in the menu 32 cells remain, and no search is planned."""
    menu = Menu(nas=())
    assert len(cells_of(menu)) == 32
    assert not [node for node in graph(menu).nodes.values() if node.kind == "search"]


def test_two_runtimes_take_105_nodes() -> None:
    """1 teacher, 2 searches, 6 architectures, 32 recovered, 32 quantized for each of two runtimes."""
    kinds = [node.kind for node in graph().nodes.values()]
    counts = {kind: kinds.count(kind) for kind in ("teacher", "search", "architecture", "recovered", "quantized")}
    assert counts == {"teacher": 1, "search": 2, "architecture": 6, "recovered": 32, "quantized": 64}
    assert len(kinds) == 105
    assert len(graph(runtimes=RUNTIMES[:1]).nodes) == 73


def test_keys_are_whole_digests_and_names_are_unique() -> None:
    """Every key has 64 hex digits and is its node's own; people can tell nodes apart by name."""
    made = graph()
    for key, node in made.nodes.items():
        assert key == node.key
        assert len(key) == 64
        assert set(key) <= set("0123456789abcdef")
    assert len({node.name for node in made.nodes.values()}) == 105


def test_every_node_follows_its_parent() -> None:
    """In the order of the graph a parent is listed before its children, and every lineage starts at the teacher."""
    made = graph()
    seen: set[str] = set()
    for key, node in made.nodes.items():
        assert node.parent is None or node.parent in seen
        seen.add(key)
        assert made.lineage(key)[0].kind == "teacher"
        assert made.lineage(key)[-1] == node


def test_artifacts_are_the_recovered_node_or_one_quantized_per_runtime() -> None:
    """Without quantization both runtimes share the float file; with it each has its own, made from the same float detector."""
    made = graph()
    for cell in cells_of(Menu()):
        artifacts, recovered = made.artifacts[cell.name], made.recovered[cell.name]
        assert tuple(artifacts) == RUNTIMES
        if cell.config("quantization") is None:
            assert set(artifacts.values()) == {recovered}
        else:
            assert [made.nodes[key].runtime for key in artifacts.values()] == list(RUNTIMES)
            assert {made.nodes[key].parent for key in artifacts.values()} == {recovered}


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


def test_the_training_version_changes_every_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """All begins with a training."""
    before = graph()
    monkeypatch.setitem(VERSIONS, "training", VERSIONS["training"] + 1)
    assert names_of_changed(before, graph()) == set(named(before))


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


def test_the_weights_of_every_cell_see_the_same_epochs() -> None:
    """From the last fresh start on, every cell's weights are trained for E + R epochs, the control's too."""
    made = graph()
    for name, key in made.recovered.items():
        lineage = made.lineage(key)
        fresh_starts = [i for i, node in enumerate(lineage) if node.kind in ("teacher", "architecture")]
        weights = lineage[fresh_starts[-1] :]
        assert sum(node.planned.train_epochs for node in weights) == TEACHER_EPOCHS + RECOVERY_EPOCHS, name
        assert sum(node.planned.train_images for node in weights) == (TEACHER_EPOCHS + RECOVERY_EPOCHS) * TRAIN_PICTURES, name


def test_distillation_is_charged_for_the_teachers_forwards() -> None:
    """A distilled training sends every picture through the teacher once more; no other node does."""
    for node in graph().nodes.values():
        assert node.planned.teacher_forwards == (node.planned.train_images if node.objective else 0)


def test_searching_is_charged_by_the_picture() -> None:
    """By hand: a search trains on 10 * 100 pictures and judges 32 candidates on 48 + 40; taylor takes 64 gradients."""
    made = graph()
    searches = [node for node in made.nodes.values() if node.kind == "search"]
    assert [node.planned.search_images for node in searches] == [10 * 100 + 32 * (48 + 40)] * 2
    assert made.nodes[made.recovered["pruning"]].planned.search_images == 64
    assert made.nodes[made.recovered["low_rank"]].planned.search_images == 0
    assert Nas().search_images(20, 10) == 10 * 20 + 32 * (20 + 10)
    assert Pruning().search_images(20, 10) == 20
    assert Pruning(importance="l2").search_images(20, 10) == 0


def test_a_node_works_with_the_threads_of_its_kind() -> None:
    """The teacher trains alone and may take more threads than the nodes that share the machine."""
    assert {node.threads for node in graph().nodes.values() if node.kind == "teacher"} == {2}
    assert {node.threads for node in graph().nodes.values() if node.kind != "teacher"} == {1}


def test_menus_are_closed() -> None:
    """A method that does not exist is refused, and so is a variant's unknown field."""
    with pytest.raises(ValueError, match="sparsity"):
        Menu.model_validate({"sparsity": []})
    with pytest.raises(ValueError, match="rank"):
        Menu.model_validate({"low_rank": [{"rank": 3}]})
    assert Menu.model_validate({"low_rank": [{"energy": 0.9}]}).low_rank == (LowRank(energy=0.9),)
