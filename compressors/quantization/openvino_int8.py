"""An int8 OpenVINO file: NNCF places the quantizers and rounds the weights, ranges other than its own are written over its own."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from compressors.quantization.calibrators import Ranges
from compressors.quantization.onnx_int8 import quiet
from compressors.quantization.openvino_size import compact_xml, narrow_constants, share_constants


def convert(float_file: Path) -> Any:
    """The ONNX file as an OpenVINO model; tensors keep their names, and so do nodes."""
    from hardware_profiles.runtimes.table import import_openvino

    with quiet():
        return import_openvino().convert_model(float_file)


def quantized(model: Any, pictures: list[Any], left_float: Iterable[str], *, corrects_biases: bool = True) -> Any:
    """A copy of the model with int8 weights per output channel and activations in NNCF's own ranges, but for the nodes left float.

    The mean error of each layer is taken off its bias. A training with rounding has done that itself: there the rounded network is
    the one that was trained, and biases corrected towards the float one would undo it. Weights of the first convolution keep to 7
    bits, NNCF's precaution for processors that add pairs of products in 16 bits (no VNNI): the picture fills all 8 of its own.
    """
    import nncf

    kept = set(left_float)
    # OpenVINO splits a convolution with a bias in two and gives its name to the addition.
    names = [name for op in model.get_ops() if (name := op.get_friendly_name()).removesuffix("/WithoutBiases") in kept]
    with quiet():
        return nncf.quantize(
            model,
            nncf.Dataset(pictures),
            subset_size=len(pictures),
            preset=nncf.QuantizationPreset.MIXED,
            ignored_scope=nncf.IgnoredScope(names=names, validate=False),
            advanced_parameters=None if corrects_biases else nncf.AdvancedQuantizationParameters(disable_bias_correction=True),
        )


def with_ranges(model: Any, ranges: Ranges) -> Any:
    """A copy of a quantized model in which every activation that has a range here keeps to it."""
    from hardware_profiles.runtimes.table import import_openvino

    copy = model.clone()
    for op in copy.get_ops():
        if op.get_type_name() != "FakeQuantize":
            continue
        names = op.input_value(0).get_names() & ranges.keys()
        if names:
            exact = ranges[min(names)].with_exact_zero()
            for place, end in enumerate((exact.low, exact.high, exact.low, exact.high), start=1):
                shape = tuple(op.input(place).get_shape())
                constant = import_openvino().opset13.constant(np.full(shape, end, np.float32))
                op.input(place).replace_source_output(constant.output(0))
    return copy


def write(model: Any, target: Path, *, float16: bool = False) -> None:
    """Write target (.xml) and the weights beside it, as short as its reader allows; the model itself is narrowed on the way."""
    from hardware_profiles.runtimes.table import import_openvino

    narrow_constants(model)
    share_constants(model)
    with quiet():
        import_openvino().save_model(model, target, compress_to_fp16=float16)
    compact_xml(target)
