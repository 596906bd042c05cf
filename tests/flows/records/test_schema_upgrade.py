"""Tests of the reader of older files: results in docs/ are of schema 1 or 2, and so may a team's baseline be."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from compressors.nas import Nas
from flows.check.baseline import read_baseline
from flows.compare.retrain_text import SeedsFile
from flows.records.schema import RENAMED, CellsFile, LatencyFile, read_records, read_schema, upgraded
from flows.report.recommendation import RecommendationFile
from tests.places import ROOT

RESULTS = ROOT / "docs/results"
RUNS = sorted(path.parent.name for path in RESULTS.glob("*/cells.json"))


@pytest.mark.parametrize("run", RUNS)
def test_committed_results_are_read(run: str) -> None:
    """Every file of every published run, of schema 1 or 2, with every cell and row; verdicts are those that there are now."""
    folder = RESULTS / run
    cells, latency = read_records(folder / "cells.json", CellsFile), read_records(folder / "latency.json", LatencyFile)
    old = json.loads((folder / "latency.json").read_text())
    assert [row.p50_s for row in latency.rows] == [row["p50_s"] for row in old["rows"]]
    assert {cell.cell for cell in cells.cells} >= {"none"}
    was, now = [row["verdict"] for row in old["rows"]], [row.verdict for row in latency.rows]
    assert now == ["not significant" if verdict == "no difference" else verdict for verdict in was]
    recommended = RecommendationFile.model_validate_json((folder / "recommendation.json").read_text())
    assert {own.verdict for own in recommended.profiles} <= {"recommended", "keep_uncompressed", "undecided"}
    if (folder / "seeds.json").is_file():
        assert read_schema(folder / "seeds.json", SeedsFile, "sixfold retrain").schema_version == 2


def test_settings_of_an_old_search_are_those_of_now() -> None:
    """What a cell of schema 1 says of nas can be read as its configuration: the options of the space have moved into `space`."""
    cells = read_records(RESULTS / "bccd/cells.json", CellsFile)
    searched = next(cell for cell in cells.cells if cell.methods == ("nas",))
    config = Nas.model_validate(searched.variant["nas"])
    assert config.space == {"head_branches": "shared", "head_depth": 1, "least_depth": 0, "levels": [8, 16], "stem_stride": 4}
    assert config.random_baseline is True


def test_an_old_baseline_is_compared_with(tmp_path: Path) -> None:
    """A baseline whose three files are of schema 1 is read as one of now."""
    folder = tmp_path / "main"
    folder.mkdir()
    for name in ("cells.json", "latency.json"):
        shutil.copyfile(RESULTS / "bccd" / name, folder / name)
    (folder / "baseline.json").write_text(json.dumps({"schema": 1, "name": "main", "detections": {}}))
    baseline = read_baseline(folder)
    assert baseline.latency.schema_version == 2
    assert len(baseline.cells.cells) == 64


def test_every_name_is_changed_wherever_it_stands() -> None:
    """Deep in lists and mappings as at the top; the tree that was given stays as it was."""
    tree = {"schema": 1, "rows": [{name: 1} for name in RENAMED], "protocol": {"contention_wait_s": 2.0}}
    before = json.dumps(tree)
    found = upgraded(tree)
    assert json.dumps(tree) == before
    assert [next(iter(row)) for row in found["rows"]] == list(RENAMED.values())
    assert (found["schema"], found["protocol"]) == (2, {"contention_wait_s": 2.0})
