"""What was observed here is summed up, and what was not keeps its earlier numbers."""

from __future__ import annotations

from pathlib import Path

import pytest

from studies.measurement.ledger import Unit
from studies.measurement.summary import Summary
from studies.measurement.summing_up import sum_up
from tests.studies.measurement.study_factory import alternation, batch, session, tiny_run
from tests.studies.measurement.test_targets import GOOD, identical


def write(folder: Path, *units: Unit) -> None:
    folder.mkdir(parents=True)
    for unit in units:
        (folder / f"{unit.name}.json").write_text(unit.model_dump_json())


def test_every_part_is_summed_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sessions, batches and alternations become parts, and the noise of the sessions is simulated."""
    run, work = tiny_run(tmp_path, monkeypatch), tmp_path / "work"
    write(work / "identical", *(session(index) for index in range(3)))
    write(work / "planted", batch(0, trials=5), batch(1, trials=5))
    write(work / "loadgen", *(alternation(cell, i, 1e-3, 1e-3) for cell in ("none", "pruning", "quantization") for i in range(2)))
    found = sum_up(run, work, (), 100, "the command", Summary(), lambda _: None)
    assert found.identical is not None
    assert (found.identical.results[0].sessions, found.identical.blocks, found.identical.repeated_blocks) == (3, 3 * 9 * 8, 3)
    assert found.planted is not None
    assert found.planted.blocks == 10 * 6 * 8
    assert found.loadgen is not None
    assert [own.p50.pairs for own in found.loadgen.results] == [2, 2, 2]
    assert found.coverage is not None
    assert {own.noise for own in found.coverage.results} == {"A/A sessions, onnxruntime"}
    assert found.coverage.about.command == "the command"
    assert found.coverage.about.days == ("2026-01-02", "2026-01-02")
    assert found.same_graph is None


def test_what_was_not_observed_here_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Observing one part on another day does not wipe out the others."""
    run, work = tiny_run(tmp_path, monkeypatch), tmp_path / "work"
    write(work / "identical", session(0))
    found = sum_up(run, work, (), 100, "the command", GOOD, lambda _: None)
    assert found.planted == GOOD.planted
    assert found.loadgen == GOOD.loadgen
    assert found.identical != identical(40)
