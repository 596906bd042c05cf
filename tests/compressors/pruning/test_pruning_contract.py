"""Every variant of pruning keeps the contract on every kind of detector that the grid may hand to it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch

from compressors.channels.importance import Importance
from compressors.contract import Workbench
from compressors.lightweight import Lightweight, rebuild
from compressors.low_rank import LowRank, factor
from compressors.pruning import Pruning, prune
from detection.checkpoint import Detector, load, save
from detection.data.dataset import Images
from detection.evaluation import as_input, as_planes
from detection.export import export_onnx
from hardware_profiles.runtimes.table import open_session
from hardware_profiles.schema.library import load_profile
from tests.compressors.pruning import pruning_factory
from tests.compressors.test_contract import prove
from tests.covering import pairwise

IMPORTANCES = get_args(Importance)
GIVEN = ("dense", "depthwise", "ghost", "ghost backbone", "tucker", "spatial svd", "pruned")
LOW_RANK = LowRank(energy=0.4, round_to=4, only_if_faster=False)
SETTINGS: dict[str, tuple[Any, ...]] = {
    "grouping": ("global", "isomorphic"),
    "target": ({"keep_macs": 0.7}, {"keep_latency": 0.7}),
}
OF_KINDS = sorted(pairwise({"given": GIVEN, **SETTINGS}), key=lambda row: GIVEN.index(row["given"]))
CASES = tuple(
    (IMPORTANCES[place % len(IMPORTANCES)], row["given"], row["grouping"], row["target"]) for place, row in enumerate(OF_KINDS)
)
"""Every grouping with every target on every kind of detector; the importances take turns."""


@pytest.fixture(scope="module")
def bench(workbench: Workbench) -> Workbench:
    """A workbench for a device on which narrow layers are faster, so that a share of the latency can be reached."""
    return replace(workbench, design_profile=load_profile("raspberry-pi-5"))


@pytest.fixture(scope="module")
def given(tiny_detector: Detector, bench: Workbench) -> dict[str, Detector]:
    """What pruning may be handed: blocks of every kind, in all parts or in one, and what the other reduction or itself left."""
    lights: dict[str, dict[str, Any]] = {
        "depthwise": {"block": "depthwise"},
        "ghost": {"block": "ghost"},
        "ghost backbone": {"block": "ghost", "neck": False, "head": False},
    }
    dense = pruning_factory.lively(tiny_detector)
    built = {name: rebuild(tiny_detector, Lightweight.model_validate(light), bench)[0] for name, light in lights.items()}
    return {
        "dense": dense,
        **{name: pruning_factory.lively(light) for name, light in built.items()},
        "tucker": factor(dense, LOW_RANK, bench)[0],
        "spatial svd": factor(dense, LOW_RANK.model_copy(update={"form": "spatial_svd"}), bench)[0],
        "pruned": prune(dense, Pruning(importance="l2", keep_macs=0.8, round_to=4), bench)[0],
    }


def test_every_setting_meets_every_kind() -> None:
    """Seven kinds of detector, with both groupings, both targets and at least two importances each; no importance is left out."""
    for part in range(2, 4):
        met = {(case[1], str(case[part])) for case in CASES}
        assert len(met) == len(GIVEN) * 2
    assert {case[0] for case in CASES} == set(IMPORTANCES)
    assert all(len({case[0] for case in CASES if case[1] == name}) > 1 for name in GIVEN)


@pytest.mark.parametrize(("importance", "name", "grouping", "target"), CASES, ids=str)
def test_every_variant_keeps_the_contract(
    importance: str, name: str, grouping: str, target: dict[str, Any], given: dict[str, Detector], bench: Workbench
) -> None:
    """What is given stays as it was, the same comes back twice, the change is counted truly, and something went."""
    fewer = {"gradient_pictures": 8} if importance == "taylor" else {}
    config = Pruning.model_validate({"importance": importance, "grouping": grouping, "round_to": 2} | target | fewer)
    result, change = prove(config, given[name], bench)
    assert change.macs_after < change.macs_before
    assert change.target is not None
    assert not change.target.missed
    assert change.spent.search_images == config.search_images(len(bench.train), len(bench.val))
    assert result.spec.edits[: len(given[name].spec.edits)] == given[name].spec.edits


@pytest.mark.parametrize("name", GIVEN)
def test_what_is_left_is_saved_exported_and_factored(
    name: str, given: dict[str, Detector], bench: Workbench, tiny_val: Images, tmp_path: Path
) -> None:
    """Read back from its folder it is the same, its ONNX file says what torch says, and low_rank works on it."""
    pruned, _ = prune(given[name], Pruning(importance="l2", keep_macs=0.6, round_to=2), bench)
    save(pruned, tmp_path)
    assert load(tmp_path).digest == pruned.digest
    export_onnx(pruned, tmp_path / "model.onnx")
    pixels = tiny_val.pixels[0]
    boxes, scores = open_session("onnxruntime", tmp_path / "model.onnx", 1)(as_input(pixels))
    network = pruned.network()
    with torch.no_grad():
        torch_boxes, torch_scores = network.decode(network(torch.from_numpy(as_planes(pixels))))
    np.testing.assert_allclose(boxes, torch_boxes, atol=0.05)
    np.testing.assert_allclose(scores, torch_scores, atol=1e-3)
    factored, change = factor(pruned, LOW_RANK, bench)
    assert change.macs_after <= change.macs_before
    assert factored.network()(torch.from_numpy(as_planes(pixels))).score_logits.isfinite().all()
