"""What `nas` may vary: the widths of stem, stages, neck and head, the depth of every stage; and, for all alike, the picture."""

from __future__ import annotations

import math
from collections.abc import Mapping

from pydantic import ValidationError

from detection.compact.blueprint import FIRST_STAGE_STRIDE, Architecture, Blueprint
from detection.frozen import Frozen, InputError

LEAST_WIDTH = 8


class SearchSpace(Frozen):
    """Every choice there is; the largest of each is the architecture that the search started from."""

    largest: Architecture
    widths: dict[str, tuple[int, ...]]
    """stem, stage0.., neck, head -> channel counts, ascending. A stem that takes the first stage's step decides for both."""
    depths: dict[str, tuple[int, ...]]
    """stage0.. -> residual blocks, ascending."""

    def architecture(self, choice: Mapping[str, int]) -> Architecture:
        """The architecture of one choice: `width_<name>` and `depth_<name>` -> channels and blocks."""
        stages, stem_width = range(self.largest.stages), choice["width_stem"]
        return self.largest.model_copy(
            update={
                "stem_width": stem_width,
                "stage_widths": tuple(choice.get(f"width_stage{i}", stem_width) for i in stages),
                "stage_depths": tuple(choice[f"depth_stage{i}"] for i in stages),
                "neck_width": choice["width_neck"],
                "head_width": choice["width_head"],
            }
        )

    def options(self) -> dict[str, tuple[int, ...]]:
        """Name of each decision -> its options, ascending."""
        widths = {f"width_{name}": options for name, options in self.widths.items()}
        return widths | {f"depth_{name}": options for name, options in self.depths.items()}

    @property
    def size(self) -> int:
        """How many choices there are."""
        return math.prod(len(options) for options in self.options().values())

    def smallest(self) -> dict[str, int]:
        """The choice of the least of everything."""
        return {name: options[0] for name, options in self.options().items()}


def search_space(largest: Architecture, width_shares: tuple[float, ...], round_to: int, least_depth: int = 1) -> SearchSpace:
    """The space below an architecture; widths are shares of its own, in multiples of round_to."""
    own = {"stem": largest.stem_width} | {f"stage{i}": width for i, width in enumerate(largest.stage_widths)}
    own |= {"neck": largest.neck_width, "head": largest.head_width}
    if largest.stem_stride == FIRST_STAGE_STRIDE:
        del own["stage0"]
    widths = {name: _shares(width, width_shares, round_to) for name, width in own.items()}
    depths = {f"stage{i}": tuple(range(min(least_depth, depth), depth + 1)) for i, depth in enumerate(largest.stage_depths)}
    return SearchSpace(largest=largest, widths=widths, depths=depths)


def smaller_input(blueprint: Blueprint, share: float) -> Blueprint:
    """The blueprint for pictures whose sides are this share of its own; InputError names the shares that its pyramid fits."""
    height_px, width_px = (side * share for side in blueprint.input_size)
    if 0 < share <= 1 and height_px == round(height_px) and width_px == round(width_px):
        try:
            return blueprint.at((round(height_px), round(width_px)))
        except ValidationError:
            pass  # the pyramid does not fit
    allowed = ", ".join(f"{own:.4g}" for own in input_shares(blueprint))
    raise InputError(
        f"input_share {share}: of {blueprint.input_size} (height, width) it leaves no whole multiple of "
        f"{blueprint.architecture.levels[-1]}, the coarsest stride; allowed are {allowed}."
    )


def input_shares(blueprint: Blueprint) -> tuple[float, ...]:
    """Every share of the input's sides that its pyramid fits, ascending; the last is 1."""
    (height_px, width_px), stride_px = blueprint.input_size, blueprint.architecture.levels[-1]
    heights = range(stride_px, height_px + 1, stride_px)
    return tuple(own_px / height_px for own_px in heights if width_px * own_px % (height_px * stride_px) == 0)


def _shares(width: int, shares: tuple[float, ...], round_to: int) -> tuple[int, ...]:
    options = {max(LEAST_WIDTH, round_to, round(width * share / round_to) * round_to) for share in shares}
    return tuple(sorted(option for option in options | {width} if option <= width))
