"""The installed programs, run as a user runs them: in a folder, with a user's environment."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.places import ROOT

PROGRAMS = Path(sys.executable).parent


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
