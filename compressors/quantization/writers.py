"""What writes the int8 files of a detector in one runtime: its own writer, which also leaves the predictions in float."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import onnx

from compressors.quantization.float_parts import float_tail
from hardware_profiles.runtimes.interface import ForInt8, Runtime, WriteInt8
from hardware_profiles.runtimes.ranges import Ranges


def int8_writer(runtime: Runtime, made_from: ForInt8) -> WriteInt8:
    """The runtime's writer; nodes of the float tail stay float whatever else does."""
    files = (made_from.planes_file, made_from.prepared_file)  # preparing fuses nodes, and some runtimes start from the other file
    tail = tuple(dict.fromkeys(name for file in files for name in float_tail(onnx.load(file))))
    write = runtime.int8_writer(made_from)

    def write_but_tail(ranges: Ranges, left_float: Iterable[str], folder: Path) -> Path:
        return write(ranges, (*tail, *left_float), folder)

    return write_but_tail


def float_file(runtime: Runtime, exported: Path) -> Path:
    """The exported file, or what the runtime opens in its place where it opens no ONNX."""
    return exported if runtime.pack is None else runtime.pack(exported, exported.parent)
