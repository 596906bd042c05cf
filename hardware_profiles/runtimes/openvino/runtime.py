"""OpenVINO as an entry of the table, and its sessions."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hardware_profiles.runtimes.interface import OUTPUTS, Array, OpenedFile, Pixels, Runtime, Tensor, cannot_open, lazily

if TYPE_CHECKING:
    from types import ModuleType

EMPTY_IR = (
    b"<?xml version='1.0' encoding='utf-8'?>\n<net name=\"detector\" version=\"11\"><layers>"
    b'<layer id="0" name="images" type="Parameter" version="opset1"><data shape="1,3,8,8" element_type="f32"/><output>'
    b'<port id="0" precision="FP32" names="images"/></output></layer>'
    b'<layer id="1" name="scores" type="ReLU" version="opset1"><input><port id="0"/></input><output>'
    b'<port id="1" precision="FP32"/></output></layer><layer id="2" name="boxes" type="ReLU" version="opset1"><input>'
    b'<port id="0"/></input><output><port id="1" precision="FP32"/></output></layer>'
    b'<layer id="3" name="Result_3" type="Result" version="opset1" output_names="boxes"><input><port id="0"/></input>'
    b'</layer><layer id="4" name="Result_4" type="Result" version="opset1" output_names="scores"><input><port id="0"/>'
    b'</input></layer></layers><edges><edge from-layer="0" from-port="0" to-layer="1" to-port="0"/>'
    b'<edge from-layer="0" from-port="0" to-layer="2" to-port="0"/>'
    b'<edge from-layer="1" from-port="1" to-layer="4" to-port="0"/>'
    b'<edge from-layer="2" from-port="1" to-layer="3" to-port="0"/></edges></net>'
)


def import_openvino() -> ModuleType:
    """The openvino package, without the usage report that importing it sends to its maker otherwise.

    With `openvino_telemetry` marked as absent, openvino and nncf fall back to stubs of their own. Call this before anything
    imports either.
    """
    if "openvino" not in sys.modules:
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # None is how Python spells "absent"
    return importlib.import_module("openvino")


class OpenVinoSession(OpenedFile):
    """A file opened in OpenVINO."""

    def __init__(self, model: Path, threads: int) -> None:
        openvino = import_openvino()
        how = {
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": "1",
            "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": "f32",  # else float32 files run in bf16 where the CPU has it: 4x faster, other numbers
            "ENABLE_CPU_PINNING": False,  # the process is pinned by who measures
        }
        try:
            network = openvino.Core().read_model(model)
            inputs = {node.any_name: Tensor(_sides(node), node.element_type.to_dtype().name) for node in network.inputs}
            self.accept(model, inputs, [_name(node) for node in network.outputs])
            self.compiled: Any = openvino.Core().compile_model(network, "CPU", how)
        except RuntimeError as error:
            raise cannot_open(model, "openvino", error) from error
        self._request = self.compiled.create_infer_request()

    def __call__(self, pixels: Pixels) -> tuple[Array, ...]:
        """As `Session` says."""
        self.check_type(pixels)
        results = self._request.infer({self.input_name: pixels}, share_inputs=True, share_outputs=False)
        return tuple(results[name] for name in self.output_names)


def _name(node: Any) -> str:
    """Of an output: a tensor may have several, one of which is ours."""
    return next((name for name in OUTPUTS if name in node.names), node.any_name)


def _sides(node: Any) -> list[int | str]:
    return [dimension.get_length() if dimension.is_static else "?" for dimension in node.get_partial_shape()]


OPENVINO = Runtime(
    name="openvino",
    package="openvino",
    libraries=("openvino", "nncf"),
    suffixes=(".xml", ".onnx"),
    parts=(".bin",),
    open=OpenVinoSession,
    read_graph=lazily("hardware_profiles.runtimes.openvino.graph:read_graph"),
    write_float16=lazily("hardware_profiles.runtimes.openvino.int8:write_float16"),
    int8_writer=lazily("hardware_profiles.runtimes.openvino.int8:int8_writer"),
    empty_model={".xml": EMPTY_IR},
)
