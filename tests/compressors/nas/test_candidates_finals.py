"""The finals of a search: who takes part, who wins, and what it costs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from compressors.contract import Workbench
from compressors.nas import Nas, search
from compressors.nas.candidates import Candidate, Finalist, Training, best_finalist, finals, val_map_of
from detection.checkpoint import Detector, fresh
from detection.compact.architecture import Architecture
from detection.spec import Spec
from detection.training import Recipe, fit

QUICK = Nas(
    width_shares=(0.5, 0.75, 1.0), supernet_epochs=1, evaluations=5, population=4, recalibration_pictures=8, val_pictures=6,
    random_baseline=False,
)  # fmt: skip
RECIPE = Recipe(epochs=2, batch_size=8, learning_rate=0.003)


@pytest.fixture(scope="module")
def bench(workbench: Workbench) -> Workbench:
    """A workbench whose trainings are short."""
    return replace(workbench, recipe=RECIPE)


def finalist(val_map: float, latency_s: float) -> Finalist:
    spec = Spec(classes=("a",), input_size=(64, 96), settings=Architecture())
    return Finalist(Candidate(spec, 0.5, latency_s), val_map)


def test_the_most_accurate_wins_and_of_equals_the_fastest() -> None:
    """Whatever the supernet said of them."""
    slow, fast, poor = finalist(0.6, 0.2), finalist(0.6, 0.1), finalist(0.5, 0.01)
    assert best_finalist([slow, poor, fast]) is fast
    assert best_finalist([poor]) is poor


def test_the_best_by_the_supernet_take_part(tiny_detector: Detector, bench: Workbench) -> None:
    """The two most accurate of four, best first, of equals the fastest; each is trained and judged as it would be anywhere else."""
    own = tiny_detector.spec
    shapes = [own.having(own.settings.model_copy(update={"head_width": width})) for width in (8, 16)]
    slow, fast = Candidate(shapes[0], 0.3, 3.0), Candidate(shapes[1], 0.3, 2.0)
    candidates = [Candidate(own, 0.1, 1.0), slow, fast, Candidate(own, 0.2, 1.0)]
    asked: list[Any] = []

    def each(work: Any, items: Any) -> list[Any]:
        asked.extend(items)
        return [work(item) for item in items]

    training = Training(None, bench.recipe, (bench.train, bench.val), bench.seed, bench.device)
    found = finals(candidates, 2, training, each)
    assert [one.candidate for one in found] == [fast, slow]
    assert [own.spec for own in asked] == [shapes[1], shapes[0]]
    trained, _ = fit(fresh(shapes[1], bench.seed), bench.train, RECIPE, seed=bench.seed, device=bench.device)
    assert found[0].trained_val_map == val_map_of(trained.spec, trained.network().eval(), bench.val)


def test_a_search_hands_on_the_winner(tiny_detector: Detector, bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second by the supernet, if its training ends higher: fresh, within the budget, and all finalists are on record."""
    reached = iter((0.2, 0.6, 0.4))
    monkeypatch.setattr("compressors.nas.candidates._trained_val_map", lambda *_: next(reached))
    config = QUICK.model_copy(update={"finalists": 3})
    detector, change = search(tiny_detector, config, bench)
    shown = change.details["finalists"]
    assert [own["trained_val_map"] for own in shown] == [0.2, 0.6, 0.4]
    assert [own["supernet_val_map"] for own in shown] == sorted((own["supernet_val_map"] for own in shown), reverse=True)
    assert detector.spec.settings.model_dump() == shown[1]["architecture"]
    assert change.details["chosen"] == {name: value for name, value in shown[1].items() if name != "trained_val_map"}
    assert detector.digest == fresh(detector.spec, bench.seed).digest
    assert all(own["estimated_latency_s"] <= change.details["budget_s"] for own in shown)


def test_finals_are_charged_by_the_picture(tiny_detector: Detector, bench: Workbench) -> None:
    """By hand: 24 pictures of supernet, five candidates on 8 + 6, and two trainings of 2 epochs that are judged on all of val."""
    train, val = len(bench.train), len(bench.val)
    config = QUICK.model_copy(update={"finalists": 2})
    _, change = search(tiny_detector, config, bench)
    expected = train + 5 * (8 + 6) + 2 * (2 * train + val)
    assert change.spent.search_images == config.search_images(train, val) + config.final_images(2, train, val) == expected
    assert QUICK.final_images(2, train, val) == 0


def test_without_finals_nothing_is_trained(tiny_detector: Detector, bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    """One finalist is the supernet's best."""
    monkeypatch.setattr("compressors.nas.candidates.fit", lambda *_args, **_more: pytest.fail("trained"))
    _, change = search(tiny_detector, QUICK, bench)
    assert change.details["finalists"] == []
    assert change.details["chosen"] in change.details["front"]
