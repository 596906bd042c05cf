"""The detector that does nothing: constants in the table, which are what the libraries make of two operators."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from hardware_profiles.runtimes.interface import INPUT, OUTPUTS
from hardware_profiles.runtimes.openvino.int8 import write
from hardware_profiles.runtimes.openvino.runtime import import_openvino
from hardware_profiles.runtimes.table import RUNTIMES, open_session, write_empty_model

EMPTY_SHAPE = (1, 3, 8, 8)


def onnx_bytes() -> bytes:
    """Two Relus of one input, of ONNX 1.12, which every runtime of today reads."""
    graph = helper.make_graph(
        [helper.make_node("Relu", [INPUT], [name]) for name in OUTPUTS],
        "empty",
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, EMPTY_SHAPE)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, EMPTY_SHAPE) for name in OUTPUTS],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString(deterministic=True)


def ir_bytes(folder: Path) -> bytes:
    """The same by OpenVINO, as our writer writes it: reading ONNX would load a reader that the files of a sweep do not need."""
    openvino = import_openvino()
    ops = importlib.import_module("openvino.opset13")
    picture = ops.parameter(list(EMPTY_SHAPE), np.float32, name=INPUT)
    picture.output(0).set_names({INPUT})
    results = [ops.relu(picture, name=name) for name in OUTPUTS]
    for result, name in zip(results, OUTPUTS, strict=True):
        result.output(0).set_names({name})
    write(openvino.Model(results, [picture]), folder / "made.xml")
    assert (folder / "made.bin").read_bytes() == b""
    return (folder / "made.xml").read_bytes()


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_every_runtime_opens_it(runtime: str, tmp_path: Path) -> None:
    """As a detector of 8 x 8 pixels, in the runtime's own format; both outputs are the positive part of the input."""
    path = write_empty_model(runtime, tmp_path)
    assert path.suffix == RUNTIMES[runtime].suffixes[0]
    session = open_session(runtime, path, threads=1)
    assert session.input_size == EMPTY_SHAPE[2:]
    pixels = np.random.default_rng(0).standard_normal(EMPTY_SHAPE).astype(np.float32)
    for output in session(pixels):
        np.testing.assert_array_equal(output, np.maximum(pixels, 0))


def test_the_constants_are_what_the_libraries_make(tmp_path: Path) -> None:
    """Byte for byte: nobody has to read protobuf to trust them."""
    assert RUNTIMES["onnxruntime"].empty_model == {".onnx": onnx_bytes()}
    assert RUNTIMES["openvino"].empty_model == {".xml": ir_bytes(tmp_path)}
