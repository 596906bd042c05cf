"""Detectors of the transformers library keep every promise of a family, from their configuration to their file and back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from detection.checkpoint import Detector, load, save
from detection.data.augmentation import make_batch
from detection.data.dataset import Images
from detection.export import export_onnx
from detection.testing import CLAIMS, check_family
from flows.sweep.given_network import network_spec
from tests.transformers_factory import NEEDS_TRANSFORMERS, SMALL, first_version, small_detector

pytestmark = NEEDS_TRANSFORMERS


@pytest.fixture(scope="module", params=SMALL)
def small(request: pytest.FixtureRequest, tiny_detector: Detector) -> Detector:
    """Each of the small ones."""
    return small_detector(request.param, tiny_detector)


def test_every_claim_holds(small: Detector, tiny_train: Images) -> None:
    """All that check_family asks, the meaning of `confidence` included."""
    assert len(check_family(small.spec, tiny_train)) == len(CLAIMS)


def test_every_claim_holds_of_the_first_version(tiny_detector: Detector, tiny_train: Images, tmp_path: Path) -> None:
    """RT-DETR names its heads once, where the others have two names."""
    spec = network_spec(first_version(tmp_path), tmp_path, tiny_detector.spec.input_size, tiny_detector.spec.classes)
    assert len(check_family(spec, tiny_train)) == len(CLAIMS)


def test_a_saved_detector_is_the_same(small: Detector, tmp_path: Path) -> None:
    """Spec and weights go through files, and the network read from them says the same."""
    save(small, tmp_path)
    again = load(tmp_path)
    images = torch.rand(1, 3, *small.spec.input_size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        boxes, other = (own.family.decode(network := own.network(), own.family.raw(network, images))[0] for own in (small, again))
    assert again.digest == small.digest
    assert torch.equal(boxes, other)


def test_equal_detectors_give_equal_files(small: Detector, tmp_path: Path) -> None:
    """Whatever sizes the library has seen before: places and positions are constants of the file."""
    height_px, width_px = small.spec.input_size
    for number, detector in enumerate((small, small.at((2 * height_px, 2 * width_px)), small)):
        export_onnx(detector, tmp_path / f"{number}.onnx")
    assert (tmp_path / "0.onnx").read_bytes() == (tmp_path / "2.onnx").read_bytes()
    operators = {node.op_type for node in onnx.load(tmp_path / "0.onnx").graph.node}
    assert operators.isdisjoint({"Range", "Sin", "Cos"})


def test_labels_are_queries_in_training(small: Detector, tiny_train: Images) -> None:
    """Noised labels come first among the queries of a training step, and are no predictions."""
    network, family = small.network().train(), small.family
    batch = make_batch(tiny_train, np.arange(2), None, np.random.default_rng(0))
    raw, loss = family.learn(network, batch, half=False)
    assert raw.own.denoising_queries > 0
    assert family.decode(network, raw)[0].shape[1] == 50
    assert raw.own.logits.shape[2] == 50 + raw.own.denoising_queries
    assert loss.isfinite()
