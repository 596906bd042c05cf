"""Every variant of nas keeps the contract on every kind of detector that the grid may hand to it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from compressors.contract import Workbench
from compressors.lightweight import Lightweight, rebuild
from compressors.nas import Nas
from detection.checkpoint import Detector, fresh
from detection.compact.architecture import Architecture, architecture_of
from detection.compact.space import SpaceOptions
from detection.training import Recipe
from hardware_profiles.schema.library import load_profile
from tests.compressors.test_contract import prove

SMALL = {"supernet_epochs": 1, "evaluations": 2, "population": 4, "recalibration_pictures": 8, "val_pictures": 4}
VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "fewer levels": {"space": {"levels": [8, 16]}},
    "one level": {"space": {"levels": [8]}},
    "longer first step": {"space": {"stem_stride": 4}},
    "one branch": {"space": {"head_branches": "shared"}},
    "shallower head": {"space": {"head_depth": 1}},
    "depthwise blocks": {"space": {"block": "depthwise"}},
    "ghost blocks": {"space": {"block": "ghost"}, "round_to": 4},
    "half the sides": {"space": {"levels": [8, 16]}, "input_share": 0.5},
    "for int8": {"latency_in": "int8"},
    "stages without blocks": {"space": {"least_depth": 0}},
    "other widths": {"width_shares": (0.25, 1.0), "round_to": 2},
    "less latency, no random-search baseline": {"budget_share": 0.4, "random_baseline": False},
}
GIVEN = ("dense", "depthwise", "ghost")
CASES = tuple(
    (variant, name) for row, variant in enumerate(VARIANTS) for name in (GIVEN[row // 3 % 3] if row % 3 == 0 else "dense",)
)
"""Every variant once: most from the dense detector, some from light blocks."""


@pytest.fixture(scope="module")
def bench(workbench: Workbench) -> Workbench:
    """A workbench for a device on which narrow layers are faster, in float and in int8."""
    return replace(workbench, design_profile=load_profile("raspberry-pi-5"), recipe=Recipe(epochs=1, batch_size=12))


@pytest.fixture(scope="module")
def given(tiny_detector: Detector, bench: Workbench) -> dict[str, Detector]:
    """What nas may be handed: a detector with something to choose in every respect, of every kind of block."""
    wider = {"stage_widths": (16, 24, 32, 32), "stage_depths": (1, 2, 1, 1), "head_depth": 2}
    architecture = tiny_detector.spec.settings.model_copy(update=wider)
    dense = fresh(tiny_detector.spec.having(architecture), 0)
    return {
        "dense": dense,
        "depthwise": rebuild(dense, Lightweight(), bench)[0],
        "ghost": rebuild(dense, Lightweight(block="ghost"), bench)[0],
    }


@pytest.mark.parametrize(("variant", "name"), CASES, ids=[f"{variant} of {name}" for variant, name in CASES])
def test_every_variant_keeps_the_contract(variant: str, name: str, given: dict[str, Detector], bench: Workbench) -> None:
    """What is given stays as it was, the same comes back twice, the change is counted truly, and the winner has its shape."""
    config = Nas.model_validate(SMALL | VARIANTS[variant])
    result, change = prove(config, given[name], bench)
    now, was = architecture_of(result.spec), architecture_of(given[name].spec)
    wanted = SpaceOptions.model_validate(config.space)
    for field in ("levels", "stem_stride", "head_branches", "head_depth"):
        assert getattr(now, field) == (getattr(wanted, field) or getattr(was, field))
    for part in ("backbone_block", "neck_block", "head_block"):
        assert getattr(now, part) == (wanted.block or getattr(was, part))
    assert all(depth >= min(wanted.least_depth, whole) for depth, whole in zip(now.stage_depths, was.stage_depths, strict=False))
    assert result.digest == fresh(result.spec, bench.seed).digest
    assert change.spent.search_images == config.search_images(len(bench.train), len(bench.val))
    assert change.details["latency_in"] == config.latency_in
    assert (change.details["random_baseline"] is not None) is config.random_baseline
    assert change.details["evaluated"] == config.evaluations
    chosen = change.details["chosen"]
    assert Architecture.model_validate(chosen["architecture"]) == now
    assert chosen["estimated_latency_s"] <= change.details["budget_s"]
