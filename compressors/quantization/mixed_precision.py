"""Which layers int8 harms most: each is rounded alone, and what that does to the outputs is looked at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from hardware_profiles.runtimes.onnxruntime.int8 import write_int8
from hardware_profiles.runtimes.ranges import Ranges
from hardware_profiles.runtimes.table import open_session

PICTURES = 8
"""Enough to rank layers: errors differ by orders of magnitude between them."""


def most_harmful(ready: Path, ranges: Ranges, layers: list[str], pictures: list[Any]) -> list[str]:
    """The layers, the one first whose rounding alone (weights, input and output) moves boxes and scores most.

    The ranking is made in ONNX Runtime for every runtime: rounding a layer is the same arithmetic everywhere.
    """
    shown = pictures[:PICTURES]
    session = open_session("onnxruntime", ready, 1)
    exact = [session(picture) for picture in shown]
    alone, harm = ready.with_name("alone.onnx"), {}
    for layer in layers:
        write_int8(ready, ranges, alone, only=[layer], planes=True)
        rounded = open_session("onnxruntime", alone, 1)
        harm[layer] = float(np.mean([_moved(rounded(picture), own) for picture, own in zip(shown, exact, strict=True)]))
    return sorted(layers, key=lambda layer: -harm[layer])


def _moved(outputs: tuple[Any, Any], exact: tuple[Any, Any]) -> float:
    """Squared error of boxes and of scores, each as a share of the squares of the exact ones."""
    return sum(float(((own - right) ** 2).sum() / max(1e-12, (right**2).sum())) for own, right in zip(outputs, exact, strict=True))
