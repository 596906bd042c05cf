"""Which files are timed."""

from __future__ import annotations

from studies.peers.chains import OrtPtq, Untouched
from studies.peers.timing import worth_timing
from tests.studies.peers.peers_factory import control_cells, peer


def test_the_best_calibrator_of_each_graph_is_timed() -> None:
    """One file of each network and form, unless it loses more than can be chosen; failures have none."""
    network = Untouched(recovered=False)
    minmax = peer(network, OrtPtq(calibrator="minmax", float_tail=True), 0.53)
    entropy = peer(network, OrtPtq(calibrator="entropy", float_tail=True), 0.54)
    bad = peer(network, OrtPtq(calibrator="minmax", float_tail=False), 0.40)
    failed = bad.model_copy(update={"artifact": None, "error": "ValueError: no"})
    assert worth_timing((minmax, entropy, bad, failed), control_cells(), within=0.05) == (entropy,)
    assert worth_timing((minmax, entropy, bad), control_cells(), within=0.2) == (entropy, bad)
