"""The graph of an exported file, by the reader of the runtime that executes it."""

from __future__ import annotations

from pathlib import Path

from hardware_profiles.estimate.graph.graph import Graph, GraphError, Operator
from hardware_profiles.runtimes.table import RUNTIMES, Runtime


def read_graph(path: Path, runtime: str | None = None) -> Graph:
    """The graph of an exported file, float or int8, as the runtime executes it; without one, or where it does not open the file,
    as the runtime whose own format it is.

    A convolution with its normalisation, bias and activation is one operator. A quantization is one of its own only where
    float and int8 meet; elsewhere it is part of the int8 operator before it. What costs nothing (Reshape, ...) is left out.
    """
    if not path.is_file():
        raise GraphError(f"{path}: no such file")
    reader = _reader(path, runtime)
    try:
        return reader.read_graph(path)
    except GraphError:
        raise
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:  # in a file of another maker
        why = f"{type(error).__name__}: {error}"
        raise GraphError(f"{path}: its graph is not understood ({why}); time it instead, and report the file") from error


def read_operators(path: Path, runtime: str | None = None) -> tuple[Operator, ...]:
    """The operators of an exported file, fused; see `read_graph`."""
    return read_graph(path, runtime).operators


def _reader(path: Path, runtime: str | None) -> Runtime:
    if runtime in RUNTIMES and path.suffix in RUNTIMES[runtime].suffixes:
        return RUNTIMES[runtime]
    own = {entry.suffixes[0]: entry for entry in reversed(RUNTIMES.values())}  # of two with one format, the first
    if path.suffix not in own:
        raise GraphError(f"{path}: graphs are read from {', '.join(own)}, not from {path.suffix or 'a file without suffix'}")
    return own[path.suffix]
