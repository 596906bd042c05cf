"""Counts of made-up observations are those that can be counted by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from studies.measurement.analysis import (
    detections,
    false_alarms,
    own_effect_reached,
    stated_effect,
    summarize,
    trial_spreads,
)
from studies.measurement.observations import Unit
from studies.measurement.records import Summary
from tests.studies.measurement.study_factory import batch, session
from tests.studies.measurement.test_page import GOOD


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


def write(folder: Path, *units: Unit) -> None:
    folder.mkdir(parents=True)
    for unit in units:
        (folder / f"{unit.name}.json").write_text(unit.model_dump_json())


def test_every_part_is_summarized(tmp_path: Path) -> None:
    """Sessions and batches become parts, with where and when they were observed."""
    write(tmp_path / "identical", *(session(index) for index in range(3)))
    write(tmp_path / "planted", batch(0, trials=5), batch(1, trials=5))
    found = summarize(tmp_path, "the command", Summary())
    assert found.identical is not None
    assert (found.identical.results[0].sessions, found.identical.blocks, found.identical.repeated_blocks) == (3, 3 * 9 * 8, 3)
    assert (found.identical.about.command, found.identical.about.days) == ("the command", ("2026-01-02", "2026-01-02"))
    assert found.planted is not None
    assert found.planted.blocks == 10 * 6 * 8


def test_what_was_not_observed_here_is_kept(tmp_path: Path) -> None:
    """Observing one part on another day does not wipe out the other."""
    write(tmp_path / "identical", session(0))
    found = summarize(tmp_path, "the command", GOOD)
    assert found.planted == GOOD.planted
    assert found.identical != GOOD.identical
