"""From a finished sweep to the page, on one that was really made."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest

from detection.data.dataset import load_split
from detection.frozen import InputError
from flows.grid.nodes import read_done
from flows.stats.map_bootstrap import NO_DIFFERENCE, map_difference
from flows.sweep.workspace import LATENCY, PREPARED
from studies.finished_run import FinishedRun, open_run
from studies.methods import further_training
from studies.methods.further_training import make_siblings, read_siblings, retrain_variants, seeds_file
from studies.methods.results import MethodResult, Summary
from studies.methods.summarize import summarize


@pytest.fixture(scope="module")
def run(methods_run: FinishedRun, tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    """The sweep in a folder of this file's own, its float sibling and one seed of each variant made."""
    folder = tmp_path_factory.mktemp("copy") / "methods"
    shutil.copytree(methods_run.folder, folder)
    own = open_run(folder)
    make_siblings(own)
    assert retrain_variants(own, 1, "inline") == 0
    return own


@pytest.fixture(scope="module")
def found(run: FinishedRun) -> Summary:
    """All that the page would show."""
    return summarize(run, "make methods")


def method(found: Summary, name: str) -> MethodResult:
    """One of the six."""
    return next(own for own in found.methods if own.method == name)


def test_every_cell_and_reference_stands_where_it_belongs(found: Summary) -> None:
    """Variants in the order of the menu, plain ones and references behind them, a method that is not in the sweep empty."""
    roles = {own.method: [(shown.label, shown.role) for shown in own.shown] for own in found.methods}
    assert roles["pruning"] == [("taylor-0.5", "variant"), ("l2-0.5", "variant"), ("random-pruning-0.5-round-4", "reference")]
    assert roles["nas"] == [("nas", "variant"), ("narrow-0.5", "reference")]
    assert roles["distillation"] == [("scores+LD", "variant"), ("labels", "reference")]
    assert roles["quantization"] == [
        ("int8-mse", "variant"),
        ("int8-minmax-qat2", "variant"),
        ("int8-minmax", "reference"),
        ("control+2-float-epochs", "reference"),
    ]
    assert not method(found, "lightweight").variants
    assert all(not own.missing for own in found.methods)


def test_differences_are_those_of_the_stored_detections(found: Summary, run: FinishedRun) -> None:
    """The paired bootstrap over the test pictures with the sweep's own seed and draws."""
    truth = load_split(run.prepared, "test").ground_truth
    control, pruned = (run.cells.cell(name) for name in ("none", "pruning:l2-0.5"))
    assert control is not None
    assert pruned is not None
    files = [run.store.file(record.artifacts["onnxruntime"].test.detections) for record in (control, pruned)]
    first, second = (json.loads(path.read_text()) for path in files)
    expected = map_difference(truth, [(first, second)], seed=0, draws=100)
    (shown,) = [own for own in method(found, "pruning").shown if own.label == "l2-0.5"]
    assert shown.runtimes[0].difference == expected


def test_labels_alone_make_the_control(found: Summary) -> None:
    """Distillation without the teacher's targets trains the control's very network: whatever else differs comes from them."""
    assert method(found, "distillation").references[0].runtimes[0].difference == NO_DIFFERENCE


def test_variants_are_compared_with_their_baselines(found: Summary) -> None:
    """Both importances with one random pruning; as all files take equally long, the search's with the narrow network."""
    pairs = {own.method: [(pair.variant, pair.rival) for pair in own.comparisons] for own in found.methods}
    assert pairs["pruning"] == [("taylor-0.5", "random-pruning-0.5-round-4"), ("l2-0.5", "random-pruning-0.5-round-4")]
    assert pairs["nas"] == [("nas", "narrow-0.5")]
    assert pairs["quantization"] == [("int8-mse", "int8-minmax"), ("int8-minmax-qat2", "control+2-float-epochs")]
    (pair,) = method(found, "nas").comparisons
    assert pair.speed_ratio == pytest.approx(1.0)


def test_only_measured_times_are_taken(found: Summary) -> None:
    """5 ms against 10 is 2x; the float sibling, whose graph is the control's, was not timed."""
    timings = {shown.label: shown.runtimes[0].timings for shown in method(found, "quantization").shown}
    assert timings["control+2-float-epochs"] == ()
    (timed,) = timings["int8-mse"]
    assert (timed.p50_s, timed.speedup, timed.rounds) == (0.005, 2.0, 8)


def test_searches_are_read_from_their_nodes(found: Summary) -> None:
    """What was chosen, and what would have been without a search, all within the budget."""
    (search,) = method(found, "nas").searches
    assert [own.by for own in search.found] == ["search", "random_search", "largest_macs"]
    assert all(own.estimated_latency_s <= search.budget_s for own in search.found)


def test_seeds_are_of_these_networks(found: Summary, run: FinishedRun) -> None:
    """The pruned cell has its seed; where its network was trained again since, the file is of another one and is left out."""
    seeds = method(found, "pruning").seeds
    assert seeds is not None
    assert (seeds.cell, seeds.seeds) == ("pruning:taylor-0.5", (0,))
    changed = tuple(
        own.model_copy(update={"node": "0" * 64}) if own.cell == seeds.cell else own for own in run.cells.cells
    )  # fmt: skip
    other = dataclasses.replace(run, cells=run.cells.model_copy(update={"cells": changed}))
    assert method(summarize(other, "make methods"), "pruning").seeds is None


def test_what_is_there_is_not_retrained(run: FinishedRun, capsys: pytest.CaptureFixture[str]) -> None:
    """The second time every file is there, and cells that this sweep does not have are said to be missing."""
    before = seeds_file(run, "pruning").stat().st_mtime_ns
    assert retrain_variants(run, 1, "inline") == 0
    assert seeds_file(run, "pruning").stat().st_mtime_ns == before
    said = capsys.readouterr().out.splitlines()
    assert f"pruning: {seeds_file(run, 'pruning')} is there" in said
    assert "lightweight: `lightweight:ghost` is not in sweep 'tiny'; no seeds of it" in said


def test_a_sibling_has_as_many_updates_as_its_variant(run: FinishedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    """24 pictures in batches of 8, two epochs: 6 updates on top of the control, and trained once only."""
    aware = run.cells.cell("quantization:int8-minmax-qat2")
    assert aware is not None
    assert aware.budget is not None
    monkeypatch.setattr(further_training, "make_node", None)
    (sibling,) = make_siblings(run)
    training = read_done(run.store, sibling.node).training
    assert training is not None
    assert (sibling.of, training.steps) == (aware.cell, aware.budget.qat_updates) == (aware.cell, 6)


def test_siblings_of_another_control_are_left_out(run: FinishedRun) -> None:
    """A control that was trained again since has other weights to start from."""
    cells = run.cells.model_copy(update={"cells": tuple(own.model_copy(update={"node": "0" * 64}) for own in run.cells.cells)})
    assert len(read_siblings(run)) == 1
    assert read_siblings(dataclasses.replace(run, cells=cells)) == ()


def test_without_latencies_the_message_names_the_command(run: FinishedRun, tmp_path: Path) -> None:
    """Nothing is shown without measured times."""
    bare = dataclasses.replace(run, folder=tmp_path)
    with pytest.raises(InputError, match=rf"{LATENCY}: no such file\. Run `sixfold measure` first"):
        summarize(bare, "make methods")


def test_other_pictures_than_the_records_were_scored_on_are_refused(run: FinishedRun) -> None:
    """A difference on other pictures would be of nothing."""
    dataset = run.cells.dataset.model_copy(update={"digest": "0" * 64})
    cells = run.cells.model_copy(update={"dataset": dataset})
    with pytest.raises(InputError, match=rf"{PREPARED}: holds data 'tiny'.*Run `sixfold prepare` and `sixfold grid` again"):
        summarize(dataclasses.replace(run, cells=cells), "make methods")
