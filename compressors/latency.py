"""What a detector would cost on a device, before anything is exported: from its operators to a profile's estimate."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Literal

from detection.checkpoint import fresh
from detection.costs import operator_costs
from detection.export import export_onnx
from detection.family import family_of
from detection.frozen import InputError
from detection.spec import Spec
from hardware_profiles.estimate.graph.reading import read_graph
from hardware_profiles.estimate.model import Estimate, Operator, estimate
from hardware_profiles.schema.profile import DType, HardwareProfile

LatencyIn = Literal["float", "int8"]
"""The numbers in which a method lets latency be estimated; `int8`: as if quantized afterwards."""


def latency_dtype(latency_in: LatencyIn, profile: HardwareProfile, method: str) -> DType:
    """The type to estimate in; InputError where the device does not multiply in it."""
    if latency_in == "float":
        return "fp32"
    if "int8" not in profile.dtypes:
        raise InputError(
            f"{method}.latency_in: int8 is asked for, but the design profile {profile.id!r} multiplies in "
            f"{', '.join(profile.dtypes)} only. Leave it at `float`, or name another design profile."
        )
    return "int8"


def estimated_latency(spec: Spec, profile: HardwareProfile, dtype: DType) -> Estimate:
    """Modelled seconds for one picture on the profile's device, with an interval; int8: as if quantized after training."""
    of = operators_of_graph if family_of(spec).costs_are_of_layers else operators
    return estimate(of(spec, dtype), profile)


def operators(spec: Spec, dtype: DType = "fp32") -> tuple[Operator, ...]:
    """The detector's operators in the terms of the hardware profiles.

    In int8 all are quantized but the last predictions and the decoding after them, which every tool leaves in float.
    What a runtime adds or fuses at the borders between the two is in the exported file alone: `estimate.graph` reads it.
    """
    return _operators(spec.model_dump_json(by_alias=True), dtype == "int8")


def operators_of_graph(spec: Spec, dtype: DType = "fp32") -> tuple[Operator, ...]:
    """Those of the exported float file, as a runtime fuses them; in int8 all but its float tail are quantized."""
    return _operators_of_graph(spec.model_dump_json(by_alias=True), dtype == "int8")


@lru_cache(maxsize=256)
def _operators_of_graph(spec_json: str, quantized: bool) -> tuple[Operator, ...]:
    return in_type(_exported(spec_json), quantized)


def in_type(found: Iterable[tuple[Operator, bool]], quantized: bool) -> tuple[Operator, ...]:
    """The operators, in int8 where that is wanted and they do not stay float."""
    return tuple(replace(operator, quantized=quantized and not stays_float) for operator, stays_float in found)


@lru_cache(maxsize=256)
def _exported(spec_json: str) -> tuple[tuple[Operator, bool], ...]:
    """Every operator, and whether it is one of the last predictions or comes after them."""
    with tempfile.TemporaryDirectory(prefix="sixfold-graph-") as folder:
        path = Path(folder) / "model.onnx"
        export_onnx(fresh(Spec.model_validate_json(spec_json), 0), path)
        return operators_of_file(path, float_tensors(path))


def float_tensors(path: Path) -> frozenset[str]:
    """What the last predictions of an exported file, and all that comes after them, write: it stays float in every int8 file."""
    import onnx  # with what follows, half a second that commands need not wait for

    from compressors.quantization.float_tail import float_tail_of_graph

    model = onnx.load(path)
    tail = set(float_tail_of_graph(model))
    return frozenset(name for node in model.graph.node if node.name in tail for name in node.output)


def operators_of_file(path: Path, stay_float: frozenset[str]) -> tuple[tuple[Operator, bool], ...]:
    """Every operator of a float file, as a runtime fuses them, and whether it writes one of the tensors that stay float."""
    return tuple((step.operator, not stay_float.isdisjoint(step.writes)) for step in read_graph(path).steps)


@lru_cache(maxsize=256)
def _operators(spec_json: str, quantized: bool) -> tuple[Operator, ...]:
    return tuple(
        Operator(
            kind=cost.kind,
            macs=cost.macs,
            input_elements=cost.input_elements,
            output_elements=cost.output_elements,
            weight_elements=cost.weight_elements,
            input_channels=cost.input_channels,
            output_channels=cost.output_channels,
            op_type=cost.op_type,
            quantized=quantized and not cost.predicts,
        )
        for cost in operator_costs(Spec.model_validate_json(spec_json))
    )
