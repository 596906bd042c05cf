"""A file that takes pictures as bytes in place of the numbers that it was trained on: what becomes of pixels is done inside."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from hardware_profiles.runtimes.onnx_edits import all_nodes
from hardware_profiles.runtimes.onnx_signature import Signature


def take_bytes(
    model: onnx.ModelProto, signature: Signature, factors: NDArray[np.float32], offsets: NDArray[np.float32], *, bgr: bool
) -> None:
    """Have the file take RGB bytes (1, height, width, 3) under the name of its input, in place.

    Each channel of the file's own input is pixel * factor - offset, both in the file's order, which is BGR where `bgr` says so.
    """
    (picture,), graph = model.graph.input, model.graph
    name, dtype = picture.name, picture.type.tensor_type.elem_type
    for node in all_nodes(graph):
        node.input[:] = [f"{name}/numbers" if own == name else own for own in node.input]
    picture.CopyFrom(helper.make_tensor_value_info(name, TensorProto.UINT8, [1, *signature.input_size, 3]))
    own = helper.tensor_dtype_to_np_dtype(dtype)
    values = {"factors": factors.astype(own), "offsets": offsets.astype(own)}
    values |= {"order": np.array([2, 1, 0], np.int64)} if bgr else {}
    graph.initializer.extend(numpy_helper.from_array(value, f"{name}/{key}") for key, value in values.items())
    steps: list[tuple[str, list[str], dict[str, Any]]] = [("Cast", [], {"to": dtype})]
    steps += [("Gather", [f"{name}/order"], {"axis": 3})] if bgr else []
    steps += [("Mul", [f"{name}/factors"], {}), ("Sub", [f"{name}/offsets"], {})]
    steps += [("Transpose", [], {"perm": [0, 3, 1, 2]})] if signature.layout == "nchw" else []
    before = name
    for place, (kind, constants, attributes) in enumerate(steps):
        after = f"{name}/numbers" if place == len(steps) - 1 else f"{name}/{kind}"
        graph.node.insert(place, helper.make_node(kind, [before, *constants], [after], f"{name}/{kind}", **attributes))
        before = after
