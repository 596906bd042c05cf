"""The models that are shipped: the store's bytes, with all that is needed to run them."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path

import pytest
import torch

import sixfold
from detection import checkpoint
from detection.checkpoint import SPEC_FILE, WEIGHTS_FILE
from detection.data.dataset import load_split
from detection.file_interface.declaration import Decoding
from detection.file_interface.interface import FileInterface, PictureForm, read_interface
from flows.grid.nodes import NODES
from flows.report.model_export import ModelCard
from flows.report.stage import report
from tests.flows.records_factory import (
    CLASSES,
    INPUT_SIZE,
    MEASURED,
    cells_file,
    eight_cells,
    estimated_row,
    latency_file,
    measured_row,
    ok_cell,
)
from tests.flows.report_factory import FEW_DRAWS, Made
from tests.flows.sweep_factory import Sweep


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """One report for all tests that only look at it."""
    return Made(tmp_path_factory.mktemp("report"), eight_cells())


def test_chosen_models_are_exported_with_all_that_is_needed(made: Made) -> None:
    """The ONNX file is the store's, byte by byte, and model.json tells how to feed it; the network for `sixfold.load` is there."""
    folder = made.best / MEASURED
    assert sorted(path.name for path in folder.iterdir()) == ["model.json", "model.onnx", SPEC_FILE, WEIGHTS_FILE]
    assert (folder / WEIGHTS_FILE).read_bytes() == b"float weights of pruning+quantization"
    assert (folder / "model.onnx").read_bytes() == b"model of pruning+quantization"
    card = ModelCard.model_validate_json((folder / "model.json").read_text())
    assert (card.cell, card.runtime, card.classes) == ("pruning+quantization", "onnxruntime 1.31.1", CLASSES)
    assert (card.input.name, card.input.size, card.input.colour) == ("images", INPUT_SIZE, "RGB")
    assert (card.input.layout, card.input.scaling) == ("uint8 (1, height, width, 3)", "none: 0 to 255 as stored")
    assert "grey 114" in card.input.letterbox
    assert card.files[0].sha256 == hashlib.sha256(b"model of pruning+quantization").hexdigest()
    assert (card.score_threshold, card.iou_threshold, card.latency.p50_s) == (0.35, 0.6, 0.002)


def test_openvino_winner_is_two_files(tmp_path: Path) -> None:
    """The .bin goes with the .xml, under the same stem, as the runtime expects."""
    cells = cells_file([ok_cell((), 0.5), ok_cell(("pruning",), 0.5)])
    rows = [
        measured_row(cell, "x86-openvino-1t", s, 0.01, runtime="openvino 2026.4")
        for cell, s in (("none", 0.01), ("pruning", 0.005))
    ]
    folder = Made(tmp_path, (cells, latency_file(rows))).best / "x86-openvino-1t"
    assert {path.name: path.read_bytes() for path in folder.glob("model.*") if path.suffix != ".json"} == {
        "model.xml": b"model of pruning",
        "model.bin": b"weights of pruning",
    }


def test_profile_of_a_foreign_runtime_is_not_exported(tmp_path: Path) -> None:
    """An estimate for TensorRT borrows the accuracy of another file and says so; nothing is copied."""
    cells = cells_file([ok_cell((), 0.5), ok_cell(("pruning",), 0.5)])
    rows = [estimated_row(cell, "jetson-nano", s, 0.1, runtime="tensorrt") for cell, s in (("none", 0.1), ("pruning", 0.05))]
    made = Made(tmp_path, (cells, latency_file(rows)))
    own = made.recommendation()["profiles"][0]
    assert own["exported_to"] is None
    assert list(made.best.iterdir()) == []
    assert any("No file was made for tensorrt" in note for note in own["notes"])


def test_a_device_calibrated_in_float_only_still_ships(tmp_path: Path) -> None:
    """Its float times are calibrated, its int8 ones estimated; the chosen int8 file is exported with its own row."""
    cells = cells_file([ok_cell((), 0.5), ok_cell(("quantization",), 0.5)])
    control = estimated_row("none", "pi", 0.1, 0.1).model_copy(update={"source": "calibrated"})
    made = Made(tmp_path, (cells, latency_file([control, estimated_row("quantization", "pi", 0.05, 0.1)])))
    card = ModelCard.model_validate_json((made.best / "pi" / "model.json").read_text())
    assert (card.cell, card.latency.source, card.latency.p50_s) == ("quantization", "estimated", 0.05)


def test_a_file_of_a_user_takes_its_interface_along(tmp_path: Path) -> None:
    """The card says where it is described, in words, and which way pictures come to its size."""
    scores = {"outputs": ["found"], "columns": [4, None]}
    decoding = {"boxes": {"outputs": ["found"], "columns": [0, 4], "form": "xyxy"}, "scores": scores, "select": "best"}
    interface = FileInterface(
        layout="nchw", dtype="float32", picture=PictureForm(colour="bgr"), outputs=("found",), classes=2,
        decoding=Decoding.model_validate(decoding),
    )  # fmt: skip
    made = Made(tmp_path, eight_cells())
    made.images = dataclasses.replace(made.images, resize="stretch")
    interface.write(made.store.root / "pruning+quantization/onnxruntime")
    fed_and_read = interface.model_dump(mode="json", by_alias=True)
    settings = {"source": "0" * 64, "size_bytes": 1, "interface": fed_and_read, "params": 0, "macs": 0}
    spec = {"schema": 2, "family": "onnx", "classes": CLASSES, "input_size": INPUT_SIZE, "settings": settings}
    (made.store.root / "pruning+quantization/onnxruntime" / SPEC_FILE).write_text(json.dumps(spec))
    made.make(eight_cells())
    folder = made.best / MEASURED
    assert sorted(path.name for path in folder.iterdir()) == ["interface.json", "model.json", "model.onnx"]
    assert read_interface(folder) == interface
    card = ModelCard.model_validate_json((folder / "model.json").read_text())
    assert (card.input.layout, card.input.colour, card.input.resize) == ("float32 (1, channels, height, width)", "BGR", "stretch")
    assert card.input.scaling == "as `picture` in interface.json says"
    assert card.input.letterbox == "none: stretched to all of the input"
    assert card.outputs.scores == "as `decoding` in interface.json says, from found"
    assert card.outputs.then == "drop scores below score_threshold; each object comes once"


def test_the_float_network_behind_an_int8_file_is_loaded(swept: Sweep, tmp_path: Path) -> None:
    """Of a real sweep: `sixfold.load` of the published folder gives the network that the int8 file was made from."""
    rows = [measured_row(cell, MEASURED, s, 0.01) for cell, s in (("none", 0.01), ("quantization", 0.005))]
    report(
        swept.cells, latency_file(rows), load_split(swept.prepared, "test"), FEW_DRAWS,
        folder=tmp_path / "report", best_folder=tmp_path / "best", store=swept.store, say=lambda _: None,
    )  # fmt: skip
    folder = tmp_path / "best" / MEASURED
    card = ModelCard.model_validate_json((folder / "model.json").read_text())
    assert card.cell == "quantization"
    found = sixfold.load(folder).state_dict()
    expected = checkpoint.load(swept.store.open(NODES, card.node)).weights
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], own) for name, own in expected.items())
