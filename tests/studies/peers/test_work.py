"""Chains from end to end on a user's tiny module: made, scored, kept, and not made again."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from detection import checkpoint
from detection.costs import count_macs
from studies.peers import making
from studies.peers.making import Maker
from studies.peers.work import make_all, read_failures, read_peers, tried_of
from tests.studies.peers.peers_factory import module_run


def test_chains_are_made_once_and_failures_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pruned and a factored network, smaller and trained by the recovery's recipe; a tool's failure has its message."""
    run = module_run(tmp_path / "run")
    for pattern in ("pruned-magnitude-l2-uniform-0.5+*minmax-float-tail*", "tucker2-0.5+float@onnxruntime"):
        assert make_all(run, pattern, 1) == {}
    pruned, factored = read_peers(run)
    maker = Maker(run)
    before = count_macs(maker.checkpoint.spec)
    for own in (pruned, factored):
        assert own.macs is not None
        assert own.macs < before
        assert own.artifact is not None
        assert own.spent.train_images == maker.base.recovery.epochs * 24
        kept = checkpoint.load(maker.folder(own.network))
        assert kept.network()(torch.zeros(1, 3, 64, 96)) is not None
        assert count_macs(kept.spec) == own.macs
    assert pruned.spent.calibration_images == 24

    def refuse(*_: object) -> None:
        raise ValueError("not this network")

    monkeypatch.setattr(making, "factor", refuse)
    monkeypatch.setattr(making, "prune", refuse)
    assert make_all(run, "tucker2-0.5+float@onnxruntime", 1) == {}  # it is there
    failed = {"tucker2-0.25+float@onnxruntime": "ValueError: not this network"}
    assert make_all(run, "tucker2-0.25+float@onnxruntime", 1) == failed
    assert read_failures(run) == failed
    assert [own.error for own in read_peers(run)] == [None, None, "ValueError: not this network"]
    tried = {own.packing: own for own in tried_of(run, read_peers(run))}
    assert (tried["float"].tried, tried["ort-minmax-float-tail"].tried, tried["ort-entropy"].tried) == (2, 1, 0)
    assert {own.of for own in tried.values()} == {56}
