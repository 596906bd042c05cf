"""The exported file says what the torch network says, in every runtime and for every kind of spec."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from detection.checkpoint import load, save
from detection.compact.deployed import Deployed
from detection.evaluation import as_input, as_planes
from detection.export import BOXES_NAME, INPUT_NAME, OPSET, SCORES_NAME, export_onnx
from hardware_profiles.runtimes import table
from hardware_profiles.runtimes.table import RUNTIMES, open_session
from tests.detection.variants import PLAIN, VARIANTS, lively

PICTURE = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
PIXELS = as_input(PICTURE)


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("name", VARIANTS)
def test_every_runtime_says_what_torch_says(name: str, runtime: str, exported: dict[str, Path]) -> None:
    """Boxes to a hundredth of a pixel (bf16 would be off by tenths), scores to 1e-4; and the answer depends on the picture."""
    network = lively(VARIANTS[name]).network()
    with torch.no_grad():
        wanted_boxes, wanted_scores = network.decode(network(torch.from_numpy(as_planes(PICTURE))))
    session = open_session(runtime, exported[name], threads=1)
    boxes, scores = session(PIXELS)
    assert session.input_size == (64, 96)
    points = len(network.points_px)
    assert (boxes.shape, scores.shape) == ((1, points, 4), (1, points, 3))
    np.testing.assert_allclose(scores, wanted_scores.numpy(), atol=1e-4)
    np.testing.assert_allclose(boxes, wanted_boxes.numpy(), atol=0.01)
    assert np.abs(session(255 - PIXELS)[0] - boxes).max() > 0.01


@pytest.mark.parametrize(("name", "shape"), [("dense", (1, 3, 64, 96)), ("short", (1, 12, 64, 24))])
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_planes_are_what_quantizers_get(runtime: str, name: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    """The same detector, exported for floats of 0 to 255 with channels first, says the same of the same picture.

    Where it begins with patches, four pixels of a row are one place of twelve channels, first pixel first.
    """
    detector = lively(VARIANTS[name])
    export_onnx(detector, tmp_path / "pictures.onnx")
    export_onnx(detector, tmp_path / "planes.onnx", planes=True)
    session = open_session(runtime, tmp_path / "planes.onnx", 1)
    assert session.input_size == (64, 96)
    assert (session.blank().shape, session.blank().dtype) == (shape, np.float32)
    planes = np.ascontiguousarray(PICTURE.reshape(64, shape[3], shape[1]).transpose(2, 0, 1)[None], dtype=np.float32)
    for got, expected in zip(session(planes), open_session(runtime, tmp_path / "pictures.onnx", 1)(PIXELS), strict=True):
        np.testing.assert_allclose(got, expected, atol=1e-4)


@pytest.mark.parametrize("name", ["pruned-depthwise", "pruned-factored"])
def test_an_edited_detector_is_exported_from_its_files(name: str, tmp_path: Path) -> None:
    """Rebuilt from spec.json and weights.safetensors alone, it exports and answers as the one that was saved."""
    detector = lively(VARIANTS[name])
    save(detector, tmp_path / "saved")
    export_onnx(load(tmp_path / "saved"), tmp_path / "model.onnx")
    with torch.no_grad():
        wanted = Deployed(detector.network())(torch.from_numpy(PIXELS))
    for got, expected in zip(open_session("onnxruntime", tmp_path / "model.onnx", 1)(PIXELS), wanted, strict=True):
        np.testing.assert_allclose(got, expected.numpy(), atol=0.01)


def test_the_file_is_whole_and_named_as_runtimes_expect(tmp_path: Path) -> None:
    """One file, valid, of our opset, with fixed sizes and the names that sessions ask for."""
    export_onnx(lively(PLAIN), tmp_path / "model.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
    model = onnx.load(tmp_path / "model.onnx", load_external_data=False)
    onnx.checker.check_model(model, full_check=True)
    assert {entry.domain: entry.version for entry in model.opset_import}[""] == OPSET
    assert (INPUT_NAME, (BOXES_NAME, SCORES_NAME)) == (table.INPUT, table.OUTPUTS)
    sides = [dimension.dim_value for dimension in model.graph.input[0].type.tensor_type.shape.dim]
    assert sides == [1, 64, 96, 3]
    assert model.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8


@pytest.mark.parametrize("name", VARIANTS)
def test_no_normalisation_is_left(name: str, exported: dict[str, Path]) -> None:
    """All are folded into convolutions, so runtimes and quantizers need not."""
    kinds = {node.op_type for node in onnx.load(exported[name]).graph.node}
    assert "BatchNormalization" not in kinds
    assert "Conv" in kinds


def test_exporting_is_repeatable_and_changes_nothing(tmp_path: Path) -> None:
    """The detector's digest is the same afterwards, and so are two files of one detector."""
    detector = lively(PLAIN)
    before = detector.digest
    export_onnx(detector, tmp_path / "first.onnx")
    export_onnx(detector, tmp_path / "second.onnx")
    assert detector.digest == before
    assert (tmp_path / "first.onnx").read_bytes() == (tmp_path / "second.onnx").read_bytes()
