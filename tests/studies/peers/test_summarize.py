"""What is chosen of a group, by sixfold's own rule."""

from __future__ import annotations

from typing import Any, cast

from flows.records.schema import LatencyFile
from flows.stats.verdicts import with_verdicts
from studies.peers.chains import OrtPtq, Pruned, Untouched
from studies.peers.records import PeersFile
from studies.peers.summarize import Study
from tests.flows.records_factory import latency_file, measured_row
from tests.studies.peers.peers_factory import PROFILE, RUNTIME, control_cells, peer


def study(times_s: dict[str, float], peers: tuple[Any, ...]) -> Study:
    """A study of the control, which takes 10 ms, and these peers."""
    cells = control_cells()
    rows = [measured_row("none", PROFILE, 0.010, 0.010), *(measured_row(own, PROFILE, s, 0.010) for own, s in times_s.items())]
    every = cells.model_copy(update={"cells": (*cells.cells, *(own.as_cell(0) for own in peers))})
    latency: LatencyFile = latency_file(list(with_verdicts(every, rows)))
    found = PeersFile(
        cells=cells, peers=peers, tools=(), own_spent={}, max_drop=0.02, bootstrap_draws=100, bootstrap_seed=0, latency=latency
    )
    return Study.of(cast(Any, None), found)


def test_the_fastest_within_the_drop_is_chosen_on_val() -> None:
    """A faster one that loses too much is not; where none is faster than the control, nothing is."""
    pruned = Pruned(importance="lamp", scope="uniform", keep_macs=0.5)
    good = peer(Untouched(recovered=True), OrtPtq(calibrator="minmax", float_tail=True), 0.54)
    lossy = peer(pruned, OrtPtq(calibrator="minmax", float_tail=True), 0.50)
    own = study({good.name: 0.005, lossy.name: 0.002}, (good, lossy))
    assert own.chosen(PROFILE, RUNTIME, [good.name, lossy.name]) == good.name
    assert own.chosen(PROFILE, RUNTIME, [lossy.name]) is None
    assert own.chosen(PROFILE, RUNTIME, []) is None
    assert (good.group, lossy.group) == ("ONNX Runtime alone", "torch-pruning, then ONNX Runtime")
