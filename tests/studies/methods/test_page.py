"""docs/methods.md: the generated parts."""

from __future__ import annotations

import shutil
from pathlib import Path

from flows.records.schema import read_schema
from studies.methods.page import variants_table, write_page
from studies.methods.results import Summary
from tests.places import ROOT
from tests.studies.methods.methods_factory import RUNTIME, compared, difference, result, shown, summary, timing

PAGE, SUMMARY = ROOT / "docs/methods.md", ROOT / "docs/methods.json"


def test_the_committed_page_is_what_its_results_give(tmp_path: Path) -> None:
    """Byte for byte, and the text by hand stays. After a change of words: `make pages`."""
    page = Path(shutil.copy(PAGE, tmp_path))
    write_page(page, read_schema(SUMMARY, Summary, "make methods"))
    assert page.read_text() == PAGE.read_text()


def test_rows_have_every_number_with_its_interval() -> None:
    """The control first, then the variant with its baseline, then the reference, marked as such and told by its own input size."""
    rows = [
        shown("taylor-0.5", difference(-0.008), macs=50_000_000, timed=timing(1.8), inherited_images=2000),
        shown("input-0.5", difference(-0.02), role="reference", macs=25_000_000, timed=timing(0.9, idle=True), input_size=(48, 64)),
    ]
    own = result("pruning", rows, comparisons=[compared("taylor-0.5", "input-0.5", difference(0.012), 2.0)])
    assert variants_table(summary(own), own, RUNTIME).splitlines()[2:] == [
        "| * | control | 1.000 | 100.0 | 100 % | 4.00 | 0.560 | 0.550 | – | 2.00 | – | – |",
        "| 1 | `taylor-0.5` (2 epochs more) | 0.500 | 50.0 | 50 % | 2.00 | 0.552 | 0.542 | −0.8 [−1.3, −0.3] | 1.11 "
        "| 1.80x [1.78, 1.82] | `input-0.5` +1.2 [+0.7, +1.7] at 2.00x its speed |",
        "| a | `input-0.5` (reference, 48 x 64 pixels) | 0.250 | 25.0 | 25 % | 1.00 | 0.540 | 0.530 | −2.0 [−2.5, −1.5] | 2.22 "
        "| 0.90x [0.89, 0.91]; slower; smaller, not faster | – |",
    ]


def test_what_is_absent_is_said(tmp_path: Path) -> None:
    """No measured times: no such column. No seeds: the command that makes them. No variant: that, and no figure."""
    page = Path(shutil.copy(PAGE, tmp_path))
    bare = summary(result("distillation", [shown("scores")], "plain"), result("nas", [], "no_slower"))
    write_page(page, bare.model_copy(update={"control": shown("control", role="control")}))
    text = page.read_text()
    part = text[text.index("<!-- methods:distillation:begin -->") : text.index("<!-- methods:distillation:end -->")]
    assert "speedup" not in part
    assert "Three seeds: not trained yet. `make methods` trains them." in part
    assert "<!-- methods:nas:begin -->\nSweep 'methods' has no variant of this method alone.\n" in text


def test_results_are_read_back_as_written() -> None:
    """docs/methods.json holds all of it."""
    assert read_schema(SUMMARY, Summary, "").model_dump_json(by_alias=True, indent=1) + "\n" == SUMMARY.read_text()
