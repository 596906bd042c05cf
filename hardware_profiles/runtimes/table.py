"""Sessions of the runtimes that execute an exported detector: the same ones measure it and evaluate it."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from types import ModuleType

Array = NDArray[np.float32]
Pixels = NDArray[np.uint8] | NDArray[np.float32]
INPUT, OUTPUTS = "images", ("boxes", "scores")
"""Names in every exported file."""
COLOURS = 3
PLANE_CHANNELS = (COLOURS, 4 * COLOURS)
"""Of files for quantizers: one pixel in each place, or four of a row."""


class SessionError(ValueError):
    """A runtime is unknown or absent, or cannot open a file; the message says which and what to do."""


class Session(Protocol):
    """An opened detector."""

    input_size: tuple[int, int]
    """(height, width) in pixels."""

    def blank(self) -> Pixels:
        """A black picture as this file takes it."""

    def __call__(self, pixels: Pixels) -> tuple[Array, Array]:
        """Boxes (1, N, 4) xyxy in pixels and scores (1, N, C), in fresh memory, for a picture (1, height, width, 3) uint8.

        Files that were exported for quantizers take its planes (1, 3, height, width) float32 in [0, 255] instead, or
        (1, 12, height, width / 4), four pixels of a row in one place.
        """


class Runtime(NamedTuple):
    """What is needed to run files in one runtime."""

    package: str
    """Distribution that must be installed."""
    suffixes: tuple[str, ...]
    """Files it opens."""
    open: Callable[[Path, int], Session]
    """File, threads -> session."""


def open_session(runtime: str, model: Path, threads: int) -> Session:
    """The file opened in the runtime with so many threads, ready to call; SessionError where that is not possible."""
    entry = _entry(runtime)
    if not model.is_file():
        raise SessionError(f"{model}: no such file")
    if model.suffix not in entry.suffixes:
        raise SessionError(f"{model}: {runtime} opens {' or '.join(entry.suffixes)}, not {model.suffix or 'a file without suffix'}")
    if threads < 1:
        raise SessionError(f"threads is {threads}; at least 1 is needed")
    runtime_version(runtime)
    return entry.open(model, threads)


def runtime_version(runtime: str) -> str:
    """Name and version, for instance "onnxruntime 1.31.1"."""
    package = _entry(runtime).package
    try:
        return f"{runtime} {metadata.version(package)}"
    except metadata.PackageNotFoundError as error:
        raise SessionError(f"{runtime} is not installed here. Install it with `pip install {package}`.") from error


def import_openvino() -> ModuleType:
    """The openvino package, without the usage report that importing it sends to its maker otherwise.

    With `openvino_telemetry` marked as absent, openvino and nncf fall back to stubs of their own. Call this before anything
    imports either.
    """
    if "openvino" not in sys.modules:
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # None is how Python spells "absent"
    return importlib.import_module("openvino")


class _Opened:
    """What all sessions have in common: they know what they take."""

    input_size: tuple[int, int]
    pixels_per_place: int | None
    """Of files that take planes."""

    def blank(self) -> Pixels:
        height_px, width_px = self.input_size
        if self.pixels_per_place is not None:
            return np.zeros((1, COLOURS * self.pixels_per_place, height_px, width_px // self.pixels_per_place), np.float32)
        return np.zeros((1, height_px, width_px, COLOURS), np.uint8)


class _OnnxRuntime(_Opened):
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
            raise SessionError(f"{model}: onnxruntime cannot open it: {_first_line(error)}") from error
        inputs = {node.name: node.shape for node in self._session.get_inputs()}
        self.input_size, self.pixels_per_place = _taken(model, inputs, {node.name for node in self._session.get_outputs()})

    def __call__(self, pixels: Pixels) -> tuple[Array, Array]:
        boxes, scores = self._session.run(OUTPUTS, {INPUT: pixels})
        return boxes, scores


class _OpenVino(_Opened):
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
            inputs = {node.any_name: _openvino_shape(node) for node in network.inputs}
            self.input_size, self.pixels_per_place = _taken(
                model, inputs, {name for node in network.outputs for name in node.names}
            )
            self.compiled: Any = openvino.Core().compile_model(network, "CPU", how)
        except RuntimeError as error:
            raise SessionError(f"{model}: openvino cannot open it: {_first_line(error)}") from error
        self._request = self.compiled.create_infer_request()

    def __call__(self, pixels: Pixels) -> tuple[Array, Array]:
        if pixels.dtype != self.blank().dtype:  # it would convert without a word, and see next to nothing
            raise SessionError(f"input {INPUT} is {pixels.dtype}; the file takes {self.blank().dtype}")
        results = self._request.infer({INPUT: pixels}, share_inputs=True, share_outputs=False)
        return results[OUTPUTS[0]], results[OUTPUTS[1]]


RUNTIMES: dict[str, Runtime] = {
    "onnxruntime": Runtime("onnxruntime", (".onnx",), _OnnxRuntime),
    "openvino": Runtime("openvino", (".xml", ".onnx"), _OpenVino),
}


def _entry(runtime: str) -> Runtime:
    if runtime not in RUNTIMES:
        raise SessionError(f"no runtime {runtime!r}; have {', '.join(RUNTIMES)}")
    return RUNTIMES[runtime]


def _openvino_shape(node: Any) -> list[int | str]:
    return [dimension.get_length() if dimension.is_static else "?" for dimension in node.get_partial_shape()]


def _taken(model: Path, inputs: dict[str, list[int | str]], outputs: set[str]) -> tuple[tuple[int, int], int | None]:
    """(height, width) of the one input and, of planes, pixels in one place; SessionError where the file is no detector of ours."""
    if list(inputs) != [INPUT] or not set(OUTPUTS) <= outputs:
        raise SessionError(
            f"{model}: has inputs {', '.join(inputs)} and outputs {', '.join(sorted(outputs))}; "
            f"a detector has the input {INPUT} and the outputs {' and '.join(OUTPUTS)}"
        )
    match inputs[INPUT]:
        case [1, int(height_px), int(width_px), channels] if channels == COLOURS:
            return (height_px, width_px), None
        case [1, int(channels), int(height_px), int(places)] if channels in PLANE_CHANNELS:
            return (height_px, places * channels // COLOURS), channels // COLOURS
        case shape:
            raise SessionError(f"{model}: input {INPUT} has the shape {shape}; (1, height, width, 3) with fixed sizes is needed")


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
