"""nas: widths and depths searched for this data set, in a supernet, under a latency budget of the design profile.

`exploration` chooses whom to judge, `candidates` judges, `supernet` and `space` are what both work on.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, ValidationError

from compressors.contract import Change, Phase, Settings, Spent, Workbench, describe
from compressors.latency import LatencyIn, latency_dtype
from compressors.nas.candidates import Candidate, Judge, latency_on
from compressors.nas.exploration import Explorer, front, most_accurate
from compressors.nas.finals import Finalist, finals, winner
from compressors.nas.space import search_space, smaller_input
from compressors.nas.supernet import Supernet, inherit
from detection.checkpoint import Detector, fresh
from detection.compact.blueprint import FIRST_STAGE_STRIDE, Architecture, BlockKind, Blueprint
from detection.compact.complexity import count_macs
from detection.frozen import InputError, PositiveInt, Share

GHOST_MULTIPLE = 4
"""A ghost block halves its width, and a residual block has half the width of its stage."""


class Nas(Settings):
    """How large the space is and how long to look."""

    phase: ClassVar[Phase] = "search"
    libraries: ClassVar[tuple[str, ...]] = ("optuna",)
    method: Literal["nas"] = "nas"
    budget_share: Share = 0.5
    """Where the latency budget lies between the smallest architecture of the space (0) and the one searched from (1).

    Estimated latency on the design profile. A plain share of the start's latency would be out of reach for small networks,
    where the fixed cost of every operator is most of it.
    """
    latency_in: LatencyIn = "float"
    """The numbers in which that latency is estimated: `int8` where what is searched for will be quantized."""
    width_shares: Annotated[tuple[Share, ...], Field(min_length=1)] = (0.5, 0.625, 0.75, 0.875, 1.0)
    round_to: PositiveInt = 8
    levels: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] | None = None
    """Levels of the pyramid to keep, from the finest on; null: all. Without the coarsest, its stage goes as well."""
    stem_stride: Literal[2, 4] | None = None
    """Of the architectures in the space; null: the detector's own."""
    head_branches: Literal["separate", "shared"] | None = None
    """Of the architectures in the space; null: the detector's own."""
    head_depth: PositiveInt | None = None
    """Of the architectures in the space; null: the detector's own."""
    block: BlockKind | None = None
    """Of backbone, neck and head of the architectures in the space; null: the detector's own."""
    input_share: Share = 1.0
    """Sides of the pictures that the network sees, as a share of the detector's own. A teacher sees the same ones, so with
    distillation they have to fit its levels too."""
    least_depth: Annotated[int, Field(ge=0)] = 1
    """Residual blocks that every stage keeps, as far as it has them."""
    supernet_epochs: PositiveInt = 10
    evaluations: PositiveInt = 32
    """Candidates whose val mAP is measured."""
    population: Annotated[int, Field(ge=4)] = 8
    """Candidates of one generation; they are judged side by side where the executor has room."""
    recalibration_pictures: PositiveInt = 48
    val_pictures: PositiveInt = 64
    """The first so many of the val split judge the candidates."""
    finalists: PositiveInt = 1
    """So many of the best by the supernet are trained as the one handed on will be, labels alone, and the best of them on the whole
    val split is it; 1: the supernet's best, untrained."""
    null_proxies: bool = True
    """Judge as many random architectures within the same budget, and the one with the most multiply-adds, for the record: is the
    search better than no search?"""

    def label(self) -> str:
        """The choice in a word, for tables and MLflow params."""
        own = {
            "levels": self.levels and "-".join(map(str, self.levels)),
            "stem": self.stem_stride,
            "branches": self.head_branches,
            "depth": self.head_depth,
            "block": self.block,
            "input": None if self.input_share == 1 else f"{self.input_share:g}",
            "for": None if self.latency_in == "float" else self.latency_in,
        }
        return "-".join([f"nsga2-{self.budget_share:g}", *(f"{name}-{value}" for name, value in own.items() if value)])

    @property
    def asks_estimate(self) -> bool:
        """Always: it keeps a budget of estimated latency."""
        return True

    @property
    def looks_at_val(self) -> bool:
        """Always: candidates are judged there."""
        return True

    def search_images(self, train_pictures: int, val_pictures: int) -> int:
        """Pictures that a search on splits of these sizes puts through networks."""
        per_candidate = min(self.recalibration_pictures, train_pictures) + min(self.val_pictures, val_pictures)
        judged = 2 * self.evaluations + 1 if self.null_proxies else self.evaluations
        return self.supernet_epochs * train_pictures + judged * per_candidate

    def final_images(self, epochs: int, train_pictures: int, val_pictures: int) -> int:
        """Pictures that the finals put through networks; none where there is one finalist."""
        return self.finalists * (epochs * train_pictures + val_pictures) if self.finalists > 1 else 0


def search(detector: Detector, config: Nas, workbench: Workbench) -> tuple[Detector, Change]:
    """The best architecture within the budget, with fresh weights, and the whole front that was found."""
    blueprint = largest(detector.blueprint, config)
    space = search_space(blueprint.architecture, config.width_shares, config.round_to, config.least_depth)
    latency_s = latency_on(workbench.design_profile, blueprint, latency_dtype(config.latency_in, workbench.design_profile, "nas"))
    least_s, most_s = latency_s(space.architecture(space.smallest())), latency_s(space.largest)
    budget_s = least_s + config.budget_share * (most_s - least_s)
    explorer = Explorer(space, latency_s, budget_s, config.evaluations)
    # Before the supernet is trained, since this is where a budget too tight for the search is refused.
    drawn = explorer.random(workbench.seed)

    train, val = workbench.train.at(blueprint.input_size), workbench.val.at(blueprint.input_size)
    start = inherit(detector, fresh(blueprint, workbench.seed)) if blueprint != detector.blueprint else detector
    supernet = Supernet(inherit(workbench.teacher, start), workbench.device)
    images = supernet.train(space, train, workbench.recipe, config.supernet_epochs, workbench.seed)
    judge = Judge(supernet, train, val, (config.recalibration_pictures, config.val_pictures), workbench.seed)
    candidates = explorer.explore(judge, workbench.each, config.population, workbench.seed)
    best, finalists = most_accurate(candidates), list[Finalist]()
    if config.finalists > 1:
        finalists = finals(candidates, config.finalists, blueprint, (train, val), workbench)
        best = winner(finalists).candidate
    proxies = _null_proxies(explorer, drawn, best, judge, workbench, blueprint) if config.null_proxies else None

    after = blueprint.model_copy(update={"architecture": best.architecture})
    details = {
        "budget_s": budget_s,
        "design_profile": workbench.design_profile.id,
        "latency_in": config.latency_in,
        "evaluated": len(candidates),
        "front": [candidate.as_record(blueprint) for candidate in front(candidates)],
        "chosen": best.as_record(blueprint),
        "finalists": [own.as_record(blueprint) for own in finalists],
        "null_proxies": proxies,
    }
    summary = f"{len(candidates)} of {space.size} architectures judged, chosen at {best.latency_s / budget_s:.0%} of the budget"
    judged = len(candidates) + (len(drawn) + 1 if config.null_proxies else 0)
    final_images = config.final_images(workbench.recipe.epochs, len(train), len(val))
    spent = Spent(search_images=images + judged * judge.pictures_each + final_images)
    return fresh(after, workbench.seed), describe("nas", summary, detector.blueprint, after, details, spent)


def largest(blueprint: Blueprint, config: Nas) -> Blueprint:
    """The largest detector of the space: the given one, or what is left of it where the configuration names another shape.

    InputError where there is no such detector, or where the space below it holds fewer than the search is to judge.
    """
    if blueprint.edits:
        raise InputError("nas: searches an unedited architecture, so it comes before pruning and low_rank.")
    own = blueprint.architecture
    levels = config.levels or own.levels
    if levels != own.levels[: len(levels)]:
        raise InputError(f"nas.levels: {levels} is no beginning of the detector's levels {own.levels}; leave out coarse ones only.")
    wanted = own.model_dump() | {
        "levels": levels,
        "stem_stride": config.stem_stride or own.stem_stride,
        "head_branches": config.head_branches or own.head_branches,
        "head_depth": config.head_depth or own.head_depth,
        "backbone_block": config.block or own.backbone_block,
        "neck_block": config.block or own.neck_block,
        "head_block": config.block or own.head_block,
    }
    for field in ("stage_widths", "stage_depths"):
        wanted[field] = wanted[field][: len(own.stage_widths) - len(own.levels) + len(levels)]
    if wanted["stem_stride"] == FIRST_STAGE_STRIDE:
        wanted["stem_width"] = own.stage_widths[0]
    try:
        architecture = Architecture(**wanted)
    except ValidationError as error:
        reason = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise InputError(f"nas.block: {config.block}: {reason}. Choose another block or change the detector's widths.") from error
    blocks = (architecture.backbone_block, architecture.neck_block, architecture.head_block)
    if "ghost" in blocks and config.round_to % GHOST_MULTIPLE:
        raise InputError(
            f"nas.round_to: {config.round_to}: ghost blocks halve their width, so it must be a multiple of {GHOST_MULTIPLE}."
        )
    size = search_space(architecture, config.width_shares, config.round_to, config.least_depth).size
    if config.evaluations > size:
        raise InputError(
            f"nas.evaluations: {config.evaluations} is more than the {size} architectures of the space. Lower it, or give more "
            f"nas.width_shares."
        )
    return _seen_smaller(blueprint.model_copy(update={"architecture": architecture}), config.input_share)


def _seen_smaller(blueprint: Blueprint, share: float) -> Blueprint:
    if share == 1:
        return blueprint
    try:
        return smaller_input(blueprint, share)
    except InputError as error:
        raise InputError(f"nas.{error}") from error


def _null_proxies(
    explorer: Explorer, drawn: list[Architecture], best: Candidate, judge: Judge, workbench: Workbench, blueprint: Blueprint
) -> dict[str, Any]:
    """What a search that knows nothing would have chosen.

    `random_search`: the most accurate of as many random architectures within the budget as the search judged (Li and Talwalkar
    2019, arXiv:1902.07638). `largest_macs`: that with the most multiply-adds of those estimated no slower than the search's choice,
    its accuracy unseen.
    """

    def macs(architecture: Architecture) -> int:
        return count_macs(blueprint.model_copy(update={"architecture": architecture}))

    at_random = explorer.judged(drawn, judge, workbench.each)
    least_s = explorer.latency_s(explorer.space.architecture(explorer.space.smallest()))
    widest = explorer.largest(max(best.latency_s, least_s), macs, workbench.seed)
    (largest,) = explorer.judged([widest], judge, workbench.each)
    return {
        "evaluated": len(at_random),
        "random_search": most_accurate(at_random).as_record(blueprint),
        "largest_macs": largest.as_record(blueprint),
    }
