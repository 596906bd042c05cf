"""References beside the cells, through the whole grid: made, trained as long, packed, scored and recorded, never counted along."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from compressors.latency import estimated_latency
from compressors.planning.references import narrow_at_latency
from compressors.quantization import Quantization
from detection import checkpoint
from detection.compact.architecture import architecture_of
from detection.data.dataset import Prepared, load_prepared, load_split
from detection.evaluation import accuracy, detect
from detection.frozen import InputError
from flows.grid.forecast import Forecast, forecast
from flows.grid.nodes import NODES, read_done
from flows.grid.ray_executor import Executor
from flows.grid.scoring import SCORED
from flows.grid.stage import grid
from flows.grid.tasks import tasks_of
from flows.prepare.stage import prepare
from flows.records.schema import CellRecord, CellsFile, read_records
from flows.records.store import Store
from flows.sweep.context import chosen_cells, chosen_references, lay_foundation, make_graph
from flows.sweep.params import Plan
from flows.sweep.plan_checks import load_plan
from hardware_profiles.runtimes.table import open_session
from hardware_profiles.schema.library import load_profile
from tests.flows.cli_runner import Sixfold
from tests.flows.sweep_factory import Listener, tiny_tree, write_params

TRAIN, EPOCHS = 24, 2 + 1
"""Pictures, and what every cell's weights see: two epochs and one of recovery."""
SHORT = {"levels": [8, 16], "stage_widths": [16, 16, 24], "stage_depths": [1, 1, 1]}
"""A teacher that can see half of 64 x 96 pixels."""
WANTED: list[dict[str, Any]] = [
    {"kind": "narrow", "width_share": 0.5, "quantization": True},
    {"kind": "narrow", "like": "pruning+quantization"},
    {"kind": "smaller_input"},
    {"kind": "random_pruning"},
]
NAMES = ("reference:narrow-0.5+quantization", "reference:narrow~pruning+quantization", "reference:input-0.5",
         "reference:random-pruning-0.5-round-4")  # fmt: skip
PLAN: dict[str, Any] = {
    "teacher__architecture": tiny_tree()["teacher"]["architecture"] | SHORT,
    "grid__methods__distillation": [],
    "grid__references": WANTED,
}
CELLS = ["none", "pruning", "quantization", "pruning+quantization"]


@dataclass
class Made:
    """A folder with prepared data, and what a grid made of it."""

    folder: Path
    plan: Plan
    forecast: Forecast
    listener: Listener
    said: list[str]
    code: int = -1

    @property
    def data(self) -> Prepared:
        return load_prepared(self.prepared)

    @property
    def prepared(self) -> Path:
        return self.folder / "data/prepared"

    @property
    def store(self) -> Store:
        return Store(self.folder / ".sixfold/store")

    @property
    def output(self) -> Path:
        return self.folder / "results/cells.json"

    @property
    def cells(self) -> CellsFile:
        return read_records(self.output, CellsFile)

    def run(self, pattern: str | None = None, executor: Executor = "inline") -> None:
        self.code = grid(
            self.plan, self.prepared, self.store, self.output, pattern=pattern, executor=executor,
            open_tracking=lambda: self.listener, say=self.said.append,
        )  # fmt: skip


def begun(folder: Path, **changes: Any) -> Made:
    """Tiny params with changes, data prepared, nothing made."""
    plan = load_plan(write_params(folder, **(PLAN | changes)))
    prepared, store = folder / "data/prepared", Store(folder / ".sixfold/store")
    prepare(plan.params.data, plan.base, prepared, plan.params.seed, lambda _: None)
    return Made(folder, plan, forecast(plan, prepared, store, None), Listener(), [])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A sweep of four cells and a reference of each kind."""
    own = begun(tmp_path_factory.mktemp("references"))
    own.run()
    return own


def by_name(made: Made) -> dict[str, CellRecord]:
    return {record.cell: record for record in made.cells.references}


def test_every_reference_is_made_and_stands_beside_the_cells(made: Made) -> None:
    """Four cells and four references, all ok, in the order in which they are named; said so at the end."""
    assert made.code == 0
    assert [cell.cell for cell in made.cells.cells] == CELLS
    assert [(own.cell, own.status, own.error) for own in made.cells.references] == [(name, "ok", None) for name in NAMES]
    assert made.said[0].startswith("4 cells and 4 references, ")
    assert made.said[-2] == f"4 of 4 cells and 4 of 4 references ok: {made.output}"
    assert made.said[-3].startswith("checked: 4 cells and 4 references with 3 train epochs each")


def test_the_weights_of_every_reference_have_seen_what_a_cell_s_have(made: Made) -> None:
    """Exactly E + R epochs; nothing searched, nothing taught, nothing inherited, whatever was waited for."""
    for own in (*made.cells.cells, *made.cells.references):
        assert own.budget is not None
        assert (own.budget.train_epochs, own.budget.train_images) == (EPOCHS, EPOCHS * TRAIN), own.cell
    for own in made.cells.references:
        assert own.budget is not None
        spent = (own.budget.search_images, own.budget.teacher_forwards, own.budget.inherited_images, own.budget.teacher_images)
        assert spent == (0, 0, 0, 0), own.cell
        assert own.budget.qat_updates == 0
        assert own.budget.train_s > 0


def test_what_a_reference_is_stands_in_its_record(made: Made) -> None:
    """Methods are those that were really applied; the setting is there with what was left open filled in."""
    found = by_name(made)
    assert [own.methods for own in found.values()] == [("quantization",), ("quantization",), (), ("pruning",)]
    assert [list(own.variant) for own in found.values()] == [
        ["narrow", "quantization"], ["narrow", "quantization"], ["smaller_input"], ["random_pruning", "pruning"],
    ]  # fmt: skip
    assert found[NAMES[0]].variant["narrow"] == {"kind": "narrow", "width_share": 0.5, "like": None}
    assert found[NAMES[2]].variant["smaller_input"] == {"kind": "smaller_input", "input_share": 0.5}
    assert found[NAMES[3]].variant["random_pruning"] == {"kind": "random_pruning", "like": "taylor-0.5"}
    assert found[NAMES[3]].variant["pruning"]["importance"] == "random"
    assert all(own.seed == 0 and own.no_effect == () for own in found.values())


def test_narrow_networks_are_narrow(made: Made) -> None:
    """Half of every width; and as wide as the pruned network's latency in int8 allows by estimate, found here once more."""
    half, like = (checkpoint.load(made.store.open(NODES, by_name(made)[name].node)).spec for name in NAMES[:2])
    narrow = architecture_of(half)
    assert (narrow.stem_width, narrow.stage_widths, narrow.neck_width) == (8, (8, 8, 8), 8)
    (pruned,) = [checkpoint.load(made.store.open(NODES, own.node)).spec for own in made.cells.cells if own.cell == "pruning"]
    profile = load_profile(made.plan.params.grid.design_profile)
    teacher = lay_foundation(made.plan, made.prepared).teacher
    limit_s = estimated_latency(pruned, profile, "int8").point_s
    assert like == narrow_at_latency(teacher, profile, "int8", limit_s)
    assert (like.edits, half.edits) == ((), ())


def test_the_smaller_input_sees_half_and_is_scored_like_the_rest(made: Made) -> None:
    """32 x 48 pixels, as many parameters as the control, a quarter of its multiply-adds; val and test are the pictures and labels
    of all."""
    own, (control, *_) = by_name(made)[NAMES[2]], made.cells.cells
    assert (own.input_size, control.input_size) == ((32, 48), (64, 96))
    assert own.params == control.params
    assert own.macs is not None
    assert own.macs * 4 == control.macs
    for record in (own, control):
        for runtime, artifact in record.artifacts.items():
            session = open_session(runtime, made.store.root / artifact.url, 1)
            assert session.input_size == record.input_size
            for split in SCORED:
                metrics = {"val": artifact.val, "test": artifact.test}[split]
                images = load_split(made.prepared, split)
                found = json.loads((made.store.root / metrics.detections).read_text())
                assert found
                assert found == detect(session, images.at(session.input_size))
                assert accuracy(images.ground_truth, found).model_dump() == metrics.model_dump(exclude={"detections"})


def test_random_pruning_keeps_as_many_multiply_adds(made: Made) -> None:
    """The trained teacher goes on: its node follows the teacher's at once, and the target is the variant's."""
    own = by_name(made)[NAMES[3]]
    done = read_done(made.store, own.node)
    (change,) = done.changes
    assert (change.method, change.details["importance"]) == ("pruning", "random")
    assert change.macs_after == own.macs
    cells = {cell.cell: cell for cell in made.cells.cells}
    assert done.node.parent == read_done(made.store, cells["none"].node).node.parent
    assert cells["pruning"].macs is not None
    assert cells["none"].macs is not None
    # Both stop at the first step at or below half, and a step is a block of channels.
    assert abs(own.macs / cells["none"].macs - cells["pruning"].macs / cells["none"].macs) < 0.1


def test_quantized_references_ship_int8(made: Made) -> None:
    """The file is the quantized node's, smaller than the float one of the same network."""
    own = by_name(made)[NAMES[0]]
    artifact = own.artifacts["onnxruntime"]
    float_file = made.store.folder(NODES, own.node) / "model.onnx"
    assert own.node not in artifact.url
    assert artifact.size_bytes < float_file.stat().st_size


def test_the_forecast_counted_them(made: Made) -> None:
    """By hand: teacher; two float cells, and one of each float reference, three of them after an architecture; int8 of two cells
    and two references. Each int8 file is scored, and each float one that is shipped."""
    before = made.forecast
    assert (before.cells, before.references) == (4, 4)
    assert before.nodes == {"teacher": 1, "architecture": 3, "recovered": 6, "quantized": 4}
    assert before.to_score == (2 + 2) + 4
    assert before.train_images == TRAIN * (2 + 3 * 2 + 6 * 1)
    after = forecast(made.plan, made.prepared, made.store, None)
    assert after.stored == after.nodes == before.nodes
    assert after.to_score == 0


def test_references_are_tracked_like_cells(made: Made) -> None:
    """Each once, when it is whole."""
    assert sorted(made.listener.cells) == sorted((name, "ok") for name in (*CELLS, *NAMES))


def test_what_is_waited_for_comes_first(tmp_path: Path) -> None:
    """In the order of the tasks nobody stands before what it needs, though an architecture follows a recovery here."""
    own = begun(tmp_path)
    cells = (*chosen_cells(own.plan, None), *chosen_references(own.plan, None))
    graph = make_graph(own.plan, lay_foundation(own.plan, own.prepared), cells)
    seen: set[str] = set()
    for task in tasks_of(graph, own.data, own.store):
        assert set(task.after) <= seen
        seen.add(task.name)


@pytest.mark.parametrize(
    ("pattern", "cells", "references"),
    [
        ("none", ["none"], []),
        ("reference:narrow~*", ["none"], [NAMES[1]]),
        ("*pruning*", ["none", "pruning", "pruning+quantization"], [NAMES[1], NAMES[3]]),
        ("*", CELLS, list(NAMES)),
    ],
)
def test_a_pattern_chooses_among_both(pattern: str, cells: list[str], references: list[str], tmp_path: Path) -> None:
    """References whose name matches are made too; the control always."""
    plan = load_plan(write_params(tmp_path, **PLAN))
    assert [own.name for own in chosen_cells(plan, pattern)] == cells
    assert [own.name for own in chosen_references(plan, pattern)] == references


def test_a_pattern_that_matches_nothing_is_refused_in_numbers_of_both(tmp_path: Path) -> None:
    """The message counts what there is."""
    plan = load_plan(write_params(tmp_path, **PLAN))
    with pytest.raises(InputError, match="--cells 'zzz': matches none of the 4 cells and 4 references, such as"):
        chosen_cells(plan, "zzz")


def test_a_reference_alone_is_made_with_what_it_waits_for(made: Made, tmp_path: Path) -> None:
    """The pruned network is made, since its latency is needed, and is no cell of the records."""
    own = begun(tmp_path)
    own.run("reference:narrow~*")
    assert own.code == 0
    assert [cell.cell for cell in own.cells.cells] == ["none"]
    (alone,) = own.cells.references
    assert alone.node == by_name(made)[NAMES[1]].node


def test_a_failed_cell_takes_the_reference_along_that_waits_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reference is skipped with what it needed, the others are made, and the grid says that something is missing."""
    from flows.grid import nodes

    own = begun(tmp_path)

    def broken(detector: Any, config: Any, workbench: Any) -> Any:
        if config.importance == "taylor":
            raise RuntimeError("no gradients today")
        return prune(detector, config, workbench)

    prune = nodes.TRANSFORMS["pruning"]
    monkeypatch.setitem(nodes.TRANSFORMS, "pruning", broken)
    own.run()
    assert own.code == 3
    status = {record.cell: record.status for record in (*own.cells.cells, *own.cells.references)}
    assert [name for name, found in status.items() if found == "failed"] == ["pruning"]
    assert [name for name, found in status.items() if found == "skipped"] == ["pruning+quantization", NAMES[1]]
    skipped = by_name(own)[NAMES[1]]
    assert skipped.error is not None
    assert skipped.error.startswith("needs recovered pruning ")
    assert "2 of 4 cells and 3 of 4 references ok (1 failed, 2 skipped" in own.said[-3]


def test_nothing_said_gives_what_the_menu_allows_of(tmp_path: Path) -> None:
    """This menu prunes to a share of multiply-adds, does not search, and half of the pictures fits the teacher."""
    tree = tiny_tree(**PLAN)
    for said in ({"references": None}, {}):
        tree["grid"] = {name: value for name, value in tree["grid"].items() if name != "references"} | said
        (tmp_path / "params.yaml").write_text(yaml.safe_dump(tree))
        plan = load_plan(tmp_path / "params.yaml")
        assert [own.name for own in plan.references] == ["reference:random-pruning-0.5-round-4", "reference:input-0.5"]
    assert load_plan(write_params(tmp_path, **(PLAN | {"grid__references": []}))).references == ()


def test_plan_prints_both_numbers(made: Made, sixfold: Sixfold) -> None:
    """`sixfold plan` says how many references stand beside the cells."""
    ended = sixfold(made.folder, "plan")
    assert ended.code == 0
    assert "sweep tiny: 4 cells and 4 references" in " ".join(ended.out.split())


def test_each_method_alone_through_the_grid(tmp_path: Path) -> None:
    """Two variants of quantization and one of pruning, not crossed: the control and three cells, one of them with a reference."""
    variants = [Quantization(pictures=8, calibrator="minmax"), Quantization(pictures=8, calibrator="mse")]
    own = begun(
        tmp_path,
        grid__combinations="alone",
        grid__methods__quantization=[variant.model_dump(mode="json") for variant in variants],
        grid__references=[{"kind": "random_pruning"}],
    )
    assert (own.forecast.cells, own.forecast.references) == (4, 1)
    own.run()
    assert own.code == 0
    names = ["none", "pruning", *(f"quantization:{variant.label()}" for variant in variants)]
    assert [cell.cell for cell in own.cells.cells] == names
    assert [cell.cell for cell in own.cells.references] == ["reference:random-pruning-0.5-round-4"]
