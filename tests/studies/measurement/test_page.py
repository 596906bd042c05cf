"""docs/measurement.md: the generated part."""

from __future__ import annotations

import shutil
from pathlib import Path

from studies.measurement.figure import draw_detection
from studies.measurement.page import write_page
from studies.measurement.records import SameGraphPart, Summary
from tests.places import ROOT
from tests.studies.measurement.test_targets import GOOD

PAGE = ROOT / "docs/measurement.md"


def test_the_committed_page_is_what_its_results_give(tmp_path: Path) -> None:
    """Byte for byte, and the text by hand stays. After a change of words: `make pages`."""
    page = Path(shutil.copy(PAGE, tmp_path))
    write_page(page, GOOD)
    assert page.read_text() == PAGE.read_text()


def test_parts_that_were_not_observed_have_no_table(tmp_path: Path) -> None:
    """A sweep with too few rounds for a test says so; without any part only the targets are there."""
    page = Path(shutil.copy(PAGE, tmp_path))
    assert GOOD.same_graph is not None
    write_page(page, Summary(same_graph=SameGraphPart(about=GOOD.same_graph.about, results=())))
    assert "too few rounds for a test. `make measurement-study`, " in page.read_text()
    write_page(page, Summary())
    assert "|---|" not in page.read_text()


def test_the_figure_is_the_same_whenever_it_is_drawn(tmp_path: Path) -> None:
    """Equal observations give equal bytes, so that a commit shows only what changed."""
    assert GOOD.planted is not None
    for name in ("one.svg", "two.svg"):
        draw_detection(GOOD.planted, tmp_path / name)
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()
