"""The gate: each verdict and each exit code."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from statsmodels.stats.power import TTestIndPower

from flows.check.baseline import accept
from flows.check.confirm import Confirm
from flows.check.stage import check, write_verdict
from flows.check.verdict import Item, Verdict
from flows.records.schema import CellRecord, LatencyRow
from flows.sweep.settings import Check
from tests.flows.gate_factory import (
    ALL,
    CONTROL_S,
    ROUNDS_S,
    SWAPPED,
    TRUTH,
    Store,
    cells_of,
    digest,
    failed,
    latency_of,
    row_of,
)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store."""
    return Store(tmp_path / "store")


Gate = Callable[..., Verdict]


@pytest.fixture
def gate(store: Store, tmp_path: Path) -> Gate:
    """Judges current cells and rows against a baseline of `none` and `pruning`, both finding HALF and twice as fast."""
    before = cells_of(store.cell("none"), store.cell("pruning"))
    accept("main", before, latency_of(row_of("none", CONTROL_S), row_of("pruning")), store, tmp_path / "baselines")

    def verdict_on(
        cell: CellRecord | None = None, row: LatencyRow | None = None, config: Check | None = None, confirm: Confirm | None = None
    ) -> Verdict:
        cells = cells_of(store.cell("none"), cell or store.cell("pruning"))
        latency = latency_of(row_of("none", CONTROL_S), row or row_of("pruning"))
        return check(tmp_path / "baselines" / "main", cells, latency, TRUTH, store, config or Check(), confirm)

    return verdict_on


def again(rounds_s: Sequence[float], control_s: Sequence[float] = CONTROL_S) -> Confirm:
    """Measures every candidate again, and always finds these rounds."""
    return lambda candidates: {candidate: row_of(candidate.cell, rounds_s, control_s) for candidate in candidates}


def item_of(verdict: Verdict, quantity: str, cell: str = "pruning") -> Item:
    """The one item of a quantity of a cell."""
    (item,) = [item for item in verdict.items if (item.cell, item.quantity) == (cell, quantity)]
    return item


def test_the_same_results_are_ok(gate: Gate) -> None:
    """Nothing changed: 2 cells x (params, MACs, size, mAP) and one speedup, all ok, exit 0."""
    verdict = gate()
    assert (verdict.overall, verdict.exit_code) == ("ok", 0)
    assert [item.verdict for item in verdict.items] == ["ok"] * 9
    assert item_of(verdict, "map_50_95").why == "equal detections"


def test_what_would_have_been_found_is_that_of_a_two_sample_test(gate: Gate) -> None:
    """Equal spread then and now: Welch's test is Student's, of which statsmodels knows the power."""
    spread = statistics.stdev(math.log(control / own) for control, own in zip(CONTROL_S, ROUNDS_S, strict=True))
    expected = math.exp(spread * TTestIndPower().solve_power(nobs1=8, alpha=0.05, power=0.8))
    assert item_of(gate(), "speedup").minimum_detectable_effect == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("quantity", ["params", "macs", "size_bytes"])
def test_counts_are_judged_exactly(gate: Gate, store: Store, quantity: str) -> None:
    """One more is a regression and exit 1; one less is an improvement and exit 0."""
    baseline = {"params": 50, "macs": 500, "size_bytes": 1000}[quantity]
    worse, better = (gate(store.cell("pruning", **{quantity: baseline + step})) for step in (1, -1))
    assert (item_of(worse, quantity).verdict, item_of(worse, quantity).change, worse.exit_code) == ("regressed", 1, 1)
    assert (item_of(better, quantity).verdict, better.exit_code) == ("improved", 0)


def test_a_lost_half_is_a_regression(gate: Gate, store: Store) -> None:
    """10 boxes found where 20 were: 26/101 - 51/101, far beyond a point, and no accident."""
    verdict = gate(store.cell("pruning", range(1, 11)))
    item = item_of(verdict, "map_50_95")
    assert (item.verdict, verdict.overall, verdict.exit_code) == ("regressed", "regressed", 1)
    assert item.change == pytest.approx(-25 / 101)
    assert item.p_holm is not None
    assert item.p_holm < 0.05


def test_more_found_is_an_improvement(gate: Gate, store: Store) -> None:
    """All 40 found where 20 were."""
    verdict = gate(store.cell("pruning", ALL))
    assert (item_of(verdict, "map_50_95").verdict, verdict.exit_code) == ("improved", 0)


def test_what_pictures_cannot_decide_is_inconclusive(gate: Gate, store: Store) -> None:
    """Equal mAP from other pictures: the interval reaches a drop of more than a point, so neither ok nor regressed; exit 0."""
    verdict = gate(store.cell("pruning", SWAPPED))
    item = item_of(verdict, "map_50_95")
    assert item.interval is not None
    assert item.interval[0] < -0.01
    assert (item.verdict, verdict.overall, verdict.exit_code) == ("inconclusive", "ok", 0)
    assert "1 cannot be decided" in verdict.answer


def test_the_limit_decides_what_is_inconclusive(gate: Gate, store: Store) -> None:
    """The same detections are ok under a limit of 50 points, which their interval does not reach."""
    assert item_of(gate(store.cell("pruning", SWAPPED), config=Check(map_drop_points=50)), "map_50_95").verdict == "ok"


def test_a_sure_drop_within_the_limit_is_ok(gate: Gate, store: Store) -> None:
    """25 points lost for certain are ok where 60 are allowed."""
    assert item_of(gate(store.cell("pruning", range(1, 11)), config=Check(map_drop_points=60)), "map_50_95").verdict == "ok"


def test_the_split_of_the_config_is_judged(gate: Gate, store: Store) -> None:
    """Test detections got worse, val's did not: val is ok."""
    assert gate(store.cell("pruning", range(1, 11)), config=Check(split="val")).exit_code == 0


def test_a_slower_cell_is_a_regression(gate: Gate) -> None:
    """20 % slower against the same control: the speedup is 1/1.2 of what it was."""
    slower = [1.2 * s for s in ROUNDS_S]
    verdict = gate(row=row_of("pruning", slower), confirm=again(slower))
    item = item_of(verdict, "speedup")
    assert (item.verdict, verdict.exit_code) == ("regressed", 1)
    assert item.change == pytest.approx(1 / 1.2)


def test_a_faster_cell_is_an_improvement(gate: Gate) -> None:
    """20 % less time."""
    faster = [0.8 * s for s in ROUNDS_S]
    assert item_of(gate(row=row_of("pruning", faster), confirm=again(faster)), "speedup").verdict == "improved"


def test_a_slower_machine_is_no_regression(gate: Gate) -> None:
    """Cell and control both took three times as long."""
    verdict = gate(row=row_of("pruning", [3 * s for s in ROUNDS_S], [3 * s for s in CONTROL_S]))
    assert (item_of(verdict, "speedup").verdict, verdict.exit_code) == ("ok", 0)


def test_a_small_loss_of_speed_is_below_the_floor(gate: Gate) -> None:
    """3 % slower in every round, beyond chance, is within the 5 % that processes differ by: no regression."""
    steady = [control / 2 for control in CONTROL_S]
    item = item_of(gate(row=row_of("pruning", [1.03 * s for s in steady])), "speedup")
    assert item.p_holm is not None
    assert item.p_holm < 0.05
    assert item.verdict == "ok"


@pytest.mark.parametrize("rounds_s", [(0.010, 0.011), (0.004, 0.02, 0.01, 0.03, 0.006, 0.01, 0.02, 0.005)], ids=["few", "noisy"])
def test_rounds_that_cannot_decide_are_inconclusive(gate: Gate, rounds_s: tuple[float, ...]) -> None:
    """Too few rounds for an interval, or rounds that scatter by a factor: neither ok nor regressed."""
    verdict = gate(row=row_of("pruning", rounds_s, CONTROL_S[: len(rounds_s)]))
    assert (item_of(verdict, "speedup").verdict, verdict.exit_code) == ("inconclusive", 0)


def test_estimates_are_not_judged(store: Store, tmp_path: Path) -> None:
    """A modelled latency of the baseline asks for nothing: it follows from counts that are judged."""
    estimated = row_of("pruning", (), (), source="estimated", profile="pi")
    accept("main", cells_of(store.cell("pruning")), latency_of(estimated), store, tmp_path)
    verdict = check(tmp_path / "main", cells_of(store.cell("pruning")), latency_of(), TRUTH, store, Check())
    assert {item.quantity for item in verdict.items} == {"params", "macs", "size_bytes", "map_50_95"}


def test_a_failed_cell_makes_the_sweep_incomplete(gate: Gate) -> None:
    """It was ok before: missing, with its error, and exit 3; its latency is not asked for as well."""
    verdict = gate(failed("pruning"))
    assert (verdict.overall, verdict.exit_code) == ("incomplete", 3)
    assert [(item.quantity, item.verdict) for item in verdict.items if item.cell == "pruning"] == [("cell", "missing")]


def test_a_cell_that_is_gone_makes_the_sweep_incomplete(store: Store, gate: Gate, tmp_path: Path) -> None:
    """It is not among the cells any more."""
    verdict = check(tmp_path / "baselines" / "main", cells_of(store.cell("none")), latency_of(), TRUTH, store, Check())
    assert (item_of(verdict, "cell").why, verdict.exit_code) == ("not in this sweep", 3)


def test_a_latency_that_is_gone_makes_the_sweep_incomplete(gate: Gate) -> None:
    """The row has no rounds now, and says why."""
    verdict = gate(row=row_of("pruning", (), (), why="the runtime is not installed"))
    assert (item_of(verdict, "speedup").verdict, item_of(verdict, "speedup").why) == ("missing", "the runtime is not installed")
    assert verdict.exit_code == 3


def test_a_cell_that_no_longer_fits_is_a_regression(gate: Gate) -> None:
    """It fitted the profile's memory before."""
    verdict = gate(row=row_of("pruning", (), (), fits=False, why="needs 3 GiB of 2"))
    assert (item_of(verdict, "speedup").verdict, verdict.exit_code) == ("regressed", 1)


def test_a_file_that_is_gone_makes_the_sweep_incomplete(gate: Gate, store: Store) -> None:
    """One runtime less than in the baseline."""
    verdict = gate(store.cell("pruning").model_copy(update={"artifacts": {}}))
    assert (item_of(verdict, "artifact").verdict, verdict.exit_code) == ("missing", 3)


def test_a_regression_outranks_what_is_missing(gate: Gate, store: Store) -> None:
    """Both in one sweep: exit 1, and the answer tells both."""
    verdict = gate(store.cell("pruning", size_bytes=2000), row_of("pruning", (), ()))
    assert verdict.exit_code == 1
    assert "1 of 9 items got worse, in 1 cell. 1 are missing." in verdict.answer


def test_many_comparisons_are_corrected_together(store: Store, tmp_path: Path) -> None:
    """A drop with p of about 0.03 alone regresses alone, and is inconclusive as one of four equal ones: Holm multiplies it by 4."""
    lost = range(1, 17)  # 4 of 20 lost: 10 points, error sqrt(0.1 * 0.9 / 40) = 0.047, z = 2.1
    names = ["a", "b", "c", "d"]
    accept("main", cells_of(*map(store.cell, names)), latency_of(), store, tmp_path)

    def verdicts(now: Sequence[CellRecord]) -> set[str]:
        verdict = check(tmp_path / "main", cells_of(*now), latency_of(), TRUTH, store, Check())
        return {item.verdict for item in verdict.items if item.quantity == "map_50_95"} - {"ok"}

    assert verdicts([store.cell("a", lost), *map(store.cell, names[1:])]) == {"regressed"}
    assert verdicts([store.cell(name, lost) for name in names]) == {"inconclusive"}


def test_other_data_cannot_be_compared(store: Store, gate: Gate, tmp_path: Path) -> None:
    """Another data set digest: exit 2, both names in the answer, no item judged."""
    now = cells_of(store.cell("none"), store.cell("pruning"), data="other")
    verdict = check(tmp_path / "baselines" / "main", now, latency_of(), TRUTH, store, Check())
    assert (verdict.overall, verdict.exit_code, verdict.items) == ("not_comparable", 2, ())
    assert "'data'" in verdict.answer
    assert "'other'" in verdict.answer


def test_without_a_baseline_the_answer_says_how_to_make_one(store: Store, gate: Gate, tmp_path: Path) -> None:
    """Exit 4, with the baselines there are."""
    verdict = check(tmp_path / "baselines" / "mian", cells_of(store.cell("none")), latency_of(), TRUTH, store, Check())
    assert (verdict.overall, verdict.exit_code) == ("no_baseline", 4)
    assert "known: main" in verdict.answer
    assert "sixfold check --accept mian" in verdict.answer


def test_new_cells_and_another_environment_are_noted(gate: Gate, store: Store, tmp_path: Path) -> None:
    """A cell the baseline does not have is not judged but named; so is another runtime version."""
    cells = cells_of(store.cell("none"), store.cell("pruning"), store.cell("nas"))
    latency = latency_of(row_of("none", CONTROL_S, runtime="onnxruntime 2.0"), row_of("pruning"))
    verdict = check(tmp_path / "baselines" / "main", cells, latency, TRUTH, store, Check())
    assert verdict.exit_code == 0
    assert any("not judged: nas" in note for note in verdict.notes)
    assert any("onnxruntime 1.0, then onnxruntime 2.0" in note for note in verdict.notes)


@pytest.mark.parametrize(
    ("control", "notes"),
    [
        ({}, ["the control took 10.00 ms and takes 10.00 ms (not judged)."]),
        (
            {"p50_s": 0.0125, "artifact_digest": digest("another file")},
            [
                "the control took 10.00 ms and takes 12.50 ms (not judged).",
                "the control is another file than in the baseline; speedups are against it.",
            ],
        ),
        (
            {"p50_s": None, "environment": digest("elsewhere")},
            [
                "measured in another environment than the baseline (onnxruntime 1.0, then onnxruntime 1.0). Speedups are against "
                "the control of the same rounds, yet another CPU or runtime may favour other cells."
            ],
        ),
    ],
    ids=["the same", "another file", "another machine"],
)
def test_what_became_of_the_control_is_noted(
    control: dict[str, object], notes: list[str], store: Store, gate: Gate, tmp_path: Path
) -> None:
    """Its time always; that it is another file, or measured elsewhere, only where it is. Nothing of it is judged."""
    cells = cells_of(store.cell("none"), store.cell("pruning"))
    latency = latency_of(row_of("none", CONTROL_S, **control), row_of("pruning"))
    verdict = check(tmp_path / "baselines" / "main", cells, latency, TRUTH, store, Check())
    assert verdict.notes == tuple(f"x86-1t: {note}" for note in notes)
    assert verdict.exit_code == 0


def test_what_the_baseline_could_not_make_is_noted(store: Store, tmp_path: Path) -> None:
    """Two cells that failed then: the one that is ok now is not judged, and the note names both."""
    accept("main", cells_of(store.cell("none"), failed("nas"), failed("pruning")), latency_of(), store, tmp_path)
    now = cells_of(store.cell("none"), store.cell("nas"), failed("pruning"))
    verdict = check(tmp_path / "main", now, latency_of(), TRUTH, store, Check())
    assert verdict.notes == ("Not ok in the baseline, so nothing to compare with: nas, pruning.",)
    assert {item.cell for item in verdict.items if item.verdict == "ok"} == {"none"}


def test_the_verdict_is_written_for_machines_and_people(store: Store, gate: Gate, tmp_path: Path) -> None:
    """verdict.json reads back; verdict.md opens with the answer, and an error cannot break its table."""
    cells = cells_of(store.cell("none", size_bytes=2000), failed("pruning"))
    out = tmp_path / "check"
    latency = latency_of(row_of("none", CONTROL_S))
    write_verdict(check(tmp_path / "baselines" / "main", cells, latency, TRUTH, store, Check()), out)
    verdict = Verdict.model_validate_json((out / "verdict.json").read_text())
    page = (out / "verdict.md").read_text().splitlines()
    assert (verdict.exit_code, json.loads((out / "verdict.json").read_text())["schema"]) == (1, 2)
    assert page[:3] == ["# Verdict: regression", "", verdict.answer]
    assert "| `none` | onnxruntime | size_bytes | 1,000 | 2,000 | +1,000 |  |  |  |" in page
    assert "| `pruning` |  | cell |  |  |  |  |  | failed: out of memory see \\| log |" in page
    assert sorted(path.name for path in out.iterdir()) == ["verdict.json", "verdict.md"]


def test_a_refusal_is_written_too(store: Store, tmp_path: Path) -> None:
    """Without a baseline the verdict of an earlier run does not stay behind."""
    write_verdict(check(tmp_path / "absent", cells_of(store.cell("none")), latency_of(), TRUTH, store, Check()), tmp_path / "out")
    assert Verdict.model_validate_json((tmp_path / "out" / "verdict.json").read_text()).overall == "no_baseline"
