"""Fresh rounds for the gate: of the right files, in another order, or why there are none."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import flows.check.confirm as confirm_module
from detection.data.dataset import Images
from flows.check.confirm import measure_again
from flows.check.judge import Candidate, Fresh
from flows.measure.measured_rows import Rounds
from flows.records.schema import CellsFile, LatencyFile, LatencyRow
from flows.records.store import StoreError
from flows.sweep.measure_settings import Measure
from hardware_profiles.schema.library import load_profile
from hardware_profiles.timing.environment import digest_of, environment
from hardware_profiles.timing.round import Block, RoundError, RoundResult
from tests.flows.latency_factory import record, sweep, three_pictures
from tests.flows.records_factory import latency_file, measured_row
from tests.flows.rounds_factory import HOST, ON_X86

pytestmark = ON_X86
FEW = Measure(profiles=(HOST,), rounds=3, seed=4)
PRUNED = Candidate("pruning", HOST)


class Bench:
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

    def rounds(self, profiles: Any, files: Any, images: Images, config: Measure, report: Any) -> dict[str, Rounds]:
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

    def again(self, candidates: Sequence[Candidate], latency: LatencyFile | None = None) -> dict[Candidate, Fresh]:
        """What is found on a second look."""
        known = latency or latency_file([self.row("nas"), self.row("pruning")])
        return measure_again(
            candidates,
            self.cells,
            known,
            load_profile,
            three_pictures,
            FEW,
            self.folder / "observations",
            self.fetch,
            lambda _: None,
        )

    def fetch(self, url: str) -> Path:
        """As a store does it."""
        if not Path(url).is_file():
            raise StoreError(f"{url}: not in the store")
        return Path(url)


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """A bench without a clock."""
    return Bench(tmp_path, monkeypatch)


def test_only_candidate_and_control_are_timed(bench: Bench) -> None:
    """Two files of three, at least eight rounds whatever the settings say, in an order of their own."""
    found = bench.again([PRUNED])
    assert found == {PRUNED: Fresh((0.01,) * 8, (0.02,) * 8)}
    ((files, config),) = bench.asked
    assert (files, config.rounds, config.seed) == ({HOST: 2}, 8, 5)


def test_fresh_rounds_are_observations_too(bench: Bench) -> None:
    """One new file per artifact."""
    bench.again([PRUNED])
    assert len(list((bench.folder / "observations").rglob("*.json"))) == 2


def test_a_missing_file_spares_the_others(bench: Bench) -> None:
    """Its candidate says what is not there, the other one is measured."""
    (bench.folder / "pruning").unlink()
    found = bench.again([PRUNED, Candidate("nas", HOST)])
    assert "not in the store" in (found[PRUNED].why or "")
    assert len(found[Candidate("nas", HOST)].rounds_s) == 8


def test_another_machine_is_not_asked(bench: Bench) -> None:
    """Rows of another environment cannot be confirmed here; nothing is timed."""
    elsewhere = latency_file([bench.row("pruning", environment="f" * 64)])
    assert "another machine" in (bench.again([PRUNED], elsewhere)[PRUNED].why or "")
    assert bench.asked == []


def test_devices_and_unknown_profiles_are_not_asked(bench: Bench) -> None:
    """A row that a joined device measured, and a profile that is gone, say so."""
    places = [Candidate("pruning", "raspberry-pi-5"), Candidate("pruning", "no-such-profile")]
    rows = [bench.row("pruning", profile=place.profile) for place in places]
    found = bench.again(places, latency_file(rows))
    assert "another device" in (found[places[0]].why or "")
    assert "no-such-profile" in (found[places[1]].why or "")
    assert bench.asked == []


def test_rounds_that_end_badly_are_a_reason(bench: Bench) -> None:
    """No candidate is lost: each has the reason."""
    bench.error = "another measurement holds the machine"
    assert bench.again([PRUNED]) == {PRUNED: Fresh(why="another measurement holds the machine")}


def test_without_a_control_nothing_is_compared(bench: Bench) -> None:
    """A sweep that lost its control cannot say how fast anything is beside it."""
    bench.cells = bench.cells.model_copy(update={"cells": bench.cells.cells[1:]})
    assert "no control" in (bench.again([PRUNED])[PRUNED].why or "")
