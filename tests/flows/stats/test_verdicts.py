"""What rows are told about themselves: verdicts of one family per profile, and flags with the numbers behind them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest

from flows.records.schema import CellRecord, CellsFile, LatencyRow
from flows.stats.verdicts import Flag, count_verdicts, flag_sentences, flags_of, float_parent, times, verdict_text, with_verdicts
from tests.flows.records_factory import cells_file, digest, estimated_row, float16_cell, measured_row, ok_cell

NOISE = tuple(math.exp(0.01 * sign) for sign in (1, -1) * 4)
"""Of round ratios: 1 % up or down, so a ratio is 1.07 % / sqrt 8 = 0.38 % uncertain."""


def timed(cell: str, factor: float, rounds: int = 8, profile: str = "p") -> LatencyRow:
    """A row without verdict: `factor` times the control's 10 ms, give or take 1 %; the control itself exactly."""
    noise = (1.0,) * rounds if cell == "none" else NOISE[:rounds]
    row = measured_row(cell, profile, 0.01 * factor, 0.01)
    return row.model_copy(
        update={
            "rounds_s": tuple(0.01 * factor * own for own in noise),
            "control_rounds_s": (0.01,) * rounds,
            "verdict": None,
            "p_holm": None,
            "minimum_detectable_effect": None,
        }
    )


def sweep(*made: CellRecord) -> CellsFile:
    """The control of 4000 bytes and 1000 MACs, and others."""
    return cells_file([ok_cell((), 0.5, size_bytes=4000, macs=1000), *made])


def small(*methods: str) -> CellRecord:
    """Half the control's bytes and MACs."""
    return ok_cell(methods, 0.5, size_bytes=2000, macs=500)


def kinds_of(cells: CellsFile, rows: Sequence[LatencyRow]) -> list[tuple[str, str]]:
    """(kind, cell) of every flag."""
    return [(flag.kind, flag.cell) for flag in flags_of(cells, with_verdicts(cells, rows))]


def test_rows_get_the_verdicts_of_their_family() -> None:
    """Three cells on one profile: p of each is multiplied by what Holm says of three; another profile is another family."""
    cells = sweep(small("nas"), small("pruning"), small("low_rank"))
    rows = [timed("none", 1.0), timed("nas", 0.8), timed("pruning", 1.25), timed("low_rank", 1.0), timed("none", 1.0, profile="q"),
            timed("nas", 0.99, profile="q")]  # fmt: skip
    told = with_verdicts(cells, rows)
    assert [row.verdict for row in told] == ["same file", "faster", "slower", "not significant", "same file", "faster"]
    assert told[3].p_holm == pytest.approx(1.0)
    assert told[5].p_holm == pytest.approx(0.0325, abs=5e-4)  # t = 0.01005 / 0.00378 = 2.66 of 7 degrees of freedom, one test
    assert told[3].minimum_detectable_effect == pytest.approx(math.exp(3.2698 * 0.01 * math.sqrt(8 / 7) / math.sqrt(8)), rel=1e-5)


def test_judging_again_changes_nothing() -> None:
    """Verdicts and flags follow from rounds and records alone."""
    cells = sweep(small("nas"))
    once = with_verdicts(cells, [timed("none", 1.0), timed("nas", 1.0)])
    assert with_verdicts(cells, once) == once


def test_a_cell_with_the_controls_file_is_the_same_file() -> None:
    """A method that changed nothing is not tested, and nothing is flagged."""
    cells = sweep(ok_cell(("nas",), 0.5, size_bytes=4000, macs=1000))
    rows = [timed("none", 1.0), timed("nas", 1.1).model_copy(update={"artifact_digest": digest("noneonnxruntime")})]
    told = with_verdicts(cells, rows)[1]
    assert (told.verdict, told.p_holm, told.minimum_detectable_effect, told.flags) == ("same file", None, None, ())


def test_without_a_control_there_is_no_verdict() -> None:
    """Nothing to compare with, nothing said."""
    cells = sweep(small("nas"))
    alone = timed("nas", 0.8).model_copy(update={"control_rounds_s": (), "speedup": None, "speedup_ci95": None})
    assert (with_verdicts(cells, [alone])[0].verdict, with_verdicts(cells, [alone])[0].flags) == (None, ())


def test_rounds_of_another_machine_are_another_family() -> None:
    """A row measured elsewhere has no control beside it, so no verdict."""
    cells = sweep(small("nas"))
    elsewhere = timed("nas", 0.8).model_copy(update={"environment": digest("elsewhere")})
    assert with_verdicts(cells, [timed("none", 1.0), elsewhere])[1].verdict is None


@pytest.mark.parametrize(
    ("cell", "factor", "flagged"),
    [
        (small("nas"), 1.0, True),
        (small("nas"), 1.2, True),
        (small("nas"), 0.9, False),
        (ok_cell(("nas",), 0.5, size_bytes=2000, macs=1000), 1.0, True),
        (ok_cell(("nas",), 0.5, size_bytes=4000, macs=500), 1.0, True),
        (ok_cell(("nas",), 0.5, size_bytes=3900, macs=990), 1.0, False),
        (ok_cell(("nas",), 0.5, size_bytes=4000, macs=1000), 1.2, False),
    ],
    ids=["as fast", "slower", "faster", "only the file", "only the MACs", "hardly smaller", "not smaller"],
)
def test_smaller_but_not_faster_is_flagged(cell: CellRecord, factor: float, flagged: bool) -> None:
    """File or MACs fell by 5 % or more, and the rounds do not show that it is faster."""
    found = kinds_of(sweep(cell), [timed("none", 1.0), timed("nas", factor)])
    assert found == ([("smaller_not_faster", "nas")] if flagged else [])


def test_a_flag_has_its_numbers() -> None:
    """Both that fell, the speed and its interval, and what would have been found."""
    cells = sweep(small("nas"))
    (flag,) = flags_of(cells, with_verdicts(cells, [timed("none", 1.0), timed("nas", 1.0)]))
    assert flag.why == (
        "file 2.0x smaller and 2.0x fewer MACs, 1.000x the control's speed [0.980, 1.020], not significant "
        "(minimum detectable effect 1.012x)"
    )


def test_where_nothing_could_be_tested_the_point_decides() -> None:
    """Three rounds, or an estimate: flagged where the point is not faster, and the numbers say that it is only that."""
    cells = sweep(small("nas"), small("pruning"))
    rows = [timed("none", 1.0, 3), timed("nas", 1.01, 3), timed("pruning", 0.9, 3)]
    rows += [estimated_row(cell, "pi", 0.1 * share, 0.1) for cell, share in (("none", 1.0), ("nas", 1.0), ("pruning", 0.5))]
    found = flags_of(cells, with_verdicts(cells, rows))
    assert [(flag.cell, flag.source) for flag in found] == [("nas", "measured"), ("nas", "estimated")]
    assert found[0].why.endswith(", 3 rounds are too few to test")
    assert found[1].why.endswith("1.000x the control's speed, estimated")


def test_int8_slower_than_its_float_parent_is_flagged() -> None:
    """Both are faster than the control, and int8 is 10 % slower than the same cell in float, in the same rounds."""
    cells = sweep(small("pruning"), small("pruning", "quantization"), small("quantization"))
    rows = [timed("none", 1.0), timed("pruning", 0.5), timed("pruning+quantization", 0.55), timed("quantization", 0.5)]
    rows[2] = rows[2].model_copy(update={"rounds_s": tuple(0.0055 / own**2 for own in NOISE)})  # else the ratio has no spread
    (flag,) = flags_of(cells, with_verdicts(cells, rows))
    assert (flag.kind, flag.cell) == ("int8_slower_than_float", "pruning+quantization")
    assert flag.why == "5.50 ms against 5.00 ms of pruning, beyond chance on paired rounds"


def test_a_float16_file_is_never_called_slow_int8() -> None:
    """Twice the time of the cell without it, by a clock and by a model: it computes in float32, so no int8 is to blame."""
    small16 = float16_cell(("pruning", "quantization"), 0.5, size_bytes=1000, macs=500)
    cells = sweep(small("pruning"), small16)
    rows = [timed("none", 1.0), timed("pruning", 0.5), timed("pruning+quantization", 0.9)]
    rows += [estimated_row(cell, "pi", s, 0.1) for cell, s in (("none", 0.1), ("pruning", 0.02), ("pruning+quantization", 0.04))]
    assert kinds_of(cells, rows) == []
    assert float_parent(small16, cells.cells) is None


def test_int8_within_chance_of_its_parent_is_not_flagged() -> None:
    """1 % slower with round ratios that spread by 3 %."""
    cells = sweep(small("pruning"), small("pruning", "quantization"))
    rows = [timed("none", 1.0), timed("pruning", 0.5), timed("pruning+quantization", 0.505)]
    rows[2] = rows[2].model_copy(update={"rounds_s": tuple(0.00505 / own**2 for own in NOISE)})
    assert kinds_of(cells, rows) == []


def test_int8_is_never_compared_over_different_rounds() -> None:
    """A parent that was timed beside other rounds of the control says nothing."""
    cells = sweep(small("pruning"), small("pruning", "quantization"))
    rows = [timed("none", 1.0), timed("pruning", 0.5), timed("pruning+quantization", 0.9)]
    rows[1] = rows[1].model_copy(update={"control_rounds_s": (0.011,) * 8})
    assert kinds_of(cells, rows) == []


def test_an_estimate_slower_in_int8_is_flagged_as_an_estimate() -> None:
    """60 ms against 50 ms of the float parent, calibrated or not: the label goes with it."""
    cells = sweep(small("pruning"), small("pruning", "quantization"))
    control, parent = (
        estimated_row(cell, "pi", seconds, 0.1).model_copy(update={"source": "calibrated"})
        for cell, seconds in (("none", 0.1), ("pruning", 0.05))
    )
    (flag,) = flags_of(cells, with_verdicts(cells, [control, parent, estimated_row("pruning+quantization", "pi", 0.06, 0.1)]))
    assert (flag.kind, flag.source, flag.why) == (
        "int8_slower_than_float", "estimated", "60.00 ms against 50.00 ms of pruning, estimated",
    )  # fmt: skip


def test_a_model_is_not_believed_below_what_it_resolves() -> None:
    """An estimate of int8 4 % above its float parent raises nothing; of a smaller file 4 % below the control's it still does."""
    cells = sweep(small("pruning"), small("pruning", "quantization"))
    shares = (("none", 1.0), ("pruning", 0.5), ("pruning+quantization", 0.52))
    assert kinds_of(cells, [estimated_row(cell, "pi", 0.1 * share, 0.1) for cell, share in shares]) == []
    hardly = [estimated_row(cell, "pi", 0.1 * share, 0.1) for cell, share in (("none", 1.0), ("pruning", 0.96))]
    assert kinds_of(cells, hardly) == [("smaller_not_faster", "pruning")]


def test_the_float_parent_shares_everything_else() -> None:
    """Of two pruned cells the parent is the one of the same strength and seed; a float cell has none."""
    mild, strong = small("pruning"), small("pruning").model_copy(update={"variant": {"pruning": {"keep_macs": 0.2}}})
    child = small("pruning", "quantization")
    assert float_parent(child, [strong, mild]) is mild
    assert float_parent(child, [strong]) is None
    assert float_parent(child, [mild.model_copy(update={"seed": 1})]) is None
    assert float_parent(mild, [mild]) is None


def test_sentences_name_all_cells_of_a_kind() -> None:
    """One sentence per kind, profile and source."""
    flags = [
        Flag(kind="smaller_not_faster", cell="nas", profile="p", source="measured", why=""),
        Flag(kind="smaller_not_faster", cell="pruning", profile="p", source="measured", why=""),
        Flag(kind="int8_slower_than_float", cell="quantization", profile="pi", source="estimated", why=""),
    ]
    assert flag_sentences(flags) == (
        "On `p` 2 combinations are smaller than the control and not faster: `nas`, `pruning`.",
        "On `pi` (estimated, not measured) 1 combination is slower in int8 than in float: `quantization`.",
    )


def test_references_are_in_no_sentence_and_no_count() -> None:
    """Their rows are tested and flagged like all others, and the list of flags has them; combinations are counted without them."""
    beside = small().model_copy(update={"cell": "reference:input-0.5"})
    cells = sweep(small("nas")).model_copy(update={"references": (beside,)})
    rows = with_verdicts(cells, [timed("none", 1.0), timed("nas", 1.0), timed("reference:input-0.5", 1.0)])
    assert [row.flags for row in rows] == [(), ("smaller_not_faster",), ("smaller_not_faster",)]
    assert [flag.cell for flag in flags_of(cells, rows)] == ["nas", "reference:input-0.5"]
    assert flag_sentences(flags_of(cells, rows)) == ("On `p` 1 combination is smaller than the control and not faster: `nas`.",)
    assert count_verdicts(rows) == {("p", "measured"): {"not significant": 1, "smaller_not_faster": 1}}


def test_a_quantized_reference_is_compared_with_its_float_one() -> None:
    """The record's setting does not say whether it is quantized, so both have the same; the control is no parent of it."""
    setting = {"narrow": {"kind": "narrow", "width_share": 0.5, "like": None}}
    parent = small().model_copy(update={"cell": "reference:narrow-0.5", "variant": setting})
    child = small("quantization")
    child = child.model_copy(update={"cell": "reference:narrow-0.5+quantization", "variant": setting | child.variant})
    control = small().model_copy(update={"cell": "none"})
    assert float_parent(child, [control, parent]) is parent
    assert float_parent(child, [control]) is None


def test_many_cells_are_told_by_what_they_share() -> None:
    """Five cells: four names, how many more, and the methods that all five have."""
    names = (
        "lightweight+quantization",
        *(f"lightweight+{own}+quantization" for own in ("nas", "pruning", "low_rank", "distillation")),
    )
    flags = [Flag(kind="int8_slower_than_float", cell=name, profile="p", source="measured", why="") for name in names]
    assert flag_sentences(flags) == (
        "On `p` 5 combinations are slower in int8 than in float, all of them with `lightweight` and `quantization`: "
        "`lightweight+quantization`, `lightweight+nas+quantization`, `lightweight+pruning+quantization`, "
        "`lightweight+low_rank+quantization` and 1 more.",
    )


def test_verdicts_are_counted_without_the_control() -> None:
    """Per profile and source, flags included."""
    cells = sweep(small("nas"), small("pruning"))
    counts = count_verdicts(with_verdicts(cells, [timed("none", 1.0), timed("nas", 1.0), timed("pruning", 0.8)]))
    assert counts == {("p", "measured"): {"not significant": 1, "faster": 1, "smaller_not_faster": 1}}


def test_no_difference_is_never_said_without_what_would_be_found() -> None:
    """Three decimals near 1, two above 1.1."""
    assert verdict_text("not significant", 1.0214) == "not significant (minimum detectable effect 1.021x)"
    assert (times(1.0999), times(1.25)) == ("1.100x", "1.25x")
    assert (verdict_text("faster", 1.02), verdict_text(None, None)) == ("faster", "")
