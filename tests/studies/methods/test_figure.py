"""The figures of docs/methods.md."""

from __future__ import annotations

from pathlib import Path

from studies.methods.figure import draw_method
from studies.methods.results import MethodResult
from tests.studies.methods.methods_factory import result, shown, summary, timing


def drawn(own: MethodResult, path: Path, timed: bool = True) -> str:
    """The figure, with or without a measured control."""
    found = summary(own)
    draw_method(found if timed else found.model_copy(update={"control": shown("control", role="control")}), own, path)
    return path.read_text()


def test_every_row_has_its_sign_in_the_figure(tmp_path: Path) -> None:
    """Numbers for variants, letters for references, in each of three panels; a cost that is equal for all is said to be so.

    Two drawings of the same results are the same bytes, or every run would change the checkout.
    """
    rows = [shown("a", timed=timing(1.5)), shown("b", timed=timing(1.2)), shown("c", role="reference", timed=timing(1.1))]
    own = result("distillation", rows, "plain")
    assert own.marks == {"a": "1", "b": "2", "c": "a"}
    text = drawn(own, tmp_path / "one.svg")
    assert "measured latency, ms" in text
    assert "multiply-adds, M: 100 for all, side by side" in text
    assert text == drawn(own, tmp_path / "two.svg")


def test_without_a_measured_time_the_panel_says_so(tmp_path: Path) -> None:
    """Nothing is drawn in place of a time that there is not."""
    assert "measured latency, ms: none" in drawn(result("pruning", [shown("a", macs=50_000_000)]), tmp_path / "a.svg", timed=False)
