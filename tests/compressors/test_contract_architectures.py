"""Every variant of the architecture methods keeps the contract, alone and beside each other method."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compressors.lightweight import Lightweight
from compressors.nas import Nas
from compressors.planning.graph import Cell, cells_of, graph_of
from detection.boxes import select
from detection.data.dataset import Images, load_split
from detection.evaluation import IOU_THRESHOLD, MOST_DETECTIONS, SCORE_THRESHOLD, accuracy, as_input
from flows.grid.nodes import Context, model_file
from flows.grid.scoring import SCORED, score
from hardware_profiles.runtimes.table import open_session
from tests.compressors.contract_factory import assert_composes, context_over
from tests.compressors.test_contract import MENU, Sweep

RUNTIME = "onnxruntime"
SEARCH = MENU.nas[0]
VARIANTS: dict[str, Any] = {
    "ghost": Lightweight(block="ghost"),
    "ghost, inherited": Lightweight(block="ghost", weights="inherited", inheritance_pictures=8),
    "depthwise, inherited": Lightweight(weights="inherited", inheritance_pictures=8),
    "depthwise backbone": Lightweight(neck=False, head=False),
    "a space of short networks": SEARCH.model_copy(
        update={"space": {"levels": [8, 16], "stem_stride": 4, "head_branches": "shared", "head_depth": 1, "least_depth": 0}}
    ),
    "a space of ghost networks for int8, no random-search baseline": SEARCH.model_copy(
        update={"space": {"block": "ghost"}, "latency_in": "int8", "random_baseline": False}
    ),
    "a space of depthwise networks that see half": SEARCH.model_copy(
        update={"space": {"block": "depthwise", "levels": [8, 16]}, "input_share": 0.5}
    ),
}


def cells(variant: Lightweight | Nas) -> tuple[Cell, ...]:
    """The variant alone and in all pairs. A teacher with a level of 32 cannot see 32 x 48: that pair is refused when it is read."""
    menu = MENU.model_copy(update={variant.method: (variant,)})
    if isinstance(variant, Nas) and variant.input_share < 1:
        menu = menu.model_copy(update={"distillation": ()})
    return tuple(cell for cell in cells_of(menu) if len(cell.configs) <= 2 and cell.config(variant.method) is not None)


CASES = [
    (name, cell)
    for row, (name, variant) in enumerate(VARIANTS.items())
    for place, cell in enumerate(cells(variant))
    if place == 0 or place % 3 == row % 3
]
"""Every variant alone and with some of the other methods, which take turns."""


@pytest.fixture(scope="module")
def context(tiny_prepared: Path, tiny_train: Images, tiny_val: Images, tiny_detector: Any, contract_store: Path) -> Context:
    """A worker's context over the tiny data and the store that all suites share: each makes only what is its own."""
    return context_over(tiny_prepared, tiny_train, tiny_val, tiny_detector, contract_store)


def test_every_variant_and_every_other_method_is_here() -> None:
    """Seven variants, each alone and in pairs; each method is in a pair with variants of both; labels of one method differ."""
    for method in ("lightweight", "nas"):
        own = [name for name, variant in VARIANTS.items() if variant.method == method]
        paired = {config.method for name, cell in CASES if name in own for config in cell.configs}
        assert paired == {"lightweight", "nas", "pruning", "low_rank", "distillation", "quantization"}
        assert {name for name, cell in CASES if len(cell.configs) == 1} >= set(own)
        assert {name for name, cell in CASES if len(cell.configs) == 2} >= set(own)
        labels = [variant.label() for variant in VARIANTS.values() if variant.method == method]
        assert len(set(labels)) == len(labels)


@pytest.mark.parametrize(("name", "cell"), CASES, ids=[f"{name}: {cell.name}" for name, cell in CASES])
def test_a_variant_composes(name: str, cell: Cell, context: Context, tiny_val: Images) -> None:
    """Made as a worker makes it, the file detects on pictures of its own size, the spec rebuilds, and the plan was kept."""
    sweep = assert_composes(cell, context, tiny_val)
    spec = sweep.detector(sweep.graph.recovered[cell.name]).spec
    assert spec.input_size == ((32, 48) if "half" in name else (64, 96))


def test_a_cell_that_sees_half_is_scored_on_the_same_ground_truth(context: Context) -> None:
    """What its file says of the halved pictures is stored twice as large, in pixels of the originals, and judged by their boxes."""
    (cell,) = [own for own in cells(VARIANTS["a space of depthwise networks that see half"]) if len(own.configs) == 1]
    sweep = Sweep(context, graph_of((cell,), context.foundation, (RUNTIME,)))
    key = sweep.graph.recovered[cell.name]
    sweep.made(key)
    result = score(key, RUNTIME, context.prepared, sweep.store)
    session = open_session(RUNTIME, model_file(sweep.made(key)), 1)
    assert result.accuracy.keys() == set(SCORED)
    for split in SCORED:
        (file,) = sweep.store.root.glob(f"scores/*/*/{split}.json")
        stored, images = json.loads(file.read_text()), load_split(context.prepared, split)
        assert stored
        assert result.accuracy[split] == accuracy(images.ground_truth, stored)
        halved = images.at((32, 48)).pixels
        for pixels, fit, picture in zip(halved, images.fits, images.picture_ids, strict=True):
            boxes, scores = session(as_input(pixels))
            final = select(boxes[0], scores[0], SCORE_THRESHOLD, IOU_THRESHOLD, MOST_DETECTIONS)
            offset_px = np.array([fit.left_px, fit.top_px] * 2)
            left_top, right_bottom = np.split((2 * final.boxes_xyxy_px - offset_px) / fit.scale_y, 2, axis=1)
            expected = np.concatenate([left_top, right_bottom - left_top], axis=1)
            found = [own["bbox"] for own in stored if own["image_id"] == picture]
            np.testing.assert_allclose(np.array(found).reshape(-1, 4), expected, rtol=0, atol=0.01)
