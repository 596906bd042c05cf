"""A session is nine names for one file over eight rounds; trials share processes and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from detection.frozen import InputError
from studies.finished_run import FinishedRun, Model
from studies.measurement.experiments import CONTROL, IdenticalSettings, PlantedSettings, observe_identical, observe_planted
from studies.measurement.planted_round import PREFIX
from tests.studies.measurement.study_factory import timed_run


def test_a_session_is_nine_copies_of_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each round is a process of its own with the control and eight copies, in another order than the round before.

    What was observed is cached, and of another file it is refused, not added up.
    """
    run, jobs = timed_run(tmp_path, monkeypatch)

    def observe(sessions: int) -> int:
        return len(observe_identical(run, ("onnxruntime",), sessions, IdenticalSettings(), tmp_path / "work"))

    (session,) = observe_identical(run, ("onnxruntime",), 1, IdenticalSettings(), tmp_path / "work")
    assert len(jobs) == len({job.order_seed for job, _ in jobs}) == 8
    for job, entry in jobs:
        assert entry == "flows.measure.worker"
        assert len({file.path for file in job.files}) == len({file.digest for file in job.files}) == 9
        assert job.cores is None or len(job.cores) == 1
    assert set(session.medians_s) == {CONTROL, *(f"copy-{i}" for i in range(1, 9))}
    assert all(rounds_s == (1e-3,) * 8 for rounds_s in session.medians_s.values())
    assert session.repeated_blocks == 8
    assert (observe(2), len(jobs)) == (2, 16)
    monkeypatch.setattr(FinishedRun, "model", lambda _, cell, runtime: Model(cell, runtime, tmp_path, "f" * 64))
    with pytest.raises(InputError, match="was observed with artifacts"):
        observe(2)


def test_every_trial_has_a_control_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three trials, two to a batch, need two batches; each file of a trial is told how much slower it has to be."""
    run, jobs = timed_run(tmp_path, monkeypatch)
    settings = PlantedSettings(slower_by=(0.05, 0.2), trials_together=2)
    batches = observe_planted(run, 3, settings, tmp_path / "work")
    assert [len(batch.trials) for batch in batches] == [2, 2]
    assert len(jobs) == 2 * 8
    for job, entry in jobs:
        assert entry == "studies.measurement.planted_round"
        assert job.runtime == "onnxruntime-slowed"
        told = {key.removeprefix(PREFIX): share for key, share in job.settings.items() if key.startswith(PREFIX)}
        assert sorted(told) == sorted(Path(file.path).stem for file in job.files)
        assert sorted(told.values()) == [0.0, 0.0, 0.05, 0.05, 0.2, 0.2]
    assert set(batches[0].trials[0]) == {"0", "0.05", "0.2"}
    assert len(batches[0].trials[0]["0.05"]) == 8
