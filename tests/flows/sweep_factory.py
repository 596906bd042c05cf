"""A params file of a sweep small enough to be run in a test, and the running of it."""

from __future__ import annotations

import copy
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from detection.data.dataset import Prepared, load_prepared
from flows.grid.forecast import Forecast
from flows.grid.ray_executor import Executor
from flows.grid.stage import grid
from flows.records.schema import CellsFile, read_records
from flows.records.store import Store
from flows.sweep.params import Plan
from flows.sweep.plan_checks import load_plan
from flows.tracking.mlflow_client import Tracker

_RECIPE = {"epochs": 1, "batch_size": 8, "learning_rate": 0.001, "augmentation": {"flip_horizontal": 0.0}}
TINY_TREE: dict[str, Any] = {
    "sweep": "tiny",
    "seed": 0,
    "device": "cpu",
    "threads": 1,
    "store": {"url": ".sixfold/store"},
    "data": {
        "name": "tiny",
        "source": {
            "kind": "generated",
            "pictures": {"train": 24, "val": 8, "test": 8},
            "picture_size": [64, 96],
            "object_size_px": [16, 32],
        },
        "input_size": [64, 96],
    },
    "teacher": {
        "architecture": {
            "stem_width": 8,
            "stage_widths": [16, 16, 24, 32],
            "stage_depths": [1, 1, 1, 1],
            "neck_width": 16,
            "head_width": 16,
            "head_depth": 1,
            "box_bins": 4,
        },
        "training": {**_RECIPE, "epochs": 2, "learning_rate": 0.003},
    },
    "grid": {
        "methods": {
            "lightweight": [],
            "nas": [],
            "low_rank": [],
            "pruning": [{"gradient_pictures": 8, "round_to": 4}],
            "quantization": [{"pictures": 8}],
        },
        "references": [],
        "recovery": _RECIPE,
        "runtimes": ["onnxruntime"],
    },
    "measure": {
        "profiles": ["x86-onnxruntime-1t", "raspberry-pi-5"],
        "rounds": 3,
        "timed_calls": 5,
        "contention_wait_s": 0,
        "end_to_end_calls": 2,
        "warmup_calls": 2,
    },
    "report": {"pictures": 2, "bootstrap_draws": 100},
}
"""Three methods, 8 cells, one runtime: 1 teacher + 4 recovered + 4 quantized = 9 nodes and 8 scores."""


def tiny_tree(**changes: Any) -> dict[str, Any]:
    """The tiny params as data, with settings replaced: dotted names are written with two underscores (grid__on_failure)."""
    tree = copy.deepcopy(TINY_TREE)
    for name, value in changes.items():
        *sections, last = name.split("__")
        place = tree
        for section in sections:
            place = place.setdefault(section, {})
        place[last] = value
    return tree


def menu_of(*methods: str) -> dict[str, Any]:
    """The tiny menu with these methods alone."""
    menu = tiny_tree()["grid"]["methods"]
    names = ("lightweight", "nas", "pruning", "low_rank", "distillation", "quantization")
    return {name: menu.get(name, [{}]) if name in methods else [] for name in names}


def write_params(folder: Path, **changes: Any) -> Path:
    """params.yaml in the folder, made of `tiny_tree`."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "params.yaml"
    path.write_text(yaml.safe_dump(tiny_tree(**changes), sort_keys=False))
    return path


@dataclass(frozen=True)
class Sweep:
    """A workspace with a finished grid in it, and what was known before and said while it ran."""

    folder: Path
    plan: Plan
    prepared: Path
    store: Store
    forecast: Forecast
    """Of the empty store."""
    code: int
    said: tuple[str, ...]

    @property
    def data(self) -> Prepared:
        """What the prepared folder says of itself."""
        return load_prepared(self.prepared)

    @property
    def cells_path(self) -> Path:
        """Where the records lie."""
        return self.folder / "results" / "cells.json"

    @property
    def cells(self) -> CellsFile:
        """The records."""
        return read_records(self.cells_path, CellsFile)

    def copied_to(self, folder: Path) -> Sweep:
        """The same in another folder, to be spoiled there."""
        shutil.copytree(self.folder, folder)
        return Sweep(
            folder, load_plan(folder / "params.yaml"), folder / "data/prepared", Store(folder / ".sixfold/store"), self.forecast,
            self.code, self.said,
        )  # fmt: skip


class Listener(Tracker):
    """Remembers which cells it was told of, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.cells: list[tuple[str, str]] = []  # (cell, status)

    def log_cell(self, cell: Any) -> None:
        self.cells.append((cell.cell, cell.status))


def run_grid(
    sweep: Sweep,
    plan: Plan | None = None,
    pattern: str | None = None,
    tracking: Tracker | None = None,
    executor: Executor = "inline",
) -> tuple[int, list[str]]:
    """The exit code of a grid in the sweep's folder, and the lines it said."""
    said: list[str] = []
    code = grid(
        plan or sweep.plan, sweep.prepared, sweep.store, sweep.cells_path, pattern=pattern, executor=executor,
        open_tracking=lambda: tracking or Tracker(), say=said.append,
    )  # fmt: skip
    return code, said


def expect_effects(made: Sweep, cells: int, lighter: tuple[str, ...]) -> None:
    """All cells are ok; each of these methods alone leaves fewer multiply-adds, int8 files have fewer bytes everywhere."""
    assert made.code == 0, made.said
    assert (len(made.cells.cells), {cell.status for cell in made.cells.cells}) == (cells, {"ok"})
    assert not [cell.cell for cell in made.cells.cells if cell.no_effect and len(cell.methods) == 1]
    control = made.cells.cells[0]
    assert control.macs is not None
    for name in lighter:
        cell = made.cells.cell(name)
        assert cell is not None
        assert cell.macs is not None
        assert cell.macs < control.macs, name
    packed = made.cells.cell("quantization")
    assert packed is not None
    for runtime, artifact in packed.artifacts.items():
        assert artifact.size_bytes < control.artifacts[runtime].size_bytes, runtime


def listing(folder: Path) -> dict[str, bytes]:
    """Relative path -> content of everything below a folder; folders have none."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else b"" for path in sorted(folder.rglob("*"))}
