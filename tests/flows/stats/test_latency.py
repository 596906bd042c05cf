"""Intervals, verdicts and what rounds can find, against values worked by hand, and against scipy and statsmodels."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from flows.stats.latency import (
    MIN_ROUNDS,
    Paired,
    detectable,
    holm,
    level_of_next,
    log_ratio_interval,
    noncentrality,
    speedup_change,
    verdicts,
)

NOW_S = (1.00, 1.10, 0.95, 1.05, 1.02, 0.99, 1.01, 1.03)
NOW_CONTROL_S = (2.10, 2.15, 1.98, 2.08, 2.05, 2.02, 2.04, 2.00)
BEFORE_S = (0.98, 1.01, 0.99, 1.04, 1.00, 0.97, 1.02, 0.98, 1.00)
BEFORE_CONTROL_S = (2.00, 2.03, 1.97, 2.09, 2.01, 1.99, 2.02, 2.00, 2.03)
POWERS_OF_2 = (2.0, 4.0, 8.0, 2.0, 4.0, 8.0, 4.0, 4.0)
"""Times of a control; beside times of 1, the logarithms are ln 2 times 1, 2, 3, 1, 2, 3, 2, 2: mean 2, variance 4 / 7."""


def logs(cell_s: tuple[float, ...], control_s: tuple[float, ...]) -> list[float]:
    """Log speedups per round."""
    return [math.log(control / cell) for cell, control in zip(cell_s, control_s, strict=True)]


def beside(factor: float, digest: str = "own") -> Paired:
    """A file that takes `factor` times as long as the control, give or take 1 % from round to round."""
    return Paired(digest, tuple(factor * math.exp(0.01 * sign) for sign in (1, -1) * 4), "control", (1.0,) * 8)


def test_the_speedup_is_the_geometric_mean_over_rounds() -> None:
    """Rounds that are 2, 4 and 8 times faster are 4 times faster."""
    assert log_ratio_interval((1.0, 1.0, 1.0), (2.0, 4.0, 8.0)).ratio == pytest.approx(4.0)


def test_the_interval_is_students_worked_by_hand() -> None:
    """Mean 2 ln 2, error ln 2 * sqrt(4 / 7 / 8), t(0.975, 7) = 2.364624: 4 times or over 2 to the power 0.631972."""
    low, high = log_ratio_interval((1.0,) * 8, POWERS_OF_2).interval or (0.0, 0.0)
    assert (low, high) == pytest.approx((4.0 / 2.0**0.631972, 4.0 * 2.0**0.631972), rel=1e-5)


def test_interval_and_p_are_those_of_scipys_one_sample_test() -> None:
    """scipy's ttest_1samp on the log ratios gives the same numbers."""
    expected = stats.ttest_1samp(logs(NOW_S, NOW_CONTROL_S), 0.0)
    found = log_ratio_interval(NOW_S, NOW_CONTROL_S)
    assert found.interval == pytest.approx(np.exp(expected.confidence_interval(0.95)))
    assert found.p == pytest.approx(expected.pvalue)


@pytest.mark.parametrize("rounds", [1, 2, 3, 7])
def test_few_rounds_give_a_ratio_without_an_interval(rounds: int) -> None:
    """Fewer than eight rounds say too little of their spread."""
    found = log_ratio_interval((1.0,) * rounds, (3.0,) * rounds)
    assert (found.ratio, found.interval, found.p) == (pytest.approx(3.0), None, None)


def test_the_control_against_itself_is_exactly_one() -> None:
    """Equal rounds have ratio 1, an interval of no width and p 1."""
    found = log_ratio_interval(NOW_S, NOW_S)
    assert (found.ratio, found.interval, found.p) == (1.0, (1.0, 1.0), 1.0)


def test_what_slows_both_in_a_round_does_not_count() -> None:
    """A machine three times slower in one round leaves ratio and interval as they were."""
    slow = (1.0, 3.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0)
    slowed = log_ratio_interval(
        [s * t for s, t in zip(NOW_S, slow, strict=True)], [s * t for s, t in zip(NOW_CONTROL_S, slow, strict=True)]
    )
    assert slowed.interval == pytest.approx(log_ratio_interval(NOW_S, NOW_CONTROL_S).interval)


def test_eight_rounds_cover_what_they_claim() -> None:
    """Of 5,000 seeded sets of eight rounds, 95 % of the intervals hold the true ratio (binomial limits at 4 sigma)."""
    times_s = np.exp(np.random.default_rng(7).normal(math.log(2.0), 0.05, (5_000, 8)))
    found = [log_ratio_interval((1.0,) * 8, own).interval or (0.0, 0.0) for own in times_s]
    covered = sum(low <= 2.0 <= high for low, high in found) / len(found)
    assert abs(covered - 0.95) < 4 * math.sqrt(0.95 * 0.05 / len(found))


def test_a_change_of_speedup_is_scipys_welch_test() -> None:
    """scipy's ttest_ind with unequal variances gives the same interval and p."""
    expected = stats.ttest_ind(logs(NOW_S, NOW_CONTROL_S), logs(BEFORE_S, BEFORE_CONTROL_S), equal_var=False)
    found = speedup_change(NOW_S, NOW_CONTROL_S, BEFORE_S, BEFORE_CONTROL_S)
    assert found.interval == pytest.approx(np.exp(expected.confidence_interval(0.95)))
    assert found.p == pytest.approx(expected.pvalue)
    assert found.freedom == pytest.approx(expected.df)


def test_a_change_needs_rounds_on_both_sides() -> None:
    """Seven rounds before leave the change without an interval, however many there are now."""
    assert speedup_change(NOW_S, NOW_CONTROL_S, (1.0,) * 7, (2.0,) * 7).interval is None


def test_a_slower_machine_does_not_change_the_speedup() -> None:
    """All times doubled, cell and control: the change is 1."""
    found = speedup_change([2 * s for s in NOW_S], [2 * s for s in NOW_CONTROL_S], NOW_S, NOW_CONTROL_S)
    assert found.ratio == pytest.approx(1.0)


# ---- families ----


def test_holm_by_hand() -> None:
    """0.01, 0.04, 0.03 times 3, 1, 2 in order of size, never falling: 0.03, 0.06, 0.06."""
    assert holm([0.01, 0.04, 0.03]) == pytest.approx((0.03, 0.06, 0.06))


def test_holm_of_nothing_is_nothing() -> None:
    """No test made, no p value."""
    assert holm([]) == ()


def test_the_correction_is_that_of_statsmodels() -> None:
    """Three families with ties, ones and zeros give what multipletests gives."""
    families = np.random.default_rng(1).random((3, 12)) ** 3
    families[0, 3:6], families[1, 0], families[2, 1] = 0.01, 0.0, 1.0
    for family in families:
        assert holm(family.tolist()) == pytest.approx(multipletests(family, method="holm")[1])


def test_verdicts_follow_the_corrected_p() -> None:
    """A quarter more time is slower, a fifth less faster, the same no difference; ratios are reference over file."""
    slower, faster, equal = verdicts([beside(1.25, digest="a"), beside(0.8, digest="b"), beside(1.0, digest="c")])
    assert [own.verdict for own in (slower, faster, equal)] == ["slower", "faster", "not significant"]
    assert [own.ratio for own in (slower, faster, equal)] == pytest.approx([0.8, 1.25, 1.0])
    assert (slower.p, slower.p_corrected) == (pytest.approx(faster.p), pytest.approx(3 * (slower.p or 0)))
    assert equal.p_corrected == pytest.approx(1.0)


def test_an_interval_alone_makes_no_verdict() -> None:
    """A file whose own 95 % interval excludes 1 is faster alone, and no difference as one of ten: Holm multiplies its p by 10."""
    one = beside(0.99, digest="one")
    (alone,) = verdicts([one])
    crowd = verdicts([one, *(beside(1.0, digest=f"same {number}") for number in range(9))])
    assert alone.interval is not None
    assert alone.interval[0] > 1.0
    assert crowd[0].interval == alone.interval
    assert (alone.verdict, crowd[0].verdict) == ("faster", "not significant")
    assert crowd[0].p_corrected == pytest.approx(10 * (alone.p or 0))


def test_equal_files_are_not_tested() -> None:
    """The control's own file is exactly as fast, whatever its rounds say, and does not weigh on the others' p values."""
    own = Paired("control", (1.1,) * 8, "control", (1.0,) * 8)
    same, other = verdicts([own, beside(0.99)])
    assert (same.verdict, same.ratio, same.interval, same.p, same.minimum_detectable_effect) == (
        "same file",
        1.0,
        (1.0, 1.0),
        None,
        None,
    )
    assert other == verdicts([beside(0.99)])[0]


def test_cells_that_share_a_file_are_one_test() -> None:
    """Two cells with one file: the family has one member, and both get its verdict."""
    assert verdicts([beside(0.99), beside(0.99)]) == verdicts([beside(0.99)]) * 2


def test_too_few_rounds_give_their_range_only() -> None:
    """Seven rounds of ratio 2 and 3: no interval, no p, no minimal effect, and no part in the family."""
    few = Paired("few", (1.0,) * 7, "control", (2.0, 3.0, 2.0, 3.0, 2.0, 3.0, 2.0))
    own, other = verdicts([few, beside(0.99)])
    assert (own.verdict, own.range, own.rounds) == ("too few rounds", (pytest.approx(2.0), pytest.approx(3.0)), 7)
    assert (own.interval, own.p, own.p_corrected, own.minimum_detectable_effect) == (None,) * 4
    assert other.p_corrected == other.p


# ---- what can be found ----


def test_the_minimal_effect_is_that_of_the_noncentral_t() -> None:
    """At the stated distance scipy's noncentral t lies beyond both critical values with probability 0.8."""
    for freedom, level in itertools.product((7.0, 13.4), (0.05, 0.05 / 63)):
        distance, critical = noncentrality(freedom, level, 0.8), stats.t.isf(level / 2, freedom)
        assert stats.nct.sf(critical, freedom, distance) == pytest.approx(0.8, abs=1e-3)


def test_the_minimal_effect_of_eight_rounds_by_hand() -> None:
    """Rounds that spread by 1 % (standard deviation of the logs) find 3.2698 / sqrt 8 = 1.156 % with power 0.8 at 5 %."""
    noise = np.array([1, -1, 1, -1, 1, -1, 1, -1]) * 0.01 * math.sqrt(7 / 8)
    own = log_ratio_interval([1.0] * 8, np.exp(noise).tolist())
    assert detectable(own, 0.05) == pytest.approx(math.exp(0.0115604), rel=1e-5)


def test_the_level_of_a_family_is_what_its_next_call_needs() -> None:
    """Holm: alpha over the tests that are not significant yet."""
    assert level_of_next(0.05, 10, 0) == pytest.approx(0.005)
    assert level_of_next(0.05, 10, 5) == pytest.approx(0.01)


def test_others_that_are_called_lower_the_minimal_effect() -> None:
    """Holm asks less of what is left: beside two called ones a file is tested at 5 %, beside two that are not at a third of it."""
    equal = beside(1.0, digest="equal")
    among_called = verdicts([beside(0.5, digest="a"), beside(0.6, digest="b"), equal])[2].minimum_detectable_effect
    among_equal = verdicts([beside(1.0, digest="a"), beside(1.0, digest="b"), equal])[2].minimum_detectable_effect
    ratio = log_ratio_interval(equal.rounds_s, equal.reference_rounds_s)
    assert among_called == detectable(ratio, 0.05)
    assert among_equal == detectable(ratio, 0.05 / 3)
    assert among_called < among_equal


def test_the_minimal_effect_is_found_four_times_in_five() -> None:
    """Of 1,000 seeded sweeps of ten files, nine of them equal to the control, the one off by the effect is called in 80 %.

    The effect stated is for the true spread; limits are binomial at 4 sigma, and 1 % for the sweeps in which another is called too.
    """
    effect = noncentrality(7.0, 0.05 / 10, 0.8) * 0.01 / math.sqrt(8)
    sweeps = np.random.default_rng(3).normal(0.0, 0.01, (1_000, 10, MIN_ROUNDS))
    sweeps[:, 0] += effect
    found = others = 0
    for sweep in np.exp(-sweeps):
        called = [own.verdict for own in verdicts([Paired(str(i), own, "control", (1.0,) * 8) for i, own in enumerate(sweep)])]
        found += called[0] == "faster"
        others += any(verdict != "not significant" for verdict in called[1:])
    assert abs(found / 1_000 - 0.8) < 4 * math.sqrt(0.8 * 0.2 / 1_000) + 0.01
    assert others / 1_000 < 0.05 + 4 * math.sqrt(0.05 * 0.95 / 1_000)
