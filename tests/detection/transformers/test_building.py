"""Every architecture of the transformers library: what holds of it stands in the table of docs/your-detector.md."""

from __future__ import annotations

import json
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

import numpy as np
import pytest
import torch

from compressors.channels.narrowable import narrowable
from compressors.quantization.method import Quantization, pack
from detection.brought import TransformersDetector
from detection.checkpoint import Detector, fresh
from detection.data.dataset import Images
from detection.export import export_onnx
from detection.frozen import InputError
from detection.testing import CLAIMS, check_family
from detection.transformers.building import MODEL_TYPES, OTHER_TYPES, library_network, refuse_unknown
from detection.transformers.library import library
from detection.transformers.plain_network import SOFTMAX_TYPES
from flows.sweep.given_network import network_spec, read_network
from hardware_profiles.runtimes.table import open_session
from tests.places import ROOT
from tests.transformers_architectures import CONFIGURATIONS
from tests.transformers_factory import NEEDS_TRANSFORMERS, asked

pytestmark = NEEDS_TRANSFORMERS
SIZE = (64, 96)
TABLE = "| architecture | trains, predicts | float file as torch | int8 file runs | layers that can be narrowed |"
RUNTIMES = ("onnxruntime", "openvino")
TOLERANCE_PX, TOLERANCE = 0.5, 1e-3
NOISE = 0.2
ALIKE = ("conditional_detr", "dab-detr", "deformable_detr")
"""Architectures in which a class's score depends on no other class: neither in a softmax nor in the choice of queries."""
SAME_QUERIES = 0.95
"""Rounding may choose another place for the last of them."""
CALIBRATED = 8


@pytest.fixture(scope="module")
def rows() -> dict[str, list[str]]:
    """The table's rows by architecture, as the page has them."""
    lines = (ROOT / "docs/your-detector.md").read_text(encoding="utf-8").split(TABLE)[1].splitlines()[2:]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[: lines.index("")]]
    return {own[0].strip("`"): own[1:] for own in cells}


def detector_of(model_type: str, folder: Path, images: Images) -> Detector:
    """The smallest of an architecture, with much noise on every weight: untrained ones say the same of every place."""
    (folder / "config.json").write_text(json.dumps(CONFIGURATIONS[model_type] | {"model_type": model_type}))
    detector = fresh(network_spec(asked(str(folder)), folder, SIZE, images.classes), 0)
    learned, generator = dict(detector.network().named_parameters()), torch.Generator().manual_seed(0)
    noise = {name: NOISE * torch.randn(own.shape, generator=generator) for name, own in learned.items()}
    weights = {name: own + noise[name] if name in noise else own for name, own in detector.weights.items()}
    return Detector(detector.spec, MappingProxyType(weights))


def test_every_detector_of_the_library_is_known(rows: dict[str, list[str]]) -> None:
    """Those that are compressed, and those that are refused with a reason; a new one of the library breaks this."""
    known = library().models.auto.modeling_auto.MODEL_FOR_OBJECT_DETECTION_MAPPING_NAMES
    assert set(MODEL_TYPES) | set(OTHER_TYPES) == set(known)
    assert set(rows) == set(MODEL_TYPES) == set(CONFIGURATIONS)


@pytest.mark.parametrize("model_type", OTHER_TYPES)
def test_the_others_are_refused_with_the_reason(model_type: str) -> None:
    """And with what to do."""
    with pytest.raises(InputError, match=rf"'{model_type}' {OTHER_TYPES[model_type]}.*Export it as an ONNX file"):
        refuse_unknown(model_type, "folder")


@pytest.mark.parametrize("model_type", CONFIGURATIONS)
def test_the_table_says_what_holds(model_type: str, rows: dict[str, list[str]], tiny_train: Images, tmp_path: Path) -> None:
    """Claims of a family; a float file with torch's predictions in both runtimes; an int8 file in both; what can be narrowed."""
    detector = detector_of(model_type, tmp_path, tiny_train)
    claims = len(check_family(detector.spec, tiny_train))
    found = [f"{claims} of {len(CLAIMS)} claims", _file(detector, tmp_path), _int8(detector, tiny_train, tmp_path)]
    groups = narrowable(detector.spec).narrow
    found.append(f"{len(groups)} groups" if groups else "no: torch-pruning cannot follow it")
    assert found == rows[model_type]


def _file(detector: Detector, folder: Path) -> str:
    """Whether both runtimes say what torch says of a picture, for each query of torch's one of the file's."""
    export_onnx(detector, folder / "float.onnx")
    network = detector.network()
    picture = np.random.default_rng(0).integers(0, 256, (1, *SIZE, 3), np.uint8)  # places of an even picture would tie
    with torch.no_grad():
        raw = detector.family.raw(network, torch.from_numpy(picture).permute(0, 3, 1, 2).float() / 255)
        boxes, scores = (own[0].numpy() for own in detector.family.decode(network, raw))
    for runtime in RUNTIMES:
        file_boxes, file_scores = (own[0] for own in open_session(runtime, folder / "float.onnx", 1)(picture))
        near = (np.abs(boxes[:, None] - file_boxes).max(-1) <= TOLERANCE_PX) & (
            np.abs(scores[:, None] - file_scores).max(-1) <= TOLERANCE
        )
        assert near.any(1).mean() >= SAME_QUERIES
    return "both runtimes"


def _int8(detector: Detector, images: Images, folder: Path) -> str:
    """Whether both runtimes run an int8 file that is smaller than the float one."""
    for runtime in RUNTIMES:
        (target := folder / runtime).mkdir()
        quick = Quantization(calibrator="minmax", pictures=CALIBRATED)
        packed = pack(detector, quick, runtime, list(images.pixels[:CALIBRATED]), target)
        outputs = open_session(runtime, packed.file, 1)(np.array(images.pixels[:1]))
        assert all(np.isfinite(own).all() for own in outputs)
        assert sum(part.stat().st_size for part in target.iterdir()) < (folder / "float.onnx").stat().st_size
    return "both runtimes"


@pytest.mark.parametrize("model_type", CONFIGURATIONS)
def test_a_folder_predicts_as_in_the_library(model_type: str, tiny_train: Images, tmp_path: Path) -> None:
    """Weights that `save_pretrained` wrote; with some of its classes alone, the heads have their rows."""
    network = cast(Any, library_network(detector_of(model_type, tmp_path, tiny_train).spec)).eval()
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(NOISE * torch.randn_like(parameter))
    network.save_pretrained(saved := tmp_path / "saved")
    asked_for = TransformersDetector(transformers=str(saved))
    detector, two = (read_network(asked_for, tmp_path, SIZE, classes) for classes in (None, tiny_train.classes[3:1:-1]))
    assert detector is not None
    assert two is not None
    pixels = torch.rand(1, 3, *SIZE, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = network(pixels)
        boxes, scores = detector.family.decode(own := detector.network(), detector.family.raw(own, pixels))
        few = two.family.decode(own := two.network(), two.family.raw(own, pixels))[1]
    shares = model_type in SOFTMAX_TYPES
    right = expected.logits.softmax(-1)[..., :-1] if shares else expected.logits.sigmoid()
    torch.testing.assert_close(scores, right, atol=1e-4, rtol=0)
    sides = (boxes[..., 2:] - boxes[..., :2]) / torch.tensor([96, 64])
    torch.testing.assert_close(sides, expected.pred_boxes[..., 2:], atol=1e-4, rtol=0)
    assert few.shape[-1] == 2
    if not shares and model_type in ALIKE:  # who is chosen depends on all scores
        torch.testing.assert_close(few, right[..., [3, 2]], atol=1e-4, rtol=0)
