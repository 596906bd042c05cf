"""What a compressed network must beat: a narrower one, trained from scratch. Listed beside the cells, never counted among them.

The other reference, a smaller picture, is `compressors.nas.space.smaller_input`.
"""

from __future__ import annotations

from compressors.latency import estimated_latency
from compressors.nas.space import LEAST_WIDTH
from detection.blueprint import Architecture, Blueprint
from detection.frozen import InputError
from hardware_profiles.profile import DType, HardwareProfile

WIDTH_MULTIPLE = 8
"""Widths stay multiples of this: runtimes compute in blocks, so odd widths cost without helping."""


def narrowed(blueprint: Blueprint, share: float) -> Blueprint:
    """The unedited blueprint with every width at this share of its own (MobileNet's width multiplier, arXiv:1704.04861, 3.3).

    Widths are rounded down to multiples of 8, at least 8 and at most their own; depths, levels and blocks stay.
    """
    if blueprint.edits:
        raise InputError("narrowed: a pruned or factored blueprint has no widths of its own; give the one before its edits.")
    if not 0 < share <= 1:
        raise InputError(f"narrowed: share {share}: a share of the widths is above 0 and at most 1.")
    return blueprint.model_copy(update={"architecture": _at_width(blueprint.architecture, share)})


def narrow_at_latency(blueprint: Blueprint, profile: HardwareProfile, dtype: DType, latency_s: float) -> Blueprint:
    """The widest narrowed blueprint whose latency on this profile is estimated at no more than latency_s.

    "At equal estimated latency" is true to one step of the widths. InputError where even the narrowest is slower.
    """
    for own in _different(blueprint):
        if (reached_s := estimated_latency(own, profile, dtype).point_s) <= latency_s:
            return own
    raise InputError(
        f"narrow_at_latency: latency_s {latency_s:.3g}: on {profile.id} in {dtype} even the narrowest network takes an estimated "
        f"{reached_s:.3g} s. Allow at least that."
    )


def _different(blueprint: Blueprint) -> list[Blueprint]:
    """Every different narrowed blueprint, the given one first, the narrowest last."""
    architecture = blueprint.architecture
    widths = {architecture.stem_width, *architecture.stage_widths, architecture.neck_width, architecture.head_width}
    # A width changes where share times it reaches a multiple; nothing changes in between.
    shares = {multiple / width for width in widths for multiple in range(WIDTH_MULTIPLE, width + 1, WIDTH_MULTIPLE)} | {1.0}
    found: dict[str, Blueprint] = {}
    for share in sorted({min(shares) / 2, *shares}, reverse=True):
        own = narrowed(blueprint, share)
        found.setdefault(own.architecture.model_dump_json(), own)
    return list(found.values())


def _at_width(architecture: Architecture, share: float) -> Architecture:
    def narrow(width: int) -> int:
        # 1e-9: a share that is a quotient of two widths meets its multiple in spite of rounding
        return min(width, max(LEAST_WIDTH, int(width * share / WIDTH_MULTIPLE + 1e-9) * WIDTH_MULTIPLE))

    widths = {
        "stem_width": narrow(architecture.stem_width),
        "stage_widths": tuple(map(narrow, architecture.stage_widths)),
        "neck_width": narrow(architecture.neck_width),
        "head_width": narrow(architecture.head_width),
    }
    return architecture if share == 1 else Architecture.model_validate(architecture.model_dump() | widths)
