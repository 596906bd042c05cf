"""Every variant of pruning keeps the contract on every kind of detector that the grid may hand to it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch

from compressors.contract import Workbench
from compressors.lightweight import Lightweight, rebuild
from compressors.low_rank import LowRank, factor
from compressors.pruning import Pruning, prune
from compressors.pruning.importance import Importance
from detection.checkpoint import Detector, load, save
from detection.dataset import Images
from detection.evaluation import as_input
from detection.export import export_onnx
from hardware_profiles.runtimes import open_session
from tests.compressors.pruning import pruning_factory
from tests.compressors.test_contract import prove

VARIANTS = tuple(
    Pruning.model_validate({"importance": importance, "round_to": 2, "gradient_pictures": 8} | how)
    for importance in get_args(Importance)
    for how in ({"keep_macs": 0.7}, {"keep_latency": 0.9, "grouping": "isomorphic"})
)
GIVEN = ("dense", "depthwise", "ghost", "ghost backbone", "tucker", "spatial svd", "pruned")
LOW_RANK = LowRank(energy=0.4, round_to=4, only_if_faster=False)


@pytest.fixture(scope="module")
def given(tiny_detector: Detector, workbench: Workbench) -> dict[str, Detector]:
    """What pruning may be handed: blocks of every kind, in all parts or in one, and what the other reduction or itself left."""
    lights: dict[str, dict[str, Any]] = {
        "depthwise": {"block": "depthwise"},
        "ghost": {"block": "ghost"},
        "ghost backbone": {"block": "ghost", "neck": False, "head": False},
    }
    dense = pruning_factory.lively(tiny_detector)
    built = {name: rebuild(tiny_detector, Lightweight.model_validate(light), workbench)[0] for name, light in lights.items()}
    return {
        "dense": dense,
        **{name: pruning_factory.lively(light) for name, light in built.items()},
        "tucker": factor(dense, LOW_RANK, workbench)[0],
        "spatial svd": factor(dense, LOW_RANK.model_copy(update={"form": "spatial_svd"}), workbench)[0],
        "pruned": prune(dense, Pruning(importance="l2", keep_macs=0.8, round_to=4), workbench)[0],
    }


@pytest.mark.parametrize("name", GIVEN)
@pytest.mark.parametrize("config", VARIANTS, ids=Pruning.label)
def test_every_variant_keeps_the_contract(config: Pruning, name: str, given: dict[str, Detector], workbench: Workbench) -> None:
    """What is given stays as it was, the same comes back twice, the change is counted truly, and something went."""
    result, change = prove(config, given[name], workbench)
    assert change.macs_after < change.macs_before
    assert change.details["target_reached"]
    assert change.spent.search_images == config.search_images(len(workbench.train), len(workbench.val))
    assert result.blueprint.edits[: len(given[name].blueprint.edits)] == given[name].blueprint.edits


@pytest.mark.parametrize("name", GIVEN)
def test_what_is_left_is_saved_exported_and_factored(
    name: str, given: dict[str, Detector], workbench: Workbench, tiny_val: Images, tmp_path: Path
) -> None:
    """Read back from its folder it is the same, its ONNX file says what torch says, and low_rank works on it."""
    pruned, _ = prune(given[name], Pruning(importance="l2", keep_macs=0.6, round_to=2), workbench)
    save(pruned, tmp_path)
    assert load(tmp_path).digest == pruned.digest
    export_onnx(pruned, tmp_path / "model.onnx")
    pixels = as_input(tiny_val.pixels[0])
    boxes, scores = open_session("onnxruntime", tmp_path / "model.onnx", 1)(pixels)
    network = pruned.network()
    with torch.no_grad():
        torch_boxes, torch_scores = network.decode(network(torch.from_numpy(pixels)))
    np.testing.assert_allclose(boxes, torch_boxes, atol=0.05)
    np.testing.assert_allclose(scores, torch_scores, atol=1e-3)
    factored, change = factor(pruned, LOW_RANK, workbench)
    assert change.macs_after <= change.macs_before
    assert factored.network()(torch.from_numpy(pixels)).score_logits.isfinite().all()
