"""The script for devices: it runs without our packages, times by the same loop, and refuses what is not as it was exported."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from flows.measure.devices.imported import ExportManifest, mismatch, parse_results
from flows.measure.devices.script import main
from flows.measure.worker import detection_hooks
from hardware_profiles.timing.environment import environment
from hardware_profiles.timing.round import File, Job, run_round
from tests.flows.device_factory import CONFIG, PICTURES, exported, files_of, two_cells

WITHOUT_US = """
import importlib.abc, sys
class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("flows", "detection", "compressors", "pydantic", "cv2", "scipy", "torch"):
            raise ModuleNotFoundError(f"{name} is not on a device")
sys.meta_path.insert(0, Absent())
"""
"""As sitecustomize.py on PYTHONPATH, so that it reaches the fresh processes too."""


@pytest.fixture(scope="module")
def carried(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An exported folder after its script ran, in a Python that has no package of ours but the carried one, nor what they need."""
    target = exported(tmp_path_factory.mktemp("export"))
    blocker = tmp_path_factory.mktemp("blocker")
    (blocker / "sitecustomize.py").write_text(WITHOUT_US)
    done = subprocess.run(
        [sys.executable, str(target / "measure.py")],
        env=os.environ | {"PYTHONPATH": str(blocker)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (target / "said.txt").write_text(done.stdout)
    return target


@pytest.fixture
def folder(carried: Path, tmp_path: Path) -> Path:
    """A copy of the exported folder without results, to do harm to."""
    copy = Path(shutil.copytree(carried, tmp_path / "copy"))
    (copy / "results.json").unlink()
    return copy


def job_of(files: tuple[File, ...], seed: int, pictures: Path) -> Job:
    """The same round, to be run here."""
    return Job(
        runtime="onnxruntime", threads=1, cores=None, files=files, order_seed=seed, protocol=CONFIG.protocol(),
        pictures=str(pictures), settings=CONFIG.settings(), result="",
    )  # fmt: skip


def test_it_runs_with_numpy_and_the_runtime_alone(carried: Path) -> None:
    """Three rounds of both models came out of fresh processes, all raw times there, under the digest of the manifest."""
    manifest = ExportManifest.model_validate_json((carried / "manifest.json").read_text())
    results = parse_results(carried / "results.json")
    assert mismatch(manifest, results) is None
    assert results.manifest == manifest.digest
    assert [len(own.blocks) for own in results.rounds] == [2, 2, 2]
    for own in results.rounds:
        assert own.runtime_rss_bytes is None or own.runtime_rss_bytes > 1e7
        for block in own.blocks:
            assert block.error is None
            assert block.times is not None
            assert len(block.times.calls_ns) == CONFIG.timed_calls


def test_it_says_how_far_it_is_and_what_to_do_next(carried: Path) -> None:
    """A line per round with what is left, then the command that reads the results."""
    lines = (carried / "said.txt").read_text().splitlines()
    assert lines[0].startswith("toy-device: 2 models, 3 rounds")
    assert [line.split(" done")[0] for line in lines[1:4]] == ["round 1 of 3", "round 2 of 3", "round 3 of 3"]
    assert lines[-1] == "Next, on the other machine: `sixfold measure --import results.json`."


def test_the_device_describes_itself_as_this_machine_does(carried: Path) -> None:
    """Run here, the environment is this machine's, so that its digest is comparable with that of other measurements."""
    assert parse_results(carried / "results.json").environment == environment()


def test_its_order_is_that_of_a_round_here(carried: Path, tmp_path: Path) -> None:
    """The same seed shuffles the same models into the same order, and other seeds into others."""
    results = parse_results(carried / "results.json")
    (tmp_path / "models").mkdir()
    files = files_of(two_cells(tmp_path / "models"))
    np.savez(tmp_path / "pictures.npz", *PICTURES)
    for own in results.rounds:
        job = job_of(files, own.order_seed, tmp_path / "pictures.npz")
        here = run_round(job, detection_hooks(job))
        assert [block.digest for block in here.blocks] == [block.digest for block in own.blocks]


def test_it_times_what_a_round_here_times(carried: Path, tmp_path: Path) -> None:
    """Both loops find the same model's call within a factor of five of each other, on a machine that others may be using."""
    blocks = [block for own in parse_results(carried / "results.json").rounds for block in own.blocks]
    there_s = min(statistics.median(block.times.calls_ns) for block in blocks if block.times is not None) * 1e-9
    (tmp_path / "models").mkdir()
    np.savez(tmp_path / "pictures.npz", *PICTURES)
    job = job_of(files_of(two_cells(tmp_path / "models")), 0, tmp_path / "pictures.npz")
    here_s = min(block.p50_s or 0.0 for block in run_round(job, detection_hooks(job)).blocks)
    assert there_s / 5 < here_s < there_s * 5


def test_what_is_carried_imports_nothing_else(carried: Path) -> None:
    """All of it is Python 3.10; the modules that the script loads are carried, of the standard library, or numpy's."""
    for path in carried.rglob("*.py"):
        ast.parse(path.read_text(), feature_version=(3, 10))
    code = (
        "import json, sys, measure; print(json.dumps({name: getattr(own, '__file__', None) for name, own in sys.modules.items()}))"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=carried, env={}, capture_output=True, text=True, timeout=60, check=True)
    loaded = json.loads(done.stdout)
    others = {name.partition(".")[0] for name in loaded} - set(sys.stdlib_module_names) - {"__main__", "measure", "numpy"}
    assert {name for name in others if not name.startswith("_")} == {"hardware_profiles"}
    assert loaded["hardware_profiles"].startswith(str(carried))


def test_a_changed_file_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is timed and nothing is written; the message names the file and what to do."""
    model = next((folder / "models").rglob("*.onnx"))
    model.write_bytes(model.read_bytes() + b"\0")
    assert main(folder, ()) == 2
    assert capsys.readouterr().err == f"measure: {model}: not as it was exported. Copy the folder again, or export it again.\n"
    assert not (folder / "results.json").exists()


def test_a_missing_file_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Half a copy is told apart from a changed one."""
    (folder / "inputs.npz").unlink()
    assert main(folder, ()) == 2
    assert "inputs.npz: missing. Copy the whole exported folder to this device." in capsys.readouterr().err


def test_another_machine_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A profile for another instruction set is not measured by mistake on the laptop."""
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"machine": "vax"}))
    assert main(folder, ()) == 2
    assert "the profile toy-device is for vax" in capsys.readouterr().err


def test_an_unreadable_manifest_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Cut off while copying: one line, no traceback."""
    (folder / "manifest.json").write_text('{"schema": 1, "prof')
    assert main(folder, ()) == 2
    assert "manifest.json: cannot be read" in capsys.readouterr().err


def test_a_model_that_cannot_be_opened_becomes_a_record(folder: Path) -> None:
    """The others of the round are timed all the same."""
    manifest = json.loads((folder / "manifest.json").read_text())
    digest = next(iter(manifest["models"]))
    (folder / manifest["models"][digest]["path"]).write_bytes(b"not a model")
    result = folder / "round.json"
    command = [sys.executable, str(folder / "measure.py"), "--round", "0", str(result)]
    assert subprocess.run(command, timeout=120, check=False, capture_output=True).returncode == 0
    blocks = {block["digest"]: block for block in json.loads(result.read_text())["blocks"]}
    assert "onnxruntime cannot open it" in blocks[digest]["error"]
    assert [block["error"] for block in blocks.values()].count(None) == 1


def test_a_round_tells_what_went_wrong(folder: Path) -> None:
    """A model that failed in every round is counted on the screen, not only in the results."""
    path = folder / next(iter(json.loads((folder / "manifest.json").read_text())["models"].values()))["path"]
    path.write_bytes(b"not a model")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][path.relative_to(folder).as_posix()] = hashlib.sha256(b"not a model").hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest | {"order_seeds": [0]}))
    done = subprocess.run([sys.executable, "measure.py"], cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "; FAILED: 1 of 2 models; about 0 s to go" in done.stdout
