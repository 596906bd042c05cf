"""What `sixfold inspect` says of a user's file: what it is, where its work is, what int8 can reach, and how it is fed and read."""

from __future__ import annotations

import dataclasses
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import onnx

from compressors.quantization.float_tail import float_tail_of_graph
from detection.data.sources import read_source
from detection.file_interface.interface import FileInterface, PictureForm
from detection.file_interface.presets import fitting
from detection.frozen import InputError
from flows.inspect.choose import Choice, choose, none_fits
from flows.sweep.params import Plan
from flows.sweep.settings import OnnxDetector
from hardware_profiles.estimate.graph.graph import Graph, GraphError
from hardware_profiles.estimate.graph.reading import read_graph
from hardware_profiles.estimate.model import Operator, cannot_run, estimate
from hardware_profiles.runtimes.onnx_repair import repair
from hardware_profiles.runtimes.onnx_signature import Signature
from hardware_profiles.runtimes.table import Session, SessionError, open_session
from hardware_profiles.schema.profile import HardwareProfile

MOST_PICTURES = 48
"""Of val: with 24 ways of feeding, about a minute for a network of 2 GFLOP on one core."""
SHOWN_OPERATORS = 8
Table = tuple[tuple[str, ...], Sequence[tuple[str, ...]]]
"""Heads and lines."""


@dataclass(frozen=True)
class Inspected:
    """One file, repaired and run once."""

    source: Path
    changes: tuple[str, ...]
    remarks: tuple[str, ...]
    opset: int
    """Of the file as it was given."""
    signature: Signature
    shapes: dict[str, tuple[int, ...]]
    """Of the outputs of one run."""
    session: Session
    graph: Graph | None
    why_not_counted: str | None
    float_nodes: tuple[str, ...]
    """Nodes that int8 leaves in float, in the order of the graph."""
    float_tensors: frozenset[str]
    """What they write."""


def inspect_file(source: Path, input_size: tuple[int, int] | None) -> Inspected:
    """The file as it is and as it computes; InputError where it cannot be used. Sizes are (height, width)."""
    if not source.is_file():
        raise InputError(f"{source}: no such file. Name an ONNX file.")
    with tempfile.TemporaryDirectory(prefix="sixfold-inspect-") as folder:
        target, graph, why_not = Path(folder) / "whole.onnx", None, None
        try:
            repaired = repair(source, target, input_size)
            session = open_session("onnxruntime", target, 1)
        except (GraphError, SessionError) as error:
            raise InputError(str(error)) from error
        try:
            graph = read_graph(target)
        except GraphError as error:
            why_not = str(error)
        results, model = session(session.blank()), onnx.load(target)
    tail = float_tail_of_graph(model)
    written = {name for node in model.graph.node if node.name in set(tail) for name in node.output}
    given = onnx.load(source, load_external_data=False).opset_import
    return Inspected(
        source=source,
        changes=repaired.changes,
        remarks=repaired.remarks,
        opset=next(own.version for own in given if own.domain in ("", "ai.onnx")),
        signature=repaired.signature,
        shapes=dict(zip(repaired.signature.outputs, (result.shape for result in results), strict=True)),
        session=session,
        graph=graph,
        why_not_counted=why_not,
        float_nodes=tail,
        float_tensors=frozenset(written),
    )


def about(found: Inspected) -> Iterator[str]:
    """What the file is, in lines."""
    own = found.signature
    height_px, width_px = own.input_size
    yield f"{found.source}: ONNX, operator set {found.opset}"
    yield f"input {own.input_name}: {own.dtype}, {height_px} x {width_px} (height x width), {own.channels} channels, {own.layout}"
    yield from (f"output {name}: {' x '.join(map(str, shape))}" for name, shape in found.shapes.items())
    yield from (f"changed so that every runtime opens it: {change}" for change in found.changes)
    yield from found.remarks
    if found.graph is None:
        yield f"multiply-adds are not counted: {found.why_not_counted}"
        return
    macs, reached = sum(operator.macs for operator in found.graph.operators), _int8_macs(found)
    params = sum(operator.weight_elements for operator in found.graph.operators)
    yield f"{params / 1e6:.2f} M parameters, {2 * macs / 1e9:.2f} GFLOP a picture"
    yield (
        f"int8 reaches {reached / max(1, macs):.0%} of the multiply-adds; {len(found.float_nodes)} nodes from "
        f"{found.float_nodes[0]} on stay float: the last predictions and what follows them"
    )


def operators_table(found: Inspected) -> Table:
    """Where the work is: operators by type, most multiply-adds first."""
    counts, macs = Counter[str](), Counter[str]()
    for operator in found.graph.operators if found.graph else ():
        name = operator.kind if operator.kind != "other" else operator.op_type
        counts[name] += 1
        macs[name] += operator.macs
    total = max(1, sum(macs.values()))
    ranked = sorted(counts, key=lambda name: (-macs[name], -counts[name]))[:SHOWN_OPERATORS]
    lines = [(name, str(counts[name]), f"{macs[name] / 1e6:.1f}", f"{macs[name] / total:.0%}") for name in ranked]
    return ("operator", "count", "M multiply-adds", "share"), lines


def estimates_table(found: Inspected, profiles: Sequence[HardwareProfile]) -> Table:
    """Estimated latency per device, in float and as if quantized."""
    lines = []
    for profile in profiles if found.graph else ():
        float_s, int8_s = (_estimated_s(own, profile) for own in (_as_int8(found, quantized=False), _as_int8(found)))
        ratio = f"{float_s / int8_s:.1f}x" if float_s and int8_s else "-"
        lines.append((profile.id, *("-" if own is None else f"{own * 1e3:.3g}" for own in (float_s, int8_s)), ratio))
    return ("estimated on", "float ms", "int8 ms", "float / int8"), lines


def _estimated_s(operators: Sequence[Operator], profile: HardwareProfile) -> float | None:
    return None if cannot_run(operators, profile) else estimate(operators, profile).point_s


def _as_int8(found: Inspected, *, quantized: bool = True) -> tuple[Operator, ...]:
    """The operators as if quantized, all but the float tail; or as they are."""
    return tuple(
        dataclasses.replace(step.operator, quantized=quantized and not found.float_tensors & set(step.writes))
        for step in (found.graph.steps if found.graph else ())
    )


def _int8_macs(found: Inspected) -> int:
    return sum(operator.macs for operator in _as_int8(found) if operator.quantized)


def chosen_on_val(found: Inspected, plan: Plan, asked: OnnxDetector, most: int = MOST_PICTURES) -> Choice:
    """How the file is fed and read, by the labels of val; InputError where nothing fits them."""
    names, data = asked.names(plan.base), plan.params.data
    candidates = fitting(found.shapes, found.signature.input_size, len(names))
    if not candidates:
        raise InputError(f"{found.source}: {none_fits(())}")
    labelled = read_source(data.source, plan.base, plan.params.seed)
    if missing := [name for name in labelled.classes if name not in names]:
        raise InputError(f"detector.classes: the data has {missing[0]!r}, which is none of the file's {len(names)} classes.")
    pictures = list(islice((own for own in labelled.splits["val"] if len(own.labels)), most))
    if not pictures:
        raise InputError("data: val has no labelled picture to judge by. Label some 50.")
    file = FileInterface(
        layout=found.signature.layout,
        dtype=found.signature.dtype,
        picture=PictureForm(),
        outputs=tuple(found.shapes),
        decoding=candidates[0][1],
        classes=len(names),
        columns=None if labelled.classes == names else tuple(names.index(name) for name in labelled.classes),
    )
    return choose(file, found.session, found.signature.input_size, candidates, pictures, labelled.classes)


def reading_table(choice: Choice) -> Table:
    """Ways of reading the outputs, best first."""
    lines: list[tuple[str, ...]] = []
    for own in choice.read:
        lines.append((own.preset, own.decoding.boxes.form, "-" if own.map_50 is None else f"{own.map_50:.3f}", own.why_not or ""))
    return ("preset", "boxes", "mAP50, few pictures", "values contradict it"), lines


def feeding_table(choice: Choice) -> Table:
    """Ways of feeding the file, best first."""
    return ("numbers", "colour", "resize", "mAP"), [(*feeding, f"{reached:.3f}") for feeding, reached in choice.fed]


def conclusions(choice: Choice) -> Iterator[str]:
    """What val decides about the feeding, and what it leaves to the user."""
    for axis in choice.axes:
        points = 100 * axis.difference.mean, 100 * axis.difference.low, 100 * axis.difference.high
        spread = f"{axis.other}: {points[0]:+.1f} points [{points[1]:+.1f}, {points[2]:+.1f}]"
        if axis.decided:
            yield f"{axis.name}: {axis.value} ({spread})"
        else:
            yield f"{axis.name}: val does not tell {axis.value} from {axis.other} ({spread}); decide yourself"
