"""ONNX Runtime as an entry of the table, and its sessions."""

from __future__ import annotations

from base64 import b64decode
from pathlib import Path

from hardware_profiles.runtimes.interface import Array, OpenedFile, Pixels, Runtime, Tensor, cannot_open, lazily

EMPTY_ONNX = b64decode(
    "CAg6mwEKFQoGaW1hZ2VzEgVib3hlcyIEUmVsdQoWCgZpbWFnZXMSBnNjb3JlcyIEUmVsdRIFZW1wdHlaIAoGaW1hZ2VzEhYKFAgBEhAKAggBCgII"
    "AwoCCAgKAggIYh8KBWJveGVzEhYKFAgBEhAKAggBCgIIAwoCCAgKAggIYiAKBnNjb3JlcxIWChQIARIQCgIIAQoCCAMKAggICgIICEIECgAQEQ=="
)


class OnnxRuntimeSession(OpenedFile):
    """A file opened in ONNX Runtime."""

    def __init__(self, model: Path, threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.log_severity_level = 3  # errors only: what it says about graph clean-up is not for users
        try:
            self._session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its exceptions have no common base and no public names
            raise cannot_open(model, "onnxruntime", error) from error
        inputs = {node.name: Tensor(node.shape, _dtype(node.type)) for node in self._session.get_inputs()}
        self.accept(model, inputs, [node.name for node in self._session.get_outputs()])

    def __call__(self, pixels: Pixels) -> tuple[Array, ...]:
        """As `Session` says."""
        return tuple(self._session.run(self.output_names, {self.input_name: pixels}))


def _dtype(written: str) -> str:
    """As NumPy calls it, for instance "float32" for "tensor(float)"."""
    name = written.removeprefix("tensor(").removesuffix(")")
    return {"float": "float32", "double": "float64"}.get(name, name)


ONNXRUNTIME = Runtime(
    name="onnxruntime",
    package="onnxruntime",
    libraries=("onnxruntime",),
    suffixes=(".onnx",),
    open=OnnxRuntimeSession,
    read_graph=lazily("hardware_profiles.runtimes.onnxruntime.graph:read_graph"),
    write_float16=lazily("hardware_profiles.runtimes.onnxruntime.shrink:write_float16"),
    int8_writer=lazily("hardware_profiles.runtimes.onnxruntime.int8:int8_writer"),
    keeps_half_stem_float=True,
    empty_model={".onnx": EMPTY_ONNX},
)
