"""The page that is written from the study's results."""

from __future__ import annotations

from pathlib import Path

import pytest

from compressors.planning.names import METHODS
from detection.frozen import InputError
from flows.stats.map_bootstrap import NO_DIFFERENCE
from studies.methods.page import marks, section, write_page
from studies.methods.results import Found, FoundBy, Search, Summary
from tests.flows.records_factory import cells_file, ok_cell
from tests.flows.seeds_factory import seeds_of
from tests.places import ROOT
from tests.studies.methods.methods_factory import alone, beside, difference, result, shown, summary, timing

DOCS = ROOT / "docs"


def pruned() -> Summary:
    """One variant, one reference, measured."""
    rows = [
        shown("taylor-0.5", difference(-0.008), macs=50_000_000, timed=timing(1.8)),
        shown("input-0.5", difference(-0.02), role="reference", macs=25_000_000, timed=timing(0.9, idle=True), input_size=(48, 64)),
    ]
    return summary(result("pruning", rows, besides=[beside("taylor-0.5", "input-0.5", difference(0.012), 2.0)]))


def lines_of(found: Summary) -> list[str]:
    """The section of its only method."""
    (own,) = found.methods
    return section(found, own, "methods")


def test_rows_have_every_number_with_its_interval() -> None:
    """The control first, then the variant beside its rival, then the reference, marked as such and told by its own input size."""
    table = [line for line in lines_of(pruned()) if line.startswith("|")]
    assert table[2] == "| * | control | 1.000 | 100.0 | 100 % | 4.00 | 0.560 | 0.550 | – | 2.00 | – | – |"
    assert table[3] == (
        "| 1 | `taylor-0.5` | 0.500 | 50.0 | 50 % | 2.00 | 0.552 | 0.542 | −0.8 [−1.3, −0.3] | 1.11 | 1.80x [1.78, 1.82] "
        "| `input-0.5` +1.2 [+0.7, +1.7] at 2.00x its speed |"
    )
    assert table[4] == (
        "| a | `input-0.5` (reference, 48 x 64 pixels) | 0.250 | 25.0 | 25 % | 1.00 | 0.540 | 0.530 | −2.0 [−2.5, −1.5] | 2.22 "
        "| 0.90x [0.89, 0.91]; slower; smaller, not faster | – |"
    )


def test_a_row_says_what_its_weights_were_trained_for_before() -> None:
    """In epochs of the train split: what `inherited` weights have seen, no other row of the table has."""
    found = summary(result("lightweight", [shown("fresh"), shown("inherited", inherited_images=20_000)], "no_slower"))
    data = found.dataset.model_copy(update={"pictures": {"train": 1000, "val": 1, "test": 1}})
    lines = lines_of(found.model_copy(update={"dataset": data}))
    names = [line.split(" | ")[1] for line in lines if line.startswith("| ")]
    assert "`inherited` (20 epochs more)" in names
    assert "`fresh`" in names


def test_there_is_a_table_per_runtime_and_none_of_estimates() -> None:
    """Where nothing was measured the table has no column of times."""
    own = result("distillation", [shown("scores", runtimes=("onnxruntime", "openvino"))], "plain")
    found = summary(own, runtimes=("onnxruntime", "openvino"))
    found = found.model_copy(update={"control": shown("control", role="control", runtimes=("onnxruntime", "openvino"))})
    lines = lines_of(found)
    assert [line for line in lines if line.startswith("In ")] == ["In onnxruntime:", "In openvino:"]
    assert not any("speedup" in line for line in lines)


def test_estimates_of_searches_are_called_so() -> None:
    """They stand in a table of their own, which says what they are."""
    by: tuple[FoundBy, ...] = ("search", "random_search", "largest_macs")
    found = tuple(Found(by=own, supernet_val_map=0.3, estimated_latency_s=1e-3, macs=12_000_000) for own in by)
    search = Search(label="nsga2-0.5", design_profile="x86-onnxruntime-1t", budget_s=2e-3, found=found)
    text = "\n".join(lines_of(summary(result("nas", [shown("nsga2-0.5")], "no_slower", searches=[search]))))
    assert "| `nsga2-0.5` | the search | 12.0 | 1.00 | 0.300 |" in text
    assert "Latency here is estimated on x86-onnxruntime-1t (budgets in ms: `nsga2-0.5` 2.00)" in " ".join(text.split())


def test_three_seeds_have_their_line_or_the_command_that_makes_them() -> None:
    """With seeds their sentence, without them what to run."""
    cell = alone("pruning", "taylor-0.5", 0.54)
    seeds = seeds_of(cells_file([ok_cell((), 0.55), cell]), cell.cell, [(0.55, 0.54)] * 3, difference(0.01))
    without = pruned()
    with_seeds = without.model_copy(update={"methods": (without.methods[0].model_copy(update={"seeds": seeds}),)})
    assert "- Three seeds: not made yet. `make methods` makes them." in lines_of(without)
    text = "\n".join(lines_of(with_seeds))
    assert (
        "In onnxruntime `pruning:taylor-0.5` loses 1.0 points of test mAP [0.5, 1.5] against the control (mean of 3 seeds" in text
    )
    assert "not made yet" not in text


def test_a_method_that_is_not_in_the_sweep_is_said_to_be_so() -> None:
    """And has no figure."""
    assert lines_of(summary(result("nas", [], "no_slower"))) == ["Sweep 'methods' has no variant of this method alone.", ""]


def test_prose_around_the_marks_stays(tmp_path: Path) -> None:
    """Writing twice leaves what is written by hand, one block each, and nothing of what stood there before."""
    page = tmp_path / "methods.md"
    all_begin, all_end = marks()
    begin, end = marks("pruning")
    page.write_text(f"# Methods\n\n{all_begin}\n{all_end}\n\n## pruning\nBy hand.\n\n{begin}\nstale row\n{end}\n\n## After\n")
    for _ in range(2):
        write_page(page, pruned(), "methods")
    text = page.read_text()
    assert text.startswith("# Methods\n\n" + all_begin)
    assert "## pruning\nBy hand.\n\n" + begin in text
    assert text.endswith(f"{end}\n\n## After\n")
    assert "stale row" not in text
    assert text.count("| 1 | `taylor-0.5` |") == 1
    assert "(methods/pruning.svg)" in text
    assert "Generated by `make methods`; not written by hand. Sweep 'methods' on data 'digits'" in text


def test_a_page_without_marks_is_refused(tmp_path: Path) -> None:
    """With the marks that are missing, before anything is written."""
    page = tmp_path / "methods.md"
    page.write_text("\n".join(marks()))
    with pytest.raises(InputError, match=r"methods\.md: the marks <!-- methods:pruning:begin -->"):
        write_page(page, pruned(), "methods")
    assert page.read_text() == "\n".join(marks())


@pytest.mark.parametrize("name", [None, *METHODS])
def test_the_page_has_a_place_for_every_method(name: str | None) -> None:
    """One, in this order."""
    text = (DOCS / "methods.md").read_text()
    begin, end = marks(name)
    assert text.count(begin) == text.count(end) == 1
    assert text.index(begin) < text.index(end)


def test_results_are_read_back_as_written() -> None:
    """docs/methods.json holds all of it."""
    found = pruned()
    assert Summary.model_validate_json(found.model_dump_json(by_alias=True)) == found
    assert found.control.runtimes[0].difference == NO_DIFFERENCE
