"""The figures of docs/methods.md."""

from __future__ import annotations

from pathlib import Path

from studies.methods.figure import draw_method
from tests.studies.methods.methods_factory import difference, result, shown, summary, timing


def test_figure_is_the_same_every_time(tmp_path: Path) -> None:
    """Two drawings of the same results are the same bytes, or every run would change the checkout."""
    rows = [shown("a", difference(-0.01), macs=50_000_000, timed=timing(1.5)), shown("b", role="reference", macs=40_000_000)]
    own = result("pruning", rows)
    for name in ("one", "two"):
        draw_method(summary(own), own, tmp_path / name / "pruning.svg")
    assert (tmp_path / "one/pruning.svg").read_bytes() == (tmp_path / "two/pruning.svg").read_bytes()


def test_every_row_has_its_sign_in_the_figure(tmp_path: Path) -> None:
    """Numbers for variants, letters for references, in each of three panels; a cost that is equal for all is said to be so."""
    rows = [shown("a", timed=timing(1.5)), shown("b", timed=timing(1.2)), shown("c", role="reference", timed=timing(1.1))]
    own = result("distillation", rows, "plain")
    draw_method(summary(own), own, tmp_path / "distillation.svg")
    text = (tmp_path / "distillation.svg").read_text()
    assert own.marks == {"a": "1", "b": "2", "c": "a"}
    assert "measured latency, ms" in text
    assert "multiply-adds, M: 100 for all, side by side" in text


def test_without_a_measured_time_the_panel_says_so(tmp_path: Path) -> None:
    """Nothing is drawn in place of a time that there is not."""
    own = result("pruning", [shown("a", macs=50_000_000)])
    found = summary(own).model_copy(update={"control": shown("control", role="control")})
    draw_method(found, own, tmp_path / "pruning.svg")
    assert "measured latency, ms: none" in (tmp_path / "pruning.svg").read_text()
