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
from detection.compact.blueprint import Architecture
from detection.frozen import InputError

ASKS_PER_EVALUATION = 50
"""Candidates over the budget and repeats cost nothing; the search gives up after so many per evaluation it may make."""
CLIMBS = 16
"""Ascents to the most multiply-adds, beside the one from the smallest. In the space of plans/bccd.yaml, which can be looked
through, they found the largest of 2,916 at all of eight limits tried; one alone ended up to a fifth below it."""
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
            choice = self._draw_within(self.budget_s, rng)
            if choice is not None:
                architecture = self.space.architecture(choice)
                drawn.setdefault(_key(architecture), architecture)
        raise self.too_few(len(drawn))

    def largest(self, limit_s: float, macs: Callable[[Architecture], int], seed: int) -> Architecture:
        """The architecture with the most multiply-adds that takes no longer than limit_s, which the smallest has to keep to.

        By steepest ascent from random ones that do: a decision goes up by one, or where none may, one up and another down, always
        so that most multiply-adds come of it.
        """
        rng = np.random.default_rng((seed, 5))
        drawn = [own for _ in range(CLIMBS) if (own := self._draw_within(limit_s, rng)) is not None]
        tops = [self._climbed(choice, limit_s, macs) for choice in (self.space.smallest(), *drawn)]
        return max((self.space.architecture(choice) for choice in tops), key=macs)

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

    def _draw_within(self, limit_s: float, rng: np.random.Generator) -> dict[str, int] | None:
        """One random choice; None where making it smaller led to nothing fast enough."""
        choice = draw(self.space, rng)
        while self._latency_s(self.space.architecture(choice)) > limit_s:
            above = [(name, options) for name, options in self.space.options().items() if choice[name] > options[0]]
            if not above:
                return None
            name, options = above[rng.integers(len(above))]
            choice |= {name: options[options.index(choice[name]) - 1]}
        return choice

    def _climbed(self, choice: dict[str, int], limit_s: float, macs: Callable[[Architecture], int]) -> dict[str, int]:
        """Where the ascent from this choice ends."""
        while True:
            raised = [own for name in choice if (own := self._stepped(choice, name, 1)) is not None]
            better = self._most_within(raised, limit_s, macs, choice)
            if better is None:
                swapped = [self._stepped(own, name, -1) for own in raised for name in choice]
                better = self._most_within([own for own in swapped if own not in (None, choice)], limit_s, macs, choice)
            if better is None:
                return choice
            choice = better

    def _stepped(self, choice: dict[str, int], name: str, step: int) -> dict[str, int] | None:
        """The choice with one decision so many options further; None where there is no such option."""
        options = self.space.options()[name]
        place = options.index(choice[name]) + step
        return choice | {name: options[place]} if 0 <= place < len(options) else None

    def _most_within(
        self, choices: list[dict[str, int]], limit_s: float, macs: Callable[[Architecture], int], than: dict[str, int]
    ) -> dict[str, int] | None:
        """Of those within the limit the one with the most multiply-adds; None where none has more than the given one."""
        least = macs(self.space.architecture(than))
        more = [(macs(self.space.architecture(own)), own) for own in choices]
        for count, own in sorted(more, key=lambda entry: -entry[0]):
            if count <= least:
                return None
            if self._latency_s(self.space.architecture(own)) <= limit_s:
                return own
        return None

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
