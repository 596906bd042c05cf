"""The detectors that a user brings to teach by distillation: read, and checked against the data and the students."""

from __future__ import annotations

from functools import partial

from pydantic import ValidationError

from compressors.distillation import refuse_teacher
from compressors.planning.graph import GivenTeacher
from detection import checkpoint
from detection.brought import Brought, CheckpointDetector, OnnxDetector
from detection.checkpoint import Detector
from detection.frozen import InputError
from flows.records.formatting import listed
from flows.sweep.given import read_given
from flows.sweep.params import Plan

Classes = tuple[str, ...]
_shown = partial(listed, most=5, mark="")


def given_teachers(plan: Plan, classes: Classes | None = None) -> dict[Brought, Detector]:
    """What variants of distillation name -> the detector, in the order of the variants.

    `classes` are those of the data, in their order; None where it is not prepared yet. InputError names the variant and what does
    not fit.
    """
    found: dict[Brought, Detector] = {}
    for position, config in enumerate(plan.menu.distillation):
        asked, place = config.brought, f"grid.methods.distillation.{position}.teacher"
        try:
            if isinstance(asked, CheckpointDetector):
                place += ".checkpoint: "
                found[asked] = _checkpoint(asked, plan, classes)
                refuse_teacher(config, found[asked].spec.settings, plan.detector)
            elif isinstance(asked, OnnxDetector):
                place += "."
                found[asked] = _file(asked, plan, classes)
        except ValueError as error:
            raise InputError(f"{place}{str(error).removeprefix('detector.').removesuffix('.')}.") from error
    return found


def foundation_of(teachers: dict[Brought, Detector]) -> tuple[GivenTeacher, ...]:
    """What nodes have to know of them."""
    return tuple(GivenTeacher(asked=asked, spec=own.spec, digest=own.digest) for asked, own in teachers.items())


def what_labels_alone_teach(plan: Plan, classes: Classes) -> tuple[str, ...]:
    """A sentence for each teacher that does not know all classes of the data."""
    return tuple(
        f"grid.methods.distillation: teacher {asked.label()} does not know {', '.join(unknown)}: labels alone teach that."
        for asked, own in given_teachers(plan, classes).items()
        if (unknown := [name for name in classes if name not in own.spec.classes])
    )


def _checkpoint(asked: CheckpointDetector, plan: Plan, classes: Classes | None) -> Detector:
    """A detector of the student's family, whose scores are of the data's classes."""
    detector = checkpoint.load(plan.base / asked.checkpoint)
    spec, family, size = detector.spec, plan.detector.family, plan.params.data.input_size
    if spec.family != family:
        raise InputError(f"{asked.checkpoint} is of family {spec.family!r}; one that teaches is of {family!r}.")
    if classes is not None and spec.classes != classes:
        raise InputError(
            f"{asked.checkpoint} was trained for {_shown(spec.classes)}, and the data has {_shown(classes)}. Names and "
            f"order have to be the same; train a teacher on this data, or bring it as an ONNX file, whose classes go by name."
        )
    try:
        spec.at(size)
    except ValidationError as error:
        raise InputError(f"pictures of {size} (height, width) do not fit its strides.") from error
    return detector


def _file(asked: OnnxDetector, plan: Plan, classes: Classes | None) -> Detector:
    """A file, with those of the data's classes that it knows."""
    own = asked.names(plan.base)
    common = own if classes is None else tuple(name for name in classes if name in own)
    if not common:
        raise InputError(f"classes: {_shown(own)}, none of which the data has ({_shown(classes or ())}). Name them as it does.")
    return read_given(asked, plan.base, plan.params.data.input_size, common, own_size=True)
