"""The whole path as a user runs it: DVC over every stage, once and again."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import time
from itertools import product
from pathlib import Path

import pytest
import yaml

from flows.records.schema import CellsFile, LatencyFile, read_records
from tests.flows.sweep_factory import menu_of, tiny_tree
from tests.programs import ROOT, needs_programs, run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

STAGES = ("environment", "inputs", "prepare", "teacher", "grid", "measure", "report")
PROFILES = ("x86-onnxruntime-1t", "x86-openvino-1t", "raspberry-pi-5", "jetson-nano")


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A copy of the files that git has or would take, without what runs have made."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"], cwd=ROOT, capture_output=True, check=False
    )
    if listed.returncode != 0:
        pytest.skip("not a git checkout, so its own files are not known")
    folder = tmp_path / "clone"
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    return folder


@pytest.fixture
def workspace(clone: Path) -> Path:
    """A folder of its own for a plan, laid out as the Makefile does: dvc.yaml copied, params.yaml a link, a DVC project."""
    tree = tiny_tree(
        store__url="../.sixfold/store",
        grid__methods=menu_of("pruning", "quantization"),
        grid__runtimes=["onnxruntime", "openvino"],
        measure__profiles=list(PROFILES),
    )
    plan, folder = clone / "plans" / "tiny.yaml", clone / "runs" / "tiny"
    plan.write_text(yaml.safe_dump(tree))
    folder.mkdir(parents=True)
    shutil.copy2(clone / "dvc.yaml", folder / "dvc.yaml")
    (folder / "params.yaml").symlink_to(plan)
    started = run(folder, "dvc", "init", "--no-scm", "--quiet")
    assert started.returncode == 0, started.stdout
    return folder


def ran_and_skipped(text: str) -> tuple[list[str], list[str]]:
    """Stages that a `dvc repro` ran, and those it found unchanged, by its own words."""
    ran = [line.split("'")[1] for line in text.splitlines() if line.startswith("Running stage '")]
    skipped = [line.split("'")[1] for line in text.splitlines() if line.startswith("Stage '") and "didn't change" in line]
    return ran, skipped


@needs_programs
@pytest.mark.timeout(1200)
def test_dvc_makes_everything_once(workspace: Path, clone: Path) -> None:
    """From a fresh checkout to the report; 4 cells, a row for each on every profile, runs in MLflow; then nothing more to do."""
    started_s = time.monotonic()
    first = run(workspace, "dvc", "repro", limit_s=1000, PYTHONPATH=str(clone))
    print(f"first dvc repro: {time.monotonic() - started_s:.0f} s")
    assert first.returncode == 0, first.stdout
    assert sorted(ran_and_skipped(first.stdout)[0]) == sorted(STAGES)
    cells = read_records(workspace / "results/cells.json", CellsFile)
    assert [cell.status for cell in cells.cells] == ["ok"] * 4
    assert all(set(cell.artifacts) == {"onnxruntime", "openvino"} for cell in cells.cells)
    check_latency(workspace, [cell.cell for cell in cells.cells])
    check_report(workspace)
    check_tracking(workspace / "mlflow.db", [cell.cell for cell in cells.cells])
    assert (clone / ".sixfold/store/nodes").is_dir(), "the store lies beside plans/, whatever the workspace"

    started_s = time.monotonic()
    second = run(workspace, "dvc", "repro", PYTHONPATH=str(clone))
    print(f"second dvc repro: {time.monotonic() - started_s:.1f} s")
    assert second.returncode == 0, second.stdout
    ran, skipped = ran_and_skipped(second.stdout)
    assert sorted(ran) == ["environment", "inputs"]
    assert sorted(skipped) == sorted(set(STAGES) - {"environment", "inputs"})


def check_latency(workspace: Path, cells: list[str]) -> None:
    """One row per (cell, profile); measured ones have their rounds, estimated ones an interval and no rounds."""
    latency = read_records(workspace / "results/latency.json", LatencyFile)
    assert sorted((row.cell, row.profile) for row in latency.rows) == sorted(product(cells, PROFILES))
    for row in latency.rows:
        assert row.p50_s is not None, (row.cell, row.profile, row.why)
        assert row.p50_s > 0
        assert row.interval_s is not None
        if row.profile.startswith("x86"):
            assert (row.source, len(row.rounds_s), len(row.control_rounds_s)) == ("measured", 3, 3)
        else:
            assert row.source in ("calibrated", "estimated")
            assert row.rounds_s == ()


def check_report(workspace: Path) -> None:
    """The page, and for each measured profile the chosen model with a card that describes its files."""
    page = (workspace / "results/report/index.html").read_text()
    assert all(profile in page for profile in PROFILES)
    cards = sorted((workspace / "models/best").glob("*/model.json"))
    assert cards
    for card in cards:
        assert json.loads(card.read_text())["profile"] == card.parent.name
        assert {path.suffix for path in card.parent.iterdir()} & {".onnx", ".xml"}


def check_tracking(database: Path, cells: list[str]) -> None:
    """One parent run and one nested run per cell, all finished, by MLflow's own tables."""
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
        runs = connection.execute("SELECT name, status FROM runs WHERE lifecycle_stage = 'active'").fetchall()
    assert sorted(name for name, _ in runs) == sorted(["tiny", *cells])
    assert {status for _, status in runs} == {"FINISHED"}
