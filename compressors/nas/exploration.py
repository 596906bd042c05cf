"""Which architectures of a space a search judges: NSGA-II, and the random draws that it has to beat."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from compressors.contract import Each
from compressors.nas.candidates import Candidate, Latency
from compressors.nas.space import draw, size_of, smallest
from detection.family import SearchSpace
from detection.frozen import InputError
from detection.spec import Spec

ASKS_PER_EVALUATION = 50
"""Candidates over the budget and repeats cost nothing; the search gives up after this number per evaluation."""
CLIMBS = 16
"""Ascents to the most multiply-adds, besides the one from the smallest. In the space of plans/bccd.yaml, which can be looked
through, they found the largest of 2,916 at all of eight limits tried; one alone ended up to a fifth below it."""
STIRRED_FROM = 4
"""After this number of asks per evaluation a population has converged, and every other candidate is drawn at random."""


@dataclass
class Explorer:
    """Where to look, how far, and how candidates are judged."""

    space: SearchSpace
    latency_s: Latency
    budget_s: float
    evaluations: int
    first: Sequence[Mapping[str, int]] = ()
    """Choices to judge before any that is proposed."""
    at_budget: bool = False
    """Whether accuracy alone is looked for, from random networks near the budget on. In a space of many decisions two objectives
    spend most evaluations on fast networks that nobody wants."""
    known_s: dict[str, float] = field(default_factory=dict)

    def explore(self, val_map: Callable[[Spec], float], each: Each, population: int, seed: int) -> list[Candidate]:
        """As many candidates within the budget as there are evaluations, by NSGA-II on (val mAP up, latency down).

        Deb et al. 2002, doi:10.1109/4235.996017. Optuna proposes; a whole population is asked for, judged by `each`, and told in
        the order in which it was asked for, so that the result does not depend on who judged whom. The smallest network is
        always among the candidates.
        """
        import optuna  # half a second, which a plan that only asks for settings need not wait for

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        sampler = optuna.samplers.NSGAIISampler(population_size=population, seed=seed)
        study = optuna.create_study(directions=["maximize"] if self.at_budget else ["maximize", "minimize"], sampler=sampler)
        near = self._near_budget(population, seed) if self.at_budget else ()
        for choice in (smallest(self.space), *self.first, *near):
            study.enqueue_trial(dict(choice))
        found: dict[str, Candidate] = {}
        rng = np.random.default_rng((seed, 3))
        while len(found) < self.evaluations:
            generation = self._ask(study, found, min(population, self.evaluations - len(found)), rng)
            new = list({_key(spec): spec for _, spec in generation}.values())
            found |= {_key(candidate.spec): candidate for candidate in self.judged(new, val_map, each)}
            for trial, spec in generation:
                own = found[_key(spec)]
                study.tell(trial, self._values(own))
        return list(found.values())

    def random(self, seed: int) -> list[Spec]:
        """As many different architectures within the budget as there are evaluations, at random.

        Each is drawn uniformly from the space and, where it is too slow, made smaller in one random respect after another until
        it fits: most lie near the budget, where the best are looked for.
        """
        rng = np.random.default_rng((seed, 4))
        drawn: dict[str, Spec] = {}
        for _ in range(self.evaluations * ASKS_PER_EVALUATION):
            if len(drawn) == self.evaluations:
                return list(drawn.values())
            choice = self._draw_within(self.budget_s, rng)
            if choice is not None:
                spec = self.space.spec(choice)
                drawn.setdefault(_key(spec), spec)
        raise self.too_few(len(drawn))

    def largest(self, limit_s: float, macs: Callable[[Spec], int], seed: int) -> Spec:
        """The network with the most multiply-adds that takes no longer than limit_s, which the smallest has to keep to.

        By steepest ascent from random ones that do: a decision goes up by one, or where none may, one up and another down, always
        so that most multiply-adds come of it.
        """
        rng = np.random.default_rng((seed, 5))
        drawn = [own for _ in range(CLIMBS) if (own := self._draw_within(limit_s, rng)) is not None]
        tops = [self._climbed(choice, limit_s, macs) for choice in (smallest(self.space), *drawn)]
        return max((self.space.spec(choice) for choice in tops), key=macs)

    def judged(self, specs: list[Spec], val_map: Callable[[Spec], float], each: Each) -> list[Candidate]:
        """The architectures with what was found out about them, in their order."""
        return [Candidate(spec, reached, self._latency_s(spec)) for spec, reached in zip(specs, each(val_map, specs), strict=True)]

    def too_few(self, found: int) -> InputError:
        """What to say where the space holds less than the search may judge."""
        return InputError(
            f"nas.evaluations: {self.evaluations} is more than the {found} architectures that were found within the budget, out of "
            f"{size_of(self.space)} in the space. Lower it, raise nas.budget_share, or give more nas.width_shares."
        )

    def _ask(self, study: Any, found: dict[str, Candidate], wanted: int, rng: np.random.Generator) -> list[tuple[Any, Spec]]:
        """Trials with the wanted number of new architectures within the budget; others are told to the study at once."""
        from optuna.trial import TrialState

        asked: list[tuple[Any, Spec]] = []
        new: set[str] = set()
        while len(new) < wanted:
            asks = len(study.get_trials(deepcopy=False))
            if asks >= self.evaluations * ASKS_PER_EVALUATION:
                raise self.too_few(len(found) + len(new))
            if asks % 2 and asks > self.evaluations * STIRRED_FROM:
                study.enqueue_trial(draw(self.space, rng))
            trial = study.ask()
            choice = {name: trial.suggest_categorical(name, options) for name, options in self.space.options().items()}
            spec = self.space.spec(choice)
            own = found.get(_key(spec))
            if own is not None:
                study.tell(trial, self._values(own))
            elif self._latency_s(spec) > self.budget_s:
                study.tell(trial, state=TrialState.PRUNED)
            else:
                asked.append((trial, spec))
                new.add(_key(spec))
        return asked

    def _values(self, own: Candidate) -> list[float]:
        return [own.val_map] if self.at_budget else [own.val_map, own.latency_s]

    def _near_budget(self, count: int, seed: int) -> list[dict[str, int]]:
        """Random choices that were made smaller until they fit."""
        rng = np.random.default_rng((seed, 7))
        drawn = (self._draw_within(self.budget_s, rng) for _ in range(count))
        return [choice for choice in drawn if choice is not None]

    def _draw_within(self, limit_s: float, rng: np.random.Generator) -> dict[str, int] | None:
        """A random choice, made smaller in one random respect after another as far as it has to be; None where it never fits."""
        options, choices = self.space.options(), [draw(self.space, rng)]
        while above := [name for name in options if choices[-1][name] > options[name][0]]:
            name = above[rng.integers(len(above))]
            choices.append(choices[-1] | {name: options[name][options[name].index(choices[-1][name]) - 1]})
        fits = [self._latency_s(self.space.spec(choices[end])) <= limit_s for end in (0, -1)]
        if any(fits):
            low, high = (0, 0) if fits[0] else (0, len(choices) - 1)
            while high - low > 1:  # by halves: there may be hundreds of steps
                middle = (low + high) // 2
                low, high = (low, middle) if self._latency_s(self.space.spec(choices[middle])) <= limit_s else (middle, high)
            return choices[high]
        return None

    def _climbed(self, choice: dict[str, int], limit_s: float, macs: Callable[[Spec], int]) -> dict[str, int]:
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
        """The choice with one decision this number of options further; None where there is no such option."""
        options = self.space.options()[name]
        place = options.index(choice[name]) + step
        return choice | {name: options[place]} if 0 <= place < len(options) else None

    def _most_within(
        self, choices: list[dict[str, int]], limit_s: float, macs: Callable[[Spec], int], than: dict[str, int]
    ) -> dict[str, int] | None:
        """Of those within the limit the one with the most multiply-adds; None where none has more than the given one."""
        least = macs(self.space.spec(than))
        more = [(macs(self.space.spec(own)), own) for own in choices]
        for count, own in sorted(more, key=lambda entry: -entry[0]):
            if count <= least:
                return None
            if self._latency_s(self.space.spec(own)) <= limit_s:
                return own
        return None

    def _latency_s(self, spec: Spec) -> float:
        key = _key(spec)
        if key not in self.known_s:
            self.known_s[key] = self.latency_s(spec)
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


def _key(spec: Spec) -> str:
    return spec.model_dump_json()
