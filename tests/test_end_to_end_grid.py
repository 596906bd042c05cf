"""The grid in processes of its own: a driver killed half-way, and Ray on more than one node."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from flows.prepare.stage import prepare
from flows.records.schema import CellsFile, read_records
from flows.sweep.plan_checks import load_plan
from tests.flows.sweep_factory import menu_of, write_params
from tests.programs import ROOT, needs_programs, run, surroundings

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

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
def grid_process(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A running grid; whatever it started and left is ended by id."""
    with (folder / "grid.log").open("wb") as log:
        driver = subprocess.Popen(["sixfold", "grid"], cwd=folder, env=surroundings(ROOT), stdout=log, stderr=subprocess.STDOUT)
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
def test_a_killed_grid_goes_on_where_it_was(started_sweep: Path) -> None:
    """kill -9 of the driver in mid-grid, then the same command: what was stored is not touched again, and every cell is ok."""
    folder, left = started_sweep, set[psutil.Process]()
    write_params(folder, **{"grid__methods": menu_of("pruning", "quantization")})
    with grid_process(folder) as driver:
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
        assert 3 <= len(stored) < 5, "the kill was to come in the middle"
        assert not (folder / "results/cells.json").exists()
        again = run(folder, "sixfold", "grid")
    finally:
        end_all(left)
    assert again.returncode == 0, again.stdout
    cells = read_records(folder / "results/cells.json", CellsFile)
    assert [cell.status for cell in cells.cells] == ["ok"] * 4
    after, scores = manifests(folder), manifests(folder, "scores")
    assert {key: after[key] for key in stored} == stored, "a node was made again"
    assert {key: scores[key] for key in scored} == scored, "a score was made again"
    assert (len(after), len(scores)) == (5, 4)


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


@needs_programs
def test_a_cluster_without_room_is_one_message(started_sweep: Path) -> None:
    """Nodes of one CPU and tasks of two threads: within a minute exit 3, instead of waiting for ever."""
    folder = started_sweep
    write_params(folder, threads=2)
    with two_nodes(folder) as (address, _, _):
        ended = run(folder, "sixfold", "grid", "--no-tracking", limit_s=60, RAY_ADDRESS=address)
    assert ended.returncode == 3, ended.stdout
    assert "asks for 2 CPUs and 0 GPUs (nodes: " in ended.stdout
    assert "Lower `threads` in the params, or add a node that is large enough." in ended.stdout
    assert "Traceback" not in ended.stdout
    assert manifests(folder) == {}


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
