"""Which file a cell's graph is read from, and what the rows say about memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from detection.family import family_named
from detection.file_interface.declaration import Boxes, Decoding, Scores
from detection.file_interface.interface import FileInterface, PictureForm
from detection.spec import Spec
from flows.grid.nodes import NODES
from flows.measure.estimated_rows import ExportedGraphs, estimated_row, with_memory
from flows.measure.measured_rows import empty_row
from flows.records.store import Store
from hardware_profiles.schema.library import load_profile
from hardware_profiles.schema.profile import HardwareProfile
from tests.flows.device_factory import session_of
from tests.flows.latency_factory import record, sweep
from tests.hardware_profiles.tiny_model import write_model

HOST, FOREIGN = load_profile("x86-onnxruntime-1t"), load_profile("jetson-nano")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path / "model.onnx")


def limited(budget_bytes: int | None) -> HardwareProfile:
    """The Jetson with so much memory."""
    return FOREIGN.model_copy(update={"memory": FOREIGN.memory.model_copy(update={"budget_bytes": budget_bytes})})


def test_each_file_is_read_once(model: Path) -> None:
    """Cells with equal digests share a file and its graph, whatever the profile."""
    graphs = ExportedGraphs(Store(model.parent))
    first = graphs.of(record("none", {"onnxruntime": model}), HOST)
    again = graphs.of(record("distillation", {"onnxruntime": model}), FOREIGN)
    assert first is again is not None


def test_the_profiles_own_runtime_comes_first(model: Path, tmp_path: Path) -> None:
    """A host profile reads its runtime's file; a device without a file of its own takes ONNX Runtime's."""
    other = write_model(tmp_path / "other.onnx", size=(16, 24))
    cell = record("none", {"openvino": other, "onnxruntime": model})
    graphs = ExportedGraphs(Store(Path()))
    own = [graphs.of(cell, profile) for profile in (HOST, load_profile("x86-openvino-1t"), FOREIGN)]
    places = [graph.tensor_bytes["images"] // 12 for graph in own if graph]
    assert places == [8 * 12, 16 * 24, 8 * 12]


def test_one_file_for_two_runtimes_has_a_graph_for_each(model: Path) -> None:
    """A float file is that of both: OpenVINO leaves out the transpose that ONNX Runtime runs, whoever is asked first."""
    cell = record("none", {"openvino": model, "onnxruntime": model})
    graphs = ExportedGraphs(Store(Path()))
    own = [graphs.of(cell, profile) for profile in (HOST, load_profile("x86-openvino-1t"), HOST)]
    has_transpose = ["Transpose" in {operator.op_type for operator in graph.operators} for graph in own if graph]
    assert has_transpose == [True, False, True]


def test_no_file_is_no_graph(tmp_path: Path) -> None:
    """A failed cell, a cell without files and a file that cannot be read have none, and their rows stay as they are."""
    broken = tmp_path / "broken.onnx"
    broken.write_text("no model")
    graphs = ExportedGraphs(Store(Path()))
    assert graphs.of(record("none", status="failed", error="why"), HOST) is None
    assert graphs.of(record("none"), HOST) is None
    assert graphs.of(record("none", {"onnxruntime": broken}), HOST) is None
    row = empty_row(record("none"), HOST, "estimated")
    assert with_memory(row, None, HOST) is row


def test_a_users_file_that_cannot_be_read_has_no_estimate(tmp_path: Path) -> None:
    """It may run all the same, so nothing is said of that either; a sum over one unknown operator would be no estimate."""
    (tmp_path / "open.onnx").write_text("a graph that only its runtime understands")
    cell = record("none", {"onnxruntime": tmp_path / "open.onnx"})
    session = session_of(tmp_path, sweep(cell))
    interface = FileInterface(
        layout="nchw", dtype="float32", picture=PictureForm(), outputs=("boxes", "scores"), classes=2,
        decoding=Decoding(boxes=Boxes(outputs=("boxes",), form="xyxy"), scores=Scores(outputs=("scores",))),
    )  # fmt: skip
    settings = family_named("onnx").settings.model_validate({
        "source": "1" * 64, "size_bytes": 1, "interface": interface, "params": 0, "macs": 0,
    })  # fmt: skip
    with session.store.writing(NODES, cell.node) as folder:
        spec = Spec(family="onnx", classes=("a", "b"), input_size=(8, 12), settings=settings)
        (folder / "spec.json").write_text(spec.model_dump_json(by_alias=True))
    row = estimated_row(cell, cell, FOREIGN, session.operators_of)
    assert (row.p50_s, row.fits) == (None, None)
    assert row.why == "the graph of its file cannot be read, so nothing is known of what it computes"


@pytest.mark.parametrize(("budget_bytes", "fits"), [(None, None), (1_000, False), (1_000_000, True)])
def test_estimated_rows_fit_by_what_the_graph_needs(model: Path, budget_bytes: int | None, fits: bool | None) -> None:
    """136 bytes of parameters and 4,608 of activations against the budget, with the reason where they do not fit."""
    profile, cell = limited(budget_bytes), record("none", {"onnxruntime": model})
    graph = ExportedGraphs(Store(Path())).of(cell, profile)
    row = with_memory(empty_row(cell, profile, "estimated", why="a note"), graph, profile)
    assert (row.parameter_bytes, row.peak_activation_bytes, row.fits) == (136, 4_608, fits)
    assert row.why == (
        "a note; needs 136 bytes for parameters and 4608 for activations, jetson-nano allows 1000" if fits is False else "a note"
    )


def test_a_measured_process_decides_for_itself(model: Path) -> None:
    """Where the whole process was measured, its verdict stands; the sizes are added."""
    profile, cell = limited(1_000), record("none", {"onnxruntime": model})
    graph = ExportedGraphs(Store(Path())).of(cell, profile)
    row = with_memory(empty_row(cell, profile, "measured", fits=True), graph, profile)
    assert (row.fits, row.why, row.parameter_bytes) == (True, None, 136)
