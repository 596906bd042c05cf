"""How files are timed: what two numbers must have in common to be comparable."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Count = Annotated[int, Field(ge=1)]


class Closed(BaseModel):
    """Immutable data of timing: an unknown key, a NaN or an infinity is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Protocol(Closed):
    """How a file is timed within a round. Two numbers are comparable where these are equal."""

    warmup_calls: Count = 10
    warmup_s: Annotated[float, Field(ge=0)] = 0.02
    """Calls before timing go on until both are reached."""
    timed_calls: Count = 64
    """Of the network alone; the 90th percentile needs 64."""
    end_to_end_calls: Count = 5
    """From the picture as the camera gives it to the final detections."""
    most_repeats: Annotated[int, Field(ge=0)] = 2
    """How often a contended block is timed again, the file still open; the last timing stands."""
    contention_wait_s: Annotated[float, Field(ge=0)] = 20.0
    """How long all blocks of a round together wait for contention on the same physical core to end."""
