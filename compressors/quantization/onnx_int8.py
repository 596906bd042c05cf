"""An int8 ONNX file by ONNX Runtime's own quantizer, with activation ranges that are given to it."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import onnx

from compressors.quantization.calibrators import Ranges
from compressors.quantization.onnx_size import shrink
from compressors.quantization.picture_input import onnx_takes_pictures
from detection.compact.deployed import PREDICTIONS

TURNING = frozenset({"Transpose", "Reshape"})
"""What brings channels to the end for a product over points."""


def prepare(float_file: Path) -> Path:
    """The file as the quantizer wants it, beside the given one: constants folded, normalisations fused, shapes noted."""
    from onnxruntime.quantization.shape_inference import quant_pre_process

    ready = float_file.with_name("ready.onnx")
    with quiet():
        quant_pre_process(str(float_file), str(ready), skip_symbolic_shape=True)  # every shape is static
    return ready


def write_int8(
    ready: Path, ranges: Ranges, target: Path, *, left_float: Iterable[str] = (), only: Iterable[str] = (), planes: bool = False
) -> None:
    """Write target: quantize and dequantize pairs around all nodes but those left float, or around `only` these.

    It takes pictures as they are stored; with planes, what the float file takes. Weights are int8 per output channel, activations
    unsigned bytes. Every tensor that is quantized needs its range.
    """
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.calibrate import TensorData, TensorsData, save_tensors_data

    before_relu = {node.input[0]: node.output[0] for node in onnx.load(ready).graph.node if node.op_type == "Relu"}
    whole = ranges | {name: ranges[after] for name, after in before_relu.items() if after in ranges and name not in ranges}
    known = {name: TensorData(lowest=np.float32(own.low), highest=np.float32(own.high)) for name, own in whole.items()}
    cache = ready.with_name("ranges.json")  # the quantizer's documented way in for ranges that it did not find itself
    save_tensors_data(TensorsData(CalibrationMethod.MinMax, known), cache)
    with quiet():
        quantize_static(
            str(ready),
            str(target),
            calibration_cache_path=cache,
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=list(left_float),
            nodes_to_quantize=list(only),
        )
    model = onnx.load(target)
    if not planes:
        onnx_takes_pictures(model)
    shrink(model)
    onnx.save(model, target)


def float_tail(model: onnx.ModelProto) -> list[str]:
    """Names of the nodes that stay float: the last predictions with the turning of maps before them, and everything after them.

    Decoding multiplies small errors by the stride, and scores live in the last bits: int8 here is how detectors fall to 0 mAP.
    """
    producers = {output: node for node in model.graph.node for output in node.output}
    waiting = [producers[output.name] for output in model.graph.output]
    tail: dict[str, onnx.NodeProto] = {}
    turning: set[str] = set()
    while waiting:
        node = waiting.pop()
        if node.name in tail:
            continue
        tail[node.name] = node
        before = [producers[name] for name in node.input if name in producers and node.op_type != "Conv"]
        if predicts(node) or node.name in turning:
            before = [own for own in before if own.op_type in TURNING]
            turning.update(own.name for own in before)
        waiting += before
    return list(tail)


def predicts(node: onnx.NodeProto) -> bool:
    """Whether the node is a product that predicts scores or boxes."""
    return node.op_type in ("MatMul", "Gemm") and node.name.startswith(PREDICTIONS)


def float_stem(model: onnx.ModelProto) -> list[str]:
    """Names of the convolutions that read the picture, and of their ReLUs."""
    picture = model.graph.input[0].name
    return with_relus(model, [node.name for node in model.graph.node if node.op_type == "Conv" and node.input[0] == picture])


def with_relus(model: onnx.ModelProto, layers: Iterable[str]) -> list[str]:
    """The layers and the ReLUs right behind them: left float, both are one operation."""
    names = list(layers)
    written = {output for node in model.graph.node if node.name in set(names) for output in node.output}
    return names + [node.name for node in model.graph.node if node.op_type == "Relu" and node.input[0] in written]


def layers_of(model: onnx.ModelProto) -> list[str]:
    """Names of the convolutions before the float tail, in order: what int8 is for."""
    tail = set(float_tail(model))
    return [node.name for node in model.graph.node if node.op_type == "Conv" and node.name not in tail]


def activations_of(model: onnx.ModelProto) -> list[str]:
    """Names of the tensors that may be quantized: the picture, and what the nodes before the float tail write.

    What only a ReLU reads is left out: it is never stored, and shares the range of what the ReLU writes.
    """
    tail, constants = set(float_tail(model)), {tensor.name for tensor in model.graph.initializer}
    readers: dict[str, list[str]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node.op_type)
    pictures = [value.name for value in model.graph.input]
    constants |= {node.output[0] for node in model.graph.node if node.op_type == "Constant"}
    written: list[str] = []
    for node in model.graph.node:
        if node.name in tail or node.op_type == "Constant" or all(name in constants for name in node.input if name):
            constants.update(() if node.name in tail else node.output)
            continue
        written += [name for name in node.output if set(readers.get(name, [])) != {"Relu"}]
    return pictures + written


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """The tools print their own progress; the node's log has one line from us instead."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
