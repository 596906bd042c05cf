"""What is said of a recommendation: the answer, and the warnings that have to stand beside it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from flows.records.schema import CellsFile, LatencyFile, LatencyRow
from flows.report.recommendation import Recommendation, recommend
from flows.stats.map_bootstrap import NO_DIFFERENCE, Difference
from tests.flows.records_factory import (
    ESTIMATED,
    MEASURED,
    cells_file,
    eight_cells,
    empty_row,
    estimated_row,
    latency_file,
    measured_row,
    ok_cell,
)

Records = tuple[CellsFile, LatencyFile]
NARROW = "reference:narrow-0.5"
VAL, NOISE, TIERS = "Val chose it", "Within the noise", "Fastest that keeps"
"""How the warnings begin."""


def answers(records: Records, max_drop: float = 0.02, difference: Difference = NO_DIFFERENCE) -> dict[str, Recommendation]:
    """Profile -> what is recommended, where every two files differ so on test."""
    return {own.profile: own for own in recommend(*records, max_drop, lambda *_: difference).profiles}


def one_cell(row: LatencyRow, size_bytes: int = 1 << 20, kept: float = 0.55) -> Records:
    """The control at 10 ms and pruning, both with a file of 1 MiB unless told otherwise."""
    cells = cells_file([ok_cell((), 0.55), ok_cell(("pruning",), kept, size_bytes=size_bytes)])
    same_kind = measured_row if row.is_measured else estimated_row
    return cells, latency_file([same_kind("none", row.profile, 0.010, 0.010), row])


def beginning(own: Recommendation, start: str) -> list[str]:
    """The notes that begin so."""
    return [note for note in own.notes if note.startswith(start)]


@pytest.mark.parametrize(("control_map", "is_blind"), [(0.0, True), (0.02, True), (0.021, False)])
def test_a_control_that_found_nothing_recommends_nothing(control_map: float, is_blind: bool) -> None:
    """With no more mAP than may be lost the answer does not say ship, and the first note says why and what to do."""
    cells = cells_file([ok_cell((), control_map), ok_cell(("pruning",), control_map)])
    rows = [measured_row(name, MEASURED, time_s, 0.010) for name, time_s in (("none", 0.010), ("pruning", 0.005))]
    own = answers((cells, latency_file(rows)))[MEASURED]
    assert ("ship" in own.answer) is not is_blind
    start = f"Do not ship yet: the control's own val mAP is {control_map:.3f}, no more than the 2 points"
    assert own.notes[0].startswith(start) is is_blind


@pytest.mark.parametrize(
    ("mean", "max_drop", "permitted"),
    [(-0.021, 0.02, "2 points"), (-0.011, 0.01, "1 point"), (-0.02, 0.02, None), (0.03, 0.02, None)],
)
def test_a_loss_on_test_beyond_what_val_permits_is_told(mean: float, max_drop: float, permitted: str | None) -> None:
    """Only beyond it; a gain of as much is no loss."""
    difference = Difference(mean=mean, low=mean - 0.01, high=mean + 0.01, p=0.1)
    own = answers(one_cell(measured_row("pruning", MEASURED, 0.005, 0.010)), max_drop, difference)[MEASURED]
    said = [f"Val chose it; on test it loses more than the {permitted} permitted on val."] if permitted else []
    assert own.verdict == "ship"
    assert beginning(own, VAL) == said


@pytest.mark.parametrize(
    ("names", "told"),
    [
        ((), []),
        (("pruning",), [f"{NOISE} of its speed: `pruning`."]),
        (("b", "c", "d", "e"), [f"{NOISE} of its speed: `b`, `c`, `d`, `e`."]),
        (("b", "c", "d", "e", "f", "g"), [f"{NOISE} of its speed: `b`, `c`, `d`, `e` and 2 more."]),
    ],
    ids=len,
)
def test_cells_within_the_noise_of_the_chosen_one_are_told(names: Sequence[str], told: list[str]) -> None:
    """By name up to four, fastest first, the rest by number; `slow` at half the speed is not among them."""
    cells = cells_file([ok_cell((), 0.55), ok_cell(("nas",), 0.55), *(ok_cell((name,), 0.54) for name in (*names, "slow"))])
    times_s = {"none": 0.010, "nas": 0.002, "slow": 0.004} | {name: 0.002 + 1e-6 * turn for turn, name in enumerate(names, 1)}
    records = cells, latency_file([measured_row(name, MEASURED, own_s, 0.010) for name, own_s in times_s.items()])
    own = answers(records)[MEASURED]
    assert own.chosen is not None
    assert own.chosen.cell == "nas"
    assert beginning(own, NOISE) == told


def test_where_the_control_is_kept_nothing_is_told_of_noise() -> None:
    """It is as fast as the control, which is what the answer says already."""
    own = answers(one_cell(measured_row("pruning", MEASURED, 0.010, 0.010)))[MEASURED]
    assert (own.verdict, own.not_told_apart) == ("keep_control", ("pruning",))
    assert beginning(own, NOISE) == []


@pytest.mark.parametrize(
    ("profile", "told"), [(MEASURED, "`pruning`, 2.0x; 95\u00a0%: `pruning+quantization`, 5.0x"),
                          (ESTIMATED, "`pruning`, 2.0x; 95\u00a0%: `quantization`, 2.5x")],
)  # fmt: skip
def test_the_fastest_that_keep_a_share_are_told(profile: str, told: str) -> None:
    """99 % of 0.550 is 0.5445 and 95 % is 0.5225, on a clock's profile and a model's."""
    own = answers(eight_cells())[profile]
    assert beginning(own, TIERS) == [f"Fastest that keeps this share of the control's val mAP: 99\u00a0%: {told}."]


def test_where_nothing_can_be_judged_nothing_is_told() -> None:
    """Without a number of the control no warning makes sense."""
    cells, latency = one_cell(measured_row("pruning", MEASURED, 0.005, 0.010))
    own = answers((cells, latency_file([empty_row("none", MEASURED, "core was busy"), latency.rows[1]])))[MEASURED]
    assert own.notes == ()
    assert own.answer == (f"On `{MEASURED}` nothing can be recommended: the control has no number there, so no drop can be judged.")


@pytest.mark.parametrize(
    ("size_bytes", "told"),
    [(3 << 20, "3.0x larger (3.15 MB against 1.05 MB)"), (1 << 19, "2.0x smaller (0.52 MB against 1.05 MB)")],
)
def test_a_larger_file_is_not_called_smaller(size_bytes: int, told: str) -> None:
    """The ratio is above 1 either way, the word says which."""
    own = answers(one_cell(measured_row("pruning", MEASURED, 0.005, 0.010), size_bytes))[MEASURED]
    assert f", {told}, test mAP " in own.answer


def test_an_estimated_answer_says_so_with_its_interval() -> None:
    """Worked by hand from the eight cells: 40 ms against 100, a factor of 1.6 to both sides, and no time from picture to boxes."""
    assert answers(eight_cells())[ESTIMATED].answer == (
        f"On `{ESTIMATED}`, by estimate and not by measurement, `quantization` comes first: about 2.5x faster (40.0 ms "
        "against 100 ms, interval 25.0 to 64.0 ms), 4.0x smaller (1.05 MB against 4.19 MB), test mAP 0.540 against 0.550 of the "
        "control (difference 0.0 points, 95\u00a0% interval 0.0 to 0.0)."
    )


@pytest.mark.parametrize(
    ("row", "kept", "why"),
    [
        (empty_row("pruning", MEASURED, "core was busy"), 0.55, "no combination has a number there"),
        (
            measured_row("pruning", MEASURED, 0.005, 0.010), 0.52,
            "no combination qualifies, each of the 1 loses more than 2 points of val mAP",
        ),
        (
            estimated_row("pruning", ESTIMATED, 0.0096, 0.010), 0.55,
            "1 of 1 combinations stay within 2 points of val mAP, and none of them is faster by more than 5\u00a0% by estimate",
        ),
    ],
    ids=["no number", "too much lost", "hardly faster by estimate"],
)  # fmt: skip
def test_keeping_the_control_has_a_reason(row: LatencyRow, kept: float, why: str) -> None:
    """Nothing to compare, nothing accurate enough, nothing ahead by more than models resolve."""
    assert answers(one_cell(row, kept=kept))[row.profile].answer == f"On `{row.profile}` keep the control: {why}."


def beside(other: LatencyRow, own: LatencyRow, difference: Difference) -> str:
    """What the answer says of the reference: the part from "Beside" on."""
    cells, latency = one_cell(own)
    reference = ok_cell((), 0.45).model_copy(update={"cell": NARROW})
    records = cells.model_copy(update={"references": (reference,)}), latency_file([*latency.rows, other])
    text = answers(records, difference=difference)[MEASURED].answer
    return text[text.index("Beside") :]


@pytest.mark.parametrize(
    ("mean", "low", "high", "said"),
    [
        (0.03, 0.01, 0.05, "more test mAP, +3.0 points, 95\u00a0% interval +1.0 to +5.0"),
        (-0.03, -0.05, -0.01, "less test mAP, \u22123.0 points, 95\u00a0% interval \u22125.0 to \u22121.0"),
        (0.01, -0.01, 0.03, "not told apart by test mAP, +1.0 points, 95\u00a0% interval \u22121.0 to +3.0"),
        (0.01, 0.0, 0.02, "not told apart by test mAP, +1.0 points, 95\u00a0% interval 0.0 to +2.0"),
        (-0.01, -0.02, 0.0, "not told apart by test mAP, \u22121.0 points, 95\u00a0% interval \u22122.0 to 0.0"),
    ],
    ids=["more", "less", "neither", "touches 0 from above", "touches 0 from below"],
)
def test_more_or_less_than_the_reference_only_where_the_interval_says_so(mean: float, low: float, high: float, said: str) -> None:
    """An interval that holds 0 tells nothing apart."""
    other, own = (measured_row(name, MEASURED, 0.002, 0.010) for name in (NARROW, "pruning"))
    assert beside(other, own, Difference(mean=mean, low=low, high=high, p=0.1)) == (
        f"Beside `{NARROW}`, the best reference that is as fast: {said}; 1.00x its speed [1.00, 1.00]."
    )


@pytest.mark.parametrize(
    ("changes", "both", "said"),
    [
        ({"rounds_s": (0.002,) * 3, "control_rounds_s": (0.010,) * 3}, True, "; 1.00x its speed."),
        ({"control_rounds_s": (0.011,) * 8}, False, "."),
    ],
    ids=["three rounds", "other rounds"],
)
def test_the_speed_beside_the_reference_is_told_as_far_as_it_is_known(changes: dict[str, object], both: bool, said: str) -> None:
    """Too few rounds have no interval; rounds that were not timed together have no ratio."""
    other, own = (measured_row(name, MEASURED, 0.002, 0.010) for name in (NARROW, "pruning"))
    told = beside(other.model_copy(update=changes), own.model_copy(update=changes) if both else own, NO_DIFFERENCE)
    assert told.endswith(f"not told apart by test mAP, 0.0 points, 95\u00a0% interval 0.0 to 0.0{said}")
