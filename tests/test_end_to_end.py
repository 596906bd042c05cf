"""The whole path as a user runs it: DVC over every stage, a driver killed in mid-grid, and Ray on more than one node."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from flows.params import load_plan
from flows.prepare import prepare
from flows.records import CellsFile, LatencyFile, read_records
from tests.flows.sweep_factory import tiny_tree, write_params

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ROOT = Path(__file__).resolve().parents[1]
PROGRAMS = Path(sys.executable).parent
STAGES = ("environment", "prepare", "teacher", "grid", "measure", "report")
PROFILES = ("x86-onnxruntime-1t", "x86-openvino-1t", "raspberry-pi-5", "jetson-nano")
POLL_S = 0.02
CLUSTER = """
import sys
from ray.cluster_utils import Cluster
cluster = Cluster()
for _ in range(2):
    cluster.add_node(num_cpus=1, include_dashboard=False, object_store_memory=100 * 2**20)
print(cluster.address, flush=True)
print(cluster.head_node.get_session_dir_path(), flush=True)
sys.stdin.read()
cluster.shutdown()
"""
"""Two Ray nodes of one CPU each, until its stdin ends; it stops the processes that it started and no others."""


def surroundings(code: Path, **more: str) -> dict[str, str]:
    """Environment variables of a user with the checkout at `code` and the programs of this virtual environment."""
    theirs = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "MLFLOW_", "DVC_", "PYTEST_"))}
    return theirs | {
        "PATH": f"{PROGRAMS}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(code),
        "OMP_NUM_THREADS": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DVC_NO_ANALYTICS": "true",
        "RAY_AUTH_MODE": "disabled",
        "RAY_USAGE_STATS_ENABLED": "0",
    } | more  # fmt: skip


def run(folder: Path, *command: str, limit_s: float = 300.0, **more: str) -> subprocess.CompletedProcess[str]:
    """How a command ended, its stdout and stderr together in stdout."""
    return subprocess.run(
        command, cwd=folder, env=surroundings(ROOT, **more), text=True, timeout=limit_s, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def has_program(name: str) -> bool:
    """True where this virtual environment has the program."""
    return (PROGRAMS / name).is_file()


needs_programs = pytest.mark.skipif(
    not (has_program("sixfold") and has_program("dvc")), reason="sixfold and dvc are not installed beside this Python"
)


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
    tree = tiny_tree(store__url="../.sixfold/store", grid__runtimes=["onnxruntime", "openvino"], measure__profiles=list(PROFILES))
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
    """From a fresh checkout to the report; 8 cells, a row for each on every profile, runs in MLflow; then nothing more to do."""
    started_s = time.monotonic()
    first = run(workspace, "dvc", "repro", limit_s=1000, PYTHONPATH=str(clone))
    print(f"first dvc repro: {time.monotonic() - started_s:.0f} s")
    assert first.returncode == 0, first.stdout
    assert sorted(ran_and_skipped(first.stdout)[0]) == sorted(STAGES)
    cells = read_records(workspace / "results/cells.json", CellsFile)
    assert [cell.status for cell in cells.cells] == ["ok"] * 8
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
    assert ran == ["environment"]
    assert sorted(skipped) == sorted(set(STAGES) - {"environment"})


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
            assert (row.source, row.rounds_s) == ("estimated", ())


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


@pytest.fixture
def started_sweep(tmp_path: Path) -> Path:
    """A folder with tiny params and prepared data, and nothing made yet."""
    plan = load_plan(write_params(tmp_path / "sweep"))
    folder = tmp_path / "sweep"
    prepare(plan.params.data, plan.base, folder / "data/prepared", plan.params.seed, lambda _: None)
    return folder


def manifests(folder: Path, section: str = "nodes") -> dict[str, tuple[int, int, int]]:
    """Entry -> the identity of its manifest: when it was written and changed, and its place on the disk."""
    found = {}
    for path in (folder / ".sixfold/store" / section).glob("*/*/manifest.json"):
        state = path.stat()
        found[path.parent.name] = (state.st_mtime_ns, state.st_ino, state.st_size)
    return found


@contextmanager
def grid_process(folder: Path, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """A running grid; whatever it started and left is ended by id."""
    with (folder / "grid.log").open("wb") as log:
        driver = subprocess.Popen(
            ["sixfold", "grid", *arguments], cwd=folder, env=surroundings(ROOT), stdout=log, stderr=subprocess.STDOUT
        )
        started: set[psutil.Process] = set()
        try:
            yield driver
        finally:
            if driver.poll() is None:
                started.update(psutil.Process(driver.pid).children(recursive=True))
                driver.kill()
            driver.wait()
            end_all(started)


def end_all(processes: set[psutil.Process]) -> None:
    """Give processes that lost their parent a while to notice, and end those that did not."""
    _, alive = psutil.wait_procs(list(processes), timeout=10)
    for process in alive:
        if process.is_running():
            process.kill()
    psutil.wait_procs(alive, timeout=10)


@needs_programs
@pytest.mark.parametrize("executor", ["inline", "ray"])
def test_a_killed_grid_goes_on_where_it_was(executor: str, started_sweep: Path) -> None:
    """kill -9 of the driver in mid-grid, then the same command: what was stored is not touched again, and every cell is ok."""
    folder, left = started_sweep, set[psutil.Process]()
    with grid_process(folder, "--executor", executor) as driver:
        deadline_s = time.monotonic() + 180
        while len(manifests(folder)) < 3:
            assert driver.poll() is None, (folder / "grid.log").read_text()
            assert time.monotonic() < deadline_s, (folder / "grid.log").read_text()
            time.sleep(POLL_S)
        left.update(psutil.Process(driver.pid).children(recursive=True))
        driver.kill()
        driver.wait()
        stored, scored = manifests(folder), manifests(folder, "scores")
    try:
        assert 3 <= len(stored) < 9, "the kill was to come in the middle"
        assert not (folder / "results/cells.json").exists()
        again = run(folder, "sixfold", "grid", "--executor", executor)
    finally:
        end_all(left)
    assert again.returncode == 0, again.stdout
    cells = read_records(folder / "results/cells.json", CellsFile)
    assert [cell.status for cell in cells.cells] == ["ok"] * 8
    after, scores = manifests(folder), manifests(folder, "scores")
    assert {key: after[key] for key in stored} == stored, "a node was made again"
    assert {key: scores[key] for key in scored} == scored, "a score was made again"
    assert (len(after), len(scores)) == (9, 8)


@needs_programs
def test_a_grid_runs_on_a_cluster_of_two_nodes(started_sweep: Path) -> None:
    """With RAY_ADDRESS the work goes to the cluster's workers, and the cluster goes on living afterwards."""
    folder = started_sweep
    write_params(folder, **{"grid__methods": menu_of("pruning", "quantization")})
    with two_nodes(folder) as (address, session, members):
        ended = run(folder, "sixfold", "grid", RAY_ADDRESS=address)
        assert ended.returncode == 0, ended.stdout
        cells = read_records(folder / "results/cells.json", CellsFile)
        assert [(cell.cell, cell.status) for cell in cells.cells] == [
            ("none", "ok"), ("pruning", "ok"), ("quantization", "ok"), ("pruning+quantization", "ok"),
        ]  # fmt: skip
        assert workers_of_first_job(session), "the cluster's own workers did the work"
        raylets = [process for process in members if process.is_running() and process.name() == "raylet"]
        assert len(raylets) == 2, "the grid left the cluster as it was"


@contextmanager
def two_nodes(folder: Path) -> Iterator[tuple[str, Path, set[psutil.Process]]]:
    """Address, session folder and processes of a Ray cluster of two nodes, which ends with the block."""
    cluster = subprocess.Popen(
        [sys.executable, "-c", CLUSTER],
        cwd=folder,
        env=surroundings(ROOT),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    members: set[psutil.Process] = set()
    with cluster:
        assert cluster.stdin is not None
        assert cluster.stdout is not None
        try:
            address, session = cluster.stdout.readline().strip(), Path(cluster.stdout.readline().strip())
            assert address, "the cluster did not start"
            members.update(psutil.Process(cluster.pid).children(recursive=True))
            yield address, session, members
        finally:
            cluster.stdin.close()
            cluster.wait(timeout=60)
            end_all(members)


def menu_of(*methods: str) -> dict[str, Any]:
    """The tiny menu with these methods alone."""
    menu = tiny_tree()["grid"]["methods"]
    names = ("lightweight", "nas", "pruning", "low_rank", "distillation", "quantization")
    return {name: menu.get(name, [{}]) if name in methods else [] for name in names}


def workers_of_first_job(session: Path) -> list[Path]:
    """Logs of the workers that a cluster lent to the first driver that joined it (worker-<id>-<job>-<pid>.out)."""
    return sorted((session / "logs").glob("worker-*-01000000-*.out"))


@needs_programs
def test_a_cluster_that_does_not_answer_is_one_message(started_sweep: Path) -> None:
    """RAY_ADDRESS names a port where nothing listens: within a minute exit 3, what to compare and what to unset."""
    ended = run(started_sweep, "sixfold", "grid", "--no-tracking", limit_s=60, RAY_ADDRESS="127.0.0.1:1")
    assert ended.returncode == 3, ended.stdout
    lines = [line for line in ended.stdout.splitlines() if line.startswith("sixfold: ")]
    assert len(lines) == 1
    assert "RAY_ADDRESS=127.0.0.1:1: no Ray cluster answers there" in lines[0]
    assert "unset RAY_ADDRESS" in lines[0]
    assert "Traceback" not in ended.stdout
    assert manifests(started_sweep) == {}
