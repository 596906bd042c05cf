"""The reference that a chosen cell has to beat, and what is said of the two."""

from __future__ import annotations

import pytest

from flows.records.schema import ArtifactRecord, CellRecord, CellsFile, LatencyFile
from flows.report.pareto import panels, reference_panels
from flows.report.recommendation import Recommendation, recommend
from flows.report.reference_to_beat import Timed, best_no_slower, rival, speed_beside
from flows.stats.map_bootstrap import Difference
from tests.flows.records_factory import (
    ESTIMATED,
    MEASURED,
    cells_file,
    digest,
    estimated_row,
    latency_file,
    measured_row,
    metrics,
    ok_cell,
)

CELL = "nas+quantization"


def reference(name: str, val: float, test: float) -> CellRecord:
    """A reference with a file for both runtimes."""
    made = ok_cell(("quantization",), val, test)
    artifacts = {
        runtime: own.model_copy(update={"digest": digest(name + runtime), "test": metrics(test, f"store://{name}/{runtime}.json")})
        for runtime, own in made.artifacts.items()
    }
    return made.model_copy(update={"cell": name, "node": digest(name), "artifacts": artifacts})


def sweep(times_ms: dict[str, float]) -> tuple[CellsFile, LatencyFile]:
    """The control at 10 ms, a cell at 2, and references with val mAP 0.40, 0.45 and 0.50 at these times."""
    narrow = [("reference:narrow-0.3", 0.40), ("reference:narrow-0.5", 0.45), ("reference:narrow-0.7", 0.50)]
    cells = cells_file(
        [ok_cell((), 0.55), ok_cell(("nas", "quantization"), 0.54, 0.53)],
        references=[reference(name, val, val) for name, val in narrow if name in times_ms],
    )
    rows = [measured_row(name, MEASURED, ms / 1e3, 0.010) for name, ms in {"none": 10.0, CELL: 2.0, **times_ms}.items()]
    return cells, latency_file(rows)


def compare(other: ArtifactRecord, chosen: ArtifactRecord) -> Difference:
    """The plain difference of test mAP, two points sure to either side."""
    mean = chosen.test.map_50_95 - other.test.map_50_95
    return Difference(mean=mean, low=mean - 0.02, high=mean + 0.02, p=0.01)


def recommended(times_ms: dict[str, float]) -> Recommendation:
    """What the sweep says of the measured profile."""
    (own,) = recommend(*sweep(times_ms), 0.02, compare).profiles
    assert own.chosen is not None
    assert own.chosen.cell == CELL
    return own


def test_no_slower_means_within_five_percent() -> None:
    """Of 2.1 ms beside 2 the better one is taken, 2.11 is slower; nothing as fast, nothing found."""
    timed = [Timed("a", 1.0, 0.40), Timed("b", 2.1, 0.45), Timed("c", 2.11, 0.50)]
    best = best_no_slower(2.0, timed)
    assert best is not None
    assert best.name == "b"
    assert best_no_slower(0.9, timed) is None


def test_the_best_reference_that_is_as_fast_stands_beside_the_chosen_cell() -> None:
    """0.53 beside 0.45: 8 points more [6, 10], at 1.05 times its speed."""
    own = recommended({"reference:narrow-0.3": 1.5, "reference:narrow-0.5": 2.1, "reference:narrow-0.7": 3.0})
    assert own.beside is not None
    assert (own.beside.reference, own.beside.is_as_fast) == ("reference:narrow-0.5", True)
    assert own.beside.test_difference.mean == pytest.approx(0.08)
    assert own.beside.speed is not None
    assert own.beside.speed.ratio == pytest.approx(1.05)
    assert (
        "Beside `reference:narrow-0.5`, the best reference that is as fast: more test mAP, +8.0 points, 95\u00a0% interval "
        "+6.0 to +10.0; 1.05x its speed [1.05, 1.05]."
    ) in own.answer


def test_where_no_reference_is_as_fast_the_fastest_one_stands_there() -> None:
    """3 ms beside 2: said to be slower."""
    own = recommended({"reference:narrow-0.5": 3.0, "reference:narrow-0.7": 4.0})
    assert own.beside is not None
    assert (own.beside.reference, own.beside.is_as_fast) == ("reference:narrow-0.5", False)
    assert "the fastest reference, though none is as fast: more test mAP" in own.answer


def test_test_numbers_do_not_choose_the_rival() -> None:
    """The reference with the best val mAP stays the rival whatever its test mAP."""
    cells, latency = sweep({"reference:narrow-0.3": 1.5, "reference:narrow-0.5": 1.9})
    spoiled = cells.model_copy(update={"references": (cells.references[0], reference("reference:narrow-0.5", 0.45, 0.01))})
    names = []
    for records in (cells, spoiled):
        (own,) = recommend(records, latency, 0.02, compare).profiles
        assert own.beside is not None
        names.append(own.beside.reference)
    assert names == ["reference:narrow-0.5", "reference:narrow-0.5"]


def test_without_a_measured_reference_nothing_is_said() -> None:
    """No reference at all, or only modelled times: what is as fast is not known."""
    assert recommended({}).beside is None
    cells, _ = sweep({"reference:narrow-0.5": 1.9})
    times_s = {"none": 0.010, CELL: 0.002, "reference:narrow-0.5": 0.0019}
    modelled = latency_file([estimated_row(name, ESTIMATED, own_s, 0.010) for name, own_s in times_s.items()])
    (own,) = recommend(cells, modelled, 0.02, compare).profiles
    assert own.verdict == "ship"
    assert own.beside is None
    (panel,), (references,) = panels(cells, modelled), reference_panels(cells, modelled)
    assert rival(CELL, panel, references) == ("reference:narrow-0.5", True)


def test_times_of_other_rounds_are_not_compared() -> None:
    """Another control beside it, or no rounds: no ratio."""
    fast, slow = measured_row("a", MEASURED, 0.002, 0.010), measured_row("b", MEASURED, 0.004, 0.010)
    compared = speed_beside(fast, slow)
    assert compared is not None
    assert compared.ratio == pytest.approx(2.0)
    assert speed_beside(fast, slow.model_copy(update={"control_rounds_s": (0.011,) * 8})) is None
    assert speed_beside(fast, slow.model_copy(update={"rounds_s": ()})) is None


def test_the_answer_counts_letterboxing_and_selection_too() -> None:
    """10.8 ms from picture to boxes beside 2.8: what is not compressed takes part of the speedup away."""
    own = recommended({})
    assert "3.9x from picture to boxes (2.80 ms against 10.8 ms)" in own.answer
