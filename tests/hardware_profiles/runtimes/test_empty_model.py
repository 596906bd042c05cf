"""The detector that does nothing: a true file of each runtime, though no library made it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from hardware_profiles.runtimes.empty_model import SHAPE, write_empty_model
from hardware_profiles.runtimes.table import RUNTIMES, open_session


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_every_runtime_opens_it(runtime: str, tmp_path: Path) -> None:
    """As a detector of 8 x 8 pixels, in the runtime's own format; both outputs are the positive part of the input."""
    path = write_empty_model(runtime, tmp_path)
    assert path.suffix == RUNTIMES[runtime].suffixes[0]
    session = open_session(runtime, path, threads=1)
    assert session.input_size == SHAPE[2:]
    pixels = np.random.default_rng(0).standard_normal(SHAPE).astype(np.float32)
    for output in session(pixels):
        np.testing.assert_array_equal(output, np.maximum(pixels, 0))


def test_it_is_valid_onnx(tmp_path: Path) -> None:
    """ONNX's own checker accepts the bytes, shapes included: two operators, no weights."""
    model = onnx.load(write_empty_model("onnxruntime", tmp_path))
    onnx.checker.check_model(model, full_check=True)
    assert [node.op_type for node in model.graph.node] == ["Relu", "Relu"]
    assert not model.graph.initializer
