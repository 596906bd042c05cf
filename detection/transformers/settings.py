"""What a spec of a detector of the transformers library holds."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, JsonValue

from detection.frozen import Frozen, PositiveInt

Three = tuple[float, float, float]


class TransformersSettings(Frozen):
    """The library's own configuration, and how pictures are put to the network: data that travels with a detector."""

    config: dict[str, JsonValue]
    """As `config.json` has it, without what names files, versions and classes."""
    found_classes: tuple[str, ...]
    """Of the folder's own weights, in the order of their scores."""
    library: str
    """Version of transformers: another may build another network of the same configuration."""
    scale: float = 1.0
    """What a pixel's share of 255 is multiplied by, before `mean` and `std`."""
    mean: Three = (0.0, 0.0, 0.0)
    std: Three = (1.0, 1.0, 1.0)
    trained_size: tuple[PositiveInt, PositiveInt] | None = None
    """(height, width) in pixels that the folder's own preprocessing gives; None where it says none."""
    backbone_learning_rate: Annotated[float, Field(ge=0)] = 1.0
    """The factor on the learning rate of the backbone: a tenth for trained weights (RT-DETR, arXiv:2304.08069, section 5.1)."""

    @property
    def model_type(self) -> str:
        """The library's name of the architecture."""
        return str(self.config["model_type"])
