"""What `sixfold inspect` finds out about a user's file: what it is, what int8 can reach in it, and how it is fed and read."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from random import Random

import onnx

from compressors.quantization.float_tail import float_tail_of_graph
from detection.brought import OnnxDetector
from detection.data.labelled import Labelled, Picture
from detection.data.sources import read_source
from detection.file_interface.declaration import Decoding
from detection.file_interface.interface import PictureForm
from detection.file_interface.presets import fitting, named
from detection.frozen import InputError
from flows.inspect.choose import Choice, choose
from flows.inspect.feeding import DECLARED, feedings
from flows.inspect.search import ROUNDS
from flows.progress import reading
from flows.stats.map_bootstrap import MIN_PICTURES
from flows.sweep.given import interface_of
from flows.sweep.params import Plan
from hardware_profiles.estimate.graph.graph import Graph, GraphError
from hardware_profiles.estimate.graph.reading import read_graph
from hardware_profiles.runtimes.onnx_repair import repair
from hardware_profiles.runtimes.onnx_signature import Signature
from hardware_profiles.runtimes.table import Session, SessionError, open_session


@dataclass(frozen=True)
class Inspected:
    """One file, repaired and run."""

    source: Path
    changes: tuple[str, ...]
    remarks: tuple[str, ...]
    opset: int
    """Of the file as it was given."""
    signature: Signature
    shapes: dict[str, tuple[int, ...]]
    """Of the outputs of one run, in the order in which every runtime gives them."""
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
            why_not = str(error).removeprefix(f"{target}: ")
        model = onnx.load(target)
    results = session(session.blank())
    tail = float_tail_of_graph(model)
    written = {name for node in model.graph.node if node.name in set(tail) for name in node.output}
    given = onnx.load(source, load_external_data=False).opset_import
    return Inspected(
        source=source,
        changes=repaired.changes,
        remarks=repaired.remarks,
        opset=next(own.version for own in given if own.domain in ("", "ai.onnx")),
        signature=repaired.signature,
        shapes=dict(zip(session.output_names, (result.shape for result in results), strict=True)),
        session=session,
        graph=graph,
        why_not_counted=why_not,
        float_nodes=tail,
        float_tensors=frozenset(written),
    )


def labelled_data(plan: Plan) -> Labelled:
    """The plan's pictures; InputError where it names none."""
    if "data" not in plan.params.model_fields_set:
        raise InputError("data: the plan has no such section, and without labelled pictures nothing tells how the file is fed.")
    return read_source(plan.params.data.source, plan.base, plan.params.seed, reading)


def chosen_on_val(found: Inspected, plan: Plan, asked: OnnxDetector, labelled: Labelled) -> Choice:
    """How the file is fed and read, by the labels of val; InputError where nothing fits them."""
    own, signature = asked.names(plan.base), found.signature
    candidates = _candidates(found, asked, len(own))
    file = interface_of(signature, tuple(found.shapes), PictureForm(), candidates[0][1], own, labelled.classes)
    pictures = _drawn([own for own in labelled.splits["val"] if not own.crowd.all()], plan.params.seed)
    ways = feedings(signature.dtype, signature.channels, asked.input, plan.params.data.resize)
    declared = None if asked.decode == "auto" else candidates[0][1]
    return choose(file, found.session, signature.input_size, ways, candidates, pictures, labelled.classes, declared)


def decode_value(found: Inspected, preset: str, decoding: Decoding, classes: int) -> str | Decoding:
    """The name of a preset where its usual form is what is meant; otherwise the parts."""
    usual = None if preset == DECLARED else named(preset, found.shapes, found.signature.input_size, classes)[0]
    return preset if usual == decoding else decoding


def _candidates(found: Inspected, asked: OnnxDetector, classes: int) -> list[tuple[str, Decoding]]:
    """What takes these outputs, what the plan declares first; InputError where nothing does."""
    outputs = found.shapes, found.signature.input_size, classes
    fits = {decoding: preset for preset, decoding in fitting(*outputs)}
    own: dict[Decoding, str] = {}
    if isinstance(asked.decode, Decoding):
        own = {asked.decode: fits.get(asked.decode, DECLARED)}
    elif asked.decode != "auto":
        own = dict.fromkeys(named(asked.decode, *outputs), asked.decode)
    if not own | fits:
        raise InputError(
            f"{found.source}: no preset takes outputs of these shapes with {classes} classes. Correct `detector.classes`, or "
            "declare the parts of `detector.decode` (docs/your-detector.md)."
        )
    return [(preset, decoding) for decoding, preset in {**own, **fits, **own}.items()]


def _drawn(labelled: list[Picture], seed: int) -> list[Picture]:
    """Some of these pictures, in any order: neighbours in a list are often alike. InputError where they are too few to compare."""
    if len(labelled) < MIN_PICTURES:
        raise InputError(f"data: val has {len(labelled)} labelled pictures, at least {MIN_PICTURES} are needed. Label some 50.")
    return Random(seed).sample(labelled, min(len(labelled), ROUNDS[-1].pictures))
