"""What `nas` may vary: the width of every stage, of neck and head, and the depth of every stage."""

from __future__ import annotations

from collections.abc import Mapping

from detection.blueprint import Architecture
from detection.frozen import Frozen

STAGES = 4
LEAST_WIDTH = 8


class SearchSpace(Frozen):
    """Every choice there is; the largest of each is the architecture that the search started from."""

    largest: Architecture
    widths: dict[str, tuple[int, ...]]
    """stage0..stage3, neck, head -> channel counts, ascending."""
    depths: dict[str, tuple[int, ...]]
    """stage0..stage3 -> residual blocks, ascending."""

    def architecture(self, choice: Mapping[str, int]) -> Architecture:
        """The architecture of one choice: `width_<name>` and `depth_<name>` -> channels and blocks."""
        return self.largest.model_copy(
            update={
                "stage_widths": tuple(choice[f"width_stage{i}"] for i in range(STAGES)),
                "stage_depths": tuple(choice[f"depth_stage{i}"] for i in range(STAGES)),
                "neck_width": choice["width_neck"],
                "head_width": choice["width_head"],
            }
        )

    def options(self) -> dict[str, tuple[int, ...]]:
        """Name of each decision -> its options, ascending."""
        widths = {f"width_{name}": options for name, options in self.widths.items()}
        return widths | {f"depth_{name}": options for name, options in self.depths.items()}

    def smallest(self) -> dict[str, int]:
        """The choice of the least of everything."""
        return {name: options[0] for name, options in self.options().items()}


def search_space(largest: Architecture, width_shares: tuple[float, ...], round_to: int) -> SearchSpace:
    """The space below an architecture; widths are shares of its own, in multiples of round_to."""
    own = {f"stage{i}": width for i, width in enumerate(largest.stage_widths)}
    own |= {"neck": largest.neck_width, "head": largest.head_width}
    widths = {name: _shares(width, width_shares, round_to) for name, width in own.items()}
    depths = {f"stage{i}": tuple(range(1, depth + 1)) for i, depth in enumerate(largest.stage_depths)}
    return SearchSpace(largest=largest, widths=widths, depths=depths)


def _shares(width: int, shares: tuple[float, ...], round_to: int) -> tuple[int, ...]:
    options = {max(LEAST_WIDTH, round(width * share / round_to) * round_to) for share in shares}
    return tuple(sorted(option for option in options | {width} if option <= width))
