"""The same OpenVINO model in fewer bytes: equal constants once, narrow ones in narrow types, an .xml without what is inferred."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

from hardware_profiles.runtimes.openvino.runtime import import_openvino
from hardware_profiles.runtimes.writing import narrowest

ENDS = frozenset({"Parameter", "Result"})
"""Layers whose names callers use."""
MODEL_NAME = "detector"
NUMBERED = re.compile(r"[A-Z][A-Za-z0-9]*_[0-9]+")
"""What OpenVINO calls an operator that nobody named: its type, or that of what it replaces, and a counter of the whole process."""


def share_constants(model: Any) -> None:
    """Store equal constants of the model once, in place; four in five of a quantizer's bounds are zeros or repetitions."""
    first: dict[tuple[str, tuple[int, ...], bytes], Any] = {}
    for op in model.get_ordered_ops():
        if op.get_type_name() == "Constant":
            key = str(op.get_element_type()), tuple(op.get_output_shape(0)), op.get_data().tobytes()
            if key in first:
                op.output(0).replace(first[key].output(0))
            else:
                first[key] = op


def narrow_constants(model: Any) -> None:
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
