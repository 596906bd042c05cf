"""What a detector costs, counted on its operators: parameters and multiply-adds, and the operators a latency model wants."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from detection.spec import Spec

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


def count_params(spec: Spec) -> int:
    """Parameters of the exported network: normalisations are folded into their convolutions, as every runtime does."""
    return sum(cost.weight_elements for cost in operator_costs(spec))


def count_macs(spec: Spec) -> int:
    """Multiply-adds of one picture up to the last predictions; FLOPs are twice as many. Decoding adds less than a thousandth."""
    return sum(cost.macs for cost in operator_costs(spec) if not cost.decodes)


def operator_costs(spec: Spec) -> tuple[OperatorCost, ...]:
    """Every operator for one picture, decoding included, as the exported file has them. Counted once for each spec."""
    return _operator_costs(spec.model_dump_json(by_alias=True))


@lru_cache(maxsize=256)
def _operator_costs(spec_json: str) -> tuple[OperatorCost, ...]:
    """Building a network takes a tenth of a second, and the same one is asked for again and again."""
    from detection.family import family_of

    spec = Spec.model_validate_json(spec_json)
    return family_of(spec).costs(spec)
