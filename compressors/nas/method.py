"""nas: a network searched for this data set, in a supernet, under a latency budget of the design profile.

`task` says which networks there are and what they share, `exploration` chooses whom to judge, `candidates` judges and trains.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, JsonValue, field_validator, model_validator

from compressors.contract import Change, Phase, Settings, Spent, Workbench, describe
from compressors.latency import LatencyIn
from compressors.nas.candidates import Candidate, Finalist, Judge, Training, best_finalist, finals
from compressors.nas.exploration import Explorer, front, most_accurate
from compressors.nas.group_space import GroupSpace
from compressors.nas.ranking import LEAST_NETWORKS, check_ranking
from compressors.nas.space import size_of, smallest
from compressors.nas.supernet import SANDWICH, Supernet
from compressors.nas.task import Task, task_of
from compressors.ranking_check import RankingCheck
from detection.checkpoint import Detector
from detection.costs import count_macs
from detection.data.dataset import Images
from detection.frozen import PositiveInt, Share
from detection.spec import Spec

INHERITED_EPOCHS = 3
"""Of the supernet, where its weights are trained already."""


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
    weights: Literal["fresh", "inherited"] = "fresh"
    """`inherited`: the networks are parts of the trained detector, narrower by its channel groups and without some blocks, and what
    is chosen goes on with its weights. `fresh`: what is chosen is trained anew. Networks of your own are searched by their groups
    either way."""
    width_shares: Annotated[tuple[Share, ...], Field(min_length=1)] = (0.5, 0.625, 0.75, 0.875, 1.0)
    round_to: PositiveInt = 8
    space: dict[str, JsonValue] = Field(default_factory=dict)
    """What all networks of the space have, where it is not what the detector has: options of the detector's family. Those of our
    own: `levels`, `stem_stride`, `head_branches`, `head_depth`, `block`, `least_depth`."""
    input_share: Share = 1.0
    """Sides of the pictures that the network sees, as a share of the detector's own. A teacher sees the same ones, so with
    distillation they have to fit its levels too."""
    supernet_epochs: PositiveInt = 10
    """With weights inherited 3 where nothing is said: the shared weights are trained already, and each step sees three networks."""
    gradient_pictures: PositiveInt = 64
    """Training pictures whose gradients order the channels of a group, with weights inherited."""
    evaluations: PositiveInt = 32
    """Candidates whose val mAP is measured."""
    population: Annotated[int, Field(ge=4)] = 8
    """Candidates of one generation; they are judged side by side where the executor has room."""
    recalibration_pictures: PositiveInt = 48
    val_pictures: PositiveInt = 64
    """The first of the val split, this number, judge the candidates."""
    finalists: PositiveInt = 1
    """The best by the supernet, this number, are trained as the one chosen will be, labels alone (by the recovery where weights are
    inherited), and the best of them on the whole val split is it; 1: the supernet's best, untrained."""
    checked: Annotated[int, Field(ge=0)] = 0
    """Networks, drawn at random near the budget, that are trained like finalists, to see whether the supernet ranks them as their
    trainings do (Kendall's tau): 12 or more, or 0 for no check. Where the interval holds 0, cells of the search are not
    recommended."""
    random_baseline: bool = True
    """Judge as many random architectures within the same budget, and that with the most multiply-adds or that pruning would keep,
    for the record: is the search better than no search?"""

    @model_validator(mode="before")
    @classmethod
    def _trains_inherited_weights_shortly(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("weights") == "inherited" and "supernet_epochs" not in given:
            return given | {"supernet_epochs": INHERITED_EPOCHS}
        return given

    def _without_effect(self) -> dict[str, str]:
        if self.inherits:
            return {"space": "with weights fresh"}
        return {"gradient_pictures": "with weights inherited"}

    @model_validator(mode="after")
    def _checks_enough(self) -> Self:
        if self.checked and not LEAST_NETWORKS <= self.checked <= self.evaluations:
            raise ValueError(
                f"checked {self.checked}: fewer than {LEAST_NETWORKS} networks say next to nothing, and no more are drawn than "
                f"evaluations says ({self.evaluations}). Take 0, or a number between the two"
            )
        return self

    @property
    def inherits(self) -> bool:
        """Whether weights are inherited."""
        return self.weights == "inherited"

    @field_validator("space")
    @classmethod
    def _one_way_to_write_it(cls, space: dict[str, JsonValue]) -> dict[str, JsonValue]:
        """Equal options are equal data, in whatever order they were written and whether or not null was."""
        return {name: space[name] for name in sorted(space) if space[name] is not None}

    def label(self) -> str:
        """The choice in a word, for tables and MLflow params."""
        own = {_word(name): _joined(value) for name, value in self.space.items()}
        own |= {
            "input": "" if self.input_share == 1 else f"{self.input_share:g}",
            "for": "" if self.latency_in == "float" else self.latency_in,
            "weights": "" if self.weights == "fresh" else self.weights,
        }
        return "-".join([f"nsga2-{self.budget_share:g}", *(f"{name}-{value}" for name, value in own.items() if value)])

    @property
    def asks_recovery(self) -> bool:
        """Whether networks are trained by it: those that inherit are."""
        return self.inherits and (self.finalists > 1 or self.checked > 0)

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
        judged = (2 * self.evaluations + 1 if self.random_baseline else self.evaluations) + self.checked
        ordering = min(self.gradient_pictures, train_pictures) if self.inherits else 0
        paths = SANDWICH if self.inherits else 1
        return ordering + paths * self.supernet_epochs * train_pictures + judged * per_candidate

    def final_images(self, epochs: int, train_pictures: int, val_pictures: int) -> int:
        """Pictures that trainings to choose by put through networks: of finalists where there are several, and of the checked."""
        trained = self.checked + (self.finalists if self.finalists > 1 else 0)
        return trained * (epochs * train_pictures + val_pictures)


@dataclass(frozen=True)
class Ground:
    """What a search explores: the networks, how they are judged, and some of them drawn at random."""

    task: Task
    explorer: Explorer
    judge: Judge
    drawn: list[Spec]
    splits: tuple[Images, Images]
    """Train and val, at the size that the networks see."""
    images: int
    """Pictures that went through networks so far."""


def ground_of(detector: Detector, config: Nas, workbench: Workbench) -> Ground:
    """A supernet trained, and all that is decided before it; InputError where the budget leaves too few networks."""
    task = task_of(detector, config, workbench)
    budget_s = task.least_s + config.budget_share * (task.most_s - task.least_s)
    has_groups = isinstance(task.space, GroupSpace)
    explorer = Explorer(task.space, task.latency_s, budget_s, config.evaluations, task.ranked(budget_s), at_budget=has_groups)
    # Before the supernet is trained, since this is where a budget too tight for the search is refused.
    drawn, size = explorer.random(workbench.seed), task.space.largest.input_size
    train, val = workbench.train.at(size), workbench.val.at(size)
    supernet = Supernet(task.start, workbench.device, task.part, sandwich=config.inherits)
    images = supernet.train(task.space, train, workbench.recipe, config.supernet_epochs, workbench.seed)
    judge = Judge(supernet, train, val, (config.recalibration_pictures, config.val_pictures), workbench.seed)
    return Ground(task, explorer, judge, drawn, (train, val), task.ordering_images + images)


def search(detector: Detector, config: Nas, workbench: Workbench) -> tuple[Detector, Change]:
    """The best network within the budget, with fresh or inherited weights, and the whole front that was found."""
    ground = ground_of(detector, config, workbench)
    explorer, judge, (train, val) = ground.explorer, ground.judge, ground.splits
    budget_s = explorer.budget_s
    candidates = explorer.explore(judge, workbench.each, config.population, workbench.seed)
    training = Training.of(ground.task, config.inherits, ground.splits, workbench)
    best, finalists = most_accurate(candidates), list[Finalist]()
    if config.finalists > 1:
        finalists = finals(candidates, config.finalists, training, workbench.each)
        best = best_finalist(finalists).candidate
    ranking = _checked(ground, config.checked, training, workbench) if config.checked else None
    proxies = _random_baseline(explorer, ground.drawn, best, judge, workbench) if config.random_baseline else None

    details = {
        "budget_s": budget_s,
        "design_profile": workbench.design_profile.id,
        "latency_in": config.latency_in,
        "weights": config.weights,
        "evaluated": len(candidates),
        "front": [candidate.as_record() for candidate in front(candidates)],
        "chosen": best.as_record(),
        "finalists": [own.candidate.as_record() | {"trained_val_map": own.trained_val_map} for own in finalists],
        "random_baseline": proxies,
        "ranking": ranking and ranking.model_dump(),
    }
    share, networks = best.latency_s / budget_s, size_of(explorer.space)
    numbers = explorer.space.numbers_of(best.spec) if isinstance(explorer.space, GroupSpace) else {}
    details |= {"numbers": numbers} if numbers else {}
    summary = f"{len(candidates)} of {networks:.4g} networks judged, chosen at {share:.0%} of the budget"
    summary += "".join(f", {name.replace('_', ' ')} {number}" for name, number in numbers.items())
    summary += "" if ranking is None else f"; its ranking: {ranking.words()}"
    judged = len(candidates) + (len(ground.drawn) + 1 if config.random_baseline else 0) + config.checked
    final_images = config.final_images(training.recipe.epochs, len(train), len(val))
    spent = Spent(search_images=ground.images + judged * judge.pictures_each + final_images)
    return training.begun(best.spec), describe("nas", summary, detector.spec, best.spec, details, spent, ranking=ranking)


def _checked(ground: Ground, count: int, training: Training, workbench: Workbench) -> RankingCheck:
    """How the supernet ranks some of the networks that were drawn at random."""
    judged = ground.explorer.judged(ground.drawn[:count], ground.judge, workbench.each)
    reached = training.val_maps([own.spec for own in judged], workbench.each)
    return check_ranking([own.val_map for own in judged], reached, workbench.seed)


def _word(option: str) -> str:
    """An option of the space as labels name it."""
    return option.removeprefix("head_").removesuffix("_stride").replace("_", "-")


def _joined(value: JsonValue) -> str:
    return "-".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _random_baseline(explorer: Explorer, drawn: list[Spec], best: Candidate, judge: Judge, workbench: Workbench) -> dict[str, Any]:
    """What a search that knows nothing would have chosen, and what knows the weights alone.

    `random_search`: the most accurate of as many random architectures within the budget as the search judged (Li and Talwalkar
    2019, arXiv:1902.07638). Where channels have an order, `by_importance`: as many of the most important as fit the budget, which
    is what pruning would keep. Elsewhere `largest_macs`: the network with the most multiply-adds of those estimated no slower than
    the search's choice, its accuracy unseen.
    """
    at_random = explorer.judged(drawn, judge, workbench.each)
    if explorer.first:
        name, other = "by_importance", explorer.space.spec(explorer.first[0])
    else:
        least_s = explorer.latency_s(explorer.space.spec(smallest(explorer.space)))
        name, other = "largest_macs", explorer.largest(max(best.latency_s, least_s), count_macs, workbench.seed)
    (proxy,) = explorer.judged([other], judge, workbench.each)
    return {"evaluated": len(at_random), "random_search": most_accurate(at_random).as_record(), name: proxy.as_record()}
