"""Detectors of the transformers library as a detector family: networks and losses are the library's, the rest is ours."""

from __future__ import annotations

from typing import cast

from detection.adapted.family import adapted_family
from detection.frozen import Frozen, InputError
from detection.transformers.building import build
from detection.transformers.reading import about, spec_of, trained_of
from detection.transformers.reductions import reducible
from detection.transformers.settings import TransformersSettings

STRIDES_PX = [8, 16, 32]
"""Of the maps where a configuration does not say it."""
STRIDE_PX = 32
"""Of the coarsest map of all architectures that are known here."""


def _refuse_teacher(teacher: Frozen, student: Frozen, compares_boxes: bool) -> None:
    if not isinstance(teacher, TransformersSettings):
        raise InputError(
            "teacher: settings of our own networks are named, which predict at points; queries have none. Export it as an ONNX "
            "file, whose boxes teach any detector."
        )
    theirs, own = (
        config.get("feat_strides", STRIDES_PX) for config in (teacher.config, cast(TransformersSettings, student).config)
    )
    if theirs != own:
        raise InputError(
            f"teacher: its maps have strides {theirs}, the student's {own}, compared one by one. Name one with equal strides."
        )


FAMILY = adapted_family(
    "transformers",
    TransformersSettings,
    build=build,
    label=lambda settings: cast(TransformersSettings, settings).model_type,
    stride_px=lambda _settings: STRIDE_PX,
    select=lambda _settings: "best",
    refuse_teacher=_refuse_teacher,
    read_spec=spec_of,
    read_trained=trained_of,
    about=about,
    reducible=reducible,
)
