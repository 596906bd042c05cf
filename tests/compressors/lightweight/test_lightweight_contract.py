"""Every variant of lightweight keeps the contract: each block in each set of parts, with fresh weights and with inherited ones."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from compressors.contract import Workbench
from compressors.lightweight import Lightweight
from detection.checkpoint import Detector, fresh
from tests.compressors.test_contract import prove
from tests.covering import pairwise
from tests.detection.variants import lively

PARTS = ("backbone", "neck", "head")
VARIANTS = tuple(
    Lightweight.model_validate({"block": block, **weights} | dict(zip(PARTS, chosen, strict=True)))
    for block in ("depthwise", "ghost")
    for weights in ({"weights": "fresh"}, {"weights": "inherited", "inheritance_pictures": 4})
    for chosen in itertools.product((True, False), repeat=len(PARTS))
)


@pytest.fixture(scope="module")
def dense(tiny_detector: Detector) -> Detector:
    """A trained detector as far as it matters here: no part of it is neutral."""
    return lively(tiny_detector.spec)


@pytest.fixture(scope="module")
def bench(workbench: Workbench, dense: Detector) -> Workbench:
    return replace(workbench, teacher=dense)


def test_labels_tell_variants_apart() -> None:
    """Two blocks, eight sets of parts, fresh or inherited: thirty-two names of cells."""
    assert len({variant.label() for variant in VARIANTS}) == len(VARIANTS) == 32


CHOSEN = tuple(
    Lightweight.model_validate({name: value for name, value in row.items() if name != "weights"} | row["weights"])
    for row in pairwise(
        {
            "block": ("depthwise", "ghost"),
            "weights": ({"weights": "fresh"}, {"weights": "inherited", "inheritance_pictures": 4}),
            **dict.fromkeys(PARTS, (True, False)),
        }
    )
)
"""Every two of block, weights and parts meet."""
NOTHING = Lightweight(backbone=False, neck=False, head=False)


@pytest.mark.parametrize("config", [*CHOSEN, NOTHING], ids=Lightweight.label)
def test_every_variant_keeps_the_contract(config: Lightweight, dense: Detector, bench: Workbench) -> None:
    """What is given stays as it was, the same comes back twice, the change is counted truly, and the chosen parts are light."""
    result, change = prove(config, dense, bench)
    architecture = result.spec.settings
    for part in PARTS:
        assert getattr(architecture, f"{part}_block") == (config.block if getattr(config, part) else "dense")
    parts = [part for part in PARTS if getattr(config, part)]
    assert change.details["parts"] == parts
    assert change.no_effect is not bool(parts)
    assert change.spent.search_images == config.search_images(len(bench.train), len(bench.val))
    if config.weights == "fresh":
        assert result.digest == fresh(result.spec, bench.seed).digest
    else:
        assert {name.split(".")[0] for name in change.details["fitted_units"]} == {
            {"backbone": "stages", "neck": "neck", "head": "heads"}[part] for part in parts
        }
