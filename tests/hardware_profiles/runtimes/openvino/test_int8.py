"""Which networks NNCF is told to quantize as transformers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hardware_profiles.runtimes.openvino.int8 import attends, quantized
from hardware_profiles.runtimes.openvino.runtime import import_openvino

PLACES, CHANNELS = 6, 8


def _network(weighs: str) -> Any:
    """Features, a softmax of their products with each other (`attention`) or of themselves (`decoding`), and what it weighs."""
    openvino, rng = import_openvino(), np.random.default_rng(0)
    ops = openvino.opset13

    def linear(source: Any, name: str) -> Any:
        weights = ops.constant(rng.normal(size=(CHANNELS, CHANNELS)).astype(np.float32))
        return ops.matmul(source, weights, False, False, name=name)

    picture = ops.parameter([1, PLACES, CHANNELS], openvino.Type.f32, name="images")
    query, value = linear(picture, "query"), linear(picture, "value")
    if weighs == "attention":
        shares = ops.softmax(ops.matmul(query, linear(picture, "key"), False, True, name="scores"), 2)
        moved = ops.reshape(shares, ops.constant(np.array([1, PLACES, PLACES])), False)
        result = linear(ops.matmul(moved, value, False, False, name="weighed"), "output")
    else:
        ramp = ops.constant(np.arange(CHANNELS, dtype=np.float32).reshape(CHANNELS, 1))
        result = ops.matmul(ops.softmax(query, 2), ramp, False, False, name="expected")
    return openvino.Model([result], [picture])


@pytest.mark.parametrize(("weighs", "left_float", "expected"), [
    ("attention", (), True), ("attention", ("weighed",), False), ("decoding", (), False),
])  # fmt: skip
def test_attention_is_told_from_a_softmax_that_decodes(weighs: str, left_float: tuple[str, ...], expected: bool) -> None:
    """Values that are constants, as the bins of a box's side are, make no transformer; nor does attention that stays float."""
    assert attends(_network(weighs), left_float) is expected


def test_shares_of_attention_are_not_rounded() -> None:
    """What a softmax gives is small and many: as bytes most of it would be zero. Products with weights read bytes."""
    rng = np.random.default_rng(1)
    pictures = [rng.normal(size=(1, PLACES, CHANNELS)).astype(np.float32) for _ in range(8)]
    model = quantized(_network("attention"), pictures, ())
    rounded = {op.get_friendly_name() for op in model.get_ops() if _is_rounded(op)}
    assert {"query", "key", "value"} <= rounded
    assert "weighed" not in rounded


def _is_rounded(op: Any) -> bool:
    """Whether a product reads activations as bytes."""
    return op.get_type_name() == "MatMul" and op.input_value(0).get_node().get_type_name() == "FakeQuantize"
