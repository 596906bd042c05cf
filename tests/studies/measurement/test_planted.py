"""Trials share processes and nothing else; a whole batch is observed or none of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from studies.measurement.planted import PlantedSettings, observe_planted
from studies.measurement.planted_round import PREFIX
from tests.studies.measurement.study_factory import timed_run


def test_every_trial_has_a_control_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three trials, two to a batch, need two batches; each file of a trial is told how much slower it has to be."""
    run, jobs = timed_run(tmp_path, monkeypatch)
    settings = PlantedSettings(slower_by=(0.05, 0.2), trials_together=2)
    batches = observe_planted(run, 3, settings, tmp_path / "work", lambda _: None)
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
