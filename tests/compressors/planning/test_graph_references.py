"""The nodes of references: what they share with cells, what their keys depend on, and that cells do not notice them."""

from __future__ import annotations

from typing import Any

import pytest

from compressors.distillation import Distillation
from compressors.planning.graph import Graph, Menu, Reference, ReferenceConfig, cells_of, graph_of, references_of
from compressors.planning.references import Narrow, NarrowReference, RandomPruningReference, SmallerInput, SmallerInputReference
from compressors.planning.versions import VERSIONS
from compressors.pruning import Pruning
from compressors.quantization import Quantization
from detection.compact.architecture import Architecture
from hardware_profiles.schema.library import load_profile
from tests.compressors.graph_factory import (
    FOUNDATION,
    RECOVERY_EPOCHS,
    RUNTIMES,
    TEACHER_EPOCHS,
    TRAIN_PICTURES,
    graph,
    names_of_changed,
)

WANTED: tuple[ReferenceConfig, ...] = (
    NarrowReference(width_share=0.5, quantization=True),
    NarrowReference(like="nas+distillation"),
    NarrowReference(like="pruning+quantization"),
    SmallerInputReference(input_share=0.5),
    RandomPruningReference(quantization=True),
)
NAMES = (
    "reference:narrow-0.5+quantization",
    "reference:narrow~nas+distillation",
    "reference:narrow~pruning+quantization",
    "reference:input-0.5",
    "reference:random-pruning-0.5+quantization",
)
TEACHER = FOUNDATION.teacher.at((64, 64))


def references(*wanted: ReferenceConfig, menu: Menu | None = None) -> tuple[Reference, ...]:
    own = menu or Menu()
    return references_of(wanted or WANTED, own, cells_of(own), TEACHER, load_profile("raspberry-pi-5"))


def beside(*wanted: ReferenceConfig, menu: Menu | None = None, **changed: Any) -> Graph:
    """The graph of references alone."""
    base = FOUNDATION.model_copy(update={"teacher": TEACHER} | changed)
    return graph_of(references(*wanted, menu=menu), base, RUNTIMES)


def test_every_reference_has_a_float_detector_and_files() -> None:
    """One file in both runtimes where it stays float, one each where it is quantized."""
    made = beside()
    assert tuple(made.recovered) == tuple(made.artifacts) == NAMES
    for name in NAMES:
        quantized = name.endswith("+quantization")
        assert len(set(made.artifacts[name].values())) == (2 if quantized else 1)
        assert {made.nodes[key].kind for key in made.artifacts[name].values()} == {"quantized" if quantized else "recovered"}


def test_cells_do_not_notice_references() -> None:
    """The grid's nodes keep their keys and their order; what is added belongs to references."""
    base = FOUNDATION.model_copy(update={"teacher": TEACHER})
    alone, both = graph(teacher=TEACHER), graph_of((*cells_of(Menu()), *references()), base, RUNTIMES)
    assert list(both.nodes.values())[: len(alone.nodes)] == list(alone.nodes.values())
    assert all("reference:" in node.name for key, node in both.nodes.items() if key not in alone.nodes)
    assert {name: both.recovered[name] for name in alone.recovered} == alone.recovered
    # By hand: four begin from fresh weights, all five are recovered, three quantized for two runtimes.
    added = [node.kind for key, node in both.nodes.items() if key not in alone.nodes]
    assert {kind: added.count(kind) for kind in set(added)} == {"architecture": 4, "recovered": 5, "quantized": 3 * 2}


def test_the_weights_of_every_reference_see_the_epochs_of_a_cell() -> None:
    """E of an architecture, or of the teacher that was pruned at random, and R of recovery: no search, no teacher's forwards."""
    made = beside()
    for name, key in made.recovered.items():
        own = made.own_work(key)
        assert sum(node.planned.train_epochs for node in own) == TEACHER_EPOCHS + RECOVERY_EPOCHS, name
        assert sum(node.planned.train_images for node in own) == (TEACHER_EPOCHS + RECOVERY_EPOCHS) * TRAIN_PICTURES, name
        assert sum(node.planned.search_images + node.planned.teacher_forwards for node in own) == 0, name


def test_narrow_and_smaller_begin_anew_from_the_teacher() -> None:
    """One architecture node each, taught by labels alone."""
    made = beside(NarrowReference(width_share=0.5), SmallerInputReference(input_share=0.5))
    for name, step in {
        "reference:narrow-0.5": Narrow(width_share=0.5),
        "reference:input-0.5": SmallerInput(input_share=0.5),
    }.items():
        teacher, architecture, recovered = made.lineage(made.recovered[name])
        assert (teacher.kind, architecture.kind, recovered.kind) == ("teacher", "architecture", "recovered")
        assert (architecture.steps, architecture.objective, architecture.name) == ((step,), None, f"architecture {name}")
        assert made.own_work(recovered.key) == (architecture, recovered)


def test_narrow_like_a_cell_waits_for_its_float_detector() -> None:
    """Its architecture has the cell's recovered node as its parent, so the cell is made even where nobody asked for it."""
    made, grid = beside(), graph(teacher=TEACHER)
    for name, cell in {NAMES[1]: "nas+distillation", NAMES[2]: "pruning+quantization"}.items():
        lineage = made.lineage(made.recovered[name])
        assert lineage[-3].key == grid.recovered[cell]
        assert lineage[-2].steps == (Narrow(width_share=None, latency_in="int8" if "quantization" in cell else "float"),)
        assert [made.generation(node.key) for node in lineage[-3:]] == [0, 1, 1]
        assert made.own_work(lineage[-1].key) == lineage[-2:]
    assert [made.generation(key) for key in made.artifacts[NAMES[2]].values()] == [2, 2]


def test_two_references_like_cells_of_one_network_share_it() -> None:
    """Cells that are quantized in two ways have one float detector, and so have their references. Beside a float cell stands
    another, as fast in float."""
    menu = Menu(quantization=(Quantization(calibrator="mse"), Quantization(calibrator="minmax")))
    likes = ("pruning+quantization:int8-mse", "pruning+quantization:int8-minmax", "pruning")
    first, second, floating = beside(*(NarrowReference(like=like) for like in likes), menu=menu).recovered.values()
    assert first == second != floating


def test_random_pruning_is_the_node_of_a_random_cell() -> None:
    """A menu with that variant would find it in the store; the teacher is pruned as trained."""
    made = beside(RandomPruningReference())
    random = graph(Menu(pruning=(Pruning(importance="random"),)), teacher=TEACHER)
    assert made.recovered["reference:random-pruning-0.5"] == random.recovered["pruning"]


@pytest.mark.parametrize(
    ("changed", "direct"),
    [
        (
            {"design_profile": "9" * 64},
            {"reference:narrow~nas+distillation", "reference:narrow~pruning", "reference:random-pruning-0.5"},
        ),
        ({"val_digest": "9" * 64}, {"reference:narrow~nas+distillation"}),
    ],
    ids=["design profile", "val"],
)
def test_what_decides_a_reference_is_in_its_key(changed: dict[str, Any], direct: set[str]) -> None:
    """The design profile estimates and aligns, val chose the cell that is waited for; shares and smaller pictures need neither."""
    wanted = (
        NarrowReference(width_share=0.5), NarrowReference(like="nas+distillation"), NarrowReference(like="pruning"),
        SmallerInputReference(input_share=0.5), RandomPruningReference(),
    )  # fmt: skip
    before, after = beside(*wanted), beside(*wanted, **changed)
    assert {name for name in before.recovered if before.recovered[name] != after.recovered[name]} == direct


@pytest.mark.parametrize("version", ["references", "estimate", "pruning", "training"])
def test_versions_of_what_a_reference_uses_are_in_its_key(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each touches the nodes that work with it and what descends from them."""
    wanted = (NarrowReference(width_share=0.5), NarrowReference(like="pruning"), RandomPruningReference())
    before = beside(*wanted)
    monkeypatch.setitem(VERSIONS, version, VERSIONS[version] + 1)
    touched = {
        "references": {"reference:narrow-0.5", "reference:narrow~pruning"},
        "estimate": {"reference:narrow~pruning"},
        "pruning": {"reference:narrow~pruning", "reference:random-pruning-0.5"},
        "training": {"reference:narrow-0.5", "reference:narrow~pruning", "reference:random-pruning-0.5"},
    }[version]
    after = beside(*wanted)
    assert {name for name in before.recovered if before.recovered[name] != after.recovered[name]} == touched
    cells = {name for name in names_of_changed(before, after) if "reference:" not in name}
    assert cells == (
        {"recovered pruning"} if version == "pruning" else {"teacher", "recovered pruning"} if version == "training" else set()
    )


def test_shares_are_in_the_key() -> None:
    """Another share, another network."""
    keys = {beside(NarrowReference(width_share=share)).recovered[f"reference:narrow-{share:g}"] for share in (0.25, 0.5)}
    assert len(keys) == 2


def test_a_named_teacher_of_the_cell_that_is_waited_for_is_made_too() -> None:
    """It stands in the way of the cell, and so of the reference; no reference learns from it."""
    large = Architecture(stage_widths=(40, 80, 160, 320))
    menu = Menu(nas=(), distillation=(Distillation(teacher=large),))
    made = beside(NarrowReference(like="lightweight+distillation"), menu=menu)
    key = made.recovered["reference:narrow~lightweight+distillation"]
    assert [node.spec and node.spec.settings for node in made.named_teachers(key)] == [large]
    assert all(node.taught_by is None for node in made.own_work(key))
