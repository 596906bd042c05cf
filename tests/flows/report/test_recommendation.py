"""What is recommended, which reference it is compared with, which model is exported, and how all of that is put."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

from flows.records.schema import ArtifactRecord, CellRecord, CellsFile, LatencyFile, LatencyRow
from flows.report.findings import Findings
from flows.report.recommendation import Compare, Recommendation, recommend, relative_speed
from flows.stats.map_bootstrap import NO_DIFFERENCE, Difference
from tests.flows.records_factory import (
    ESTIMATED,
    MEASURED,
    cells_file,
    digest,
    eight_cells,
    empty_row,
    estimated_row,
    latency_file,
    measured_row,
    metrics,
    ok_cell,
)
from tests.golden import assert_golden

Records = tuple[CellsFile, LatencyFile]
BOTH = "half-known"
"""A profile with measured and with estimated rows."""
TIMED = (measured_row("none", BOTH, 0.010, 0.010), measured_row("pruning", BOTH, 0.005, 0.010))
MODELLED = (estimated_row("none", BOTH, 0.010, 0.010), estimated_row("nas", BOTH, 0.001, 0.010))
CELL = "nas+quantization"
FASTER = measured_row("pruning", MEASURED, 0.005, 0.010)


def recommended(records: Records, max_drop: float = 0.02, compare: Compare = lambda *_: NO_DIFFERENCE) -> list[Recommendation]:
    """One a panel."""
    return list(recommend(Findings.of(*records, max_drop), compare).profiles)


def one_cell(row: LatencyRow, size_bytes: int = 1 << 20, kept: float = 0.55, control: float = 0.55) -> Records:
    """The control at 10 ms and pruning, both with a file of 1 MiB unless told otherwise."""
    cells = cells_file([ok_cell((), control), ok_cell(("pruning",), kept, size_bytes=size_bytes)])
    same_kind = measured_row if row.is_measured else estimated_row
    return cells, latency_file([same_kind("none", row.profile, 0.010, 0.010), row])


def noisy(names: Sequence[str]) -> Records:
    """`nas` at 2 ms, these within its noise, and `slow` at half its speed."""
    cells = cells_file([ok_cell((), 0.55), ok_cell(("nas",), 0.55), *(ok_cell((name,), 0.54) for name in (*names, "slow"))])
    times_s = {"none": 0.010, "nas": 0.002, "slow": 0.004} | {name: 0.002 + 1e-6 * turn for turn, name in enumerate(names, 1)}
    return cells, latency_file([measured_row(name, MEASURED, own_s, 0.010) for name, own_s in times_s.items()])


def reference(name: str, val: float, test: float) -> CellRecord:
    """A reference with a file for both runtimes."""
    made = ok_cell(("quantization",), val, test)
    artifacts = {
        runtime: own.model_copy(update={"digest": digest(name + runtime), "test": metrics(test, f"{name}/{runtime}.json")})
        for runtime, own in made.artifacts.items()
    }
    return made.model_copy(update={"cell": name, "node": digest(name), "artifacts": artifacts})


def with_references(times_ms: dict[str, float], **changes: object) -> Records:
    """The control at 10 ms, a cell at 2, references with val mAP 0.40, 0.45 and 0.50 at these times; changes are of their rows."""
    narrow = [("reference:narrow-0.3", 0.40), ("reference:narrow-0.5", 0.45), ("reference:narrow-0.7", 0.50)]
    cells = cells_file(
        [ok_cell((), 0.55), ok_cell(("nas", "quantization"), 0.54, 0.53)],
        references=[reference(name, val, val) for name, val in narrow if name in times_ms],
    )
    rows = [measured_row(name, MEASURED, ms / 1e3, 0.010) for name, ms in {"none": 10.0, CELL: 2.0}.items()]
    rows += [measured_row(name, MEASURED, ms / 1e3, 0.010).model_copy(update=changes) for name, ms in times_ms.items()]
    return cells, latency_file(rows)


def plain(other: ArtifactRecord, chosen: ArtifactRecord) -> Difference:
    """The plain difference of test mAP, two points sure to either side."""
    mean = chosen.test.map_50_95 - other.test.map_50_95
    return Difference(mean=mean, low=mean - 0.02, high=mean + 0.02, p=0.01)


def found(mean: float, reach: float = 0.01) -> Compare:
    """The same difference of every two files."""
    return lambda *_: Difference(mean=mean, low=mean - reach, high=mean + reach, p=0.1)


def scenarios() -> Iterator[tuple[str, list[Recommendation]]]:
    """Every kind of answer and note."""
    yield "measured and estimated", recommended(eight_cells())
    yield "the control detects nothing", recommended(one_cell(FASTER, kept=0.01, control=0.02))
    yield "a loss on test beyond what val permits", recommended(one_cell(FASTER), 0.01, found(-0.011))
    yield "two within the noise", recommended(noisy(("pruning", "low_rank")))
    yield "six within the noise", recommended(noisy(("b", "c", "d", "e", "f", "g")))
    yield "a larger file", recommended(one_cell(FASTER, 3 << 20))
    few = {"verdict": "too few rounds", "speedup_ci95": None, "rounds_s": (0.005, 0.004), "control_rounds_s": (0.01, 0.01)}
    yield "two rounds", recommended(one_cell(FASTER.model_copy(update=few)))
    yield "no number of the control", recommended((one_cell(FASTER)[0], latency_file([FASTER])))
    yield "no number of a cell", recommended(one_cell(empty_row("pruning", MEASURED, "core was busy")))
    yield "too much lost", recommended(one_cell(FASTER, kept=0.52))
    yield "hardly faster by estimate", recommended(one_cell(estimated_row("pruning", ESTIMATED, 0.0096, 0.010)))
    yield "no faster", recommended(one_cell(measured_row("pruning", MEASURED, 0.010, 0.010)))
    validated = estimated_row("pruning", ESTIMATED, 0.005, 0.010).model_copy(update={"validated_on": "architectures only"})
    yield "an estimate with a known error", recommended(one_cell(validated))
    foreign = [
        measured_row(name, MEASURED, own_s, 0.010, runtime="ncnn 1.0") for name, own_s in (("none", 0.010), ("pruning", 0.005))
    ]
    yield "no file of that runtime", recommended((one_cell(FASTER)[0], latency_file(foreign)))
    as_fast = {"reference:narrow-0.5": 2.1}
    for name, mean in (("more", 0.03), ("less", -0.03), ("neither more nor less", 0.005)):
        yield f"{name} than a reference", recommended(with_references(as_fast), compare=found(mean))
    yield "no reference as fast", recommended(with_references({"reference:narrow-0.5": 3.0}), compare=plain)
    elsewhere = with_references(as_fast, control_rounds_s=(0.011,) * 8)
    yield "a reference timed in other rounds", recommended(elsewhere, compare=plain)


def test_every_answer_and_note_is_put_so() -> None:
    """Answers with their notes, one kind a heading."""
    parts = [
        f"## {name}\n\n" + "\n".join(f"{own.answer}\n" + "".join(f"- {note}\n" for note in own.notes) for own in profiles)
        for name, profiles in scenarios()
    ]
    assert_golden("recommendations.md", "\n".join(parts))


@pytest.mark.parametrize(("control_map", "control_below_threshold"), [(0.0, True), (0.02, True), (0.021, False)])
def test_a_control_that_found_nothing_recommends_nothing(control_map: float, control_below_threshold: bool) -> None:
    """With no more mAP than may be lost the answer recommends nothing, and the first note says why and what to do."""
    (own,) = recommended(one_cell(FASTER, kept=control_map, control=control_map))
    assert (own.control_below_threshold, " use " not in own.answer, own.notes[0].startswith("Do not deploy yet")) == (
        control_below_threshold,
    ) * 3


@pytest.mark.parametrize(("mean", "max_drop", "told"), [(-0.021, 0.02, True), (-0.02, 0.02, False), (0.03, 0.02, False)])
def test_a_loss_on_test_is_told_only_beyond_what_val_permits(mean: float, max_drop: float, told: bool) -> None:
    """A gain of as much is no loss."""
    (own,) = recommended(one_cell(FASTER), max_drop, found(mean))
    assert any(note.startswith("Val chose it") for note in own.notes) is told


def test_cells_within_the_noise_of_the_chosen_one_are_named_fastest_first() -> None:
    """`slow` is not among them; where the control is kept, they are in the data and in no note."""
    (own,) = recommended(noisy(("pruning", "low_rank")))
    assert own.chosen is not None
    assert (own.chosen.cell, own.indistinguishable) == ("nas", ("pruning", "low_rank"))
    (kept,) = recommended(one_cell(measured_row("pruning", MEASURED, 0.010, 0.010)))
    assert (kept.verdict, kept.indistinguishable) == ("keep_uncompressed", ("pruning",))
    assert not any("noise" in note for note in kept.notes)


def exported(*rows: LatencyRow) -> list[tuple[str, str, str | None, str | None]]:
    """Profile, source, chosen cell and folder of each recommendation."""
    cells = cells_file([ok_cell(methods, 0.5) for methods in ((), ("nas",), ("pruning",))])
    profiles = recommended((cells, latency_file(rows)))
    return [(own.profile, own.source, own.chosen.cell if own.chosen else None, own.exported_to) for own in profiles]


@pytest.mark.parametrize("rows", [(*TIMED, *MODELLED), (*MODELLED, *TIMED)], ids=["measured first", "estimated first"])
def test_what_a_clock_chose_is_exported_before_what_a_model_chose(rows: tuple[LatencyRow, ...]) -> None:
    """Both are recommended, one folder is filled, whatever the order of the rows and however fast the estimate."""
    assert sorted(exported(*rows)) == [(BOTH, "estimated", "nas", None), (BOTH, "measured", "pruning", BOTH)]


def test_an_estimate_is_exported_where_the_clock_chose_nothing() -> None:
    """The measured control has no number: there is nothing to copy but the modelled choice."""
    busy = empty_row("none", BOTH, "core was busy")
    assert exported(busy, TIMED[1], *MODELLED) == [(BOTH, "measured", None, None), (BOTH, "estimated", "nas", BOTH)]


def test_each_profile_has_a_folder_of_its_own() -> None:
    """A measured profile takes nothing away from an estimated one."""
    elsewhere = [row.model_copy(update={"profile": "board"}) for row in MODELLED]
    assert exported(*elsewhere, *TIMED) == [("board", "estimated", "nas", "board"), (BOTH, "measured", "pruning", BOTH)]


@pytest.mark.parametrize(
    ("times_ms", "name", "is_as_fast"),
    [
        ({"reference:narrow-0.3": 1.5, "reference:narrow-0.5": 2.1, "reference:narrow-0.7": 2.11}, "reference:narrow-0.5", True),
        ({"reference:narrow-0.5": 3.0, "reference:narrow-0.7": 4.0}, "reference:narrow-0.5", False),
    ],
)
def test_the_reference_to_beat_is_the_best_as_fast_or_the_fastest(times_ms: dict[str, float], name: str, is_as_fast: bool) -> None:
    """By val mAP among those that take no longer than 1.05 times its 2 ms; 0.53 of test mAP compared with its 0.45 are 8 points."""
    (own,) = recommended(with_references(times_ms), compare=plain)
    assert own.reference_comparison is not None
    assert (own.reference_comparison.reference, own.reference_comparison.is_as_fast) == (name, is_as_fast)
    assert own.reference_comparison.test_difference.mean == pytest.approx(0.08)


def test_test_numbers_do_not_choose_the_reference() -> None:
    """The reference with the best val mAP stays the one to beat whatever its test mAP."""
    cells, latency = with_references({"reference:narrow-0.3": 1.5, "reference:narrow-0.5": 1.9})
    spoiled = cells.model_copy(update={"references": (cells.references[0], reference("reference:narrow-0.5", 0.45, 0.01))})
    for records in (cells, spoiled):
        (own,) = recommended((records, latency), compare=plain)
        assert own.reference_comparison is not None
        assert own.reference_comparison.reference == "reference:narrow-0.5"


def test_without_a_measured_reference_nothing_is_compared() -> None:
    """No reference at all, or only modelled times: what is as fast is not known."""
    assert recommended(with_references({}), compare=plain)[0].reference_comparison is None
    cells, _ = with_references({"reference:narrow-0.5": 1.9})
    times_s = {"none": 0.010, CELL: 0.002, "reference:narrow-0.5": 0.0019}
    modelled = latency_file([estimated_row(name, ESTIMATED, own_s, 0.010) for name, own_s in times_s.items()])
    (own,) = recommended((cells, modelled), compare=plain)
    assert (own.verdict, own.reference_comparison) == ("recommended", None)


def test_times_of_other_rounds_are_not_compared() -> None:
    """Another control in them, or no rounds: no ratio."""
    fast, slow = measured_row("a", MEASURED, 0.002, 0.010), measured_row("b", MEASURED, 0.004, 0.010)
    compared = relative_speed(fast, slow)
    assert compared is not None
    assert compared.ratio == pytest.approx(2.0)
    assert relative_speed(fast, slow.model_copy(update={"control_rounds_s": (0.011,) * 8})) is None
    assert relative_speed(fast, slow.model_copy(update={"rounds_s": ()})) is None
