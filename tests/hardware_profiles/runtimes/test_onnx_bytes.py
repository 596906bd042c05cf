"""A file that takes bytes says of a picture what it said of the numbers that the picture becomes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from detection.file_interface.declaration import Decoding
from detection.file_interface.interface import FileInterface, PictureForm
from hardware_profiles.runtimes.onnx_bytes import take_bytes
from hardware_profiles.runtimes.onnx_signature import Signature, read_signature

SIZE = (16, 24)
FORMS = {
    "shares of 1": PictureForm(),
    "BGR": PictureForm(colour="bgr", scale=1.0),
    "ImageNet": PictureForm(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
    "BGR with a mean each": PictureForm(colour="bgr", scale=1.0, mean=(103.5, 116.3, 123.7), std=(57.4, 57.1, 58.4)),
}
DECODING = Decoding.model_validate({"boxes": {"outputs": [0], "form": "xyxy"}, "scores": {"outputs": [0]}})


def written(path: Path, layout: Literal["nchw", "nhwc"], dtype: int) -> Signature:
    """A file that weighs the three channels differently, place by place."""
    shape = [1, 3, *SIZE] if layout == "nchw" else [1, *SIZE, 3]
    weights = np.array([1.0, 2.0, 5.0], helper.tensor_dtype_to_np_dtype(dtype)).reshape([3, 1, 1] if layout == "nchw" else [3])
    graph = helper.make_graph(
        [helper.make_node("Mul", ["x", "w"], ["y"], "weigh")], "file", [helper.make_tensor_value_info("x", dtype, shape)],
        [helper.make_tensor_value_info("y", dtype, shape)], [numpy_helper.from_array(weights, "w")],
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return read_signature(path)


def said(model: onnx.ModelProto, value: NDArray[Any]) -> NDArray[Any]:
    """What the file gives."""
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"x": value})
    return np.asarray(found, np.float32)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize("dtype", [TensorProto.FLOAT, TensorProto.FLOAT16], ids=["float32", "float16"])
def test_bytes_become_the_numbers_inside(tmp_path: Path, form: str, layout: Literal["nchw", "nhwc"], dtype: int) -> None:
    """In every order of colours and axes, in both widths of numbers; the input keeps its name."""
    signature = written(tmp_path / "file.onnx", layout, dtype)
    interface = FileInterface(
        layout=layout, dtype="float32" if dtype == TensorProto.FLOAT else "float16", picture=FORMS[form], outputs=("y",),
        decoding=DECODING, classes=1,
    )  # fmt: skip
    picture = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    model = onnx.load(tmp_path / "file.onnx")
    wanted = said(model, interface.tensor(picture))
    factors, offsets = interface.factors_and_offsets()
    take_bytes(model, signature, factors, offsets, bgr=FORMS[form].colour == "bgr")
    assert [(own.name, own.type.tensor_type.elem_type) for own in model.graph.input] == [("x", TensorProto.UINT8)]
    np.testing.assert_allclose(said(model, picture[None]), wanted, rtol=1e-5 if dtype == TensorProto.FLOAT else 1e-2, atol=1e-2)
