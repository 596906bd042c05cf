"""A session is nine names for one file over eight rounds; trials share processes and nothing else; medians go by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from detection.frozen import InputError
from hardware_profiles.timing.round import Block, File, Job, RoundError, RoundResult
from studies.finished_run import FinishedRun, Model
from studies.measurement import experiments
from studies.measurement.experiments import (
    CONTROL,
    CopiesSettings,
    IdenticalSettings,
    PlantedSettings,
    copies,
    observe_identical,
    observe_planted,
    time_copies,
    timings,
)
from studies.measurement.planted_round import PREFIX
from tests.studies.measurement.study_factory import timed_run, tiny_run


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


def test_copies_are_equal_files_under_other_names(tmp_path: Path) -> None:
    """Same bytes, other path, other digest: what makes a timing of its own. The .bin of an .xml is copied with it."""
    for suffix in (".xml", ".bin"):
        (tmp_path / f"model{suffix}").write_text(suffix)
    (tmp_path / "copies").mkdir()
    model = Model("none", "openvino", tmp_path / "model.xml", "0" * 64)
    files = copies(model, ("a", "b"), tmp_path / "copies")
    assert {Path(file.path).read_text() for file in files.values()} == {".xml"}
    assert len({file.digest for file in files.values()} | {model.digest}) == 3
    assert {path.read_text() for path in (tmp_path / "copies").glob("*.bin")} == {".bin"}


def test_a_file_that_cannot_be_timed_ends_the_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A block with an error is no observation; the message is the block's."""
    run = tiny_run(tmp_path, monkeypatch)
    broken = RoundResult(blocks=(Block(digest="a", position=0, error="SessionError: no"),), runtime_rss_bytes=None)
    monkeypatch.setattr(experiments, "in_fresh_process", lambda *_: broken)
    with pytest.raises(RoundError, match="a: SessionError: no"):
        time_copies(run, run.model("none", "onnxruntime"), ("a",), CopiesSettings(), 0)


def test_a_round_knows_the_contention_probe_of_those_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a process that never had its physical core alone would take the contended reading for its own."""
    run, jobs = tiny_run(tmp_path, monkeypatch), list[Job]()

    def process(job: Job, *_: object) -> RoundResult:
        jobs.append(job)
        return RoundResult(blocks=(), runtime_rss_bytes=None, probe_s=min(1e-6 * (3 - len(jobs)), job.probe_s or 1.0))

    monkeypatch.setattr(experiments, "in_fresh_process", process)
    time_copies(run, run.model("none", "onnxruntime"), (), CopiesSettings(rounds=3), 0)
    assert [job.probe_s for job in jobs] == [None, pytest.approx(2e-6), pytest.approx(1e-6)]


def test_contention_is_judged_by_the_least_reading_of_all_rounds() -> None:
    """The first round was contended and could not know; the last was alone."""
    files = {"a": File(digest="a", path="a")}
    blocks = [Block(digest="a", position=0, p50_s=1.0, probe_s=reading_s) for reading_s in (1.6e-6, 1e-6)]
    found = [RoundResult(blocks=(own,), runtime_rss_bytes=None, probe_s=own.probe_s) for own in blocks]
    assert timings(found, files).contended_blocks == 1


def test_timings_go_by_name() -> None:
    """Rounds in their order, whatever the order of files within a round; repeated and contended blocks are counted."""
    files = {name: File(digest=f"digest of {name}", path=name) for name in ("a", "b")}

    def found(order: str, p50_s: float, repeats: int, contended: bool) -> RoundResult:
        blocks = tuple(
            Block(digest=f"digest of {name}", position=i, p50_s=p50_s + ord(name), repeats=repeats, contended=contended)
            for i, name in enumerate(order)
        )
        return RoundResult(blocks=blocks, runtime_rss_bytes=None)

    seen = timings([found("ab", 1.0, 2, False), found("ba", 2.0, 2, True), found("ba", 3.0, 0, False)], files)
    assert seen.medians_s == {"a": (98.0, 99.0, 100.0), "b": (99.0, 100.0, 101.0)}
    assert (seen.repeated_blocks, seen.contended_blocks) == (4, 2)
