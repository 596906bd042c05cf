"""Observations made of plain numbers, and a run whose cells are tiny files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flows.records.schema import write_records
from flows.sweep.workspace import CELLS
from hardware_profiles.timing.round import Block, Job, RoundResult
from studies.finished_run import FinishedRun, open_run
from studies.measurement import experiments
from studies.measurement.experiments import CONTROL, Batch, Session
from tests.flows.latency_factory import record, sweep, three_pictures
from tests.flows.sweep_factory import write_params
from tests.hardware_profiles.tiny_model import write_model

ROUNDS = 8
ENVIRONMENT = {"cpu": "a CPU", "cores": 2, "kernel": "Linux 6", "versions": {"onnxruntime": "1.31.1"}}
COMMON: dict[str, Any] = {"environment": ENVIRONMENT, "observed_at": "2026-01-02T03:04:05Z", "wall_s": 1.0}


def noisy(generator: np.random.Generator, median_s: float, spread: float) -> tuple[float, ...]:
    """Eight medians that scatter by a share."""
    return tuple((median_s * np.exp(spread * generator.standard_normal(ROUNDS))).tolist())


def session(index: int, runtime: str = "onnxruntime", slower: Sequence[int] = (), pairs: int = 8) -> Session:
    """An A/A session with 1 % of noise; the copies named by number take twice as long."""
    generator = np.random.default_rng(index)
    times = {CONTROL: noisy(generator, 1e-3, 0.01)}
    times |= {f"copy-{i}": noisy(generator, 2e-3 if i in slower else 1e-3, 0.01) for i in range(1, pairs + 1)}
    return Session(
        name=f"{runtime}-{index:03d}", settings={"rounds": ROUNDS}, runtime=runtime, medians_s=times,
        repeated_blocks=1, contended_blocks=0, **COMMON,
    )  # fmt: skip


def batch(index: int = 0, trials: int = 100, spread: float = 0.03, shares: Sequence[float] = (0.01, 0.03, 0.05, 0.1, 0.2)) -> Batch:
    """Planted slowdowns under normal noise, half of the spread in the control and half in the copy."""
    generator = np.random.default_rng(index)
    each = spread / np.sqrt(2)
    made = tuple({f"{share:g}": noisy(generator, 1e-3 * (1 + share), each) for share in (0.0, *shares)} for _ in range(trials))
    return Batch(
        name=f"batch-{index:03d}", settings={"runtime": "onnxruntime"}, trials=made, repeated_blocks=0,
        contended_blocks=0, **COMMON,
    )  # fmt: skip


def tiny_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> FinishedRun:
    """A run with the control and one other cell, both tiny files, on plain pictures."""
    names = ("none", "lightweight+nas")
    cells = sweep(*(record(name, {"onnxruntime": write_model(folder / f"{name}.onnx", seed)}) for seed, name in enumerate(names)))
    write_records(folder / CELLS, cells)
    monkeypatch.setattr(experiments, "load_split", lambda *_: three_pictures())
    write_params(folder)
    return open_run(folder)


def timed_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[FinishedRun, list[tuple[Job, str]]]:
    """A tiny run in which no process starts: every file takes 1 ms, and jobs are kept with the module that was to run them."""
    jobs: list[tuple[Job, str]] = []

    def process(job: Job, entry: str, *_: object) -> RoundResult:
        assert all(Path(file.path).is_file() for file in job.files)
        jobs.append((job, entry))
        blocks = (
            Block(digest=file.digest, position=i, p50_s=1e-3, p90_s=1.1e-3, repeats=int(i == 0)) for i, file in enumerate(job.files)
        )
        return RoundResult(blocks=tuple(blocks), runtime_rss_bytes=None)

    monkeypatch.setattr(experiments, "in_fresh_process", process)
    return tiny_run(folder, monkeypatch), jobs
