"""The Makefile in a checkout whose path has spaces, with programs that only note how they were called."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.places import ROOT

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
PROGRAMS = ("python", "dvc", "sixfold", "mlflow", "ruff", "mypy")
NOTE = """#!/bin/sh
echo "$(basename "$0") $*" >> "$CALLS"
test "$1 $2" != "-m venv" || { mkdir -p "$3/bin" && cp "$STUBS"/* "$3/bin"; }
test "$1" != init || mkdir -p .dvc
"""


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout in "my work", without a virtual environment yet, and what makes one of stand-ins."""
    folder = tmp_path / "my work/sixfold"
    (folder / "plans").mkdir(parents=True)
    for name in (
        "Makefile",
        "pyproject.toml",
        "requirements.lock",
        "dvc.yaml",
        "params.yaml",
        "plans/smoke.yaml",
        "plans/methods.yaml",
    ):
        shutil.copy(ROOT / name, folder / name)
    shutil.copy(ROOT / "plans/smoke.yaml", folder / "plans/my plan.yaml")
    stubs = tmp_path / "stubs"
    stubs.mkdir()
    for name in PROGRAMS:
        (stubs / name).write_text(NOTE)
        (stubs / name).chmod(0o755)
    monkeypatch.setenv("STUBS", str(stubs))
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    return folder


def make(checkout: Path, *arguments: str) -> str:
    """What the programs were called with by a target that succeeded, a line a call."""
    done = subprocess.run(
        ["make", f"PYTHON={os.environ['STUBS']}/python", *arguments], cwd=checkout, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    calls = Path(os.environ["CALLS"])
    text = calls.read_text() if calls.is_file() else ""
    calls.unlink(missing_ok=True)
    return text


def test_install_and_repro_work_below_a_folder_with_a_space(checkout: Path) -> None:
    """The virtual environment is made once and its own programs are called."""
    assert make(checkout, "install") == (
        "python -m venv .venv\n"
        "python -m pip install --quiet --prefer-binary -r requirements.lock\n"
        "python -m pip install --quiet --no-deps --no-build-isolation -e .\n"
    )
    assert make(checkout, "repro") == "dvc repro\n"
    assert make(checkout, "repro", "STAGE=teacher") == "dvc repro teacher\n"
    assert make(checkout, "check") == "ruff check .\nmypy \n"


@pytest.mark.parametrize("plan", ["plans/smoke.yaml", "plans/my plan.yaml", "{checkout}/plans/my plan.yaml"])
def test_a_plan_has_a_workspace_of_its_name(plan: str, checkout: Path) -> None:
    """Relative or absolute, with a space in its name or above it; the link leads to the plan."""
    plan = plan.format(checkout=checkout)
    make(checkout, "install")
    assert make(checkout, "plan", f"PLAN={plan}") == (
        "dvc init --no-scm --quiet\ndvc config core.analytics false\ndvc repro --quiet prepare\nsixfold plan\n"
    )
    workspace = checkout / "runs" / Path(plan).stem
    assert (workspace / "params.yaml").resolve() == (checkout / plan).resolve()
    assert (workspace / "dvc.yaml").is_file()


@pytest.mark.parametrize("target", ["publish", "measurement-study", "profiles-accuracy", "methods", "peers", "ui", "test", "lock"])
def test_every_other_target_finds_its_programs(target: str, checkout: Path) -> None:
    """With the default plan and with one whose name has a space, which the programs get whole."""
    make(checkout, "install")
    assert make(checkout, target)
    make(checkout, "workspace", "PLAN=plans/my plan.yaml")
    calls = make(checkout, target, "PLAN=plans/my plan.yaml")
    if target in ("publish", "measurement-study", "profiles-accuracy", "methods", "peers"):
        assert "runs/my plan" in calls
