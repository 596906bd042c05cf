"""The detector that a user brings: read, made whole, described, and put into the store for every worker."""

from __future__ import annotations

import tempfile
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple, get_args

import onnx
from onnx.external_data_helper import uses_external_data

from detection.brought import OnnxDetector
from detection.checkpoint import Detector
from detection.family import family_named
from detection.file_interface.declaration import Decoding
from detection.file_interface.interface import FileInterface, InputType, PictureForm
from detection.file_interface.presets import named
from detection.frozen import Digest, InputError
from detection.spec import Spec
from flows.records.files import file_digest
from hardware_profiles.estimate.graph.graph import GraphError
from hardware_profiles.estimate.graph.reading import read_graph
from hardware_profiles.runtimes.onnx_bytes import take_bytes
from hardware_profiles.runtimes.onnx_repair import Repaired, repair
from hardware_profiles.runtimes.onnx_signature import Signature
from hardware_profiles.runtimes.table import SessionError, open_session

FAMILY = "onnx"
MOST_NAMES = 8
"""Classes that a message names."""


class _File(NamedTuple):
    """A user's file, made whole."""

    digest: Digest
    """Of the file as it was given."""
    content: bytes
    changes: tuple[str, ...]
    signature: Signature
    shapes: dict[str, tuple[int, ...]]
    """Of the outputs of one run."""
    params: int
    macs: int


def read_given(
    asked: OnnxDetector, base: Path, input_size: tuple[int, int], classes: tuple[str, ...] | None = None, *, own_size: bool = False
) -> Detector:
    """The detector of a plan's `detector` section, for pictures of input_size (height, width).

    `classes` are those of the data, in their order; None where it is not prepared yet: the file's own. With own_size the
    detector is for pictures of the file's size, where that has one. InputError names what does not fit.
    """
    own = asked.names(base)
    wanted = own if classes is None else classes
    found = _read(base / asked.onnx, input_size, own_size)
    input_size = found.signature.input_size
    grey = asked.input.colour == "grey"
    if grey != (found.signature.channels == 1):
        raise InputError(
            f"detector.input.colour: {asked.input.colour}, but {asked.onnx} takes {found.signature.channels} channels. Allowed is "
            f"{'rgb or bgr' if grey else 'grey'}."
        )
    decoding = _decoding(asked, found.shapes, input_size, len(own))
    interface = interface_of(found.signature, tuple(found.shapes), asked.input, decoding, own, wanted)
    content, changes = found.content, found.changes
    if asked.takes_bytes:
        content, interface = _taking_bytes(content, found.signature, interface)
        changes = (*changes, "it takes RGB bytes; what `detector.input` says is done inside")
    family = family_named(FAMILY)
    assert family.from_file is not None
    settings = family.settings.model_validate({
        "source": found.digest, "changes": changes, "size_bytes": len(content), "interface": interface,
        "params": found.params, "macs": found.macs,
    })  # fmt: skip
    spec = Spec(family=FAMILY, classes=wanted, input_size=input_size, settings=settings)
    return Detector(spec, MappingProxyType(dict(family.from_file(content))))


def _taking_bytes(content: bytes, signature: Signature, interface: FileInterface) -> tuple[bytes, FileInterface]:
    if interface.dtype == "uint8" or interface.picture.colour == "grey":
        found = "bytes already" if interface.dtype == "uint8" else "grey pictures, and bytes would be RGB"
        raise InputError(f"detector.takes_bytes: the file takes {found}. Leave it out.")
    model = onnx.load_from_string(content)
    factors, offsets = interface.factors_and_offsets()
    take_bytes(model, signature, factors, offsets, bgr=interface.picture.colour == "bgr")
    changed = interface.model_copy(update={"layout": "nhwc", "dtype": "uint8", "picture": PictureForm()})
    return model.SerializeToString(), changed


def interface_of(
    signature: Signature, outputs: tuple[str, ...], picture: PictureForm, decoding: Decoding, own: tuple[str, ...],
    wanted: tuple[str, ...],
) -> FileInterface:  # fmt: skip
    """How a file of these `own` classes is fed and read for data of the `wanted` ones; InputError where they do not go together."""
    if missing := [name for name in wanted if name not in own]:
        left = [name for name in own if name not in wanted]
        raise InputError(
            f"detector.classes: {len(missing)} of the data's classes are none of the {len(own)} of the file: "
            f"{', '.join(map(repr, missing[:MOST_NAMES]))}. The file has {', '.join(map(repr, left[:MOST_NAMES]))}, which the data "
            f"does not. Name the file's classes as the data does, in the order of its scores."
        )
    if signature.dtype not in (allowed := get_args(InputType)):
        raise InputError(
            f"detector.onnx: input {signature.input_name!r} is {signature.dtype}; sixfold feeds {', '.join(allowed)}. Export it so."
        )
    return FileInterface(
        layout=signature.layout,
        dtype=signature.dtype,
        picture=picture,
        outputs=outputs,
        decoding=decoding,
        classes=len(own),
        columns=None if wanted == own else tuple(own.index(name) for name in wanted),
    )


@lru_cache(maxsize=4)
def _read(source: Path, input_size: tuple[int, int], own_size: bool) -> _File:
    """The file, for pictures of this size or of its own, and what one look at it tells; InputError where it cannot be used."""
    if not source.is_file():
        raise InputError(f"detector.onnx: {source}: no such file. Name one relative to the params file.")
    with tempfile.TemporaryDirectory(prefix="sixfold-onnx-") as folder:
        target = Path(folder) / "whole.onnx"
        try:
            repaired = _at_own_size(source, target) if own_size else None
            repaired = repaired or repair(source, target, input_size)
            session = open_session("onnxruntime", target, 1)
        except (GraphError, SessionError) as error:
            raise InputError(f"detector.onnx: {error}") from error
        try:
            operators = read_graph(target).operators
        except GraphError:  # it is timed all the same
            operators = ()
        results = session(session.blank())
        as_given = _opens_as_given(source, repaired.signature.input_size)
        content = (source if as_given else target).read_bytes()
    return _File(
        digest=file_digest(source),
        content=content,
        changes=() if as_given else repaired.changes,
        signature=repaired.signature,
        shapes=dict(zip(session.output_names, (result.shape for result in results), strict=True)),
        params=sum(operator.weight_elements for operator in operators),
        macs=sum(operator.macs for operator in operators),
    )


def _at_own_size(source: Path, target: Path) -> Repaired | None:
    """The file at the size that is written in it; None where there is none, or the file cannot be repaired at all."""
    try:
        return repair(source, target, None)
    except GraphError:
        return None


def _opens_as_given(source: Path, input_size: tuple[int, int]) -> bool:
    """Whether the file is whole in itself and takes one picture of this size: then it is compared and shipped as it is."""
    if any(uses_external_data(tensor) for tensor in onnx.load(source, load_external_data=False).graph.initializer):
        return False
    try:
        return open_session("onnxruntime", source, 1).input_size == input_size
    except SessionError:
        return False


def _decoding(asked: OnnxDetector, shapes: dict[str, tuple[int, ...]], input_size: tuple[int, int], classes: int) -> Decoding:
    """What the outputs mean: as declared, or the usual form of a preset."""
    if isinstance(asked.decode, Decoding):
        return asked.decode
    if asked.decode == "auto":
        raise InputError(
            "detector.decode: auto stands for what labelled pictures tell. Run `sixfold inspect --params PLAN --write`, which "
            "prints what fits and writes it into the plan."
        )
    return named(asked.decode, shapes, input_size, classes)[0]


def changes_of(detector: Detector | None) -> tuple[str, ...]:
    """What was changed in the user's file, in sentences; nothing where it is as it was given, or where there is none."""
    return () if detector is None else tuple(detector.spec.settings.model_dump().get("changes", ()))
