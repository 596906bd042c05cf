"""Searches below detectors of the transformers library: fewer decoder layers, fewer queries, narrower, without some blocks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from compressors.contract import Workbench
from compressors.latency import operators_of_graph
from compressors.nas import Nas, search
from compressors.nas.group_space import GroupSpace, group_space
from compressors.nas.shared_graph import SharedGraphs
from compressors.nas.space import draw, smallest
from detection.checkpoint import Detector, fresh
from detection.data.augmentation import make_batch
from detection.data.dataset import Images
from detection.testing import CLAIMS, check_family
from detection.training import Recipe
from flows.sweep.given_network import network_spec
from hardware_profiles.schema.library import load_profile
from tests.transformers_factory import NEEDS_TRANSFORMERS, SMALL, deeper

pytestmark = NEEDS_TRANSFORMERS
QUERIES = (25, 50)
DRAWN = 4


@pytest.fixture(scope="module", params=SMALL)
def start(request: pytest.FixtureRequest, tiny_detector: Detector, tmp_path_factory: pytest.TempPathFactory) -> Detector:
    """Three decoder layers, 50 queries, random weights."""
    folder = tmp_path_factory.mktemp(request.param)
    asked = deeper(request.param, folder)
    return fresh(network_spec(asked, folder, tiny_detector.spec.input_size, tiny_detector.spec.classes), 0)


@pytest.fixture(scope="module")
def space(start: Detector) -> GroupSpace:
    """What lies below it."""
    return group_space(start.spec, (0.5,), 8)


def test_every_claim_holds_of_deeper_ones(start: Detector, tiny_train: Images) -> None:
    """Blocks that may be left out give maps as large as they take, and fewer decoder layers and queries keep their weights."""
    assert len(check_family(start.spec, tiny_train)) == len(CLAIMS)


def test_the_decisions_are_widths_blocks_layers_and_queries(space: GroupSpace) -> None:
    """One block of the backbone may go; the decoder keeps one layer at least."""
    options = space.options()
    assert options["decoder_layers"] == (1, 2, 3)
    assert options["queries"] == QUERIES
    assert len(space.blocks) == 1
    assert len(options) == len(space.groups) + 3


def test_the_largest_choice_is_the_detector(space: GroupSpace) -> None:
    """No edit and no setting differs."""
    assert space.spec({name: options[-1] for name, options in space.options().items()}) == space.largest


def test_fewer_decoder_layers_answer_as_the_first_do(space: GroupSpace, start: Detector, tiny_train: Images) -> None:
    """With its own weights a decoder of two layers says what the second of three says."""
    choice = {name: options[-1] for name, options in space.options().items()} | {"decoder_layers": 2}
    spec = space.spec(choice)
    images = make_batch(tiny_train, np.arange(2), None, np.random.default_rng(0)).images
    shorter = Detector(spec, space.weights(spec, start.weights))
    with torch.no_grad():  # in training every layer answers
        less, whole = (own.family.raw(own.network().train(), images).own.boxes for own in (shorter, start))
    torch.testing.assert_close(less[:, 1], whole[:, 1])


def test_edits_of_layers_that_go_go_too(space: GroupSpace) -> None:
    """The smallest network has no edit of a layer that it lacks, so it builds, and it has the weights that the space gives it."""
    spec = space.spec(smallest(space))
    weights = space.weights(spec, fresh(space.largest, 0).weights)
    assert not any("decoder.layers.1" in name for edit in spec.edits for name in edit.model_dump_json().split('"'))
    assert {name: tensor.shape for name, tensor in weights.items()} == {
        name: tensor.shape for name, tensor in fresh(spec, 0).weights.items()
    }


def test_few_graphs_tell_what_exports_tell(space: GroupSpace) -> None:
    """Networks with other numbers of layers and queries, operator by operator."""
    graphs, rng = SharedGraphs(space, 0), np.random.default_rng(1)
    for choice in (smallest(space), *(draw(space, rng) for _ in range(DRAWN))):
        spec = space.spec(choice)
        assert graphs.operators(spec, "fp32") == operators_of_graph(spec, "fp32"), choice


@pytest.mark.parametrize("start", SMALL[:1], indirect=True)
def test_a_search_chooses_among_them(start: Detector, workbench: Workbench) -> None:
    """Within the budget, with a part of the trained weights, and it goes on from there."""
    config = Nas.model_validate({
        "weights": "inherited", "width_shares": (0.5, 1.0), "supernet_epochs": 1, "evaluations": 3, "population": 4,
        "recalibration_pictures": 8, "val_pictures": 6, "gradient_pictures": 4, "random_baseline": False,
    })  # fmt: skip
    bench = replace(workbench, teacher=start, design_profile=load_profile("zen4-onnxruntime-1t"), recipe=Recipe(batch_size=12))
    found, change = search(start, config, bench)
    assert found.spec != start.spec
    assert change.details["numbers"].keys() == {"decoder_layers", "queries"}
    assert f"decoder layers {change.details['numbers']['decoder_layers']}" in change.summary
    assert change.details["chosen"]["estimated_latency_s"] <= change.details["budget_s"]
    assert all(tensor.isfinite().all() for tensor in found.weights.values() if tensor.is_floating_point())
    assert found.weights.keys() <= start.weights.keys()
