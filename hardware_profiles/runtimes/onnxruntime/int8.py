"""An int8 ONNX file by ONNX Runtime's own quantizer, with activation ranges that are given to it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from hardware_profiles.runtimes.interface import COLOURS, INPUT, MODEL, ForInt8, WriteInt8
from hardware_profiles.runtimes.onnxruntime.shrink import shrink
from hardware_profiles.runtimes.ranges import Ranges
from hardware_profiles.runtimes.writing import CHANNELS_FIRST, planes_size, quiet, replace_nodes

PLANES, BYTES, POSITIONS, POSITIONS_SHAPE = "planes", "bytes", "positions", "shape of positions"


def prepare(float_file: Path) -> Path:
    """The file as the quantizer wants it, in the same folder: constants folded, normalisations fused, shapes noted."""
    from onnxruntime.quantization.shape_inference import quant_pre_process

    ready = float_file.with_name("ready.onnx")
    with quiet():
        quant_pre_process(str(float_file), str(ready), skip_symbolic_shape=True)  # every shape is static
    return ready


def int8_writer(made_from: ForInt8) -> WriteInt8:
    """What writes int8 files of one detector."""

    def write(ranges: Ranges, left_float: Iterable[str], folder: Path) -> Path:
        target = folder / f"{MODEL}.onnx"
        write_int8(made_from.prepared_file, ranges, target, left_float=left_float, planes=not made_from.takes_pictures)
        return target

    return write


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
        take_pictures(model)
    shrink(model)
    onnx.save(model, target)


def take_pictures(model: onnx.ModelProto) -> None:
    """Change the model in place: its input is transposed into planes, and rounded by nobody."""
    graph = model.graph
    (planes,) = graph.input
    height_px, positions, channels = planes_size(planes)
    rounding = [node for node in graph.node if node.op_type == "QuantizeLinear" and node.input[0] == INPUT]
    before = []
    if channels != COLOURS:
        shape = np.array([1, height_px, positions, channels], np.int64)
        graph.initializer.append(numpy_helper.from_array(shape, POSITIONS_SHAPE))
        before.append(helper.make_node("Reshape", [INPUT, POSITIONS_SHAPE], [POSITIONS]))
    before.append(helper.make_node("Transpose", [POSITIONS if before else INPUT], [BYTES], perm=CHANNELS_FIRST))
    renamed = {node.output[0]: BYTES for node in rounding}
    kept = [node for node in graph.node if node not in rounding]
    if any(INPUT in node.input for node in kept):  # a first convolution that stays float
        before.append(helper.make_node("Cast", [BYTES], [PLANES], to=TensorProto.FLOAT))
        renamed[INPUT] = PLANES
    for node in kept:
        for position, name in enumerate(node.input):
            node.input[position] = renamed.get(name, name)
    width_px = positions * channels // COLOURS
    planes.CopyFrom(helper.make_tensor_value_info(INPUT, TensorProto.UINT8, [1, height_px, width_px, COLOURS]))
    replace_nodes(graph, [*before, *kept])
