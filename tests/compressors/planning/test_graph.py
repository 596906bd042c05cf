"""From the menu to cells, and from cells to nodes with what they will cost."""

from __future__ import annotations

import itertools

import pytest

from compressors.low_rank import LowRank
from compressors.nas import Nas
from compressors.planning.cells import REDUCTIONS
from compressors.planning.graph import CONTROL, METHODS, Menu, cells_of
from compressors.pruning import Pruning
from compressors.quantization import Quantization
from flows.grid.nodes import TRANSFORMS
from tests.compressors.graph_factory import (
    FOUNDATION,
    RECOVERY_EPOCHS,
    RUNTIMES,
    TEACHER_EPOCHS,
    TRAIN_PICTURES,
    graph,
)


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


def test_every_method_of_a_cell_takes_part_in_its_nodes() -> None:
    """In each runtime, as a step or as the objective: one unknown to planning would leave the control."""
    made = graph()
    for cell in cells_of(Menu()):
        for key in made.artifacts[cell.name].values():
            lineage = made.lineage(key)
            configs = [config for node in lineage for config in (*node.steps, *([node.objective] if node.objective else []))]
            assert {config.method for config in configs} == {config.method for config in cell.configs}, cell.name


def test_every_method_says_where_it_takes_part() -> None:
    """Its config has a phase; those that change a detector have a function that does, the reductions a place in their order."""
    configs = {config.method: config for config in cells_of(Menu())[-1].configs}
    assert set(configs) == set(METHODS)
    phases = {name: config.phase for name, config in configs.items()}
    assert {name for name, phase in phases.items() if phase == "reduction"} == set(REDUCTIONS)
    changing = {name for name, phase in phases.items() if phase in ("architecture", "search", "reduction")}
    assert changing <= set(TRANSFORMS)


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
    """By hand: a search trains on 10 * 100 pictures and judges 32 candidates, 32 at random and the largest on 48 + 40; taylor
    takes 64 gradients."""
    made = graph()
    searches = [node for node in made.nodes.values() if node.kind == "search"]
    assert [node.planned.search_images for node in searches] == [10 * 100 + (2 * 32 + 1) * (48 + 40)] * 2
    assert made.nodes[made.recovered["pruning"]].planned.search_images == 64
    assert made.nodes[made.recovered["low_rank"]].planned.search_images == 0
    assert Nas().search_images(20, 10) == 10 * 20 + (2 * 32 + 1) * (20 + 10)
    assert Pruning().search_images(20, 10) == 20
    assert Pruning(importance="l2").search_images(20, 10) == 0


def test_finals_are_charged_by_the_schedule_of_the_sweep() -> None:
    """By hand: three finalists more than none, each for as many epochs as every network, then judged on all of val."""
    plain, final = (graph(Menu(nas=(Nas(finalists=count),))) for count in (1, 3))
    (before, _), (after, _) = (
        [node.planned.search_images for node in made.nodes.values() if node.kind == "search"] for made in (plain, final)
    )
    assert after - before == 3 * (FOUNDATION.training.epochs * 100 + 40)


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
