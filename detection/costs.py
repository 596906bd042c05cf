"""What a detector costs, counted on its operators: parameters and multiply-adds, and the operators a latency model wants."""

from __future__ import annotations

from functools import lru_cache

from detection.family import family_of
from detection.operators import OperatorCost
from detection.spec import Spec


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
    spec = Spec.model_validate_json(spec_json)
    return family_of(spec).costs(spec)
