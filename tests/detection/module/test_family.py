"""Tests of users' own modules as a family: they keep its promises, travel as data, and are narrowed, factored and exported."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from compressors.contract import Workbench
from compressors.latency import estimated_latency
from compressors.low_rank import LowRank, factor
from compressors.nas.candidates import val_map_of
from compressors.pruning import Pruning, prune
from detection import checkpoint
from detection.brought import ModuleDetector
from detection.checkpoint import Detector, fresh
from detection.costs import count_macs, count_params
from detection.data.augmentation import Augmentation, make_batch
from detection.data.dataset import Images
from detection.evaluation import accuracy, as_input, detect
from detection.export import export_onnx, write_interface
from detection.frozen import InputError
from detection.model_file import reader_of
from detection.spec import Spec
from detection.testing import CLAIMS, check_family
from detection.training import Recipe, fit
from flows.sweep.given_network import network_spec
from hardware_profiles.runtimes.table import open_session
from hardware_profiles.schema.library import load_profile
from tests.places import ROOT

BASE = ROOT / "tests/module_detector"
OWN = ModuleDetector(family="own_points:family", spec={"width": 8})


@pytest.fixture(scope="module")
def spec(tiny_detector: Detector) -> Spec:
    """A user's detector for the tiny pictures."""
    return network_spec(OWN, BASE, tiny_detector.spec.input_size, tiny_detector.spec.classes)


def other(spec: Spec, **changes: float) -> Spec:
    """The same detector with something else in its spec."""
    changed = OWN.model_copy(update={"spec": OWN.spec | changes})
    return network_spec(changed, BASE, spec.input_size, spec.classes)


@pytest.fixture(scope="module")
def detector(spec: Spec) -> Detector:
    """The same with random weights."""
    return fresh(spec, 0)


def test_a_users_module_keeps_every_claim(spec: Spec, tiny_train: Images) -> None:
    """The contract suite that our own family keeps."""
    assert check_family(spec, tiny_train) == tuple(claim.__name__ for claim in CLAIMS)


def test_costs_are_those_of_its_layers(spec: Spec) -> None:
    """By hand: of convolutions with folded normalisations, and of the two last ones with their biases."""
    widths, area = [(3, 8), (8, 16), (16, 16), (16, 16)], [32 * 48, 16 * 24, 8 * 12, 8 * 12]
    macs = sum(9 * inputs * outputs * own for (inputs, outputs), own in zip(widths, area, strict=True)) + 16 * (10 + 4) * 8 * 12
    params = sum(9 * inputs * outputs + outputs for inputs, outputs in widths) + (16 + 1) * (10 + 4)
    assert (count_macs(spec), count_params(spec)) == (macs, params)


def test_a_layer_that_runs_twice_has_its_weights_once(spec: Spec) -> None:
    """Its multiply-adds count as often as it runs."""
    twice = other(spec, repeats=2)
    assert count_params(twice) == count_params(spec)
    assert count_macs(twice) == count_macs(spec) + 9 * 16 * 16 * 8 * 12


@pytest.mark.parametrize(("brightness", "divides"), [(0.0, False), (1.0, True)])
def test_the_exported_file_takes_bytes_and_agrees(
    spec: Spec, tiny_train: Images, tmp_path: Path, brightness: float, divides: bool
) -> None:  # fmt: skip
    """The division by 255 is in the first convolution unless more reads the picture than that; the numbers are torch's."""
    detector = fresh(other(spec, brightness=brightness), 0)
    export_onnx(detector, tmp_path / "model.onnx")
    picture = np.array(tiny_train.pixels[:1])
    boxes, scores = open_session("onnxruntime", tmp_path / "model.onnx", 1)(picture)
    network = detector.network()
    with torch.no_grad():
        raw = detector.family.raw(network, torch.from_numpy(picture).permute(0, 3, 1, 2).float() / 255)
        expected = detector.family.decode(network, raw)
    np.testing.assert_allclose(boxes, expected[0].numpy(), atol=1e-3)
    np.testing.assert_allclose(scores, expected[1].numpy(), atol=1e-5)
    assert ("Div" in {node.op_type for node in onnx.load(tmp_path / "model.onnx").graph.node}) == divides


def test_it_learns_and_is_kept(detector: Detector, tiny_train: Images, tmp_path: Path) -> None:
    """A short training lowers the loss, and what is saved is the detector, code and all."""
    recipe = Recipe(epochs=6, batch_size=8, learning_rate=0.01, augmentation=Augmentation(flip_horizontal=0.0))
    trained, record = fit(detector, tiny_train, recipe, seed=0, device=torch.device("cpu"))
    assert record.loss_per_epoch[-1] < 0.8 * record.loss_per_epoch[0]
    checkpoint.save(trained, tmp_path / "kept")
    assert checkpoint.load(tmp_path / "kept").digest == trained.digest


def test_it_is_narrowed_and_factored(detector: Detector, workbench: Workbench) -> None:
    """Pruning and low_rank by their generic edits; the edited detector is rebuilt from data and says the same."""
    images = make_batch(workbench.train, np.arange(2), None, np.random.default_rng(0)).images
    bench = Workbench(**(vars(workbench) | {"teacher": detector}))
    for method, config in ((prune, Pruning(gradient_pictures=8, round_to=4)), (factor, LowRank(energy=0.5, only_if_faster=False))):
        changed, change = method(detector, config, bench)
        assert not change.no_effect
        assert count_macs(changed.spec) < count_macs(detector.spec)
        again = Detector(Spec.model_validate_json(changed.spec.model_dump_json(by_alias=True)), changed.weights)
        with torch.no_grad():
            first, second = (own.family.decode(own.network(), own.network()(images)) for own in (changed, again))
        assert torch.equal(first[1], second[1])


def test_latency_is_that_of_the_exported_graph(detector: Detector) -> None:
    """A narrower one is estimated faster, and int8 faster than float."""
    profile = load_profile("x86-openvino-1t")
    wide = other(detector.spec, width=32)
    narrow_s, wide_s, int8_s = (
        estimated_latency(own, profile, dtype).point_s for own, dtype in ((detector.spec, "fp32"), (wide, "fp32"), (wide, "int8"))
    )
    assert narrow_s < wide_s
    assert int8_s < wide_s


def test_boxes_that_need_no_suppression_are_taken_as_they_are(spec: Spec, tiny_val: Images, tmp_path: Path) -> None:
    """`suppress = "none"`: the file's interface says so, and a search judges by the same detections as the file's score."""
    asked = OWN.model_copy(update={"family": "own_points:set_family"})
    small = fresh(network_spec(asked, BASE, spec.input_size, spec.classes), 0)
    detector = Detector(small.spec, {**small.weights, "network.sides.bias": torch.full((4,), 3.0)})  # boxes of 48 pixels overlap
    export_onnx(detector, tmp_path / "model.onnx")
    write_interface(detector.spec, tmp_path)
    reader, session = reader_of(tmp_path / "model.onnx"), open_session("onnxruntime", tmp_path / "model.onnx", 1)
    assert (detector.family.select(spec), detector.family.select(detector.spec), reader.select) == ("nms", "best", "best")
    picture = as_input(tiny_val.pixels[0])
    assert all(np.array_equal(own, right) for own, right in zip(reader.infer(session)(picture), session(picture), strict=True))
    found = detect(reader.infer(session), tiny_val, reader.select)
    assert found != detect(reader.infer(session), tiny_val, "nms")
    by_search = val_map_of(detector.spec, detector.network(), tiny_val)
    assert by_search == pytest.approx(accuracy(tiny_val.ground_truth, found).map_50_95, rel=1e-3)
    write_interface(spec, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_only_two_ways_of_suppressing_are_known(spec: Spec, tmp_path: Path) -> None:
    """Another word is refused; the usual one is not in the spec, whose digest stays."""
    assert '"select"' not in spec.model_dump_json()
    code = (BASE / "own_points.py").read_text()
    (tmp_path / "own_points.py").write_text(code.replace('suppress = "none"', 'suppress = "soft"'))
    with pytest.raises(InputError, match=r"own_points:set_family: suppress is 'soft'; allowed are 'nms', and 'none'"):
        network_spec(OWN.model_copy(update={"family": "own_points:set_family"}), tmp_path, spec.input_size, spec.classes)
