"""Where pictures come from: the configuration of a data set, and the one function that reads any of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, assert_never

from pydantic import Field, field_validator

from detection.compact.blueprint import COARSEST_STRIDE
from detection.data.coco import CocoSource, read_coco
from detection.data.generated import GeneratedSource, read_generated
from detection.data.labelled import Labelled, Picture, SplitShares
from detection.data.voc import VocSource, read_voc
from detection.frozen import Frozen, PositiveInt

__all__ = ["CocoSource", "Data", "GeneratedSource", "Labelled", "Picture", "Source", "SplitShares", "VocSource", "read_source"]

Source = Annotated[GeneratedSource | CocoSource | VocSource, Field(discriminator="kind")]


class Data(Frozen):
    """The `data` section of a params file: which pictures, and the size a detector sees them in."""

    name: Annotated[str, Field(min_length=1)] = "digits"
    source: Source = GeneratedSource()
    input_size: tuple[PositiveInt, PositiveInt] = (96, 128)
    """(height, width) in pixels that every picture is letterboxed to; multiples of 32."""

    @field_validator("input_size")
    @classmethod
    def _fits_the_pyramid(cls, input_size: tuple[int, int]) -> tuple[int, int]:
        if input_size[0] % COARSEST_STRIDE or input_size[1] % COARSEST_STRIDE:
            raise ValueError(f"{input_size} (height, width): both must be multiples of {COARSEST_STRIDE}, the coarsest stride")
        return input_size


def read_source(source: GeneratedSource | CocoSource | VocSource, base: Path, seed: int) -> Labelled:
    """The labelled pictures of any source; its paths are relative to base, the folder of the params file.

    The seed makes the generated pictures, or the splits of a data set that brings none. Raises InputError for bad data.
    """
    match source:
        case GeneratedSource():
            return read_generated(source, seed)
        case CocoSource():
            return read_coco(source, base, seed)
        case VocSource():
            return read_voc(source, base, seed)
        case _:
            assert_never(source)
