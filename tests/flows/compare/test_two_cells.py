"""Two cells side by side: hand-made records over forty pictures with one box each."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from detection.frozen import InputError
from flows.compare.two_cells import CellComparison, compare, truths_of
from flows.records.schema import CellsFile, LatencyFile
from tests.flows.gate_factory import ALL, HALF, PICTURES, ROUNDS_S, TRUTH, Store, cells_of, failed, latency_of, row_of
from tests.flows.sweep_factory import Sweep

TRUTHS = {"val": TRUTH, "test": TRUTH}


@pytest.fixture
def own(tmp_path: Path) -> Store:
    """Where the detections lie."""
    return Store(tmp_path / "store")


def compared(
    store: Store, cells: CellsFile, latency: LatencyFile | None = None, names: tuple[str, str] = ("a", "b"), draws: int = 200
) -> CellComparison:
    """The comparison of a and b."""
    return compare(cells, latency, names, TRUTHS, store, seed=0, draws=draws)  # type: ignore[arg-type]


def two(store: Store) -> CellsFile:
    """`a` finds the boxes of half of the pictures, `b` of all, in a file of a quarter the size; val is the same for both."""
    return cells_of(store.cell("a", HALF, size_bytes=4000), store.cell("b", ALL, size_bytes=1000))


def test_differences_are_b_minus_a(own: Store) -> None:
    """20 of 40 boxes reach 51 of 101 recalls, so b is 50/101 better on test; on val both found the same; the file is 4x smaller."""
    (runtime,) = compared(own, two(own)).runtimes
    assert runtime.test.mean == pytest.approx(50 / 101)
    assert 0.0 < runtime.test.low < 50 / 101 < runtime.test.high
    assert (runtime.val.mean, runtime.val.low, runtime.val.high) == (0.0, 0.0, 0.0)
    assert (runtime.size_bytes, runtime.size_ratio, runtime.is_same_file) == ((4000, 1000), 4.0, False)
    assert runtime.test_map_50_95 == (51 / 101, 1.0)


def test_turned_round_the_signs_turn(own: Store) -> None:
    """A beside B loses what B compared with A gains."""
    (runtime,) = compared(own, two(own), names=("b", "a")).runtimes
    assert runtime.test.mean == pytest.approx(-50 / 101)
    assert runtime.size_ratio == 0.25


def test_references_are_compared_like_cells(own: Store) -> None:
    """A reference is found by its name."""
    cells = two(own)
    beside = cells.model_copy(
        update={"cells": cells.cells[:1], "references": (cells.cells[1].model_copy(update={"cell": "reference:b"}),)}
    )
    assert compared(own, beside, names=("a", "reference:b")).runtimes[0].test.mean == pytest.approx(50 / 101)


def test_ratios_are_of_the_same_rounds(own: Store) -> None:
    """Round i of a over round i of b: always 2, whatever the rounds themselves do; twice as fast and surely not equal."""
    slow = [2.0 * seconds for seconds in ROUNDS_S]
    (profile,) = compared(own, two(own), latency_of(row_of("a", slow), row_of("b"))).profiles
    assert profile.comparison is not None
    assert profile.comparison.ratio == pytest.approx(2.0)
    assert profile.comparison.interval == (pytest.approx(2.0), pytest.approx(2.0))
    assert (profile.comparison.verdict, profile.is_equal_within_5_percent) == ("faster", False)


@pytest.mark.parametrize(("spread", "equal"), [(0.01, True), (0.2, False)])
def test_equal_is_said_where_the_whole_interval_is_within_5_percent(spread: float, equal: bool, own: Store) -> None:
    """Eight rounds whose log ratios are +-spread in turn: mean 0, error spread / sqrt(7), reach 2.365 (t, 7 degrees) times that."""
    b = [seconds * math.exp(-spread if round_ % 2 else spread) for round_, seconds in enumerate(ROUNDS_S)]
    (profile,) = compared(own, two(own), latency_of(row_of("a", ROUNDS_S), row_of("b", b))).profiles
    assert profile.comparison is not None
    assert profile.comparison.interval is not None
    assert math.log(profile.comparison.interval[1]) == pytest.approx(2.3646 * spread / math.sqrt(7), rel=1e-3)
    assert (profile.comparison.verdict, profile.is_equal_within_5_percent) == ("not significant", equal)


def test_equality_does_not_depend_on_who_is_named_first(own: Store) -> None:
    """1 / 1.0515 is 0.951, within 5 % of 1 as a share but not as a ratio: neither way is called equal."""
    latency = latency_of(row_of("a", [1.0515 * seconds for seconds in ROUNDS_S]), row_of("b"))
    said = [compared(own, two(own), latency, names).profiles[0].is_equal_within_5_percent for names in (("a", "b"), ("b", "a"))]
    assert said == [False, False]


def test_few_rounds_have_a_ratio_and_no_verdict(own: Store) -> None:
    """Three rounds: no interval, so neither faster nor equal."""
    short = {"control_s": (0.02, 0.02, 0.02)}
    (profile,) = compared(
        own, two(own), latency_of(row_of("a", ROUNDS_S[:3], **short), row_of("b", ROUNDS_S[:3], **short))
    ).profiles
    assert profile.comparison is not None
    assert (profile.comparison.verdict, profile.comparison.interval, profile.is_equal_within_5_percent) == (
        "too few rounds",
        None,
        None,
    )


def test_cells_of_one_file_are_not_compared_with_themselves(own: Store) -> None:
    """Equal digests: nothing differs, and nothing is drawn."""
    cells = two(own)
    first, second = cells.cells
    same = second.model_copy(update={"artifacts": first.artifacts})
    latency = latency_of(row_of("a"), row_of("b", artifact_digest=first.artifacts["onnxruntime"].digest))
    found = compared(own, cells.model_copy(update={"cells": (first, same)}), latency)
    assert found.runtimes[0].is_same_file
    assert (found.runtimes[0].test.mean, found.runtimes[0].test.high) == (0.0, 0.0)
    assert found.profiles[0].comparison is not None
    assert found.profiles[0].comparison.verdict == "same file"


ESTIMATED: dict[str, Any] = {"source": "estimated", "rounds_s": (), "control_rounds_s": ()}
OTHER_CONTROL = tuple(1.01 * seconds for seconds in (0.020, 0.0201, 0.0199, 0.0200, 0.0200, 0.0199, 0.0201, 0.0200))


@pytest.mark.parametrize(
    ("b", "why"),
    [
        (row_of("b").model_copy(update=ESTIMATED), "estimated, not measured"),
        (row_of("b", control_s=OTHER_CONTROL), "not measured in the same rounds"),
        (row_of("b", environment="0" * 64), "not measured in the same rounds"),
        (row_of("b", control_s=()), "the control was not timed in the same rounds"),
        (row_of("b", artifact_digest="0" * 64), "measured with another file than cells.json has"),
        (row_of("b", rounds_s=(), why="out of memory"), "`b` has no time: out of memory"),
        (row_of("c"), "estimated, not measured"),
    ],
    ids=["estimated", "other-rounds", "other-machine", "no-control", "other-file", "no-time", "no-row"],
)
def test_what_was_not_measured_together_has_no_ratio(b: Any, why: str, own: Store) -> None:
    """Why stands where the ratio would; never is a measured time set beside a modelled one."""
    (profile,) = compared(own, two(own), latency_of(row_of("a"), b)).profiles
    assert (profile.comparison, profile.p50_s, profile.is_equal_within_5_percent) == (None, None, None)
    assert why in str(profile.why)


def test_a_measured_row_is_taken_where_a_modelled_one_stands_beside_it(own: Store) -> None:
    """A device may have been estimated first and measured later."""
    modelled = [row_of(name).model_copy(update=ESTIMATED) for name in ("a", "b")]
    (profile,) = compared(own, two(own), latency_of(*modelled, row_of("a"), row_of("b"))).profiles
    assert profile.comparison is not None


def test_without_latency_accuracy_is_compared_all_the_same(own: Store) -> None:
    """No profile, and the differences of mAP."""
    found = compared(own, two(own))
    assert (found.profiles, len(found.runtimes)) == ((), 1)
    assert found.pictures == {"val": PICTURES, "test": PICTURES}


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("a", "bb"), "'bb': none of the 3 cells and 0 references of cells.json, such as 'b'"),
        (("a", "a"), "a: named twice"),
        (("a", "broken"), "'broken': failed, so there is no file of it"),
    ],
)
def test_names_that_cannot_be_compared_are_refused(names: tuple[str, str], words: str, own: Store) -> None:
    """Unknown, twice the same, or not made."""
    cells = cells_of(*two(own).cells, failed("broken"))
    with pytest.raises(InputError, match=words):
        compared(own, cells, names=names)


def test_other_data_than_the_records_are_of_is_refused(swept: Sweep) -> None:
    """Differences on other pictures than the detections were found in would mean nothing."""
    cells = swept.cells
    assert set(truths_of(cells, swept.prepared)) == {"val", "test"}
    other = cells.model_copy(update={"dataset": cells.dataset.model_copy(update={"digest": "0" * 64})})
    with pytest.raises(InputError, match="Run `sixfold prepare` and `sixfold grid` again"):
        truths_of(other, swept.prepared)


def test_a_real_sweep_is_compared_on_its_own_detections(swept: Sweep) -> None:
    """The observed difference is that of the recorded mAPs, and the whole is JSON."""
    cells = swept.cells
    found = compare(cells, None, ("none", "pruning+quantization"), truths_of(cells, swept.prepared), swept.store, seed=0, draws=50)
    (runtime,) = found.runtimes
    assert runtime.test.mean == pytest.approx(runtime.test_map_50_95[1] - runtime.test_map_50_95[0], abs=1e-9)
    assert json.loads(found.model_dump_json(by_alias=True))["schema"] == 2
