"""The graph of an exported file as its runtime executes it: fused operators, and the tensors that pass between them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hardware_profiles.estimate import Operator


class GraphError(ValueError):
    """An exported file cannot be read as a graph of fixed sizes; the message says which file and what to do."""


@dataclass(frozen=True)
class Step:
    """One operator with the tensors it reads and writes; weights are not among them."""

    operator: Operator
    reads: tuple[str, ...]
    writes: tuple[str, ...]


@dataclass(frozen=True)
class Graph:
    """Steps in the order of execution."""

    steps: tuple[Step, ...]
    tensor_bytes: Mapping[str, int]
    """Size of every tensor that a step reads or writes, in the type it has between the operators."""
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    parameter_bytes: int
    """Weights and other constants, in the type they are stored in."""

    @property
    def operators(self) -> tuple[Operator, ...]:
        """What the latency model wants."""
        return tuple(step.operator for step in self.steps)


def read_graph(path: Path, runtime: str | None = None) -> Graph:
    """The graph of a float ONNX file, of ONNX Runtime's int8 file (QDQ) or of an OpenVINO IR (.xml, float or int8).

    A convolution with its normalisation, bias and activation is one operator. A quantization is one of its own only where
    float and int8 meet; elsewhere it is part of the int8 operator before it. What costs nothing (Reshape, ...) is left out.
    OpenVINO fuses more than ONNX Runtime does; `runtime` says which of them reads the file where the suffix does not.
    """
    from hardware_profiles.fusion import fused

    if not path.is_file():
        raise GraphError(f"{path}: no such file")
    if path.suffix == ".onnx":
        from hardware_profiles.onnx_file import read_onnx

        return fused(read_onnx(path, "openvino" if runtime == "openvino" else "onnx"))
    if path.suffix == ".xml":
        from hardware_profiles.openvino_file import read_openvino

        return fused(read_openvino(path))
    raise GraphError(f"{path}: graphs are read from .onnx and OpenVINO's .xml, not from {path.suffix or 'a file without suffix'}")


def read_operators(path: Path, runtime: str | None = None) -> tuple[Operator, ...]:
    """The operators of an exported file, fused; see `read_graph`."""
    return read_graph(path, runtime).operators
