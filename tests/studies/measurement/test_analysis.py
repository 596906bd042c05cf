"""Counts of made-up observations are those that can be counted by hand."""

from __future__ import annotations

import pytest

from studies.measurement.analysis import (
    agreements,
    detections,
    false_alarms,
    own_effect_reached,
    same_graph_alarms,
    session_noise,
    stated_effect,
    trial_spreads,
)
from tests.studies.measurement.study_factory import alternation, batch, latency_row, session


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
    """Under normal noise of 3 %, what is noticed is what was predicted, and slowdowns are measured right."""
    batches = [batch(0), batch(1)]
    found = {own.slower_by: own for own in detections(batches)}
    assert list(found) == [0.01, 0.03, 0.05, 0.1, 0.2]
    for share, own in found.items():
        assert own.found.trials == 200
        assert own.found.ci95[0] - 0.03 <= own.predicted <= own.found.ci95[1] + 0.03
        assert own.measured_ci95[0] - 0.003 < share < own.measured_ci95[1] + 0.003
        assert own.called_faster <= 3
    assert found[0.2].found.count == 200


def test_the_stated_effect_is_noticed_as_often_as_stated() -> None:
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
