"""The command line: what each command says and how it ends when all is well, and the exit codes of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from flows.cli.main import main
from tests.flows.cli_runner import READING, Ended, Sixfold, refused
from tests.flows.sweep_factory import Sweep, write_params
from tests.places import ROOT

pytestmark = pytest.mark.filterwarnings(
    "ignore:The ``noload`` loader strategy:DeprecationWarning"
)  # MLflow's own use of SQLAlchemy 2.1


def test_no_baseline_is_a_code_of_its_own(sixfold: Sixfold, swept_copy: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit 4, the verdict on stdout and in a file, and the command that accepts one; once accepted, exit 0 against itself."""
    from flows.records.schema import LatencyFile, write_records

    folder = swept_copy.folder
    write_records(folder / "results/latency.json", LatencyFile(environment={}, rows=()))
    ended = sixfold(folder, "check")
    assert (ended.code, ended.err) == (4, "")
    assert "There is no baseline 'main' in baselines" in ended.out
    assert "`sixfold check --accept main`" in ended.out
    assert '"exit_code": 4' in (folder / "results/check/verdict.json").read_text()
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["sixfold", "check", "--accept", "main"])
    with pytest.raises(SystemExit) as accepted:
        main()
    assert accepted.value.code == 0
    assert sixfold(folder, "check").code == 0


def test_a_bad_name_of_a_baseline_is_one_message(sixfold: Sixfold, swept_copy: Sweep) -> None:
    """A name that would leave the folder is refused."""
    from flows.records.schema import LatencyFile, write_records

    write_records(swept_copy.folder / "results/latency.json", LatencyFile(environment={}, rows=()))
    refused(sixfold(swept_copy.folder, "check", "--accept", "../main"), "baseline name '../main'")


def test_plan_prints_what_is_stored_and_what_is_not(sixfold: Sixfold, swept: Sweep) -> None:
    """A table of kinds, the pictures, and on what the forecast rests."""
    ended = sixfold(swept.folder, "plan")
    assert (ended.code, ended.err) == (0, "")
    assert "sweep tiny: 8 cells" in ended.out
    assert "to train 0 pictures (whole graph 144), to search 0, teacher forwards 0, artifacts to score 0" in ended.out
    assert "(from times of 9 stored nodes)" in ended.out


def test_a_finished_grid_ends_with_what_comes_next(sixfold: Sixfold, swept_copy: Sweep) -> None:
    """Exit 0, where the result lies, and the next command."""
    ended = sixfold(swept_copy.folder, "grid", "--executor", "inline", "--no-tracking")
    assert ended.code == 0
    assert "8 of 8 cells ok: results/cells.json\n" in ended.out
    assert ended.out.endswith("Next: `sixfold measure`.\n")


def test_prepare_then_teacher_then_grid_from_nothing(sixfold: Sixfold, fresh: Path) -> None:
    """The commands in their order, in a folder that holds params only; each says where its result lies."""
    write_params(fresh, grid__methods={name: [] for name in ("lightweight", "nas", "pruning", "low_rank", "quantization")})
    said = [sixfold(fresh, *words.split()) for words in ("prepare", "teacher", "grid --executor inline --no-tracking")]
    assert [ended.code for ended in said] == [0, 0, 0]
    assert "in data/prepared\nNext: `sixfold teacher`." in said[0].out
    assert ": models/teacher\nNext: `sixfold grid`" in said[1].out
    assert "2 cells, 3 nodes: 1 stored, 2 to make, 2 to score\n" in said[2].out
    assert "2 of 2 cells ok: results/cells.json" in said[2].out


def test_profiles_are_listed(sixfold: Sixfold, tmp_path: Path) -> None:
    """Every profile of the package, with whether its numbers are measured; no params file is needed."""
    ended = sixfold(tmp_path, "profiles")
    assert ended.code == 0
    for path in (ROOT / "hardware_profiles/devices").glob("*.yaml"):
        assert path.stem in ended.out


def test_doctor_writes_what_it_prints(sixfold: Sixfold, tmp_path: Path) -> None:
    """The same JSON on stdout and in the file, whose folder is made."""
    ended = sixfold(tmp_path, "doctor", "--write", "results/environment.json")
    assert ended.code == 0
    assert (tmp_path / "results/environment.json").read_text() == ended.out


def test_the_installed_program_ends_without_a_traceback(tmp_path: Path) -> None:
    """In a process of its own, as a user runs it."""
    command = [sys.executable, "-c", "from flows.cli.main import main; main()", "grid"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert ended.stderr.startswith("grid: reading params.yaml\n")
    refused(Ended(ended.returncode, ended.stdout, READING.sub("", ended.stderr)), "params.yaml: no such params file.")
    assert list(tmp_path.iterdir()) == []
