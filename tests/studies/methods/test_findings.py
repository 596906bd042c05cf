"""What stands out, against numbers made by hand. How it is said is on the page, which has a golden test of its own."""

from __future__ import annotations

import pytest

from flows.stats.map_bootstrap import Difference
from studies.methods.findings import compared as compared_with
from studies.methods.findings import count, leads, reach, sentences, speeds_of, without_baseline
from studies.methods.results import Found, Search
from tests.studies.methods.methods_factory import (
    PROFILE,
    RUNTIME,
    compared,
    difference,
    result,
    shown,
    summary,
    timing,
)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [((-0.002, -0.009, -0.03), ("b", True)), ((-0.002, -0.010, -0.03), ("b", True)), ((-0.02, -0.015, -0.03), ("b", False))],
)
def test_reach_is_the_fewest_multiply_adds_within_a_point(changes: tuple[float, ...], expected: tuple[str, bool]) -> None:
    """Of 70, 35 and 20 % the least that loses at most 1.0; where none does, the one that loses least."""
    macs = (70_000_000, 35_000_000, 20_000_000)
    rows = [shown(name, difference(mean), macs=own) for name, mean, own in zip("abc", changes, macs, strict=True)]
    variant, is_within = reach(summary().control, rows, RUNTIME)
    assert (variant.label, is_within) == expected


def test_accuracy_is_counted_by_the_interval() -> None:
    """Half a point either way is not significant; more and less are by the interval, not by the mean."""
    more, less, neither = count([("up", difference(0.006)), ("even", difference(0.004)), ("down", difference(-0.006))])
    assert [[label for label, _ in own] for own in (more, less, neither)] == [["up"], ["down"], ["even"]]


def test_speed_is_counted_by_verdict() -> None:
    """Faster, slower and neither are tested, per profile; three rounds are no verdict."""
    rows = [
        shown("quick", timed=timing(2.9)),
        shown("slow", timed=timing(0.85, idle=True)),
        shown("same", timed=timing(1.0)),
        shown("few", timed=timing(2.0, "too few rounds", rounds=3)),
    ]
    found = speeds_of(rows, RUNTIME)
    assert {profile: [label for label, _ in tested] for profile, tested in found.items()} == {PROFILE: ["quick", "slow", "same"]}
    assert speeds_of([rows[-1]], RUNTIME) == {PROFILE: []}
    text = " ".join(sentences(summary(own := result("nas", rows)), own))
    assert "faster than the control in 1 of 3, up to 2.90x (`quick`); slower in 1 (`slow` 0.85x)" in text
    assert "not statistically significant in 1 (`same` 1.00x)" in text


def test_variants_are_compared_with_what_they_have_to_beat() -> None:
    """Random pruning of equal settings is one baseline; a float sibling is the baseline of one variant alone."""
    pruned = result(
        "pruning",
        [shown("a"), shown("b")],
        comparisons=[compared("a", "random-0.5", difference(0.01)), compared("b", "random-0.3", difference(0.02))],
    )
    assert {name: len(own) for name, own in compared_with(pruned, RUNTIME).items()} == {"random pruning at equal multiply-adds": 2}
    rows = [shown("int8-mse"), shown("int8-qat2"), shown("int8-minmax", difference(-0.02), role="reference")]
    comparisons = [
        compared("int8-mse", "int8-minmax", difference(0.02)),
        compared("int8-qat2", "control+2-float-epochs", difference(-0.01)),
    ]
    assert compared_with(result("quantization", rows, "plain", comparisons=comparisons), RUNTIME) == {
        "`int8-minmax`": [("int8-mse", difference(0.02))],
        "`control+2-float-epochs`": [("int8-qat2", difference(-0.01))],
    }


@pytest.mark.parametrize(("change", "twice"), [(None, False), (difference(-0.001), True)])
def test_labels_that_are_the_control_are_not_compared_twice(change: Difference | None, twice: bool) -> None:
    """Where the plain variant is the control to the last detection, the comparison with the control is enough."""
    rows = [shown("scores", difference(0.001)), shown("labels", change, role="reference")]
    own = result("distillation", rows, "plain", comparisons=[compared("scores", "labels", difference(0.001))])
    assert bool(compared_with(own, RUNTIME)) is twice


def test_what_no_reference_keeps_up_with_is_named() -> None:
    """Of two timed variants only one has a reference that is no slower; one that was not timed is left out."""
    rows = [shown("a", timed=timing(2.0)), shown("b", timed=timing(4.0)), shown("c")]
    own = result("nas", rows, "no_slower", comparisons=[compared("a", "narrow-0.5", difference(-0.02))])
    assert without_baseline(own, RUNTIME) == ["b"]


def test_searches_are_compared_with_no_search() -> None:
    """More than the best of random in one of two; a tie with the largest is not more."""

    def search(label: str, *reached: float) -> Search:
        found = tuple(
            Found(by=by, supernet_val_map=value, estimated_latency_s=1e-3, macs=1)
            for by, value in zip(("search", "random_search", "largest_macs"), reached, strict=True)
        )
        return Search(label=label, design_profile=PROFILE, budget_s=2e-3, found=found)

    searches = [search("a", 0.3, 0.2, 0.3), search("b", 0.2, 0.25, 0.1)]
    assert leads(searches, "random_search") == pytest.approx([0.1, -0.05])
    assert leads(searches, "largest_macs") == pytest.approx([0.0, 0.1])


def test_nothing_is_passed_over_in_silence() -> None:
    """Smaller but not faster, without effect, not made: each is named. Of long lists three names and how many more."""
    rows = [shown("a", no_effect=True, timed=timing(0.85, idle=True)), shown("b", macs=50_000_000)]
    own = result("low_rank", rows, missing=["low_rank:c"])
    text = " ".join(sentences(summary(own), own))
    for expected in ("Smaller but not faster: `a`.", "Changed nothing: `a`.", "Not made: `low_rank:c`."):
        assert expected in text
    many = result("distillation", [shown(str(number), difference(-0.02)) for number in range(5)], "plain")
    assert "`2` −2.0 [−2.5, −1.5] and 2 more)" in " ".join(sentences(summary(many), many))
