"""Which architectures of a space a search judges: NSGA-II, and the random draws that it has to beat."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import optuna

from compressors.contract import Each
from compressors.nas.candidates import Candidate, Latency
from compressors.nas.space import SearchSpace
from compressors.nas.supernet import draw
from detection.blueprint import Architecture
from detection.frozen import InputError

ASKS_PER_EVALUATION = 50
"""Candidates over the budget and repeats cost nothing; the search gives up after so many per evaluation it may make."""
STIRRED_FROM = 4
"""A population that still repeats itself after so many asks per evaluation has converged: every other one is drawn at random."""


@dataclass
class Explorer:
    """Where to look, how far, and how candidates are judged."""

    space: SearchSpace
    latency_s: Latency
    budget_s: float
    evaluations: int
    known_s: dict[str, float] = field(default_factory=dict)

    def explore(self, val_map: Callable[[Architecture], float], each: Each, population: int, seed: int) -> list[Candidate]:
        """As many candidates within the budget as there are evaluations, by NSGA-II on (val mAP up, latency down).

        Deb et al. 2002, doi:10.1109/4235.996017. Optuna proposes; a whole population is asked for, judged by `each`, and told in
        the order in which it was asked for, so that the result does not depend on who judged whom. The smallest architecture is
        always among the candidates.
        """
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        sampler = optuna.samplers.NSGAIISampler(population_size=population, seed=seed)
        study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
        study.enqueue_trial(self.space.smallest())
        found: dict[str, Candidate] = {}
        rng = np.random.default_rng((seed, 3))
        while len(found) < self.evaluations:
            generation = self._ask(study, found, min(population, self.evaluations - len(found)), rng)
            new = list({_key(architecture): architecture for _, architecture in generation}.values())
            found |= {_key(candidate.architecture): candidate for candidate in self.judged(new, val_map, each)}
            for trial, architecture in generation:
                own = found[_key(architecture)]
                study.tell(trial, [own.val_map, own.latency_s])
        return list(found.values())

    def random(self, seed: int) -> list[Architecture]:
        """As many different architectures within the budget as there are evaluations, at random.

        Each is drawn uniformly from the space and, where it is too slow, made smaller in one random respect after another until
        it fits: most lie near the budget, where the best are looked for.
        """
        rng = np.random.default_rng((seed, 4))
        drawn: dict[str, Architecture] = {}
        for _ in range(self.evaluations * ASKS_PER_EVALUATION):
            if len(drawn) == self.evaluations:
                return list(drawn.values())
            architecture = self._draw_within_budget(rng)
            if architecture is not None:
                drawn.setdefault(_key(architecture), architecture)
        raise self.too_few(len(drawn))

    def judged(self, architectures: list[Architecture], val_map: Callable[[Architecture], float], each: Each) -> list[Candidate]:
        """The architectures with what was found out about them, in their order."""
        return [
            Candidate(architecture, reached, self._latency_s(architecture))
            for architecture, reached in zip(architectures, each(val_map, architectures), strict=True)
        ]

    def too_few(self, found: int) -> InputError:
        """What to say where the space holds less than the search may judge."""
        return InputError(
            f"nas.evaluations: {self.evaluations} is more than the {found} architectures that were found within the budget, out of "
            f"{self.space.size} in the space. Lower it, raise nas.budget_share, or give more nas.width_shares."
        )

    def _ask(
        self, study: Any, found: dict[str, Candidate], wanted: int, rng: np.random.Generator
    ) -> list[tuple[Any, Architecture]]:
        """Trials with so many new architectures within the budget. What is too slow or known already is told at once."""
        asked: list[tuple[Any, Architecture]] = []
        new: set[str] = set()
        while len(new) < wanted:
            asks = len(study.get_trials(deepcopy=False))
            if asks >= self.evaluations * ASKS_PER_EVALUATION:
                raise self.too_few(len(found) + len(new))
            if asks % 2 and asks > self.evaluations * STIRRED_FROM:
                study.enqueue_trial(draw(self.space, rng))
            trial = study.ask()
            choice = {name: trial.suggest_categorical(name, options) for name, options in self.space.options().items()}
            architecture = self.space.architecture(choice)
            own = found.get(_key(architecture))
            if own is not None:
                study.tell(trial, [own.val_map, own.latency_s])
            elif self._latency_s(architecture) > self.budget_s:
                study.tell(trial, state=optuna.trial.TrialState.PRUNED)
            else:
                asked.append((trial, architecture))
                new.add(_key(architecture))
        return asked

    def _draw_within_budget(self, rng: np.random.Generator) -> Architecture | None:
        """One random architecture; None where making it smaller led to nothing fast enough."""
        choice = draw(self.space, rng)
        while self._latency_s(self.space.architecture(choice)) > self.budget_s:
            above = [(name, options) for name, options in self.space.options().items() if choice[name] > options[0]]
            if not above:
                return None
            name, options = above[rng.integers(len(above))]
            choice |= {name: options[options.index(choice[name]) - 1]}
        return self.space.architecture(choice)

    def _latency_s(self, architecture: Architecture) -> float:
        key = _key(architecture)
        if key not in self.known_s:
            self.known_s[key] = self.latency_s(architecture)
        return self.known_s[key]


def front(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Candidates that no other beats in both respects, fastest first."""
    best: list[Candidate] = []
    for candidate in sorted(candidates, key=lambda c: (c.latency_s, -c.val_map)):
        if not best or candidate.val_map > best[-1].val_map:
            best.append(candidate)
    return best


def most_accurate(candidates: Sequence[Candidate]) -> Candidate:
    """The one with the highest val mAP; of equals the fastest."""
    return max(candidates, key=lambda c: (c.val_map, -c.latency_s))


def _key(architecture: Architecture) -> str:
    return architecture.model_dump_json()
