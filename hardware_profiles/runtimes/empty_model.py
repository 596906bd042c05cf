"""A detector that does nothing, for what a runtime costs by itself: two element-wise operators, no weights."""

from __future__ import annotations

from pathlib import Path

from hardware_profiles.runtimes.table import INPUT, OUTPUTS, RUNTIMES

SIDE_PX = 8
SHAPE = (1, 3, SIDE_PX, SIDE_PX)
OPSET, IR_VERSION, FLOAT = 17, 8, 1
"""ONNX 1.12's, which every runtime of today reads; FLOAT is TensorProto.FLOAT."""


def write_empty_model(runtime: str, folder: Path) -> Path:
    """Write the model as the runtime's own kind of file into the folder; its path.

    Made by hand, since the process that needs it must not load the libraries that could make it: they would count as memory
    of the runtime. OpenVINO gets its own format, for reading ONNX would load a reader that the files of a sweep do not need.
    """
    suffix = RUNTIMES[runtime].suffixes[0]
    path = folder / f"empty{suffix}"
    path.write_bytes(_openvino_ir() if suffix == ".xml" else _onnx())
    return path


def _onnx() -> bytes:
    """ModelProto (onnx.proto3): ir_version = 1, graph = 7, opset_import = 8."""
    nodes = b"".join(_message(1, _string(1, INPUT) + _string(2, output) + _string(4, "Relu")) for output in OUTPUTS)
    ends = _message(11, _value(INPUT)) + b"".join(_message(12, _value(output)) for output in OUTPUTS)
    graph = nodes + _string(2, "empty") + ends
    return _number(1, IR_VERSION) + _message(7, graph) + _message(8, _number(2, OPSET))


def _value(name: str) -> bytes:
    """ValueInfoProto: name = 1, type = 2 { tensor_type = 1 { elem_type = 1, shape = 2 { dim = 1 { dim_value = 1 } } } }."""
    shape = b"".join(_message(1, _number(1, side)) for side in SHAPE)
    return _string(1, name) + _message(2, _message(1, _number(1, FLOAT) + _message(2, shape)))


def _number(field: int, value: int) -> bytes:
    """A protobuf varint below 128: one byte."""
    return bytes([field << 3, value])


def _string(field: int, value: str) -> bytes:
    return _message(field, value.encode())


def _message(field: int, content: bytes) -> bytes:
    """A length-delimited protobuf field; lengths up to 16383, in base 128 with the low digit first."""
    low, high = len(content) & 0x7F, len(content) >> 7
    length = bytes([low | 0x80, high]) if high else bytes([low])
    return bytes([field << 3 | 2]) + length + content


def _openvino_ir() -> bytes:
    """OpenVINO's IR, version 11."""
    sides = "".join(f"<dim>{side}</dim>" for side in SHAPE)
    layers = [f'<layer id="0" name="{INPUT}" type="Parameter" version="opset1"><data shape="{_comma(SHAPE)}" element_type="f32"/>']
    layers.append(f'<output><port id="0" precision="FP32" names="{INPUT}">{sides}</port></output></layer>')
    edges = []
    for i, name in enumerate(OUTPUTS):
        own, end = 2 * i + 1, 2 * i + 2
        layers.append(f'<layer id="{own}" name="{name}" type="ReLU" version="opset1"><input><port id="0">{sides}</port></input>')
        layers.append(f'<output><port id="1" precision="FP32" names="{name}">{sides}</port></output></layer>')
        layers.append(f'<layer id="{end}" name="{name}/end" type="Result" version="opset1">')
        layers.append(f'<input><port id="0">{sides}</port></input></layer>')
        edges.append(f'<edge from-layer="0" from-port="0" to-layer="{own}" to-port="0"/>')
        edges.append(f'<edge from-layer="{own}" from-port="1" to-layer="{end}" to-port="0"/>')
    return f'<net name="empty" version="11"><layers>{"".join(layers)}</layers><edges>{"".join(edges)}</edges></net>'.encode()


def _comma(sides: tuple[int, ...]) -> str:
    return ",".join(str(side) for side in sides)
