"""docs/measurement.md: the generated part, and the targets, each met only where every number that it names is."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from flows.records.schema import read_schema
from studies.measurement.intervals import rate
from studies.measurement.page import draw_detection, judge, write_page
from studies.measurement.records import Summary
from tests.places import ROOT

PAGE = ROOT / "docs/measurement.md"
GOOD = read_schema(ROOT / "docs/measurement.json", Summary, "make measurement-study")
"""The committed results."""
assert GOOD.planted is not None


def test_the_committed_page_is_what_its_results_give(tmp_path: Path) -> None:
    """Byte for byte, and the text by hand stays. After a change of words: `make pages`."""
    page = Path(shutil.copy(PAGE, tmp_path))
    write_page(page, GOOD)
    assert page.read_text() == PAGE.read_text()


def test_parts_that_were_not_observed_have_no_table(tmp_path: Path) -> None:
    """Without any part only the targets are there."""
    page = Path(shutil.copy(PAGE, tmp_path))
    write_page(page, Summary())
    generated = page.read_text().partition("<!-- measurement:begin -->")[2].partition("<!-- measurement:end -->")[0]
    assert generated.count("not observed yet") == 3
    assert "|---|" not in generated


def test_the_figure_is_the_same_whenever_it_is_drawn(tmp_path: Path) -> None:
    """Equal observations give equal bytes, so that a commit shows only what changed."""
    for name in ("one.svg", "two.svg"):
        draw_detection(GOOD.planted, tmp_path / name)
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()


def changed(part: str, number: int, **update: Any) -> Summary:
    """The committed results with one result of a part changed."""
    own = getattr(GOOD, part)
    results = list(own.results)
    results[number] = results[number].model_copy(update=update)
    return GOOD.model_copy(update={part: own.model_copy(update={"results": tuple(results)})})


def test_all_targets_can_be_met() -> None:
    """Three targets, three times met."""
    assert [own.met for own in judge(GOOD)] == [True] * 3


@pytest.mark.parametrize(
    ("number", "found"),
    [
        (0, changed("identical", -1, sessions=19)),
        (0, changed("identical", -1, corrected=rate(0, 7 * 40))),
        (0, changed("identical", -1, sessions_with_alarm=rate(8, 40))),
        (1, changed("planted", 2, slower_by=0.04)),
        (1, changed("planted", 3, found=rate(96, 99))),
        (2, changed("planted", 3, found=rate(60, 100))),
        (2, changed("planted", 0, found=rate(95, 100))),
    ],
)
def test_each_target_can_be_missed(number: int, found: Summary) -> None:
    """Few sessions, few pairs, alarms beyond chance, a size without trials, few trials, a wrong stated effect either way."""
    assert judge(found)[number].met is False


def test_what_was_not_observed_is_not_claimed() -> None:
    """An empty summary meets nothing and misses nothing."""
    assert [own.met for own in judge(Summary())] == [None] * 3
