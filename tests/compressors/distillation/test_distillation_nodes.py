"""A teacher that distillation names is a node like any other: made once, part of the keys, paid for by those who asked."""

from __future__ import annotations

from pathlib import Path

import pytest

from compressors.distillation import Distillation
from compressors.planning.graph import GivenTeacher, Graph, Menu, Node
from detection.brought import CheckpointDetector, OnnxDetector
from detection.compact.architecture import Architecture
from detection.data.augmentation import Augmentation
from tests.compressors.graph_factory import (
    FOUNDATION,
    LIBRARIES,
    RECOVERY_EPOCHS,
    TEACHER_EPOCHS,
    TRAIN_PICTURES,
    graph,
    named,
    touched,
)

WIDE = Architecture(stage_widths=(48, 96, 192, 384), neck_width=96)
WIDE_NAME = "teacher 48-96-192-384-neck_width-96"
TAUGHT_BY_WIDE = Menu(distillation=(Distillation(teacher=WIDE),))


@pytest.fixture(scope="module")
def wide() -> Graph:
    """The default menu with a larger teacher."""
    return graph(TAUGHT_BY_WIDE)


def test_a_named_teacher_is_one_more_node(wide: Graph) -> None:
    """106 instead of 105 nodes: the sweep's teacher stays, and everything that learns from nobody keeps its key."""
    before = graph()
    assert len(wide.nodes) == len(before.nodes) + 1
    assert named(wide).keys() - named(before).keys() == {WIDE_NAME}
    changed = {name for name, key in named(before).items() if named(wide)[name] != key}
    assert changed == touched(before, lambda node: node.objective is not None)


def test_it_trains_as_the_sweeps_teacher_does(wide: Graph) -> None:
    """From nothing, with its own architecture, for the same epochs, on the teacher's threads."""
    node, own = (wide.nodes[named(wide)[name]] for name in (WIDE_NAME, "teacher"))
    assert (node.kind, node.parent, node.objective, node.spec) == ("teacher", None, None, FOUNDATION.teacher.having(WIDE))
    assert own.spec is None
    assert (node.planned, node.threads) == (own.planned, own.threads)
    assert node.planned.train_epochs == TEACHER_EPOCHS


def test_only_its_pupils_know_it(wide: Graph) -> None:
    """Every objective is taught by it; it is made before them; the lineage of all is still the sweep's teacher's."""
    teacher, places = named(wide)[WIDE_NAME], list(wide.nodes)
    for key, node in wide.nodes.items():
        assert node.taught_by == (teacher if node.objective else None)
        if node.objective:
            assert places.index(teacher) < places.index(key)
        if key != teacher:
            assert wide.lineage(key)[0].name == "teacher"
    assert [node.name for node in wide.named_teachers(wide.artifacts["lightweight+distillation+quantization"]["openvino"])] == [
        WIDE_NAME
    ]
    assert wide.named_teachers(wide.recovered["pruning"]) == ()


def test_the_sweeps_own_teacher_may_be_named() -> None:
    """Then there is no second one."""
    made = graph(Menu(distillation=(Distillation(teacher=FOUNDATION.teacher.settings),)))
    assert [node.name for node in made.nodes.values() if node.kind == "teacher"] == ["teacher"]
    assert made.named_teachers(made.recovered["distillation"]) == ()
    assert all(node.taught_by == named(made)["teacher"] for node in made.nodes.values() if node.objective)


def test_variants_with_the_same_teacher_share_it() -> None:
    """Two ways of comparing features, one larger teacher: one node more."""
    one, two = (
        graph(TAUGHT_BY_WIDE),
        graph(Menu(distillation=(Distillation(teacher=WIDE), Distillation(teacher=WIDE, features_by="mgd")))),
    )
    assert set(one.nodes) < set(two.nodes)
    assert sum(node.kind == "teacher" for node in two.nodes.values()) == 2


def test_by_default_the_sweeps_teacher_teaches() -> None:
    """Every objective names the teacher's key, and no cell pays for another."""
    made = graph()
    assert {node.taught_by for node in made.nodes.values() if node.objective} == {named(made)["teacher"]}
    assert not any(made.named_teachers(key) for key in made.recovered.values())


def test_remembered_outputs_are_planned_for() -> None:
    """Both flips and no other augmentation: 4 views a picture where there are 7 epochs, and 3 forwards where there are 3 epochs."""
    flips = Augmentation(flip_vertical=0.5, scale=0, brightness=0, contrast=0, colour=0)
    schedules = {name: getattr(FOUNDATION, name).model_copy(update={"augmentation": flips}) for name in ("training", "recovery")}
    made = graph(Menu(distillation=(Distillation(cache=True),)), **schedules)
    for node in made.nodes.values():
        if node.objective:
            views = 4 if node.kind == "architecture" else RECOVERY_EPOCHS
            assert node.planned.teacher_forwards == views * TRAIN_PICTURES


def test_memory_is_refused_where_pictures_change() -> None:
    """The default augmentation varies scale and colours: no graph is made of a promise that cannot be kept."""
    with pytest.raises(ValueError, match=r"augmentation has scale 0.25, brightness 0.2, contrast 0.2, colour 0.05"):
        graph(Menu(distillation=(Distillation(cache=True),)))


CHECKPOINT = CheckpointDetector(checkpoint=Path("theirs"))
FILE = OnnxDetector(onnx=Path("theirs.onnx"), classes=("a",))


def brought(asked: CheckpointDetector | OnnxDetector, digest: str = "7" * 64, **changed: object) -> Graph:
    """The default menu, taught by a detector that the user brings."""
    teacher = GivenTeacher(asked=asked, spec=FOUNDATION.teacher.having(WIDE), digest=digest)
    return graph(Menu(distillation=(Distillation(teacher=asked),)), teachers=(teacher,), **changed)


@pytest.mark.parametrize("asked", [CHECKPOINT, FILE], ids=["checkpoint", "onnx"])
def test_a_brought_teacher_is_a_node_that_is_not_trained(asked: CheckpointDetector | OnnxDetector) -> None:
    """It is taken as it is, its pupils ask it as often as any, and who learns from nobody keeps the key."""
    before, made = graph(), brought(asked)
    node = made.nodes[named(made)[WIDE_NAME]]
    assert (node.kind, node.given, node.spec) == ("teacher", "7" * 64, FOUNDATION.teacher.having(WIDE))
    assert node.planned.model_dump() == dict.fromkeys(("train_epochs", "train_images", "search_images", "teacher_forwards"), 0)
    changed = {name for name, key in named(before).items() if named(made)[name] != key}
    assert changed == touched(before, lambda node: node.objective is not None)
    assert Node.model_validate_json(node.model_dump_json(by_alias=True)) == node
    pupil = made.nodes[made.recovered["distillation"]]
    assert Node.model_validate_json(pupil.model_dump_json(by_alias=True)) == pupil
    assert (pupil.taught_by, pupil.planned.teacher_forwards) == (node.key, RECOVERY_EPOCHS * TRAIN_PICTURES)


@pytest.mark.parametrize("asked", [CHECKPOINT, FILE], ids=["checkpoint", "onnx"])
def test_keys_follow_what_was_brought_and_not_its_place(asked: CheckpointDetector | OnnxDetector) -> None:
    """The same detector elsewhere has the same nodes, another in the same place has others, as have its pupils."""
    field = "checkpoint" if isinstance(asked, CheckpointDetector) else "onnx"
    made = brought(asked)
    assert named(brought(asked.model_copy(update={field: Path("elsewhere")}))) == named(made)
    other = brought(asked, "8" * 64)
    changed = {name for name, key in named(made).items() if named(other)[name] != key}
    assert changed == {WIDE_NAME} | touched(made, lambda node: node.objective is not None)


def test_what_runs_the_file_decides_what_its_pupils_learn() -> None:
    """Another version of ONNX Runtime makes other pupils of a file, and not of a checkpoint."""
    newer = LIBRARIES | {"onnxruntime": "2.0"}
    for asked, differs in ((FILE, True), (CHECKPOINT, False)):
        first, second = (brought(asked, libraries=libraries).recovered for libraries in (LIBRARIES, newer))
        assert (first["distillation"] != second["distillation"]) == differs
        assert first["pruning"] == second["pruning"]
