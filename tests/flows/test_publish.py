from __future__ import annotations

import json
from pathlib import Path

import pytest

from detection.frozen import InputError
from flows import workspace
from flows.answers import recommend
from flows.map_difference import Difference
from flows.publish import BEGIN, END, NO_EFFECT_NOTE, main, publish, write_readme
from flows.records import write_records
from tests.flows.records_factory import digest, eight_cells
from tests.flows.seeds_factory import seeds_of


def finished_run(folder: Path) -> None:
    """What a sweep of eight cells leaves behind."""
    cells, latency = eight_cells()
    write_records(folder / workspace.CELLS, cells)
    write_records(folder / workspace.LATENCY, latency)
    same = Difference(mean=0.0, low=0.0, high=0.0, p=1.0)
    write_records(
        folder / workspace.REPORT / "recommendation.json", recommend(cells, latency, 0.02, lambda *_: same)
    )
    (folder / workspace.STAGE_TIMES).parent.mkdir(parents=True)
    lines = [{"stage": "grid", "wall_s": 5.0, "exit": 1}, {"stage": "grid", "wall_s": 90.0, "exit": 0}]
    (folder / workspace.STAGE_TIMES).write_text("".join(json.dumps(line) + "\n" for line in lines))


def run_and_checkout(folder: Path) -> tuple[Path, Path]:
    """A finished run, and a checkout whose README has the marks."""
    run, checkout = folder / "run", folder / "checkout"
    finished_run(run)
    checkout.mkdir()
    (checkout / "README.md").write_text(f"{BEGIN}\n{END}\n")
    return run, checkout


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


def test_references_stand_on_the_page_with_their_latency(tmp_path: Path) -> None:
    """Below the cells, counted apart, with the time that was measured; and in the picture as a series of their own."""
    run, checkout = run_and_checkout(tmp_path)
    cells, latency = eight_cells()
    name, host = "reference:narrow-0.5", latency.rows[0].profile
    control = cells.cells[0].model_copy(update={"cell": name, "variant": {"narrow": {"width_share": 0.5}}})
    row = latency.rows[0].model_copy(update={"cell": name, "p50_s": 0.00123})
    write_records(run / workspace.CELLS, cells.model_copy(update={"references": (control,)}))
    write_records(run / workspace.LATENCY, latency.model_copy(update={"rows": (*latency.rows, row)}))
    text = publish(run, checkout, "make it").read_text()
    ok = sum(cell.status == "ok" for cell in cells.cells)
    assert f"{ok} of {len(cells.cells)} cells and 1 of 1 references ok" in text
    (line,) = [line for line in text.splitlines() if line.startswith(f"| `{name}` |")]
    assert "| 1.23" in line, host
    picture = (checkout / "docs" / "results" / cells.sweep / "pareto.svg").read_text()
    assert "references" in picture


def test_the_page_tells_of_several_seeds_where_there_are_some(tmp_path: Path) -> None:
    """Before a retrain there is no such section; after it the records lie beside the others and the section is on the page."""
    run, checkout = run_and_checkout(tmp_path)
    assert "The chosen cell" not in publish(run, checkout, "make it").read_text()
    cells, _ = eight_cells()
    seeds = seeds_of(cells, "pruning", [(0.550, 0.545), (0.551, 0.540)], Difference(mean=0.008, low=-0.001, high=0.017, p=0.1))
    write_records(run / workspace.SEEDS, seeds)
    text = publish(run, checkout, "make it").read_text()
    assert "### The chosen cell, twice\n" in text
    assert "\n- In onnxruntime `pruning` loses 0.8 points of test mAP" in text
    copy = checkout / "docs" / "results" / cells.sweep / "seeds.json"
    assert copy.read_bytes() == (run / workspace.SEEDS).read_bytes()


def test_seeds_of_other_networks_are_not_published(tmp_path: Path) -> None:
    """Seeds from before the cells were made again are refused; a copy of them from an earlier publication goes."""
    run, checkout = run_and_checkout(tmp_path)
    cells, _ = eight_cells()
    seeds = seeds_of(cells, "pruning", [(0.550, 0.545)], Difference(mean=0.005, low=-0.001, high=0.011, p=0.1), sd=None)
    write_records(run / workspace.SEEDS, seeds)
    publish(run, checkout, "make it")
    again = [cell.model_copy(update={"node": digest("again")}) if cell.cell == "pruning" else cell for cell in cells.cells]
    write_records(run / workspace.CELLS, cells.model_copy(update={"cells": tuple(again)}))
    with pytest.raises(InputError, match="Run `sixfold retrain` again, or remove the file"):
        publish(run, checkout, "make it")
    (run / workspace.SEEDS).unlink()
    assert "The chosen cell" not in publish(run, checkout, "make it").read_text()
    assert not (checkout / "docs" / "results" / cells.sweep / "seeds.json").exists()


def test_an_unfinished_run_is_refused_in_one_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Cells, latency or recommendation: what is missing is named with the command that makes it, and nothing is copied."""
    run, checkout = tmp_path / "run", tmp_path / "checkout"
    finished_run(run)
    checkout.mkdir()
    for missing, maker in (
        (workspace.REPORT / "recommendation.json", "sixfold report"),
        (workspace.LATENCY, "sixfold measure"),
        (workspace.CELLS, "sixfold grid"),
    ):
        (run / missing).unlink()
        assert main([str(run), "make it"], checkout) == 2
        assert capsys.readouterr().err == f"publish: {run / missing}: no such file. Run `{maker}` first.\n"
    assert main([str(run)], checkout) == 2
    assert capsys.readouterr().err.startswith("usage: python -m flows.publish ")
    assert not list(checkout.iterdir())


def test_the_command_says_where_the_page_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 0, and the path on stdout."""
    finished_run(tmp_path)
    (tmp_path / "README.md").write_text(f"{BEGIN}\n{END}\n")
    assert main([str(tmp_path), "make it", "a note"], tmp_path) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'docs' / 'results.md'}\n"


def test_the_readme_keeps_what_stands_around_the_marks(tmp_path: Path) -> None:
    """Only the text between the marks is replaced; without a sweep on real pictures it becomes empty."""
    (tmp_path / "README.md").write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    write_readme(tmp_path)
    assert (tmp_path / "README.md").read_text() == f"before\n{BEGIN}\n{END}\nafter\n"


def test_effects_are_told_without_the_cells_that_changed_nothing(tmp_path: Path) -> None:
    """Pruning without effect beside quantization: its mean follows once more over 2 of its 3 pairs, and a note says why."""
    run, checkout = run_and_checkout(tmp_path)
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
