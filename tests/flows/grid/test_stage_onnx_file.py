"""A user's ONNX file through the grid: what applies to it, what comes out, and that its own signature stays."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import yaml

from detection.data.dataset import load_split
from detection.file_interface.interface import INTERFACE_FILE
from detection.frozen import InputError
from flows.grid.forecast import forecast
from flows.grid.nodes import read_done
from flows.records.store import Store
from flows.sweep.context import lay_foundation
from flows.sweep.plan_checks import load_plan
from flows.teacher.stage import teacher
from tests.flows.sweep_factory import Sweep, menu_of, run_grid, write_params

DECODE = {"boxes": {"outputs": ["boxes"], "form": "xyxy"}, "scores": {"outputs": ["scores"]}}
TRAINED = ("lightweight", "nas", "pruning", "low_rank", "distillation")
"""What takes more than a file."""


def tree(theirs: Path, classes: tuple[str, ...], **changes: Any) -> dict[str, Any]:
    """Changes of the tiny params that name the file."""
    detector = {"onnx": str(theirs), "classes": list(classes), "input": {"scale": 1.0}, "decode": DECODE}
    quantization = [{"pictures": 8, "calibrator": "minmax"}, {"precision": "float16"}]
    return {"detector": detector, "grid__methods": {"quantization": quantization}} | changes


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, sweep_prepared: Path, theirs: Path) -> Sweep:
    """The grid of the file, in both runtimes."""
    folder, classes = tmp_path_factory.mktemp("onnx-sweep"), load_split(sweep_prepared, "val").classes
    plan = load_plan(write(folder, tree(theirs, classes, grid__runtimes=["onnxruntime", "openvino"])))
    store = Store(folder / "store")
    before = Sweep(folder, plan, sweep_prepared, store, forecast(plan, sweep_prepared, store, None), -1, ())
    code, said = run_grid(before)
    return replace(before, code=code, said=tuple(said))


def write(folder: Path, changes: dict[str, Any]) -> Path:
    """A params file without a section `teacher`."""
    path = write_params(folder, **changes)
    content = yaml.safe_load(path.read_text())
    del content["teacher"]
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def test_what_applies_is_quantization_alone(made: Sweep) -> None:
    """The control and each variant; the five methods that need more than a file stand once, with the reason."""
    assert made.code == 0, made.said
    assert [cell.cell for cell in made.cells.cells] == ["none", "quantization:int8-minmax-8pictures", "quantization:float16"]
    assert tuple(made.cells.not_applicable) == TRAINED
    assert all("without its training code" in reason for reason in made.cells.not_applicable.values())
    assert all(cell.budget is not None and cell.budget.train_epochs == 0 for cell in made.cells.cells)


def test_the_control_is_the_file_byte_for_byte(made: Sweep, theirs: Path) -> None:
    """Nothing had to be mended, so what is scored, measured and shipped has the digest of what was given; sizes are counted."""
    control = made.cells.cell("none")
    assert control is not None
    given = hashlib.sha256(theirs.read_bytes()).hexdigest()
    assert {own.digest for own in control.artifacts.values()} == {given}
    done = read_done(made.store, control.node)
    weights = onnx.load(theirs).graph.initializer
    assert done.params == control.params > 0
    assert done.params == pytest.approx(sum(int(np.prod(tensor.dims)) for tensor in weights), rel=0.05)
    assert (done.macs > 10 * done.params, control.input_size) == (True, (64, 96))


def test_every_file_keeps_names_shapes_and_types(made: Sweep, theirs: Path) -> None:
    """int8 and float16 files take and give what the user's own does; only what lies between has changed."""
    wanted = onnx.load(theirs).graph
    for cell in made.cells.cells:
        graph = onnx.load(made.store.file(cell.artifacts["onnxruntime"].url)).graph
        assert (list(graph.input), list(graph.output)) == (list(wanted.input), list(wanted.output)), cell.cell
        assert (made.store.file(cell.artifacts["openvino"].url).parent / INTERFACE_FILE).is_file(), cell.cell


def test_int8_says_nearly_what_the_float_file_says(made: Sweep) -> None:
    """The same detections to half a point of mAP, in both runtimes; the same boxes in float16."""
    control = made.cells.cell("none")
    assert control is not None
    for cell in made.cells.cells:
        for runtime, artifact in cell.artifacts.items():
            exact = control.artifacts[runtime].val.map_50_95
            assert artifact.val.map_50_95 == pytest.approx(exact, abs=0.005), (cell.cell, runtime)


def test_what_is_not_applicable_is_refused_by_name(tmp_path: Path, theirs: Path, sweep_prepared: Path) -> None:
    """A plan that names pruning for a file is refused when it is read, and one that trains a teacher besides."""
    classes = load_split(sweep_prepared, "val").classes
    with pytest.raises(InputError, match=r"grid\.methods\.pruning: not applicable to this detector: an ONNX file is"):
        load_plan(write(tmp_path / "a", tree(theirs, classes, grid__methods=menu_of("pruning"))))
    with pytest.raises(InputError, match="detector and teacher are both given"):
        load_plan(write_params(tmp_path / "b", **tree(theirs, classes)))


def test_classes_of_the_data_have_to_be_among_the_files(tmp_path: Path, theirs: Path, sweep_prepared: Path) -> None:
    """By name and in any order; a class that the file does not know is named, and so is what the file has in its place."""
    classes = load_split(sweep_prepared, "val").classes
    other = ("dog", *classes[1:])
    plan = load_plan(write(tmp_path, tree(theirs, other)))
    with pytest.raises(
        InputError, match=rf"of the {len(classes)} of the file: '{classes[0]}'\. The file has 'dog', which the data"
    ):
        lay_foundation(plan, sweep_prepared)


def test_what_is_changed_in_a_file_is_told_once(tmp_path: Path, theirs: Path, sweep_prepared: Path) -> None:
    """Weights that lay outside the file are taken in, which the stage says that takes the file in; a whole one is not mentioned."""
    classes, model = load_split(sweep_prepared, "val").classes, onnx.load(theirs)
    onnx.save_model(model, tmp_path / "parts.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0)
    for path, told in ((theirs, 0), (tmp_path / "parts.onnx", 1)):
        said: list[str] = []
        plan, store = load_plan(write(tmp_path / path.stem, tree(path, classes))), Store(tmp_path / path.stem / "store")
        for _ in range(2):  # the second time it is stored
            teacher(plan, sweep_prepared, store, tmp_path / path.stem / "teacher", said.append)
        assert said.count("changed so that every runtime opens it: Weights written into the file: weights.bin.") == told
        assert any(line.startswith("changed") for line in said) == bool(told)


def test_the_key_follows_the_file_and_not_its_place(tmp_path: Path, theirs: Path, sweep_prepared: Path, made: Sweep) -> None:
    """A copy elsewhere has the same nodes; another way of reading has others."""
    classes, copy = load_split(sweep_prepared, "val").classes, tmp_path / "copy.onnx"
    copy.write_bytes(theirs.read_bytes())
    given = lay_foundation(load_plan(made.folder / "params.yaml"), sweep_prepared).given
    assert lay_foundation(load_plan(write(tmp_path / "a", tree(copy, classes))), sweep_prepared).given == given
    changed = tree(copy, classes)
    changed["detector"] = changed["detector"] | {"input": {"scale": 1.0, "colour": "bgr"}}
    assert lay_foundation(load_plan(write(tmp_path / "b", changed)), sweep_prepared).given != given


def test_files_that_take_bytes_say_the_same(tmp_path: Path, sweep_prepared: Path, theirs: Path, made: Sweep) -> None:
    """With `takes_bytes` the float file and int8 in both runtimes are fed pictures as they are; mAP is that of the user's file."""
    classes = load_split(sweep_prepared, "val").classes
    changes = tree(theirs, classes, grid__runtimes=["onnxruntime", "openvino"])
    changes["detector"]["takes_bytes"] = True
    plan = load_plan(write(tmp_path, changes))
    sweep = replace(made, folder=tmp_path, plan=plan, store=Store(tmp_path / "store"))
    code, said = run_grid(sweep)
    assert code == 0, said
    for cell in sweep.cells.cells:
        for runtime, artifact in cell.artifacts.items():
            theirs_said = made.cells.record(cell.cell).artifacts[runtime]
            assert artifact.val.map_50_95 == pytest.approx(theirs_said.val.map_50_95, abs=0.005), (cell.cell, runtime)
        (taken,) = onnx.load(sweep.store.file(cell.artifacts["onnxruntime"].url)).graph.input
        assert taken.type.tensor_type.elem_type == onnx.TensorProto.UINT8
        assert [side.dim_value for side in taken.type.tensor_type.shape.dim] == [1, 64, 96, 3]
