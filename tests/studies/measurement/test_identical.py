"""A session asks for what it promises: nine names for one file, eight rounds, and nothing is observed twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from detection.frozen import InputError
from studies.measurement import subject
from studies.measurement.identical import CONTROL, IdenticalSettings, observe_identical
from tests.studies.measurement.study_factory import fake_process, tiny_run


def test_a_session_is_nine_copies_of_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each round is a process of its own with the control and eight copies, in another order than the round before."""
    run, jobs = tiny_run(tmp_path, monkeypatch), []
    monkeypatch.setattr(subject, "in_fresh_process", fake_process(jobs))
    (session,) = observe_identical(run, ("onnxruntime",), 1, IdenticalSettings(), tmp_path / "work", lambda _: None)
    assert len(jobs) == 8
    assert len({job.order_seed for job, _ in jobs}) == 8
    for job, entry in jobs:
        assert entry == "flows.measure.worker"
        assert len({file.path for file in job.files}) == len({file.digest for file in job.files}) == 9
        assert job.cores is None or len(job.cores) == 1
    assert set(session.medians_s) == {CONTROL, *(f"copy-{i}" for i in range(1, 9))}
    assert all(rounds_s == (1e-3,) * 8 for rounds_s in session.medians_s.values())
    assert session.repeated_blocks == 8


def test_more_sessions_are_added_to_those_that_are_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asking for three where two were observed times one more."""
    run, jobs = tiny_run(tmp_path, monkeypatch), []
    monkeypatch.setattr(subject, "in_fresh_process", fake_process(jobs))
    observe_identical(run, ("onnxruntime",), 2, IdenticalSettings(), tmp_path / "work", lambda _: None)
    jobs.clear()
    sessions = observe_identical(run, ("onnxruntime",), 3, IdenticalSettings(), tmp_path / "work", lambda _: None)
    assert len(sessions) == 3
    assert len(jobs) == 8


def test_another_file_is_not_mixed_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sessions of the run before it was trained again are refused, not added up with those of now."""
    run, jobs = tiny_run(tmp_path, monkeypatch), []
    monkeypatch.setattr(subject, "in_fresh_process", fake_process(jobs))
    observe_identical(run, ("onnxruntime",), 1, IdenticalSettings(), tmp_path / "work", lambda _: None)
    settings = IdenticalSettings(cell="none")
    with pytest.raises(InputError, match="was observed with cell"):
        observe_identical(run, ("onnxruntime",), 2, settings, tmp_path / "work", lambda _: None)
    monkeypatch.setattr(type(run), "model", lambda own, cell, runtime: subject.Model(cell, runtime, tmp_path, "f" * 64))
    with pytest.raises(InputError, match="was observed with artifacts"):
        observe_identical(run, ("onnxruntime",), 2, IdenticalSettings(), tmp_path / "work", lambda _: None)
