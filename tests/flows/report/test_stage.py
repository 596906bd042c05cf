"""The report answers first, loads nothing, exports what it recommends, and appears whole or not at all."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from detection.frozen import InputError
from flows.records.schema import CellsFile, LatencyFile, read_records, write_records
from flows.report.recommendation import RecommendationFile
from flows.report.stage import Report
from tests.flows.records_factory import (
    ESTIMATED,
    MEASURED,
    cells_file,
    eight_cells,
    empty_row,
    full_grid,
    latency_file,
    measured_row,
    ok_cell,
)
from tests.flows.report_factory import Made


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """One report for all tests that only look at it."""
    return Made(tmp_path_factory.mktemp("report"), eight_cells())


def test_three_files_and_the_index_comes_back(made: Made) -> None:
    """The page, its Markdown twin and the recommendation, and nothing left over from making them."""
    assert made.index == made.folder / "index.html"
    assert sorted(path.name for path in made.folder.iterdir()) == ["index.html", "recommendation.json", "report.md"]
    assert sorted(path.name for path in made.folder.parent.iterdir()) == ["report"]
    assert sorted(path.name for path in made.best.parent.iterdir()) == ["best"]


def test_page_loads_nothing(made: Made) -> None:
    """No src or href leads outside, no stylesheet is imported; pictures are data URIs."""
    for address in re.findall(r"""(?:src|href)\s*=\s*["']?([^"'\s>]+)""", made.own):
        assert address.startswith(("#", "data:")), address
    assert "@import" not in made.own
    assert "url(" not in made.own
    assert not re.search(r"https?://", made.own)
    assert made.html.count("plotly.js v") == 1


def test_plotly_is_inlined_once_before_the_figures(made: Made) -> None:
    """Figures call Plotly.newPlot; the library stands before the first call."""
    assert len(made.html) - len(made.own) > 1_000_000
    assert made.own.count("Plotly.newPlot(") == 8  # two fronts, four effects, two interactions


def test_answer_comes_first(made: Made) -> None:
    """The first section holds the sentence; the table comes after it."""
    assert made.own.index("<code>pruning+quantization</code>: 5.0x faster") < made.own.index("<table")


def test_sentence_worked_by_hand(made: Made) -> None:
    """10 ms to 2 ms is 5.0x with the interval of 2 %; 4096 KiB to 512 KiB is 8.0x; test equals val in these records."""
    answer = made.recommendation()["profiles"][0]["answer"]
    assert answer.startswith(
        f"On `{MEASURED}` ship `pruning+quantization`: 5.0x faster [4.9, 5.1] (2.00 ms against 10.0 ms), "
        "3.9x from picture to boxes (2.80 ms against 10.8 ms), 8.0x smaller (0.52 MB against 4.19 MB), "
        "test mAP 0.530 against 0.550 of the control (difference "
    )
    assert answer in (made.folder / "report.md").read_text()
    assert answer in made.lines


def test_flags_are_found_in_one_sentence(made: Made) -> None:
    """On the estimated profile pruning+quantization takes 60 ms against 50 ms of pruning: said on the page, below it, and aloud."""
    sentence = f"On `{ESTIMATED}` (estimated, not measured) 1 combination is slower in int8 than in float: `pruning+quantization`."
    assert sentence in made.lines
    assert sentence in (made.folder / "report.md").read_text()
    assert made.own.index("Smaller but not faster") < made.own.index("60.00 ms against 50.00 ms of pruning, estimated")
    assert "after Holm's correction" in made.own


def test_estimates_are_never_stated_as_measurements(made: Made) -> None:
    """The estimated profile's sentence, heading and table columns say so."""
    answer = made.recommendation()["profiles"][1]["answer"]
    assert answer.startswith(f"On `{ESTIMATED}`, by estimate and not by measurement, `quantization` comes first: about 2.5x faster")
    assert "estimated, not measured" in made.own
    head = (made.folder / "report.md").read_text().split("| cell |")[1].splitlines()[0]
    assert f"{ESTIMATED}: estimate, ms | {ESTIMATED}: estimated speedup" in head
    assert f"{MEASURED}: p50, ms | {MEASURED}: speedup" in head


def test_recommendation_reads_back(made: Made) -> None:
    """Schema 1, one entry per profile, machine-readable numbers, and the paired difference of chosen minus control."""
    read = RecommendationFile.model_validate_json((made.folder / "recommendation.json").read_text())
    assert made.recommendation()["schema"] == 1
    first = read.profiles[0]
    assert first.chosen is not None
    assert first.control is not None
    assert first.test_difference is not None
    assert (first.chosen.cell, first.chosen.val_map, first.control.val_map, first.speedup) == (
        "pruning+quantization",
        0.53,
        0.55,
        5.0,
    )
    # the store's control misses no picture, the chosen cell (the sixth) misses two of eight: worse, and the interval says so
    assert first.test_difference.low <= first.test_difference.mean < 0


def test_failed_cells_are_shown_and_escaped(made: Made) -> None:
    """The error of a cell is on the page as text, never as markup, and in the Markdown."""
    assert "&lt;calibration&gt; found no ranges" in made.own
    assert "<calibration>" not in made.own
    assert "`distillation+quantization` (failed): RuntimeError" in (made.folder / "report.md").read_text()


def test_every_ok_cell_is_a_row(made: Made) -> None:
    """Seven made cells, seven rows in the sortable body; the failed one is listed below instead."""
    body = made.own[made.own.index('<tbody class="cells">') : made.own.index("</tbody>")]
    assert body.count("<tr") == 7
    assert 'data-sort="0.002"' in body


def test_pictures_are_on_the_page(made: Made) -> None:
    """Two pictures with ground truth, control and the two winners, as data URIs, and how they were chosen."""
    assert made.own.count('<img src="data:image/jpeg;base64,') == 2 * 4
    assert "Not picked by hand" in made.own


def test_changing_test_numbers_changes_no_choice(tmp_path: Path, made: Made) -> None:
    """With every test mAP turned upside down, verdicts, chosen cells, fronts, tiers and exported models stay the same."""
    cells, latency = eight_cells()
    turned = json.loads(cells.model_dump_json(by_alias=True))
    for cell in turned["cells"]:
        for artifact in cell["artifacts"].values():
            artifact["test"]["map_50_95"] = 1 - artifact["test"]["map_50_95"]
    other = Made(tmp_path, (CellsFile.model_validate(turned), latency))
    for before, after in zip(made.recommendation()["profiles"], other.recommendation()["profiles"], strict=True):
        assert before["chosen"]["test_map"] != after["chosen"]["test_map"]
        for field in ("verdict", "front", "tiers", "not_told_apart", "exported_to", "speedup"):
            assert before[field] == after[field]
        assert before["chosen"] | {"test_map": 0} == after["chosen"] | {"test_map": 0}
    assert {path.relative_to(made.best) for path in made.best.rglob("*")} == {
        path.relative_to(other.best) for path in other.best.rglob("*")
    }


def test_a_missing_model_leaves_the_old_report_alone(tmp_path: Path) -> None:
    """The second run fails on a file gone from the store, names the command, and both folders keep their first content."""
    records = eight_cells()
    first = Made(tmp_path, records)
    before = first.html
    first.resolve("store://pruning+quantization/onnxruntime/model.onnx").unlink()
    with pytest.raises(InputError, match=r"model\.onnx.*sixfold grid"):
        first.make(records, Report(bootstrap_draws=60))
    assert first.index.read_text() == before
    assert (first.best / MEASURED / "model.onnx").is_file()


def test_a_new_report_replaces_the_old_one_whole(tmp_path: Path) -> None:
    """A profile that is no longer measured leaves no model behind."""
    cells, latency = eight_cells()
    first = Made(tmp_path, (cells, latency))
    only = latency_file([row for row in latency.rows if row.profile == MEASURED])
    first.make((cells, only))
    assert [path.name for path in first.best.iterdir()] == [MEASURED]


def test_keeping_the_control_is_an_answer(tmp_path: Path) -> None:
    """When all lose too much the report says so and exports the control."""
    cells = cells_file([ok_cell((), 0.5), ok_cell(("pruning",), 0.4)])
    rows = [measured_row("none", MEASURED, 0.01, 0.01), measured_row("pruning", MEASURED, 0.005, 0.01)]
    made = Made(tmp_path, (cells, latency_file(rows)))
    own = made.recommendation()["profiles"][0]
    assert (
        own["answer"]
        == f"On `{MEASURED}` keep the control: no combination qualifies, each of the 1 loses more than 2 points of val mAP."
    )
    assert (own["verdict"], own["test_difference"]) == ("keep_control", None)
    assert (made.best / MEASURED / "model.onnx").read_bytes() == b"model of none"


@pytest.mark.parametrize(
    "rows", [[], [empty_row("none", MEASURED, "core was busy")], [measured_row("pruning", MEASURED, 0.005, 0.01)]]
)
def test_partial_records_still_make_a_report(tmp_path: Path, rows: list[Any]) -> None:
    """No latency at all, a row without number, or no control: a page that says what is missing, and no model."""
    cells = cells_file([ok_cell((), 0.5), ok_cell(("pruning",), 0.4)])
    made = Made(tmp_path, (cells, latency_file(rows)))
    assert list(made.best.iterdir()) == []
    assert "nothing can be recommended" in made.own
    if rows and rows[0].why:
        assert "core was busy" in made.own
        assert f"No number on <code>{MEASURED}</code>" in made.own


def test_nothing_was_made_and_still_a_report(tmp_path: Path) -> None:
    """All cells failed: the page lists the errors."""
    cells, _ = eight_cells()
    failed = next(cell for cell in cells.cells if cell.status == "failed")
    made = Made(tmp_path, (cells_file([failed]), latency_file([])))
    assert "found no ranges" in made.own
    assert made.recommendation()["profiles"] == []


def test_references_stand_below_the_cells_and_are_never_chosen(tmp_path: Path) -> None:
    """A reference that is faster and better is shown in its own body of the table only."""
    reference = ok_cell(("pruning",), 0.6).model_copy(update={"cell": "random pruning"})
    cells = cells_file([ok_cell((), 0.5)], references=[reference])
    rows = [measured_row("none", MEASURED, 0.01, 0.01), measured_row("random pruning", MEASURED, 0.001, 0.01)]
    made = Made(tmp_path, (cells, latency_file(rows)))
    assert made.recommendation()["profiles"][0]["chosen"]["cell"] == "none"
    assert (
        made.own.index('<tbody class="cells">')
        < made.own.index('<tbody class="references">')
        < made.own.index("random pruning</b>")
    )


def test_references_are_named_once_and_cost_is_told_of_them_too(tmp_path: Path) -> None:
    """A name that says what it is needs no further word; epochs and pictures stand in the table of costs."""
    name = "reference:narrow-0.5"
    reference = ok_cell((), 0.4).model_copy(update={"cell": name})
    rows = [measured_row("none", MEASURED, 0.01, 0.01), measured_row(name, MEASURED, 0.001, 0.01)]
    page = Made(tmp_path, (cells_file([ok_cell((), 0.5)], references=[reference]), latency_file(rows))).own
    assert f"{name}</b></td>" in page.replace("\n", "")
    assert "Below the combinations stand references" in page
    assert page.count(f'<td data-sort="{name}">') == 2


def test_records_from_disk_make_the_same_answer(tmp_path: Path, made: Made) -> None:
    """Written and read back, the records give the recommendation of the ones in memory."""
    for path, records in zip((tmp_path / "cells.json", tmp_path / "latency.json"), eight_cells(), strict=True):
        write_records(path, records)
    again = Made(
        tmp_path / "again", (read_records(tmp_path / "cells.json", CellsFile), read_records(tmp_path / "latency.json", LatencyFile))
    )
    assert again.recommendation() == made.recommendation()


def test_largest_grid_renders(tmp_path: Path) -> None:
    """64 cells on three profiles make 64 rows."""
    made = Made(tmp_path, full_grid())
    body = made.own[made.own.index('<tbody class="cells">') : made.own.index("</tbody>")]
    assert body.count("<tr") == 64
    assert "up to 32 pairs" in made.own
