"""The base of everything in this package that is configured or recorded."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Share = Annotated[float, Field(gt=0.0, le=1.0)]
"""A share of a whole: above 0, at most 1."""

PositiveInt = Annotated[int, Field(gt=0)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
"""A sha256 in hex, never cut."""


class Frozen(BaseModel):
    """Immutable, closed data: an unknown key, a NaN or an infinity is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class InputError(ValueError):
    """Something the user gave is wrong; the message says what, where, what is allowed and what to do."""
