from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from detection.frozen import InputError
from flows.compare.retrain_text import sentences
from flows.publish.page import BEGIN, END, NO_EFFECT_NOTE, RESULTS, SHOWN, main, publish, write_readme
from flows.records.schema import CONTROL, ArtifactRecord, CellsFile, LatencyFile, LatencyRow, write_records
from flows.report.recommendation import recommend
from flows.report.static_plot import FLOAT, INT8
from flows.stats.map_bootstrap import Difference
from flows.stats.verdicts import judged
from flows.sweep import workspace
from tests.flows.records_factory import (
    ESTIMATED,
    MEASURED,
    digest,
    eight_cells,
    empty_row,
    estimated_row,
    latency_file,
    measured_row,
    metrics,
)
from tests.flows.seeds_factory import seeds_of

OTHER = "x86-openvino-1t"
"""Measured too, by `blood_cells` alone."""


def finished_run(folder: Path, records: tuple[CellsFile, LatencyFile] | None = None) -> None:
    """What a sweep of eight cells leaves behind."""
    cells, latency = records or eight_cells()
    write_records(folder / workspace.CELLS, cells)
    write_records(folder / workspace.LATENCY, latency)
    same = Difference(mean=0.0, low=0.0, high=0.0, p=1.0)
    write_records(folder / workspace.REPORT / "recommendation.json", recommend(cells, latency, 0.02, lambda *_: same))
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
    return shown, latency_file(judged(shown, [_emptied(row) if row.profile in without_number else row for row in rows]))


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
    """Every row and sentence: the control first, a cell that is the fastest twice once, test never in the choice, no estimate."""
    run, checkout = run_and_checkout(tmp_path, blood_cells())
    publish(run, checkout, "make it")
    assert headline(checkout) == [
        "## What it found: toy",
        "",
        "From `make it`, 8 cells; all of it in [docs/results.md](docs/results.md).",
        "",
        "![val mAP against measured latency, both runtimes](docs/results/bccd/pareto.svg)",
        "",
        "| device | cell | ms | speedup [95 %] | file, MB | val mAP | test mAP |",
        "|---|---|---|---|---|---|---|",
        *ROWS[MEASURED],
        *ROWS[OTHER],
        "",
        "Measured on AMD EPYC 9R14. Rows: the control, then the fastest within 1, 2 and 5 points of its val mAP (of those equally "
        "fast, the most accurate). Times are of the network alone; from picture to boxes the recommended cell is "
        f"3.9x as fast on `{MEASURED}` and 3.1x as fast on `{OTHER}`.",
    ]
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


def test_the_readme_tells_of_several_seeds_too(tmp_path: Path) -> None:
    """The sentences of the seeds end the headline, where there are some."""
    run, checkout = run_and_checkout(tmp_path, blood_cells())
    cells, _ = blood_cells()
    seeds = seeds_of(cells, "pruning", [(0.550, 0.545), (0.551, 0.540)], Difference(mean=0.008, low=-0.001, high=0.017, p=0.1))
    write_records(run / workspace.SEEDS, seeds)
    publish(run, checkout, "make it")
    assert headline(checkout)[-2:] == ["", f"- {sentences(seeds)[0]}"]


def test_other_sweeps_are_not_in_the_readme(tmp_path: Path) -> None:
    """Generated pictures have a page, no headline."""
    run, checkout = run_and_checkout(tmp_path)
    assert "## toy" in publish(run, checkout, "make it").read_text()
    assert headline(checkout) == []


def test_the_page_tells_of_the_teachers_where_several_were_trained(tmp_path: Path) -> None:
    """0.606 and 0.609 are 0.607 on average and 0.003 apart; a publication leaves what lies there by hand."""
    run, checkout = run_and_checkout(tmp_path)
    assert "Teacher: " not in publish(run, checkout, "make it").read_text()
    teachers = [{"seed": seed, "val_map_50_95": 0.9, "test_map_50_95": own} for seed, own in ((0, 0.6058), (1, 0.6090))]
    about = {"command": "`two trainings`", "params": 2651897, "gflops": 0.939, "teachers": teachers}
    (checkout / RESULTS / "toy" / "teachers.json").write_text(json.dumps(about))
    assert (
        "\nTeacher: 2.65 M parameters, 0.94 GFLOP, test mAP 0.607 (mean of 2 seeds, range 0.003; seed 0: 0.606, seed 1: 0.609), "
        "by `two trainings`.\n"
    ) in publish(run, checkout, "make it").read_text()


def flags_section(page: str) -> list[str]:
    """The lines below the heading that are not empty."""
    section = page.partition("### Smaller but not faster, int8 slower than float\n")[2].partition("###")[0]
    return [line for line in section.splitlines() if line]


IN_WORDS = f"- On `{ESTIMATED}` (estimated, not measured) 1 combination is slower in int8 than in float: `pruning+quantization`."


def test_measured_flags_are_listed_and_estimated_ones_only_counted(tmp_path: Path) -> None:
    """Int8 at 9.9 ms beside 5 ms in float by a clock: a sentence, and a line with the numbers. By a model the sentence is all."""
    cells, latency = eight_cells()
    slow = measured_row("pruning+quantization", MEASURED, 0.0099, 0.010, spread=0.005)
    rows = [slow if (row.cell, row.profile) == (slow.cell, MEASURED) else row for row in latency.rows]
    run, checkout = run_and_checkout(tmp_path, (cells, latency_file(judged(cells, rows))))
    assert flags_section(publish(run, checkout, "make it").read_text()) == [
        f"- On `{MEASURED}` 1 combination is slower in int8 than in float: `pruning+quantization`.",
        IN_WORDS,
        f"- int8 slower than its float parent, {MEASURED}: `pruning+quantization`: 9.90 ms against 5.00 ms of pruning, beyond "
        "chance on paired rounds",
    ]


def test_estimated_flags_alone_are_a_sentence(tmp_path: Path) -> None:
    """No list below it."""
    run, checkout = run_and_checkout(tmp_path)
    assert flags_section(publish(run, checkout, "make it").read_text()) == [IN_WORDS]


def test_the_picture_has_a_panel_per_measured_profile(tmp_path: Path) -> None:
    """A dot for each made cell, 4 float and 3 int8, and one of each in the legend; the control is named, no estimate is drawn."""
    run, checkout = run_and_checkout(tmp_path)
    publish(run, checkout, "make it")
    picture = (checkout / RESULTS / "toy" / "pareto.svg").read_text()
    assert [picture.count(f"fill: {colour}") for colour in (FLOAT, INT8)] == [4 + 1, 3 + 1]
    assert [picture.count(f"<!-- {text} -->") for text in (MEASURED, "control", "front", ESTIMATED)] == [1, 1, 1, 0]


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
    assert capsys.readouterr().err.startswith("usage: python -m flows.publish.page ")
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
