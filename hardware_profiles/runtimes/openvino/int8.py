"""OpenVINO files in int8 or float16, in few bytes. NNCF places quantizers and rounds weights; given ranges replace its own."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hardware_profiles.runtimes.interface import COLOURS, INPUT, MODEL, ForInt8, WriteInt8
from hardware_profiles.runtimes.openvino.runtime import import_openvino
from hardware_profiles.runtimes.ranges import Ranges
from hardware_profiles.runtimes.writing import CHANNELS_FIRST, narrowest, quiet

MOVES = frozenset({"Reshape", "Transpose", "Squeeze", "Unsqueeze", "Convert"})
"""Layers that leave numbers as they are."""
ENDS = frozenset({"Parameter", "Result"})
"""Layers whose names callers use."""
MODEL_NAME = "detector"
NUMBERED = re.compile(r"[A-Z][A-Za-z0-9]*_[0-9]+")
"""What OpenVINO calls an operator that nobody named: its type, or that of what it replaces, and a counter of the whole process."""


def int8_writer(made_from: ForInt8) -> WriteInt8:
    """What writes int8 files of one detector; NNCF places its quantizers once for every choice of nodes."""
    float_model = convert(made_from.planes_file)
    placed: dict[tuple[str, ...], Any] = {}

    def write_int8(ranges: Ranges, left_float: Iterable[str], folder: Path) -> Path:
        nodes, target = tuple(left_float), folder / f"{MODEL}.xml"
        if nodes not in placed:
            corrects_biases = not made_from.trained_for_int8
            placed[nodes] = quantized(float_model, made_from.pictures, nodes, corrects_biases=corrects_biases)
        ranged = with_ranges(placed[nodes], ranges)
        write(take_pictures(ranged) if made_from.takes_pictures else ranged, target)
        return target

    return write_int8


def write_float16(float_file: Path, folder: Path) -> Path:
    """The file with float16 weights, in folder."""
    target = folder / f"{MODEL}.xml"
    write(convert(float_file), target, float16=True)
    return target


def convert(float_file: Path) -> Any:
    """The ONNX file as an OpenVINO model; tensors keep their names, and so do nodes."""
    with quiet():
        return import_openvino().convert_model(float_file)


def quantized(model: Any, pictures: Sequence[Any], left_float: Iterable[str], *, corrects_biases: bool = True) -> Any:
    """A copy of the model with int8 weights per output channel and activations in NNCF's own ranges, but for the nodes left float.

    The mean error of each layer is taken off its bias. Quantization-aware training has done that itself: there the quantized
    network is the one that was trained, and biases corrected towards the float one would undo it. Weights of the first
    convolution keep to 7 bits, NNCF's precaution for processors that add pairs of products in 16 bits (no VNNI): the picture
    fills all 8 of its own. A network that attends is quantized as NNCF does transformers: the shares that a softmax gives stay
    float, and large channels are evened out before products with weights (SmoothQuant, arXiv:2211.10438).
    """
    import nncf

    kept = set(left_float)
    # OpenVINO splits a convolution with a bias in two and gives its name to the addition.
    names = [name for op in model.get_ops() if (name := op.get_friendly_name()).removesuffix("/WithoutBiases") in kept]
    with quiet():
        return nncf.quantize(
            model,
            nncf.Dataset(list(pictures)),
            subset_size=len(pictures),
            preset=nncf.QuantizationPreset.MIXED,
            model_type=nncf.ModelType.TRANSFORMER if attends(model, kept) else None,
            ignored_scope=nncf.IgnoredScope(names=names, validate=False),
            advanced_parameters=None if corrects_biases else nncf.AdvancedQuantizationParameters(disable_bias_correction=True),
        )


def attends(model: Any, left_float: Collection[str]) -> bool:
    """Whether what is quantized weighs values by a softmax that the picture decides: a product of two tensors, neither constant."""
    for op in model.get_ops():
        if op.get_type_name() == "ScaledDotProductAttention" and op.get_friendly_name() not in left_float:
            return True
        if op.get_type_name() != "MatMul" or op.get_friendly_name() in left_float:
            continue
        sources = [_source(op, place) for place in range(2)]
        types = {own.get_type_name() for own in sources}
        if "Softmax" in types and "Constant" not in types:
            return True
    return False


def _source(op: Any, place: int) -> Any:
    """What computes an input, past layers that move numbers alone."""
    found = op.input_value(place).get_node()
    while found.get_type_name() in MOVES:
        found = found.input_value(0).get_node()
    return found


def with_ranges(model: Any, ranges: Ranges) -> Any:
    """A copy of a quantized model in which every activation that has a range here keeps to it."""
    copy = model.clone()
    for op in copy.get_ops():
        if op.get_type_name() != "FakeQuantize":
            continue
        names = op.input_value(0).get_names() & ranges.keys()
        if names:
            exact = ranges[min(names)].with_exact_zero()
            for port, end in enumerate((exact.low, exact.high, exact.low, exact.high), start=1):
                shape = tuple(op.input(port).get_shape())
                constant = import_openvino().opset13.constant(np.full(shape, end, np.float32))
                op.input(port).replace_source_output(constant.output(0))
    return copy


def write(model: Any, target: Path, *, float16: bool = False) -> None:
    """Write target (.xml) and its weights (.bin), as short as its reader allows; the model itself is narrowed on the way."""
    _narrow_constants(model)
    _share_constants(model)
    with quiet():
        import_openvino().save_model(model, target, compress_to_fp16=float16)
    compact_xml(target)


def take_pictures(model: Any) -> Any:
    """A model with the conversion to planes before it, which its runtime leaves out where the picture is rounded by levels of 1.

    The given one is changed as well, and no longer of use.
    """
    openvino = import_openvino()
    ops, planes = openvino.opset13, model.input(INPUT).get_node()
    _, channels, height_px, positions = planes.get_output_shape(0)
    picture = ops.parameter([1, height_px, positions * channels // COLOURS, COLOURS], openvino.Type.u8, name=INPUT)
    taken = picture
    if channels != COLOURS:
        taken = ops.reshape(taken, ops.constant(np.array([1, height_px, positions, channels], np.int64)), special_zero=False)
    transposed = ops.transpose(ops.convert(taken, "f32"), ops.constant(np.array(CHANNELS_FIRST, np.int64)))
    planes.output(0).replace(transposed.output(0))
    picture.output(0).set_names({INPUT})
    return openvino.Model(model.outputs, [picture])


def _share_constants(model: Any) -> None:
    """Store equal constants of the model once, in place; four in five of a quantizer's bounds are zeros or repetitions."""
    first: dict[tuple[str, tuple[int, ...], bytes], Any] = {}
    for op in model.get_ordered_ops():
        if op.get_type_name() == "Constant":
            key = str(op.get_element_type()), tuple(op.get_output_shape(0)), op.get_data().tobytes()
            if key in first:
                op.output(0).replace(first[key].output(0))
            else:
                first[key] = op


def _narrow_constants(model: Any) -> None:
    """Store large float32 constants that fit a smaller type exactly in it, in place; the runtime widens them when it loads them."""
    operators = import_openvino().opset13
    for op in model.get_ordered_ops():
        values = narrowest(op.get_data()) if op.get_type_name() == "Constant" else None
        if values is not None:
            wide = operators.convert(operators.constant(values), "f32")
            op.output(0).replace(wide.output(0))


def compact_xml(path: Path) -> None:
    """Rewrite the .xml in place without indentation, notes of the tools, what is inferred of ports, names of inner tensors.

    The reader infers sizes from the input's and takes types from where a tensor is written. Names of layers stay, since profiles
    and other readers show them, but for constants. Layers without a name are numbered in the order of the file: what the process
    did before must not be in it, or equal work would give files of other digests and sizes.
    """
    tree = ET.parse(path)
    root = tree.getroot()
    root.set("name", MODEL_NAME)
    for note in root.findall("rt_info"):
        root.remove(note)
    for layer in root.iter("layer"):
        for note in layer.findall("rt_info"):
            layer.remove(note)
        if layer.get("type") == "Const":
            layer.set("name", f"c{layer.get('id')}")
        elif NUMBERED.fullmatch(layer.get("name", "")):
            layer.set("name", f"{layer.get('type')}_{layer.get('id')}")
        for port in layer.iterfind("input/port"):
            port.attrib.pop("precision", None)
        for port in layer.iter("port"):
            for size in port.findall("dim"):
                port.remove(size)
            if layer.get("type") not in ENDS:
                port.attrib.pop("names", None)
    for element in root.iter():
        element.tail = None
        if element.text is not None and not element.text.strip():
            element.text = None
    text = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    path.write_bytes(text.replace(b" />", b"/>"))  # no attribute holds a bare ">": it is escaped there
