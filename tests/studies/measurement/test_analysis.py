"""Counts of made-up observations are those that can be counted by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from studies.measurement.analysis import (
    agreements,
    detections,
    false_alarms,
    own_effect_reached,
    same_graph_alarms,
    session_noise,
    stated_effect,
    summarize,
    trial_spreads,
)
from studies.measurement.observations import Unit
from studies.measurement.records import Summary
from tests.studies.measurement.study_factory import alternation, batch, latency_row, session, tiny_run
from tests.studies.measurement.test_targets import GOOD


def test_alarms_are_counted_per_pair_and_per_session() -> None:
    """Two copies that really take twice as long, in one session of ten: two more pairs of eighty, in one more session."""
    (quiet,) = false_alarms([session(index) for index in range(10)])
    (found,) = false_alarms([session(index, slower=(2, 5) if index == 1 else ()) for index in range(10)])
    assert (found.runtime, found.sessions, found.rounds) == ("onnxruntime", 10, 8)
    assert (found.corrected.count - quiet.corrected.count, found.corrected.trials) == (2, 80)
    assert (found.sessions_with_alarm.count - quiet.sessions_with_alarm.count, found.sessions_with_alarm.trials) == (1, 10)
    assert found.uncorrected.count >= found.corrected.count
    assert found.spread == pytest.approx(0.01 * 2**0.5, rel=0.1)


def test_runtimes_are_counted_apart_and_together() -> None:
    """The last line is of all sessions."""
    found = false_alarms([session(0), session(1, "openvino"), session(2, "openvino")])
    assert [(own.runtime, own.sessions) for own in found] == [("onnxruntime", 1), ("openvino", 2), ("all", 3)]


def test_the_noise_of_sessions_is_that_of_one_file() -> None:
    """1 % of noise in, 1 % out, per runtime."""
    (noise,) = session_noise([session(index) for index in range(10)])
    assert noise.deviations.shape == (90, 8)
    assert noise.spread == pytest.approx(0.01, rel=0.1)


def test_detection_rates_follow_the_prediction() -> None:
    """Under normal noise of 3 %, the detection rate is the predicted one, and slowdowns are measured right."""
    batches = [batch(0), batch(1)]
    found = {own.slower_by: own for own in detections(batches)}
    assert list(found) == [0.01, 0.03, 0.05, 0.1, 0.2]
    for share, own in found.items():
        assert own.found.trials == 200
        assert own.found.ci95[0] - 0.03 <= own.predicted <= own.found.ci95[1] + 0.03
        assert own.measured_ci95[0] - 0.003 < share < own.measured_ci95[1] + 0.003
        assert own.called_faster <= 3
    assert found[0.2].found.count == 200


def test_the_stated_effect_is_detected_as_often_as_stated() -> None:
    """With 3 % from round to round, eight rounds state about 3.6 % for one pair and more for one of 63."""
    batches = [batch(0)]
    alone = stated_effect(batches)
    assert alone == pytest.approx(0.036, abs=0.004)
    assert stated_effect(batches, 63) > 1.5 * alone
    assert len(trial_spreads(batches)) == 100
    assert own_effect_reached(batches).ci95[1] > 0.8


def test_agreement_is_paired() -> None:
    """Ours 1 % above LoadGen in every pair, however the machine drifts: the difference is 1 % and sure."""
    units = [
        alternation(cell, i, 1.01 * drift_s, drift_s * (1 + 1e-4 * (i % 3)))
        for cell in ("pruning", "none", "quantization")
        for i, drift_s in enumerate((1e-3, 2e-3, 1.5e-3, 3e-3))
    ]
    found = agreements(units)
    assert [own.cell for own in found] == ["none", "pruning", "quantization"]
    for own in found:
        assert own.p50.mean == pytest.approx(0.01, abs=3e-4)
        assert own.p50.equivalent
        assert own.p90.mean == pytest.approx(own.p50.mean)


def test_cells_of_equal_graphs_need_enough_rounds() -> None:
    """Eight rounds are tested, six are not."""
    own = session(0).medians_s
    pair = (latency_row("none", own["copy-1"]), latency_row("distillation", own["copy-2"]))
    (found,) = same_graph_alarms([pair])
    assert (found.runtime, found.sessions, found.corrected.trials) == ("x86", 0, 1)
    few = (latency_row("none", own["copy-1"][:6]), latency_row("distillation", own["copy-2"][:6]))
    assert same_graph_alarms([few]) == ()


def write(folder: Path, *units: Unit) -> None:
    folder.mkdir(parents=True)
    for unit in units:
        (folder / f"{unit.name}.json").write_text(unit.model_dump_json())


def test_every_part_is_summarized(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sessions, batches and alternations become parts, and the noise of the sessions is simulated."""
    run, work = tiny_run(tmp_path, monkeypatch), tmp_path / "work"
    write(work / "identical", *(session(index) for index in range(3)))
    write(work / "planted", batch(0, trials=5), batch(1, trials=5))
    write(work / "loadgen", *(alternation(cell, i, 1e-3, 1e-3) for cell in ("none", "pruning", "quantization") for i in range(2)))
    found = summarize(run, work, (), 100, "the command", Summary(), lambda _: None)
    assert found.identical is not None
    assert (found.identical.results[0].sessions, found.identical.blocks, found.identical.repeated_blocks) == (3, 3 * 9 * 8, 3)
    assert found.planted is not None
    assert found.planted.blocks == 10 * 6 * 8
    assert found.loadgen is not None
    assert [own.p50.pairs for own in found.loadgen.results] == [2, 2, 2]
    assert found.coverage is not None
    assert {own.noise for own in found.coverage.results} == {"A/A sessions, onnxruntime"}
    assert (found.coverage.about.command, found.coverage.about.days) == ("the command", ("2026-01-02", "2026-01-02"))
    assert found.same_graph is None


def test_what_was_not_observed_here_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Observing one part on another day does not wipe out the others."""
    run, work = tiny_run(tmp_path, monkeypatch), tmp_path / "work"
    write(work / "identical", session(0))
    found = summarize(run, work, (), 100, "the command", GOOD, lambda _: None)
    assert (found.planted, found.loadgen) == (GOOD.planted, GOOD.loadgen)
    assert found.identical != GOOD.identical
