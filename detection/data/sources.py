"""Where pictures come from: the configuration of a data set, and the one function that reads any of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import Field

from detection.data.coco import CocoSource, coco_files, read_coco
from detection.data.generated import GeneratedSource, read_generated
from detection.data.labelled import DataFile, Labelled, Picture, SplitShares
from detection.data.voc import VocSource, read_voc, voc_files
from detection.frozen import Frozen, PositiveInt

__all__ = ["CocoSource", "Data", "GeneratedSource", "Labelled", "Picture", "Source", "SplitShares", "VocSource", "read_source"]

Source = GeneratedSource | CocoSource | VocSource


class Reader(NamedTuple):
    """What is known of one kind of source; paths are relative to base, the folder of the params file."""

    read: Callable[[Any, Path, int], Labelled]
    """(source, base, seed) -> the labelled pictures; InputError for bad data."""
    files: Callable[[Any, Path], Iterable[DataFile]]
    """(source, base) -> every file that `read` looks at, whether it is there or not."""


READERS: dict[type[Source], Reader] = {
    GeneratedSource: Reader(lambda source, base, seed: read_generated(source, seed), lambda source, base: ()),
    CocoSource: Reader(read_coco, coco_files),
    VocSource: Reader(read_voc, voc_files),
}
"""A further format is a file like `voc.py`, a row here and its class in `Source`."""


class Data(Frozen):
    """The `data` section of a params file: which pictures, and the size a detector sees them in."""

    name: Annotated[str, Field(min_length=1)] = "digits"
    source: Annotated[Source, Field(discriminator="kind")] = GeneratedSource()
    input_size: tuple[PositiveInt, PositiveInt] = (96, 128)
    """(height, width) in pixels that every picture is letterboxed to; multiples of the detector's coarsest stride, mostly 32."""


def read_source(source: Source, base: Path, seed: int) -> Labelled:
    """The labelled pictures of any source; its paths are relative to base, the folder of the params file.

    The seed makes the generated pictures, or the splits of a data set that brings none. Raises InputError for bad data.
    """
    return READERS[type(source)].read(source, base, seed)
