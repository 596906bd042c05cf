"""The report answers first, loads nothing, exports what it recommends, and appears whole or not at all."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from flows.prepare.card import BoxSizes, DataCard, Finding, SplitCounts
from flows.records.schema import GIVEN, CellsFile, LatencyFile, read_records, write_records
from flows.records.store import StoreError
from flows.report.recommendation import RecommendationFile
from flows.report.stage import Report
from tests.flows.records_factory import (
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
from tests.golden import assert_golden

NARROW = "reference:narrow-0.5"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """One report for all tests that only look at it."""
    return Made(tmp_path_factory.mktemp("report"), eight_cells())


def test_three_files_are_written(made: Made) -> None:
    """The page, its Markdown twin and the recommendation, and nothing left over from making them."""
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


def test_the_page_and_its_twin_say_so(tmp_path: Path) -> None:
    """The eight cells and a reference: the answer first, estimates called so, errors escaped, flags with their numbers, every made
    cell in the table and the reference below it, the costs of all; and what was said on the way."""
    cells, latency = eight_cells()
    reference = ok_cell((), 0.52).model_copy(update={"cell": NARROW})
    cells = cells.model_copy(update={"references": (reference,)})
    made = Made(tmp_path, (cells, latency_file([*latency.rows, measured_row(NARROW, MEASURED, 0.0019, 0.010)])))
    assert_golden("report.html", made.body)
    assert_golden("report.md", (made.folder / "report.md").read_text())
    assert_golden("report.txt", "\n".join(made.lines).replace(str(tmp_path), "") + "\n")


def test_recommendation_reads_back(made: Made) -> None:
    """Schema 1, one entry per profile, machine-readable numbers, and the paired difference of chosen minus control."""
    read = RecommendationFile.model_validate_json((made.folder / "recommendation.json").read_text())
    assert made.recommendation()["schema"] == 2
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


def test_the_data_card_is_a_section_with_names_escaped(tmp_path: Path, made: Made) -> None:
    """Sizes, findings and counts stand on the page, collapsed, and in its twin; a file name is no HTML and no Markdown. Without
    a card there is no section."""
    counts = SplitCounts(pictures=3, background=1, boxes=4, crowds=0, clipped=0, dropped=0, boxes_per_class={"<b>cat</b>": 4})
    sizes = BoxSizes(percentiles_px={5: 3.0, 50: 9.0, 95: 30.0}, share_below={8: 0.25}, advice="Take more.")
    finding = Finding(kind="tiny", count=2, examples=("<script>`x`.png (val)", "b.png (val)"))
    card = DataCard(name="toy", input_size=(64, 96), splits={"train": counts}, sizes=sizes, findings=(finding,))
    own = Made(tmp_path, eight_cells(), card=card)
    section = own.body[own.body.index('<section id="data">') : own.body.index('<section id="how">')]
    sentence = "Shorter sides of boxes in the input of 64 x 96: 3 to 30 px (5 % to 95 %), median 9; 25% below 8 px. Take more."
    assert sentence in section
    assert "<code>&lt;script&gt;`x`.png (val)</code>, <code>b.png (val)</code>" in section[section.index("<details>") :]
    assert "<td><b>train</b></td><td>3 pictures, 4 boxes (&lt;b&gt;cat&lt;/b&gt; 4);" in section
    assert '<a href="#data">Data</a>' in own.body
    text = (own.folder / "report.md").read_text()
    assert f"## Data\n\n{sentence}\n\n- 2 boxes narrower than 2 px" in text
    assert "hardly to be seen): `` <script>`x`.png (val) ``, `b.png (val)`\n- train: `3 pictures, 4 boxes (<b>cat</b> 4);" in text
    assert 'id="data"' not in made.body
    assert "## Data" not in (made.folder / "report.md").read_text()


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
        for field in ("verdict", "front", "tiers", "indistinguishable", "exported_to", "speedup"):
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
    (first.store.root / "pruning+quantization/onnxruntime/model.onnx").unlink()
    with pytest.raises(StoreError, match=r"model\.onnx.*sixfold grid"):
        first.make(records, Report(bootstrap_draws=60))
    assert (first.folder / "index.html").read_text() == before
    assert (first.best / MEASURED / "model.onnx").is_file()


def test_a_new_report_replaces_the_old_one_whole(tmp_path: Path) -> None:
    """A profile that is no longer measured leaves no model behind."""
    cells, latency = eight_cells()
    first = Made(tmp_path, (cells, latency))
    only = latency_file([row for row in latency.rows if row.profile == MEASURED])
    first.make((cells, only))
    assert [path.name for path in first.best.iterdir()] == [MEASURED]


def test_a_detector_that_cannot_be_trained_was_not_trained(tmp_path: Path, made: Made) -> None:
    """The control of a user's file is no longer trained than the file; what does not apply to it stands once, with the reason."""
    assert "the same detector trained as long without any method" in made.body
    cells, latency = eight_cells()
    untrained = [
        cell.model_copy(update={"budget": cell.budget and cell.budget.model_copy(update={"train_epochs": 0})})
        for cell in cells.cells
    ]
    fixed = cells.model_copy(
        update={"cells": tuple(untrained), "not_applicable": {"nas": "it is a `file`.", "low_rank": "it is a `file`."}}
    )
    own = Made(tmp_path, (fixed, latency))
    assert "the same detector without any method" in own.body
    said = "Not applicable to this detector: nas, low_rank. It is a {}."
    for text, name in ((own.body, "<code>file</code>"), ((own.folder / "report.md").read_text(), "`file`")):
        assert text.count(said.format(name)) == 1


def test_given_alone_is_not_called_a_simpler_way(tmp_path: Path) -> None:
    """The user's detector as it was is explained as that; nothing below the combinations was trained as long."""
    given = ok_cell((), 0.5).model_copy(update={"cell": GIVEN})
    cells = cells_file([ok_cell((), 0.5), ok_cell(("pruning",), 0.4)], references=[given])
    rows = [measured_row(name, MEASURED, 0.01, 0.01) for name in ("none", "pruning", GIVEN)]
    body = Made(tmp_path, (cells, latency_file(rows))).body
    assert "<code>reference:given</code> is your detector as it was" in body
    assert "trained as long: simpler ways" not in body


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
    assert (own["verdict"], own["test_difference"]) == ("keep_uncompressed", None)
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
