"""Fresh rounds for the gate: of the right files, in another order, or why there are none."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import flows.check.confirm as confirm_module
from detection.data.dataset import Images
from flows.check.confirm import Candidate, measure_again
from flows.measure.measured_rows import Rounds
from flows.measure.session import MeasureSession
from flows.records.schema import CellsFile, LatencyFile, LatencyRow
from flows.records.store import Store
from flows.sweep.settings import Measure
from hardware_profiles.timing.environment import digest_of, environment
from hardware_profiles.timing.round import Block, RoundError, RoundResult
from tests.flows.latency_factory import record, sweep, three_pictures
from tests.flows.records_factory import latency_file, measured_row
from tests.flows.rounds_factory import HOST, ON_X86

pytestmark = ON_X86
FEW = Measure(profiles=(HOST,), rounds=3, seed=4)
PRUNED = Candidate("pruning", HOST)


class Gate:
    """Three cells with a file each, measured here; rounds come from a stand-in that remembers what it was asked for."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.asked, self.error = folder, list[tuple[dict[str, int], Measure]](), ""
        for name in ("none", "nas", "pruning"):
            (folder / name).write_text(name)
        self.cells: CellsFile = sweep(*(record(name, {"onnxruntime": folder / name}) for name in ("none", "nas", "pruning")))
        monkeypatch.setattr(confirm_module, "host_rounds", self.rounds)

    def row(self, cell: str, **other: Any) -> LatencyRow:
        """A row measured in this environment."""
        return measured_row(cell, HOST, 0.01, 0.01).model_copy(update={"environment": digest_of(environment())} | other)

    def rounds(self, profiles: Any, files: Any, images: Images, config: Measure, say: Any) -> dict[str, Rounds]:
        """Every file takes 10 ms in each round, the control 20."""
        if self.error:
            raise RoundError(self.error)
        self.asked.append(({name: len(own) for name, own in files.items()}, config))
        control = self.cells.cells[0].artifacts["onnxruntime"].digest
        blocks = [
            Block(digest=file.digest, position=0, p50_s=0.02 if file.digest == control else 0.01) for file in files[profiles[0].id]
        ]
        result = RoundResult(blocks=tuple(blocks), runtime_rss_bytes=None)
        return {profile.id: Rounds(results=(result,) * config.rounds) for profile in profiles}

    def again(self, candidates: Sequence[Candidate], latency: LatencyFile | None = None) -> dict[Candidate, LatencyRow | str]:
        """What is found on a second look."""
        known = latency or latency_file([self.row("nas"), self.row("pruning")])
        session = MeasureSession(Store(self.folder), self.cells, three_pictures(), FEW)
        return measure_again(candidates, session, known, lambda _: None)


@pytest.fixture
def gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Gate:
    """Without a clock."""
    return Gate(tmp_path, monkeypatch)


def test_only_candidate_and_control_are_timed(gate: Gate) -> None:
    """Two files of three, at least eight rounds whatever the settings say, in an order of their own."""
    found = gate.again([PRUNED])
    row = found[PRUNED]
    assert isinstance(row, LatencyRow)
    assert (len(found), row.rounds_s, row.control_rounds_s) == (1, (0.01,) * 8, (0.02,) * 8)
    ((files, config),) = gate.asked
    assert (files, config.rounds, config.seed) == ({HOST: 2}, 8, 5)


def test_fresh_rounds_are_observations_too(gate: Gate) -> None:
    """One new file per artifact."""
    gate.again([PRUNED])
    assert len(list((gate.folder / "observations").rglob("*.json"))) == 2


def test_a_missing_file_spares_the_others(gate: Gate) -> None:
    """Its candidate says what is not there, the other one is measured."""
    (gate.folder / "pruning").unlink()
    found = gate.again([PRUNED, Candidate("nas", HOST)])
    assert "not in the store" in str(found[PRUNED])
    assert isinstance(found[Candidate("nas", HOST)], LatencyRow)


def test_another_machine_is_not_asked(gate: Gate) -> None:
    """Rows of another environment cannot be confirmed here; nothing is timed."""
    elsewhere = latency_file([gate.row("pruning", environment="f" * 64)])
    assert "another machine" in str(gate.again([PRUNED], elsewhere)[PRUNED])
    assert gate.asked == []


def test_devices_and_unknown_profiles_are_not_asked(gate: Gate) -> None:
    """A row that a device measured, and a profile that is gone, say so."""
    places = [Candidate("pruning", "raspberry-pi-5"), Candidate("pruning", "no-such-profile")]
    rows = [gate.row("pruning", profile=place.profile) for place in places]
    found = gate.again(places, latency_file(rows))
    assert "another device" in str(found[places[0]])
    assert "no-such-profile" in str(found[places[1]])
    assert gate.asked == []


def test_rounds_that_end_badly_are_a_reason(gate: Gate) -> None:
    """No candidate is lost: each has the reason."""
    gate.error = "another measurement holds the machine"
    assert gate.again([PRUNED]) == {PRUNED: "another measurement holds the machine"}


def test_without_a_control_nothing_is_compared(gate: Gate) -> None:
    """A sweep that lost its control cannot say how fast anything is beside it."""
    gate.cells = gate.cells.model_copy(update={"cells": gate.cells.cells[1:]})
    assert "no control" in str(gate.again([PRUNED])[PRUNED])
