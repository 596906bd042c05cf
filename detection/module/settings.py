"""What a spec of a user's own module holds."""

from __future__ import annotations

from pydantic import JsonValue

from detection.frozen import Frozen, PositiveInt
from detection.module.user_code import UserCode


class ModuleSettings(Frozen):
    """The user's code and what it builds from; all of it is data, so it travels with a detector wherever that goes."""

    code: UserCode
    spec: dict[str, JsonValue]
    """What `build` is given."""
    stride_px: PositiveInt
    """The sides of its input are multiples of this."""
