"""Does a search's supernet rank networks as their own trainings do? Kendall's tau over candidates that are all trained.

    python -m studies.search_ranking --params PLAN

The candidates are drawn at random near the budget of the plan's search, which is where a search has to tell networks apart. Each is
judged by the shared weights and trained as the plan's recovery says. What costs nothing to know, the multiply-adds, ranks too.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import torch
import typer
from scipy import stats

from compressors.contract import Workbench
from compressors.nas.candidates import val_map_of
from compressors.nas.method import Ground, ground_of
from detection import checkpoint
from detection.checkpoint import Detector
from detection.costs import count_macs
from detection.data.dataset import load_split
from detection.frozen import Frozen, InputError
from detection.spec import Spec
from detection.training import fit
from flows.progress import steps
from flows.sweep.params import Plan
from flows.sweep.plan_checks import load_plan
from flows.sweep.workspace import PREPARED
from studies.entry import run_app

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, help=__doc__)
RESAMPLES = 5_000
LEAST_CANDIDATES = 12
"""Fewer say next to nothing: with 12, independent rankings have a tau beyond 0.4 one time in twelve."""


class Judged(Frozen):
    """One network: what is known before its training, and what it reaches."""

    supernet_val_map: float
    macs: int
    estimated_latency_s: float
    trained_val_map: float


class Tau(NamedTuple):
    """Kendall's tau with its 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def says_something(self) -> bool:
        """Whether the interval leaves 0 out."""
        return self.low > 0


class Ranking(Frozen):
    """What the study found."""

    sweep: str
    candidates: tuple[Judged, ...]

    def tau(self, field: str) -> Tau:
        """Between what a field says and the val mAP after the training; the interval by resampling candidates."""
        known = np.array([getattr(own, field) for own in self.candidates])
        reached = np.array([own.trained_val_map for own in self.candidates])
        found = stats.bootstrap(
            (known, reached), lambda a, b: stats.kendalltau(a, b).statistic, paired=True, vectorized=False, method="percentile",
            n_resamples=RESAMPLES, rng=np.random.default_rng(0),
        ).confidence_interval  # fmt: skip
        return Tau(float(stats.kendalltau(known, reached).statistic), float(found.low), float(found.high))

    def lines(self) -> list[str]:
        """The answer, then the numbers."""
        by = {"supernet_val_map": "the supernet", "macs": "multiply-adds", "estimated_latency_s": "estimated latency"}
        taus = {field: self.tau(field) for field in by}
        says = "ranks" if taus["supernet_val_map"].says_something else "does not rank (the interval holds 0)"
        lines = [f"{self.sweep}: the supernet {says} these networks"]
        lines += [f"{by[field]}: tau {tau.value:+.2f} [{tau.low:+.2f}, {tau.high:+.2f}]" for field, tau in taus.items()]
        spread = sorted(own.trained_val_map for own in self.candidates)
        return [*lines, f"{len(spread)} networks, val mAP after training {spread[0]:.3f} to {spread[-1]:.3f}"]


def judge_and_train(plan: Plan, start: Detector, search: int, candidates: int) -> Ranking:
    """All candidates judged by the supernet of this search of the plan's menu, then trained; progress is printed."""
    params = plan.params
    if candidates < LEAST_CANDIDATES:
        raise InputError(f"--candidates {candidates}: fewer than {LEAST_CANDIDATES} say next to nothing. Ask for that or more.")
    if not 0 <= search < len(plan.menu.nas):
        raise InputError(f"--search {search}: the plan has {len(plan.menu.nas)} searches, counted from 0.")
    config = plan.menu.nas[search].model_copy(update={"evaluations": candidates})
    torch.set_num_threads(params.threads)
    size = start.spec.input_size
    bench = Workbench(
        teacher=start, train=load_split(PREPARED, "train").at(size), val=load_split(PREPARED, "val").at(size),
        device=torch.device("cpu"), seed=params.seed, design_profile=plan.design_profile, recipe=params.teacher.training,
    )  # fmt: skip
    ground = ground_of(start, config, bench)
    judged = ground.explorer.judged(ground.drawn, ground.judge, bench.each)
    found = []
    for own in steps(judged, len(judged), "train candidates", "networks"):
        reached = _trained(ground, config.inherits, own.spec, plan)
        found.append(
            Judged(
                supernet_val_map=own.val_map, macs=count_macs(own.spec), estimated_latency_s=own.latency_s, trained_val_map=reached
            )
        )
        print(f"supernet {own.val_map:.4f}, trained {reached:.4f}, {count_macs(own.spec) / 1e6:.0f} M multiply-adds", flush=True)
    return Ranking(sweep=params.sweep, candidates=tuple(found))


def _trained(ground: Ground, inherits: bool, spec: Spec, plan: Plan) -> float:
    train, val = ground.splits
    params = plan.params
    begun = ground.task.inheriting(spec) if inherits else checkpoint.fresh(spec, params.seed)
    recipe = params.grid.recovery if inherits else params.teacher.training
    trained, _ = fit(begun, train, recipe, seed=params.seed, device=torch.device("cpu"))
    return val_map_of(spec, trained.network(), val)


@app.command()
def rank(
    params: Annotated[Path, typer.Option(help="The plan.")],
    search: Annotated[int, typer.Option(help="Which of the plan's searches, from 0.")] = 0,
    candidates: Annotated[int, typer.Option(help="Networks that are trained.")] = 16,
    start: Annotated[Path, typer.Option(help="Folder of the trained detector.")] = Path("models/teacher"),
) -> None:
    """Train the candidates, tell the answer and write results/search_ranking.json."""
    ranking = judge_and_train(load_plan(params), checkpoint.load(start), search, candidates)
    path = Path("results/search_ranking.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(ranking.model_dump_json(indent=1) + "\n")
    for line in ranking.lines():
        print(line)
    print(f"numbers: {path}")


if __name__ == "__main__":
    run_app(app, "search ranking")
