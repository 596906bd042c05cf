"""A session asks for what it promises: nine names for one file, eight rounds."""

from __future__ import annotations

from pathlib import Path

import pytest

from detection.frozen import InputError
from studies.finished_run import FinishedRun, Model
from studies.measurement.identical import CONTROL, IdenticalSettings, observe_identical
from tests.studies.measurement.study_factory import timed_run


def test_a_session_is_nine_copies_of_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each round is a process of its own with the control and eight copies, in another order than the round before.

    What was observed is cached, and of another file it is refused, not added up.
    """
    run, jobs = timed_run(tmp_path, monkeypatch)

    def observe(sessions: int) -> int:
        return len(observe_identical(run, ("onnxruntime",), sessions, IdenticalSettings(), tmp_path / "work", lambda _: None))

    (session,) = observe_identical(run, ("onnxruntime",), 1, IdenticalSettings(), tmp_path / "work", lambda _: None)
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
