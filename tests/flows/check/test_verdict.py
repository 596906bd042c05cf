"""What the gate says: the answer, the order of verdicts, and a page that nothing breaks."""

from __future__ import annotations

from flows.check.verdict import EXIT_CODES, Item, Verdict, render, summarise

OK = Item(cell="none", quantity="macs", verdict="ok", before=5, now=5, change=0)
WORSE = Item(cell="nas", where="onnxruntime", quantity="size_bytes", verdict="regressed", before=1000, now=2000, change=1000)
GONE = Item(cell="pruning", quantity="cell", verdict="missing", why="failed: out of memory\nsee | log")
UNSURE = Item(
    cell="nas",
    where="x86-1t",
    quantity="speedup",
    verdict="inconclusive",
    before=2.0,
    now=1.9,
    change=0.95,
    interval=(0.9, 1.01),
    p_holm=0.0634,
    minimal_effect=1.074,
)
DROPPED = Item(
    cell="nas",
    where="openvino",
    quantity="map_50_95",
    verdict="regressed",
    before=0.5,
    now=0.4,
    change=-0.1,
    interval=(-0.12, -0.08),
    p_holm=1e-9,
    minimal_effect=0.031,
)


def page_of(*items: Item) -> list[str]:
    """The lines of the page on these items."""
    overall, answer = summarise(items)
    verdict = Verdict(overall=overall, exit_code=EXIT_CODES[overall], answer=answer, baseline="main", sweep="nightly", split="test",
                      rules=("exactly",), notes=("a note",), items=items)  # fmt: skip
    return render(verdict).splitlines()


def test_the_answer_comes_first() -> None:
    """Title, blank line, the answer itself."""
    assert page_of(OK, WORSE)[:3] == ["# Verdict: regression", "", "1 of 2 items got worse, in 1 cell."]


def test_a_regression_outranks_what_is_missing() -> None:
    """Both are told, and the overall word is the worse one."""
    assert summarise((OK, GONE, WORSE, UNSURE)) == (
        "regressed", "1 of 4 items got worse, in 1 cell. 1 are missing. 1 cannot be decided by this many pictures or rounds.",
    )  # fmt: skip


def test_missing_items_make_it_incomplete() -> None:
    """Nothing got worse, something is gone."""
    assert summarise((OK, GONE)) == ("incomplete", "1 of 2 items are missing, in 1 cell.")


def test_what_cannot_be_decided_is_said_and_passes() -> None:
    """Overall ok, with the undecided in the answer."""
    assert summarise((OK, UNSURE)) == ("ok", "None of 2 items got worse. 1 cannot be decided by this many pictures or rounds.")


def test_numbers_are_in_the_units_people_speak_of() -> None:
    """Counts plain, mAP in points, speed in percent, small p values as a bound."""
    page = page_of(WORSE, DROPPED, UNSURE)
    assert "| `nas` | onnxruntime | size_bytes | 1,000 | 2,000 | +1,000 |  |  |  |" in page
    assert "| `nas` | openvino | map_50_95 | 0.5000 | 0.4000 | -10.00 [-12.00, -8.00] points | 3.10 points | < 0.001 |  |" in page
    assert "| `nas` | x86-1t | speedup | 2.00x | 1.90x | -5.0 [-10.0, +1.0] % | 7.4 % | 0.063 |  |" in page


def test_an_error_cannot_break_the_table() -> None:
    """Line breaks and bars of an error stay inside its column."""
    assert "| `pruning` |  | cell |  |  |  |  |  | failed: out of memory see \\| log |" in page_of(GONE)


def test_no_difference_is_never_said_without_what_would_be_found() -> None:
    """Tested items that are ok stand in a line per quantity and place, each with the change that would have been found."""
    same = [Item(cell=cell, where="x86-1t", quantity="speedup", verdict="ok", minimal_effect=effect, p_holm=1.0)
            for cell, effect in (("nas", 1.021), ("pruning", 1.034))]  # fmt: skip
    same.append(Item(cell="nas", where="openvino", quantity="map_50_95", verdict="ok", minimal_effect=0.0123, p_holm=1.0))
    page = page_of(OK, *same)
    assert (
        "- speedup on x86-1t, in brackets the change that would probably have been found: `nas` (2.1 %), `pruning` (3.4 %)." in page
    )
    assert "- map_50_95 on openvino, in brackets the change that would probably have been found: `nas` (1.23 points)." in page


def test_what_is_unconfirmed_is_said_and_passes() -> None:
    """A suspicion is in the answer and has a table of its own before the undecided."""
    doubt = UNSURE.model_copy(update={"verdict": "unconfirmed"})
    assert summarise((OK, doubt)) == ("ok", "None of 2 items got worse. 1 look slower or faster, unconfirmed.")
    assert [line for line in page_of(UNSURE, doubt) if line.startswith("## ")][:2] == ["## Unconfirmed (1)", "## Inconclusive (1)"]


def test_what_is_ok_is_counted_not_listed() -> None:
    """No table for it, and the worst verdict's table first."""
    page = page_of(OK, UNSURE, WORSE)
    assert "1 of 3 items are ok and not listed." in page
    assert [line for line in page if line.startswith("## ")] == [
        "## Regressed (1)",
        "## Inconclusive (1)",
        "## Notes",
        "## How it was judged",
    ]
