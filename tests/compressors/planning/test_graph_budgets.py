"""What the weights of every cell see, whatever the sweep begins with: E + R epochs beyond the root, inherited ones included."""

from __future__ import annotations

from typing import Any

import pytest

from compressors.lightweight import Lightweight
from compressors.nas import Nas
from compressors.planning.graph import Graph, Menu, Node
from compressors.planning.reference_planner import given_reference
from detection.training import Recipe
from tests.compressors.graph_factory import FOUNDATION, RECOVERY_EPOCHS, TEACHER_EPOCHS, graph

MENU = Menu(lightweight=(Lightweight(), Lightweight(weights="inherited")), nas=())
"""Both ways to begin, crossed with the reductions, teaching and quantization."""
INHERITED = Menu(lightweight=(Lightweight(weights="inherited"),), nas=())
SEARCHED = MENU.model_copy(update={"nas": (Nas(weights="inherited"),)})
GIVEN, NOTHING = {"given": "9" * 64}, {"training": Recipe(epochs=0)}
ROOTS: dict[str, tuple[Menu, dict[str, Any], int]] = {
    "trained by the sweep": (MENU, {}, TEACHER_EPOCHS + RECOVERY_EPOCHS),
    "started from weights": (MENU, GIVEN | {"trains_given": True}, TEACHER_EPOCHS + RECOVERY_EPOCHS),
    "as it was brought": (MENU, GIVEN, TEACHER_EPOCHS + RECOVERY_EPOCHS),
    "as it was brought, no E": (INHERITED, GIVEN | NOTHING, RECOVERY_EPOCHS),
    "searched": (Menu(), GIVEN, TEACHER_EPOCHS + RECOVERY_EPOCHS),
    "searched with its weights": (SEARCHED, {}, TEACHER_EPOCHS + RECOVERY_EPOCHS),
    "searched with its weights, as it was brought": (SEARCHED, GIVEN, TEACHER_EPOCHS + RECOVERY_EPOCHS),
    "searched with its weights, no E": (
        SEARCHED.model_copy(update={"lightweight": INHERITED.lightweight}),
        GIVEN | NOTHING,
        RECOVERY_EPOCHS,
    ),
}


def seen_epochs(lineage: tuple[Node, ...]) -> int:
    """By hand: every training since weights were last drawn at random; none of a search's."""
    epochs = 0
    for before, node in zip((None, *lineage), lineage, strict=False):
        steps = (*node.steps, *(before.steps if before is not None and before.kind == "search" else ()))
        is_fresh = any(isinstance(step, Lightweight | Nas) and step.weights == "fresh" for step in steps)
        if node.kind == "architecture" and is_fresh:
            epochs = 0
        epochs += node.planned.train_epochs
    return epochs


@pytest.mark.parametrize("root", ROOTS)
def test_every_lineage_has_the_same_epochs(root: str) -> None:
    """The control's as well; a cell that had more would look better than its methods are."""
    menu, changes, wanted = ROOTS[root]
    made = graph(menu, **changes)
    assert {name: seen_epochs(made.lineage(key)) for name, key in made.recovered.items()} == dict.fromkeys(made.recovered, wanted)
    assert FOUNDATION.model_copy(update=changes).epochs == wanted


def test_what_begins_from_scratch_is_told() -> None:
    """Fresh light blocks do, alone or combined; the control, what is inherited and what is reduced do not."""
    made = graph(MENU, **GIVEN)
    fresh = {name for name, key in made.recovered.items() if made.is_from_scratch(key)}
    assert fresh == {name for name in made.recovered if "lightweight:depthwise" in name.split("+")}
    assert len(fresh) == len(made.recovered) // 3
    searched = graph(Menu(nas=(Nas(),), lightweight=()), **GIVEN)
    assert {searched.is_from_scratch(searched.recovered[name]) for name in ("nas", "nas+pruning")} == {True}


def test_a_search_that_inherits_is_recovered_at_once() -> None:
    """Its weights had the root's epochs; with fresh light blocks before it, or a root nobody trained, a training comes between."""
    made = graph(SEARCHED)
    kinds = {name: [node.kind for node in made.lineage(made.recovered[name])] for name in ("nas", "nas+distillation")}
    assert {tuple(own) for own in kinds.values()} == {("teacher", "search", "recovered")}
    assert made.recovered["nas"] != made.recovered["nas+distillation"]
    light = made.lineage(made.recovered["lightweight:depthwise+nas"])
    assert [node.kind for node in light] == ["teacher", "search", "architecture", "recovered"]
    assert [made.is_from_scratch(made.recovered[name]) for name in ("nas", "lightweight:depthwise+nas")] == [False, True]
    brought = graph(SEARCHED, **GIVEN)
    assert [node.kind for node in brought.lineage(brought.recovered["nas"])] == ["teacher", "search", "architecture", "recovered"]
    assert not brought.is_from_scratch(brought.recovered["nas"])


def test_the_root_is_not_touched() -> None:
    """A brought detector is trained by nobody before it is a node; one to start from is, and each has a key of its own."""
    roots = {name: root_of(graph(Menu(), **changes)) for name, (_, changes, _) in ROOTS.items()}
    assert {name: node.planned.train_epochs for name, node in roots.items()} == {
        "trained by the sweep": TEACHER_EPOCHS, "started from weights": TEACHER_EPOCHS, "as it was brought": 0,
        "as it was brought, no E": 0, "searched": 0, "searched with its weights": TEACHER_EPOCHS,
        "searched with its weights, as it was brought": 0, "searched with its weights, no E": 0,
    }  # fmt: skip
    assert len({node.key for node in roots.values()}) == 3
    other = root_of(graph(Menu(), given="8" * 64))
    assert other.key != roots["as it was brought"].key


def test_the_given_reference_is_the_root() -> None:
    """No node of its own in ONNX Runtime: its file is the detector as it was brought."""
    from compressors.planning.graph import graph_of

    reference = given_reference()
    made = graph_of((reference,), FOUNDATION.model_copy(update=GIVEN), ("onnxruntime",))
    assert made.artifacts[reference.name]["onnxruntime"] == root_of(made).key
    assert set(made.nodes) == {root_of(made).key}


def root_of(made: Graph) -> Node:
    """The one without a parent."""
    (root,) = (node for node in made.nodes.values() if node.parent is None)
    return root
