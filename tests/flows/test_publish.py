from __future__ import annotations

import json
from pathlib import Path

from flows import workspace
from flows.analysis import panels
from flows.answers import recommend
from flows.map_difference import Difference
from flows.publish import BEGIN, END, NO_EFFECT_NOTE, publish, write_readme
from flows.records import write_records
from tests.flows.records_factory import eight_cells


def finished_run(folder: Path) -> None:
    """What a sweep of eight cells leaves behind."""
    cells, latency = eight_cells()
    write_records(folder / workspace.CELLS, cells)
    write_records(folder / workspace.LATENCY, latency)
    same = Difference(mean=0.0, low=0.0, high=0.0, p=1.0)
    write_records(
        folder / workspace.REPORT / "recommendation.json", recommend(cells, panels(cells, latency), 0.02, lambda *_: same)
    )
    (folder / workspace.STAGE_TIMES).parent.mkdir(parents=True)
    lines = [{"stage": "grid", "wall_s": 5.0, "exit": 1}, {"stage": "grid", "wall_s": 90.0, "exit": 0}]
    (folder / workspace.STAGE_TIMES).write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_the_page_names_command_cells_and_times(tmp_path: Path) -> None:
    """The last run of a stage counts; every cell stands in the table; the picture lies beside the records."""
    run, checkout = tmp_path / "run", tmp_path / "checkout"
    finished_run(run)
    checkout.mkdir()
    (checkout / "README.md").write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    text = publish(run, checkout, "make it", "on a slow day").read_text()
    cells, _ = eight_cells()
    assert "`make it`" in text
    assert "on a slow day" in text
    assert "| grid | 90 |" in text
    assert all(cell.cell.replace("+", " + ") in text or cell.cell in text for cell in cells.cells)
    assert (checkout / "docs" / "results" / cells.sweep / "pareto.svg").read_text().lstrip().startswith("<?xml")


def test_the_readme_keeps_what_stands_around_the_marks(tmp_path: Path) -> None:
    """Only the text between the marks is replaced; without a sweep on real pictures it becomes empty."""
    (tmp_path / "README.md").write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    write_readme(tmp_path)
    assert (tmp_path / "README.md").read_text() == f"before\n{BEGIN}\n{END}\nafter\n"


def test_effects_are_told_without_the_cells_that_changed_nothing(tmp_path: Path) -> None:
    """Pruning without effect beside quantization: its mean follows once more over 2 of its 3 pairs, and a note says why."""
    run, checkout = tmp_path / "run", tmp_path / "checkout"
    finished_run(run)
    checkout.mkdir()
    (checkout / "README.md").write_text(f"{BEGIN}\n{END}\n")
    cells, _ = eight_cells()
    marked = [
        cell.model_copy(update={"no_effect": ("pruning",)}) if cell.cell == "pruning+quantization" else cell for cell in cells.cells
    ]
    before = publish(run, checkout, "make it").read_text()
    write_records(run / workspace.CELLS, cells.model_copy(update={"cells": tuple(marked)}))
    after = publish(run, checkout, "make it").read_text()
    assert NO_EFFECT_NOTE in after
    assert "pt over 2 of 3 |" in after
    assert NO_EFFECT_NOTE not in before
    assert " of 3 |" not in before
