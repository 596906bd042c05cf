"""A user's ONNX file made whole and plain: one picture of a fixed size in, the same numbers out, every change told.

It lies beside the runtimes and in none of them, because what it writes is for all of them. Numbers are compared in ONNX Runtime.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.inliner
import onnx.version_converter
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from onnx.external_data_helper import ExternalDataInfo, load_external_data_for_model, uses_external_data

from hardware_profiles.estimate.graph.graph import GraphError
from hardware_profiles.runtimes.interface import COLOURS, first_line
from hardware_profiles.runtimes.onnx_edits import (
    all_nodes,
    constants_apart,
    keep,
    keep_resizing,
    name_nodes,
    note_outputs,
    one_instead_of,
    tensors_read,
)  # fmt: skip
from hardware_profiles.runtimes.onnx_signature import Signature, dtype_of, layout_of, read_signature, set_sides, sides_of

LEAST_OPSET, PREFERRED_OPSET = 13, 17
"""From 13 on weights can be quantized per output channel. 17 is the last before reductions took their axes as an input."""
LEAST_IR, PREFERRED_IR = 4, 10
"""Before 4 every initializer had to be an input. Above 10 is kept only where the operator set asks for it, for older runtimes."""
LEAST_RESIZE_OPSET = 11
"""The first in which Resize says how it finds its source positions; the converter gives older ones another rule than theirs."""
MOST_BYTES = onnx.checker.MAXIMUM_PROTOBUF
"""Of one file without external data."""
STANDARD = ("", "ai.onnx")
RUNTIME_DOMAIN = "com.microsoft"
"""Operators of ONNX Runtime itself."""
SIZE_INPUTS: dict[str, tuple[str | int, ...]] = {
    "im_shape": ("height", "width"),
    "image_shape": ("height", "width"),
    "im_info": ("height", "width", 1),
    "orig_target_sizes": ("width", "height"),
    "scale_factor": (1,),
    "pixel_mask": (1,),
}
"""Inputs besides the picture, as PaddleDetection, the ONNX model zoo, RT-DETR and transformers name them, and the constants that
replace them: boxes come out in pixels of the network's input."""
SHOWN_NAMES = 3
CLOSE = 1e-3
"""The most that numbers may differ, as a share of the greatest: kernels of two operator sets may sum in another order."""


@dataclass(frozen=True)
class Repaired:
    """A file that was repaired."""

    file: Path
    signature: Signature
    changes: tuple[str, ...]
    """A sentence for each change; empty where the file was plain already."""
    remarks: tuple[str, ...]
    """A sentence for each thing that stays as it is and that users should know."""


def repair(source: Path, target: Path, input_size: tuple[int, int] | None) -> Repaired:
    """The file written to target: opset 13 or newer, one picture of a fixed (height, width), constants apart, every node named.

    Without an input size the file's own stays. Inputs and outputs keep their names and types. GraphError, and no file, where it
    cannot become that, or does not compute the same any more.
    """
    work = _Repair(source)
    try:
        work.through(input_size)
    except GraphError:
        raise
    except Exception as error:  # in a file of another maker
        why = f"{type(error).__name__}: {first_line(error)}"
        raise work.error(f"its graph is not understood ({why}); export it again, and report the file") from error
    part = target.with_name(f"{target.name}.part")
    part.write_bytes(work.model.SerializeToString())
    part.replace(target)
    return Repaired(target, read_signature(target), tuple(work.changes), tuple(work.remarks))


class _Repair:
    """One file on its way."""

    def __init__(self, source: Path) -> None:
        self.source = source
        self.changes: list[str] = []
        self.remarks: list[str] = []
        self.model = self._loaded()

    def error(self, found: str) -> GraphError:
        return GraphError(f"{self.source}: {found}")

    def note(self, count: int, change: str) -> None:
        """A sentence, where anything was changed."""
        self.changes += [change] if count else []

    def through(self, input_size: tuple[int, int] | None) -> None:
        """All steps, in the order in which they need each other."""
        self.make_plain()
        self.refuse_foreign()
        self.find_picture(input_size)
        before = self.fix_shape()
        self.convert()
        self.compare(before)

    def _loaded(self) -> onnx.ModelProto:
        """The whole file in memory, with the data that lie beside it."""
        if not self.source.is_file():
            raise self.error("no such file")
        try:
            model = onnx.load(self.source, format="protobuf", load_external_data=False)
        except Exception as error:  # of a protobuf library, of which there are several
            raise self.error(f"not a whole ONNX file ({first_line(error)}); copy or export it again") from error
        if not model.graph.node or not any(own.domain in STANDARD for own in model.opset_import):
            raise self.error("not a whole ONNX file (no nodes, or no operator set); copy or export it again")
        outside = sorted({ExternalDataInfo(own).location for own in model.graph.initializer if uses_external_data(own)})
        files = [self.source, *(path for name in outside if (path := self.source.parent / name).is_file())]
        if (size := sum(path.stat().st_size for path in files)) > MOST_BYTES:
            raise self.error(f"its weights take {size} bytes, and one ONNX file holds {MOST_BYTES} at most; use a smaller detector")
        try:
            load_external_data_for_model(model, str(self.source.parent))
        except Exception as error:  # of the checker or of the file system
            raise self.error(f"its weights lie in {_some(outside)} ({first_line(error)}); put that beside it") from error
        self.note(len(outside), f"Weights written into the file: {_some(outside)}.")
        return model

    def make_plain(self) -> None:
        """Functions opened, constants in one list and not among the inputs, nothing unread, every node with a name of its own."""
        self.old_ir = self.model.ir_version
        self._set_ir()
        functions = len(self.model.functions)
        if functions:
            self.model = onnx.inliner.inline_local_functions(self.model)
        self.note(functions, f"Functions of the file opened where they are called: {functions}.")
        graph, nodes = self.model.graph, len(self.model.graph.node)
        constants_apart(graph)
        self.note(moved := nodes - len(graph.node), f"Constants moved from nodes to initializers: {moved}.")
        constant = {own.name for own in graph.initializer}
        removed = keep(graph.input, lambda value: value.name not in constant)
        self.note(len(removed), f"Initializers removed from the inputs: {len(removed)}.")
        read = tensors_read(graph)
        removed = keep(graph.input, lambda value: value.name in read)
        self.note(len(removed), f"Inputs removed that nothing reads: {_some(removed)}.")
        self.note(named := name_nodes(graph), f"Nodes named that had no name, or that of another: {named}.")

    def refuse_foreign(self) -> None:
        """GraphError for operators that no runtime here knows, and for inputs and outputs that are no tensors."""
        kinds = {(node.domain, node.op_type): node.name for node in all_nodes(self.model.graph)}
        for (domain, kind), name in kinds.items():
            own = f"{kind} (node {name!r})"
            if domain == RUNTIME_DOMAIN:
                self.remarks.append(f"{own} is an operator of ONNX Runtime: other runtimes may not open the file.")
            elif not onnx.defs.has(kind, "" if domain in STANDARD else domain):
                known = f"known are ONNX's own and those of {RUNTIME_DOMAIN}; export without it"
                raise self.error(f"{own} is no operator of {domain or 'ONNX'} that is known here; {known}")
            elif kind == "NonMaxSuppression":
                self.remarks.append(f"{own} suppresses boxes inside the file: how many come out depends on the picture.")
        for value in (*self.model.graph.input, *self.model.graph.output):
            if (holds := value.type.WhichOneof("value")) != "tensor_type":
                raise self.error(f"{value.name!r} is of {holds}; inputs and outputs must be plain tensors, export them so")

    def find_picture(self, input_size: tuple[int, int] | None) -> None:
        """The picture among the inputs and the shape that it is to have; other inputs become constants."""
        graph, inputs = self.model.graph, list(self.model.graph.input)
        pictures = [value for value in inputs if len(sides_of(value)) == 4 or (len(inputs) == 1 and not sides_of(value))]
        if len(pictures) != 1:
            found = ", ".join(f"{value.name!r} ({_shown(sides_of(value))})" for value in inputs) or "none"
            raise self.error(f"its inputs are {found}; one must be a picture of 4 axes, and only one; export it so")
        (self.picture,) = pictures
        self.declared = sides_of(self.picture) or (None,) * 4
        last = layout_of(graph, self.picture) == "nhwc"
        self.remarks += [f"Input {self.picture.name!r} takes channels last: (1, height, width, channels)."] if last else []
        channels, *own_size = (self.declared[3], *self.declared[1:3]) if last else self.declared[1:]
        height, width = input_size or own_size
        if height is None or width is None:
            raise self.error(
                f"input {self.picture.name!r} is {_shown(self.declared)}: its height or width is open. Give input_size, "
                "(height, width) in pixels, as the detector was trained"
            )
        channels = channels or COLOURS
        self.shape = (1, height, width, channels) if last else (1, channels, height, width)
        for value in inputs:
            if value is not self.picture:
                self._fold(value, height, width)

    def _fold(self, value: onnx.ValueInfoProto, height: int, width: int) -> None:
        words: dict[str | int, int] = {"height": height, "width": width, 1: 1}
        numbers = np.array([words[word] for word in SIZE_INPUTS.get(value.name, ())], dtype_of(value))
        sides = [side or usual for side, usual in zip(sides_of(value), (1, height, width), strict=False)]
        try:
            constant = numpy_helper.from_array(np.broadcast_to(numbers, sides).copy(), value.name)
        except ValueError as error:
            raise self.error(
                f"input {value.name!r} ({_shown(sides_of(value))}) is no picture and nothing is known to put there; known are "
                f"{', '.join(SIZE_INPUTS)}. Make it a constant, or export without it"
            ) from error
        self.model.graph.initializer.append(constant)
        self.model.graph.input.remove(value)
        self.changes.append(f"Input {value.name!r} replaced by the constant {', '.join(map(str, numbers.tolist()))}.")

    def fix_shape(self) -> onnx.ModelProto:
        """Give the input its shape; back comes the model before that, for pictures of the same size in the file's own batch."""
        before, graph, name = onnx.ModelProto(), self.model.graph, self.picture.name
        self.batch = self.declared[0] or 1
        self.noted = len(graph.value_info)
        del graph.value_info[:]
        for output in graph.output:
            output.type.tensor_type.ClearField("shape")
        set_sides(self.picture, (self.batch, *self.shape[1:]))
        before.CopyFrom(self.model)
        set_sides(self.picture, self.shape)
        self.note(self.declared != self.shape, f"Input {name!r} changed from {_shown(self.declared)} to {_shown(self.shape)}.")
        changed = one_instead_of(self.batch, graph) if self.batch > 1 else []
        self.note(len(changed), f"Batch of {self.batch} changed to 1 in what these nodes write: {_some(changed)}.")
        return before

    def convert(self) -> None:
        """To an opset that can be quantized, and an IR version that is neither older than that nor needlessly new."""
        own = next(own for own in self.model.opset_import if own.domain in STANDARD)
        if own.version < LEAST_OPSET:
            converted, opset = self._converted(own.version)
            self.changes.append(f"Converted from opset {own.version} to {opset}.")
            constants_apart(converted.graph)
            name_nodes(converted.graph)
            if own.version < LEAST_RESIZE_OPSET:
                keep_resizing(converted.graph)
            del converted.metadata_props[:]
            converted.metadata_props.extend(self.model.metadata_props)
            self.model = converted
        self._set_ir()
        new, graph = self.model.ir_version, self.model.graph
        self.note(new != self.old_ir, f"IR version changed from {self.old_ir} to {new}.")
        read = tensors_read(graph)
        removed = keep(graph.initializer, lambda own: own.name in read)
        self.note(len(removed), f"Initializers removed that nothing reads: {_some(removed)}.")

    def _set_ir(self) -> None:
        needed = helper.find_min_ir_version_for(self.model.opset_import, ignore_unknown=True)
        self.model.ir_version = min(max(self.model.ir_version, needed, LEAST_IR), max(PREFERRED_IR, needed))

    def _converted(self, own: int) -> tuple[onnx.ModelProto, int]:
        why = ""
        for opset in (PREFERRED_OPSET, LEAST_OPSET):
            try:
                return onnx.version_converter.convert_version(self.model, opset), opset
            except Exception as error:  # its exceptions have no common base
                why = first_line(error)
        raise self.error(f"opset {own} cannot be converted to {LEAST_OPSET} or newer ({why}); export it with {PREFERRED_OPSET}")

    def compare(self, before: onnx.ModelProto) -> None:
        """Note the shapes of all tensors; GraphError where the file does not run, or computes other numbers than before."""
        kind, generator = dtype_of(self.picture), np.random.default_rng(0)
        picture = (generator.random(self.shape) * (1 if kind.kind == "f" else 256)).astype(kind)
        try:
            wanted = _run(before, np.repeat(picture, self.batch, axis=0))
            self.model = onnx.shape_inference.infer_shapes(self.model, data_prop=True)
            results = _run(self.model, picture)
            note_outputs(self.model.graph, results)
            onnx.checker.check_model(self.model)
        except Exception as error:  # neither library's exceptions have a common base
            raise self.error(
                f"it is not valid, or does not run, for one picture of {_shown(self.shape)} ({first_line(error)}); in the file it "
                f"is {_shown(self.declared)}. Choose the size that it was exported for, or export it again for this one"
            ) from error
        self.note((more := len(self.model.graph.value_info) - self.noted) > 0, f"Tensors whose shape is noted now: {more}.")
        for value, old, new in zip(self.model.graph.output, wanted, results, strict=True):
            if not _equal(old[: len(new)] if self.batch > 1 and new.ndim else old, new):
                raise self.error(
                    f"output {value.name!r} is not the same after these changes: {' '.join(self.changes)} Export it again for "
                    f"one picture of a fixed size, with opset {PREFERRED_OPSET}"
                )


def _some(names: Sequence[str]) -> str:
    """The first names, and how many there are besides."""
    rest = len(names) - SHOWN_NAMES
    return ", ".join(names[:SHOWN_NAMES]) + (f" and {rest} more" if rest > 0 else "")


def _shown(sides: Sequence[int | None]) -> str:
    return " x ".join("open" if side is None else str(side) for side in sides) or "without a shape"


def _run(model: onnx.ModelProto, pictures: NDArray[Any]) -> list[NDArray[Any]]:
    """All outputs in ONNX Runtime, on one thread and without its optimizations, so that both files take the same kernels."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4  # what it has to say is in the exception
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return [np.asarray(result) for result in session.run(None, {model.graph.input[0].name: pictures})]


def _equal(old: NDArray[Any], new: NDArray[Any]) -> bool:
    if old.shape != new.shape:
        return False
    wide = old.astype(np.float64)
    greatest = float(np.max(np.abs(wide), initial=0.0, where=np.isfinite(wide)))
    return np.allclose(wide, new.astype(np.float64), rtol=CLOSE, atol=CLOSE * greatest, equal_nan=True)
