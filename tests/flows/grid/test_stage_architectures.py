"""Variants that change where weights come from or what the network sees, through the whole grid."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from detection.frozen import InputError
from flows.grid.stage import grid
from flows.records.schema import CellsFile, read_records
from flows.records.store import Store
from flows.report.model_export import ModelCard
from flows.sweep.context import lay_foundation
from flows.sweep.plan_checks import load_plan
from tests.flows.records_factory import cells_file, latency_file, measured_row, ok_cell
from tests.flows.report.test_stage import Made
from tests.flows.sweep_entries import lend
from tests.flows.sweep_factory import tiny_tree, write_params

NOTHING: dict[str, list[Any]] = {
    method: [] for method in ("lightweight", "nas", "pruning", "low_rank", "distillation", "quantization")
}
SEARCH = {"supernet_epochs": 1, "evaluations": 2, "population": 4, "recalibration_pictures": 8, "val_pictures": 4}


def made(folder: Path, prepared: Path, teacher: dict[str, Any] | None = None, **methods: list[dict[str, Any]]) -> CellsFile:
    """The records of a tiny sweep with these variants and nothing else."""
    changes = {} if teacher is None else {"teacher__architecture": teacher}
    plan = load_plan(write_params(folder, grid__methods=NOTHING | methods, **changes))
    shutil.copytree(prepared, folder / "data/prepared")
    output = folder / "results/cells.json"
    code = grid(
        plan, folder / "data/prepared", Store(folder / ".sixfold/store"), output, pattern=None, executor="inline",
        say=lambda _: None,
    )  # fmt: skip
    assert code == 0
    return read_records(output, CellsFile)


def test_inherited_epochs_are_a_cells_own(tmp_path: Path, sweep_prepared: Path) -> None:
    """By hand: the teacher's two epochs are the cell's, its recovery is the third; eight pictures were looked at besides."""
    cells = made(tmp_path, sweep_prepared, lightweight=[{"weights": "inherited", "inheritance_pictures": 8}])
    control, light = (cells.cell(name) for name in ("none", "lightweight"))
    assert control is not None
    assert light is not None
    assert control.budget is not None
    assert light.budget is not None
    for own in (control.budget, light.budget):
        assert (own.train_epochs, own.train_images) == (3, 72)
    assert (light.budget.search_images, control.budget.search_images) == (8, 0)


def test_a_smaller_input_is_taught_and_in_the_record(tmp_path: Path, sweep_prepared: Path) -> None:
    """Searched networks see 32 x 48, and so does a teacher whose levels fit that; the control sees 64 x 96."""
    short = {"levels": [8, 16], "stage_widths": [16, 16, 24], "stage_depths": [1, 1, 1]}
    teacher = tiny_tree()["teacher"]["architecture"] | short
    cells = made(
        tmp_path, sweep_prepared, teacher, nas=[SEARCH | {"input_share": 0.5}], distillation=[{}], quantization=[{"pictures": 8}]
    )
    assert len(cells.cells) == 8
    for cell in cells.cells:
        assert cell.status == "ok"
        assert cell.input_size == ((32, 48) if "nas" in cell.methods else (64, 96))


@pytest.mark.parametrize(
    ("methods", "words"),
    [
        ({"nas": [{"space": {"levels": [16, 32]}}]}, r"grid\.methods\.nas\.space\.levels: \(16, 32\)"),
        ({"nas": [{"input_share": 0.5}]}, r"grid\.methods\.nas\.input_share 0\.5: .*allowed are 1\."),
        (
            {"nas": [{"space": {"levels": [8, 16]}, "input_share": 0.5}]},
            r"nas\.input_share leaves pictures of \(32, 48\) .* do not fit the strides of the teacher",
        ),
        ({"nas": [{"round_to": 6}], "lightweight": [{"block": "ghost"}]}, r"grid\.methods\.nas\.round_to: 6: ghost blocks"),
    ],
)
def test_what_the_teacher_cannot_become_is_refused_at_the_door(
    methods: dict[str, Any], words: str, tmp_path: Path, sweep_prepared: Path
) -> None:
    """Before anything is trained, most of it when the plan is read, and with the field's name."""
    with pytest.raises(InputError, match=words):
        plan = load_plan(write_params(tmp_path, grid__methods=tiny_tree()["grid"]["methods"] | methods))
        lay_foundation(plan, lend(sweep_prepared, plan, tmp_path / "prepared"))


def test_the_exported_model_says_what_it_sees(tmp_path: Path) -> None:
    """Who deploys it resizes to the cell's own input, not to that of the data set."""
    small = ok_cell(("nas",), 0.5).model_copy(update={"input_size": (32, 48)})
    rows = [measured_row("none", "x86-onnxruntime-1t", 0.01, 0.01), measured_row("nas", "x86-onnxruntime-1t", 0.005, 0.01)]
    best = Made(tmp_path, (cells_file([ok_cell((), 0.5), small]), latency_file(rows))).best
    card = ModelCard.model_validate_json((best / "x86-onnxruntime-1t" / "model.json").read_text())
    assert (card.cell, card.input.size) == ("nas", (32, 48))
