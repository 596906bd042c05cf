"""What a blueprint would cost on a device, before anything is exported: the bridge from its operators to a profile's estimate."""

from __future__ import annotations

from functools import lru_cache

from detection.blueprint import Blueprint
from detection.complexity import operator_costs
from hardware_profiles.estimate import Estimate, Operator, estimate
from hardware_profiles.profile import DType, HardwareProfile


def estimated_latency(blueprint: Blueprint, profile: HardwareProfile, dtype: DType) -> Estimate:
    """Modelled seconds for one picture on the profile's device, with an interval."""
    return estimate(operators(blueprint), profile, dtype)


def operators(blueprint: Blueprint) -> tuple[Operator, ...]:
    """The blueprint's operators in the terms of the hardware profiles."""
    return _operators(blueprint.model_dump_json(by_alias=True))


@lru_cache(maxsize=256)
def _operators(blueprint_json: str) -> tuple[Operator, ...]:
    return tuple(
        Operator(
            kind=cost.kind,
            macs=cost.macs,
            input_elements=cost.input_elements,
            output_elements=cost.output_elements,
            weight_elements=cost.weight_elements,
            input_channels=cost.input_channels,
            output_channels=cost.output_channels,
        )
        for cost in operator_costs(Blueprint.model_validate_json(blueprint_json))
    )
