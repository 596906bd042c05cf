"""Where each stage reads and writes, relative to the folder the command runs in."""

from __future__ import annotations

import os
from pathlib import Path

PARAMS = Path("params.yaml")
"""What a command reads unless it is told otherwise."""
PREPARED = Path("data/prepared")
TEACHER = Path("models/teacher")
BEST = Path("models/best")
CELLS = Path("results/cells.json")
LATENCY = Path("results/latency.json")
CALIBRATION = Path("results/calibration")
SEEDS = Path("results/seeds.json")
INPUTS = Path("results/inputs")
REPORT = Path("results/report")
VERDICT = Path("results/check")
BASELINES = Path("baselines")
STAGE_TIMES = Path(".sixfold/stages.jsonl")
"""One line per stage that ran here, with its wall time."""


def whole_run(params: Path) -> str:
    """What a person types to make everything of a new plan: one command in a checkout, elsewhere the first of the stages."""
    if Path("Makefile").is_file() and Path("dvc.yaml").is_file():
        return f"`make repro PLAN={params}`; `make plan PLAN={params}` says how long that takes."
    return f"`sixfold prepare --params {params}`, and so on with teacher, grid, measure and report."


def require_place(*outputs: Path) -> None:
    """Nothing; an error where one of the outputs could not be written, so that nobody learns it after hours of work.

    An output with a suffix is a file, any other a folder. Nothing is made here: a refused command leaves no empty folders.
    InputError where something else is in the way, PermissionError where the folder cannot be written.
    """
    from detection.frozen import InputError  # pydantic with it, which `--help` need not wait for

    for output in outputs:
        if output.exists() and output.is_dir() == bool(output.suffix):
            found, wanted = ("a folder", "a file") if output.suffix else ("a file", "a folder")
            raise InputError(f"{output}: {found}, but this command writes {wanted} of that name. Move or remove it.")
        parent = next(folder for folder in output.absolute().parents if folder.exists() or folder.is_symlink())
        if not parent.is_dir():
            raise InputError(
                f"{parent}: no folder, but {output} is to be written below it. Move or remove it, or run the command elsewhere."
            )
        if not os.access(parent, os.W_OK | os.X_OK):
            raise PermissionError(
                f"{parent}: cannot be written, but {output} is to be written below it. Change its permissions, or run the command "
                f"in a folder of yours."
            )
