"""Settings, files and stand-ins for fresh processes, for the tests of measuring."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Callable
from pathlib import Path

import pytest

import flows.measure.host as rounds_module
from flows.measure.worker import detection_hooks
from flows.sweep.settings import Measure
from hardware_profiles.timing.round import File, Job, RoundResult, run_round
from tests.hardware_profiles.tiny_model import write_model

ON_X86 = pytest.mark.skipif(platform.machine() != "x86_64", reason="the shipped host profiles are for x86_64")
HOST = "x86-onnxruntime-1t"
FEW = Measure(
    profiles=(HOST,),
    rounds=3,
    timed_calls=3,
    end_to_end_calls=2,
    warmup_calls=1,
    warmup_s=0.0,
    most_repeats=0,
    contention_wait_s=0.0,
    pictures=2,
    iou_threshold=0.5,
)
Round = Callable[[Job], RoundResult]


def in_this_process(job: Job) -> RoundResult:
    """A real round without the start of a process."""
    return run_round(job, detection_hooks(job))


def replace_process(monkeypatch: pytest.MonkeyPatch, run: Round) -> list[Job]:
    """Have rounds made by a function instead of a fresh process; the jobs they got."""
    jobs: list[Job] = []

    def start(job: Job, entry: str, folder: Path, timeout_s: float) -> RoundResult:
        jobs.append(job)
        return run(job)

    monkeypatch.setattr(rounds_module, "in_fresh_process", start)
    return jobs


def replace_lock(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Path:
    """A lock of the test's own: tests must neither wait for a real measurement nor hold it up."""
    monkeypatch.setattr(rounds_module, "LOCK", folder / "measure.lock")
    return folder / "measure.lock"


def tiny_files(folder: Path, count: int = 1) -> tuple[File, ...]:
    """Different tiny detectors, by the digests of their bytes."""
    paths = [write_model(folder / f"{seed}.onnx", seed) for seed in range(count)]
    return tuple(File(digest=hashlib.sha256(path.read_bytes()).hexdigest(), path=str(path)) for path in paths)
