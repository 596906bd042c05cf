"""Ours and LoadGen take turns on the same file."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from detection.frozen import InputError
from studies.measurement.loadgen import LoadGenSettings, observe_loadgen
from tests.studies.measurement.study_factory import timed_run, tiny_run


def test_who_comes_first_alternates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both time the same file with the same protocol, one process each, and neither is always the first."""
    run, jobs = timed_run(tmp_path, monkeypatch)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    settings = LoadGenSettings(cells=("none", "lightweight+nas"))
    found = observe_loadgen(run, 2, settings, tmp_path / "work", lambda _: None)
    assert sorted((unit.cell, unit.ours.p50_s) for unit in found) == [("lightweight+nas", 1e-3)] * 2 + [("none", 1e-3)] * 2
    entries = [entry.rpartition(".")[2] for _, entry in jobs]
    assert entries == ["loadgen_round", "worker"] * 2 + ["worker", "loadgen_round"] * 2
    for (first, _), (second, _) in zip(jobs[::2], jobs[1::2], strict=True):
        assert first.files == second.files
        assert first.protocol == second.protocol
        assert first.protocol.most_repeats == 2


def test_without_loadgen_the_part_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No traceback: what is missing, how to get it, and where there is none."""
    run = tiny_run(tmp_path, monkeypatch)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="pip install mlcommons-loadgen"):
        observe_loadgen(run, 2, LoadGenSettings(), tmp_path / "work", lambda _: None)
