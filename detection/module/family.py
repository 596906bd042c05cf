"""Users' own torch modules as a detector family: what its author wrote, and the defaults for all else."""

from __future__ import annotations

from typing import cast

from detection.adapted.family import adapted_family
from detection.frozen import Frozen, InputError
from detection.module.building import build, functions_of
from detection.module.reading import about, spec_of, trained_of
from detection.module.settings import ModuleSettings


def _refuse_teacher(teacher: Frozen, student: Frozen, compares_boxes: bool) -> None:
    own, theirs = cast(ModuleSettings, student), teacher
    if not isinstance(theirs, ModuleSettings):
        raise InputError("teacher: settings of our own networks are named, which predict at other points than a module of yours.")
    if (theirs.code.reference, theirs.code.files) != (own.code.reference, own.code.files):
        raise InputError(
            f"teacher: {theirs.code.reference} is other code than {own.code.reference}, so it predicts at other points. Export it "
            f"as an ONNX file, whose boxes teach any detector."
        )


FAMILY = adapted_family(
    "module",
    ModuleSettings,
    build=build,
    label=lambda settings: cast(ModuleSettings, settings).code.reference.partition(":")[2],
    stride_px=lambda settings: cast(ModuleSettings, settings).stride_px,
    select=lambda settings: cast(ModuleSettings, settings).select,
    refuse_teacher=_refuse_teacher,
    read_spec=spec_of,
    read_trained=trained_of,
    about=about,
    augment=lambda spec: getattr(functions_of(cast(ModuleSettings, spec.settings)), "augment", None),
)
