from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from detection.frozen import InputError
from flows.compare.retrain_text import sentences
from flows.publish.marked_page import marks
from flows.publish.page import PAGE, PART, README, RESULTS, SHOWN, main, publish, write_pages
from flows.records.schema import CONTROL, ArtifactRecord, CellsFile, LatencyFile, LatencyRow, write_records
from flows.report.figures import FLOAT, INT8
from flows.report.findings import Findings
from flows.report.recommendation import recommend
from flows.stats.map_bootstrap import Difference
from flows.stats.verdicts import with_verdicts
from flows.sweep import workspace
from tests.flows.records_factory import (
    ESTIMATED,
    MEASURED,
    digest,
    eight_cells,
    empty_row,
    estimated_row,
    float16_cell,
    latency_file,
    measured_row,
    metrics,
)
from tests.flows.seeds_factory import seeds_of
from tests.places import ROOT

BEGIN, END = marks(PART)
OTHER = "x86-openvino-1t"
"""Measured too, by `blood_cells` alone."""


def test_the_committed_pages_are_what_their_records_give(tmp_path: Path) -> None:
    """docs/results.md and the README, byte for byte. After a change of words: `make pages`."""
    shutil.copytree(ROOT / RESULTS, tmp_path / RESULTS)
    shutil.copy(ROOT / README, tmp_path)
    assert write_pages(tmp_path).read_text() == (ROOT / PAGE).read_text()
    assert (tmp_path / README).read_text() == (ROOT / README).read_text()


def finished_run(folder: Path, records: tuple[CellsFile, LatencyFile] | None = None) -> None:
    """What a sweep of eight cells leaves behind."""
    cells, latency = records or eight_cells()
    write_records(folder / workspace.CELLS, cells)
    write_records(folder / workspace.LATENCY, latency)
    same = Difference(mean=0.0, low=0.0, high=0.0, p=1.0)
    write_records(folder / workspace.REPORT / "recommendation.json", recommend(Findings.of(cells, latency, 0.02), lambda *_: same))
    (folder / workspace.STAGE_TIMES).parent.mkdir(parents=True)
    lines = [{"stage": "grid", "wall_s": 5.0, "exit": 1}, {"stage": "grid", "wall_s": 90.0, "exit": 0}]
    (folder / workspace.STAGE_TIMES).write_text("".join(json.dumps(line) + "\n" for line in lines))


def run_and_checkout(folder: Path, records: tuple[CellsFile, LatencyFile] | None = None) -> tuple[Path, Path]:
    """A finished run, and a checkout whose README has the marks."""
    run, checkout = folder / "run", folder / "checkout"
    finished_run(run, records)
    checkout.mkdir()
    (checkout / "README.md").write_text(f"{BEGIN}\n{END}\n")
    return run, checkout


def blood_cells(without_number: Sequence[str] = ()) -> tuple[CellsFile, LatencyFile]:
    """The eight cells under the name that the README shows; their control has no number on the profiles in `without_number`.

    Test lies 5 points below val in onnxruntime and 6 in openvino, whose files are half as large. There a second host was timed:
    8 ms for the control and for pruning, 2 ms for quantization. For the first host there are estimates as well, all 1 ms.
    """
    cells, latency = eight_cells()
    made = [
        cell.model_copy(update={"artifacts": {runtime: _told(runtime, own) for runtime, own in cell.artifacts.items()}})
        for cell in cells.cells
    ]
    times_s = {CONTROL: 0.008, "pruning": 0.008, "quantization": 0.002}
    rows = [*latency.rows, *(estimated_row(name, MEASURED, 0.001, 0.001) for name in times_s)]
    rows += [measured_row(name, OTHER, own_s, 0.008, runtime="openvino 2026.4") for name, own_s in times_s.items()]
    shown = cells.model_copy(update={"sweep": SHOWN[0], "cells": tuple(made)})
    return shown, latency_file(with_verdicts(shown, [_emptied(row) if row.profile in without_number else row for row in rows]))


def _told(runtime: str, own: ArtifactRecord) -> ArtifactRecord:
    lost, smaller = (0.05, 1) if runtime == "onnxruntime" else (0.06, 2)
    test = metrics(own.val.map_50_95 - lost, own.test.detections)
    return own.model_copy(update={"test": test, "size_bytes": own.size_bytes // smaller})


def _emptied(row: LatencyRow) -> LatencyRow:
    return empty_row(CONTROL, row.profile, "core was busy") if row.is_measured and row.cell == CONTROL else row


def headline(checkout: Path) -> list[str]:
    """The lines between the marks of the README."""
    text = (checkout / "README.md").read_text()
    return text[text.index(BEGIN) + len(BEGIN) : text.index(END)].strip().splitlines()


ROWS = {
    MEASURED: [
        f"| {MEASURED} | none (the control) | 10.00 | 1.00 [0.98, 1.02] | 4.19 | 0.550 | 0.500 |",
        f"| {MEASURED} | quantization | 4.00 | 2.50 [2.45, 2.55] | 1.05 | 0.540 | 0.490 |",
        f"| {MEASURED} | pruning + quantization | 2.00 | 5.00 [4.90, 5.10] | 0.52 | 0.530 | 0.480 |",
        f"| {MEASURED} | pruning + distillation + quantization | 1.90 | 5.26 [5.16, 5.37] | 0.52 | 0.510 | 0.460 |",
    ],
    OTHER: [
        f"| {OTHER} | none (the control) | 8.00 | 1.00 [0.98, 1.02] | 2.10 | 0.550 | 0.490 |",
        f"| {OTHER} | quantization | 2.00 | 4.00 [3.92, 4.08] | 0.52 | 0.540 | 0.480 |",
    ],
}
"""Of `blood_cells`, worked by hand: 1, 2 and 5 points below 0.550 are 0.540, 0.530 and 0.500."""


def test_the_readme_shows_the_fastest_within_1_2_and_5_points(tmp_path: Path) -> None:
    """The control first, a cell that is the fastest twice once, test never in the choice, no estimate."""
    run, checkout = run_and_checkout(tmp_path, blood_cells())
    publish(run, checkout, "make it")
    assert [line for line in headline(checkout) if line.startswith("| x86")] == [*ROWS[MEASURED], *ROWS[OTHER]]
    assert headline(checkout)[-1].endswith(f"is 3.9x as fast on `{MEASURED}` and 3.1x as fast on `{OTHER}`.")
    assert (checkout / "docs/results/bccd/pareto.svg").is_file()


@pytest.mark.parametrize(
    ("missing", "shown", "said"),
    [
        ((MEASURED,), ROWS[OTHER], f"; from picture to boxes the recommended cell is 3.1x as fast on `{OTHER}`."),
        ((MEASURED, OTHER), [], "Times are of the network alone."),
    ],
    ids=["one", "all"],
)
def test_a_profile_without_the_controls_time_has_no_rows(
    missing: tuple[str, ...], shown: list[str], said: str, tmp_path: Path
) -> None:
    """No drop can be judged there: the README shows the other profiles, the page says so."""
    run, checkout = run_and_checkout(tmp_path, blood_cells(missing))
    page = publish(run, checkout, "make it").read_text()
    assert [line for line in headline(checkout) if line.startswith("| x86")] == shown
    assert headline(checkout)[-1].endswith(said)
    assert page.count("nothing can be recommended: the control has no number there") == len(missing)


def test_other_sweeps_are_not_in_the_readme(tmp_path: Path) -> None:
    """Generated pictures have a page, no headline."""
    run, checkout = run_and_checkout(tmp_path)
    assert "## toy" in publish(run, checkout, "make it").read_text()
    assert headline(checkout) == []


def flags_section(page: str) -> list[str]:
    """The lines below the heading that are not empty."""
    section = page.partition("### Smaller but not faster, int8 slower than float\n")[2].partition("###")[0]
    return [line for line in section.splitlines() if line]


IN_WORDS = f"- On `{ESTIMATED}` (estimated, not measured) 1 combination is slower in int8 than in float: `pruning+quantization`."


def test_measured_flags_are_listed_and_estimated_ones_only_counted(tmp_path: Path) -> None:
    """Int8 at 9.9 ms against 5 ms in float, measured: a sentence, and a line with the numbers. Estimated: the sentence alone."""
    cells, latency = eight_cells()
    slow = measured_row("pruning+quantization", MEASURED, 0.0099, 0.010, spread=0.005)
    rows = [slow if (row.cell, row.profile) == (slow.cell, MEASURED) else row for row in latency.rows]
    run, checkout = run_and_checkout(tmp_path, (cells, latency_file(with_verdicts(cells, rows))))
    assert flags_section(publish(run, checkout, "make it").read_text()) == [
        f"- On `{MEASURED}` 1 combination is slower in int8 than in float: `pruning+quantization`.",
        IN_WORDS,
        f"- int8 slower than its float parent, {MEASURED}: `pruning+quantization`: 9.90 ms against 5.00 ms of pruning, beyond "
        "chance on paired rounds",
    ]


def test_the_picture_has_a_panel_per_measured_profile(tmp_path: Path) -> None:
    """A dot for each made cell, 4 float and 3 int8, and one of each in the legend; the control is named, no estimate is drawn."""
    run, checkout = run_and_checkout(tmp_path)
    publish(run, checkout, "make it")
    picture = (checkout / RESULTS / "toy" / "pareto.svg").read_text()
    assert [picture.count(f"fill: {colour}") for colour in (FLOAT, INT8)] == [4 + 1, 3 + 1]
    assert [picture.count(f"<!-- {text} -->") for text in (MEASURED, "control", "front", ESTIMATED)] == [1, 1, 1, 0]


def test_the_picture_draws_float16_as_float(tmp_path: Path) -> None:
    """One of the three quantized cells is float16: 5 float dots and 2 int8 ones, and one of each in the legend."""
    cells, latency = eight_cells()
    changed = [float16_cell(own.methods, 0.54) if own.cell == "quantization" else own for own in cells.cells]
    run, checkout = run_and_checkout(tmp_path, (cells.model_copy(update={"cells": tuple(changed)}), latency))
    publish(run, checkout, "make it")
    picture = (checkout / RESULTS / "toy" / "pareto.svg").read_text()
    assert [picture.count(f"fill: {colour}") for colour in (FLOAT, INT8)] == [5 + 1, 2 + 1]


def test_command_note_and_the_last_run_of_each_stage_are_published(tmp_path: Path) -> None:
    """What a first run of the grid took, which failed, does not count."""
    run, checkout = run_and_checkout(tmp_path)
    text = publish(run, checkout, "make it", "on a slow day").read_text()
    assert all(expected in text for expected in ("`make it`", "on a slow day", "| grid | 90 |", "| all | 90 |"))


def test_several_seeds_are_published_where_there_are_some(tmp_path: Path) -> None:
    """Before a retrain there is no such section; after it page and README have the sentences, and the records are copied."""
    run, checkout = run_and_checkout(tmp_path, blood_cells())
    assert "### The chosen cell" not in publish(run, checkout, "make it").read_text()
    cells, _ = blood_cells()
    seeds = seeds_of(cells, "pruning", [(0.550, 0.545), (0.551, 0.540)], Difference(mean=0.008, low=-0.001, high=0.017, p=0.1))
    write_records(run / workspace.SEEDS, seeds)
    line = f"- {sentences(seeds)[0]}"
    assert line in publish(run, checkout, "make it").read_text().partition("### The chosen cell")[2].splitlines()
    assert headline(checkout)[-2:] == ["", line]
    assert (checkout / RESULTS / cells.sweep / "seeds.json").read_bytes() == (run / workspace.SEEDS).read_bytes()


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
        assert capsys.readouterr().err == f"sixfold: {run / missing}: no such file. Run `{maker}` first.\n"
    assert main([str(run)], checkout) == 2
    assert "usage: " in capsys.readouterr().err
    assert not list(checkout.iterdir())


def test_the_command_says_where_the_page_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 0, and the path on stdout."""
    finished_run(tmp_path)
    (tmp_path / "README.md").write_text(f"{BEGIN}\n{END}\n")
    assert main([str(tmp_path), "make it", "a note"], tmp_path) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'docs' / 'results.md'}\n"
