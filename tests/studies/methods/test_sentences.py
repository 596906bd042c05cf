"""What the page says in words, against numbers made by hand."""

from __future__ import annotations

import pytest

from studies.methods.results import Found, Search, Shown, Summary
from studies.methods.sentences import sentences
from tests.studies.methods.methods_factory import beside, difference, result, shown, summary, timing


def said(found: Summary) -> str:
    """All sentences about its only method."""
    (own,) = found.methods
    return " ".join(sentences(found, own))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            (-0.002, -0.009, -0.03),
            "Within 1 point of the control's test mAP down to 35 % of its multiply-adds (`b` −0.9 [−1.4, −0.4]).",
        ),
        ((-0.002, -0.010, -0.03), "down to 35 % of its multiply-adds (`b` −1.0 [−1.5, −0.5])."),
        ((-0.02, -0.015, -0.03), "No variant lies within 1 point of the control's test mAP; nearest is `b`, −1.5 [−2.0, −1.0]."),
    ],
)
def test_reach_is_the_fewest_multiply_adds_within_a_point(changes: tuple[float, ...], expected: str) -> None:
    """Of 70, 35 and 20 % the least that loses at most 1.0; where none does, the one that loses least."""
    rows = [
        shown(name, difference(mean), macs=macs)
        for name, mean, macs in zip("abc", changes, (70_000_000, 35_000_000, 20_000_000), strict=True)
    ]
    assert expected in said(summary(result("pruning", rows)))


def test_where_nothing_gets_cheaper_accuracy_is_counted() -> None:
    """Half a point either way is not told from none; below and above are by the interval, not by the mean."""
    rows = [shown(name, difference(mean)) for name, mean in (("up", 0.006), ("even", 0.004), ("down", -0.006))]
    expected = (
        "Beside the control: more test mAP in 1 of 3, less in 1 (`down` −0.6 [−1.1, −0.1]), not told apart in 1 "
        "(`even` +0.4 [−0.1, +0.9])."
    )
    assert expected in said(summary(result("distillation", rows, "plain")))


def test_speed_is_counted_by_verdict() -> None:
    """Faster, slower and neither; what is smaller but not faster is named; the runtime's profile stands behind."""
    rows = [
        shown("quick", timed=timing(2.9), macs=50_000_000),
        shown("quicker", timed=timing(3.1), macs=40_000_000),
        shown("slow", timed=timing(0.85, idle=True), macs=60_000_000),
        shown("same", timed=timing(1.0), macs=70_000_000),
    ]
    text = said(summary(result("low_rank", rows, "no_slower")))
    assert (
        "Measured faster than the control in 2 of 4, up to 3.10x (`quicker`); slower in 1 (`slow` 0.85x); no difference in 1 "
        "(`same` 1.00x) (x86-onnxruntime-1t). Smaller but not faster: `slow`."
    ) in text


def test_too_few_rounds_say_neither_faster_nor_slower() -> None:
    """Three rounds are no verdict."""
    text = said(summary(result("pruning", [shown("a", timed=timing(2.0, "too few rounds", rounds=3))])))
    assert "x86-onnxruntime-1t: measured in too few rounds to say faster or slower." in text
    assert "aster than the control" not in text


def test_random_pruning_that_is_as_good_is_said() -> None:
    """Two of three variants are better than chance at equal multiply-adds, one is not told apart, with its numbers."""
    rows = [shown(name, macs=50_000_000) for name in ("taylor-0.5", "l2-0.5", "taylor-0.3")]
    rows.append(shown("random-pruning-0.5", difference(-0.02), role="reference", macs=50_000_000))
    besides = [
        beside("taylor-0.5", "random-pruning-0.5", difference(0.003)),
        beside("l2-0.5", "random-pruning-0.5", difference(0.02)),
        beside("taylor-0.3", "random-pruning-0.3", difference(0.03)),
    ]
    expected = (
        "Beside random pruning at equal multiply-adds: more test mAP in 2 of 3, not told apart in 1 "
        "(`taylor-0.5` +0.3 [−0.2, +0.8])."
    )
    assert expected in said(summary(result("pruning", rows, besides=besides)))


def test_what_no_reference_keeps_up_with_is_named() -> None:
    """Of two timed variants only one has a reference that is no slower; one that was not timed is not spoken of."""
    rows = [shown("a", timed=timing(2.0)), shown("b", timed=timing(4.0)), shown("c")]
    besides = [beside("a", "narrow-0.5", difference(-0.02))]
    text = said(summary(result("nas", rows, "no_slower", besides=besides)))
    assert "Beside the best reference that is no slower: more test mAP in 0 of 1, less in 1 (`a` −2.0 [−2.5, −1.5])." in text
    assert "No reference is as fast as `b`." in text


@pytest.mark.parametrize(("change", "twice"), [(None, False), (difference(-0.001), True)])
def test_labels_that_are_the_control_are_not_compared_twice(change: None, twice: bool) -> None:
    """Where the plain variant is the control to the last detection, what was said beside the control is enough."""
    rows: list[Shown] = [shown("scores", difference(0.001)), shown("labels", change, role="reference")]
    text = said(summary(result("distillation", rows, "plain", besides=[beside("scores", "labels", difference(0.001))])))
    assert ("Beside `labels`" in text) is twice


def test_a_float_sibling_is_a_rival_of_its_own() -> None:
    """What was trained with rounding stands beside its sibling, the others beside minimum and maximum."""
    rows = [shown("int8-mse"), shown("int8-qat2"), shown("int8-minmax", difference(-0.02), role="reference")]
    besides = [
        beside("int8-mse", "int8-minmax", difference(0.02)),
        beside("int8-qat2", "control+2-float-epochs", difference(-0.01)),
    ]
    text = said(summary(result("quantization", rows, "plain", besides=besides)))
    assert "Beside `int8-minmax`: more test mAP in 1 of 1." in text
    assert "Beside `control+2-float-epochs`: more test mAP in 0 of 1, less in 1 (`int8-qat2` −1.0 [−1.5, −0.5])." in text


def test_searches_are_counted_against_no_search() -> None:
    """More than the best of random in one of two; a tie with the largest is not more."""

    def search(label: str, *reached: float) -> Search:
        found = tuple(
            Found(by=by, supernet_val_map=value, estimated_latency_s=1e-3, macs=1)
            for by, value in zip(("search", "random_search", "largest_macs"), reached, strict=True)
        )
        return Search(label=label, design_profile="x86-onnxruntime-1t", budget_s=2e-3, found=found)

    own = result("nas", [shown("a")], "no_slower", searches=[search("a", 0.3, 0.2, 0.3), search("b", 0.2, 0.25, 0.1)])
    assert (
        "ahead of the best of as many random ones in 1 of 2 searches, by \u22125.0 to +10.0 points (mean +2.5), "
        "and of the largest network estimated to be as fast in 1 of 2 searches, by 0.0 to +10.0 points (mean +5.0); "
        "no interval."
    ) in said(summary(own))


def test_what_changed_nothing_and_what_was_not_made_is_named() -> None:
    """Neither is passed over in silence."""
    own = result("low_rank", [shown("a", no_effect=True), shown("b", macs=50_000_000)], missing=["low_rank:c"])
    text = said(summary(own))
    assert "Changed nothing: `a`." in text
    assert "Not made: `low_rank:c`." in text


def test_long_lists_end_with_how_many_more() -> None:
    """Three names, then a number: the rest is in the table."""
    rows = [shown(str(number), difference(-0.02)) for number in range(5)]
    assert "`2` −2.0 [−2.5, −1.5] and 2 more)" in said(summary(result("distillation", rows, "plain")))
