"""From an exported file to its graph, whatever the format."""

from __future__ import annotations

from pathlib import Path

from hardware_profiles.estimate.graph.fusion import fused
from hardware_profiles.estimate.graph.graph import Graph, GraphError
from hardware_profiles.estimate.model import Operator


def read_graph(path: Path, runtime: str | None = None) -> Graph:
    """The graph of a float ONNX file, of ONNX Runtime's int8 file (QDQ) or of an OpenVINO IR (.xml, float or int8).

    A convolution with its normalisation, bias and activation is one operator. A quantization is one of its own only where
    float and int8 meet; elsewhere it is part of the int8 operator before it. What costs nothing (Reshape, ...) is left out.
    OpenVINO fuses more than ONNX Runtime does; `runtime` says which of them reads the file where the suffix does not.
    """
    if not path.is_file():
        raise GraphError(f"{path}: no such file")
    if path.suffix == ".onnx":
        from hardware_profiles.estimate.graph.onnx_file import read_onnx

        return fused(read_onnx(path, "openvino" if runtime == "openvino" else "onnx"))
    if path.suffix == ".xml":
        from hardware_profiles.estimate.graph.openvino_file import read_openvino

        return fused(read_openvino(path))
    raise GraphError(f"{path}: graphs are read from .onnx and OpenVINO's .xml, not from {path.suffix or 'a file without suffix'}")


def read_operators(path: Path, runtime: str | None = None) -> tuple[Operator, ...]:
    """The operators of an exported file, fused; see `read_graph`."""
    return read_graph(path, runtime).operators
