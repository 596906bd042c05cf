"""What one operator of a detector costs, in the terms that a latency model wants."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

OperatorKind = Literal["conv3x3s1", "conv1x1", "conv_other", "depthwise", "other"]


@dataclass(frozen=True)
class OperatorCost:
    """One operator as a runtime would execute it; convolutions carry their folded normalisation and ReLU."""

    name: str
    """Of the layer, or of where it happens and what: `neck.top_down.0:add`."""
    kind: OperatorKind
    op_type: str
    """What ONNX calls it."""
    macs: int
    input_elements: int
    output_elements: int
    weight_elements: int
    input_channels: int
    output_channels: int
    predicts: bool = False
    """Whether it is one of the last predictions or comes after them: what stays float."""
    decodes: bool = False
    """Whether it comes after the last predictions."""
