"""What a spec of a user's own module holds."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, JsonValue

from detection.family import Selection
from detection.frozen import Frozen, PositiveInt
from detection.module.user_code import UserCode


class ModuleSettings(Frozen):
    """The user's code and what it builds from; all of it is data, so it travels with a detector wherever that goes."""

    code: UserCode
    spec: dict[str, JsonValue]
    """What `build` is given."""
    stride_px: PositiveInt
    """The sides of its input are multiples of this."""
    # Not written at its default: specs have the digests that they had before there was a choice.
    select: Annotated[Selection, Field(exclude_if=lambda own: own == "nms")] = "nms"
    """How final detections are chosen: by non-maximum suppression, or the best scores as they are."""
