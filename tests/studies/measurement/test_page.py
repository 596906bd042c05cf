"""The page keeps what people wrote and rewrites what was counted."""

from __future__ import annotations

from pathlib import Path

import pytest

from detection.frozen import InputError
from studies.measurement.page import BEGIN, END, FIGURE, write_page
from studies.measurement.summary import SameGraphPart, Summary, read_summary, write_summary
from tests.studies.measurement.test_targets import ABOUT, GOOD

WHOLE = GOOD.model_copy(update={"same_graph": SameGraphPart(about=ABOUT.model_copy(update={"days": None}), results=())})


@pytest.fixture
def page(tmp_path: Path) -> Path:
    path = tmp_path / "measurement.md"
    path.write_text(f"# Title\n\nby hand\n\n{BEGIN}\nold numbers\n{END}\n\nalso by hand\n")
    return path


def test_only_the_generated_part_changes(page: Path) -> None:
    """What stands around the marks stays, twice in a row."""
    for _ in range(2):
        write_page(page, WHOLE)
        text = page.read_text()
        assert text.startswith(f"# Title\n\nby hand\n\n{BEGIN}\n")
        assert text.endswith(f"{END}\n\nalso by hand\n")
        assert "old numbers" not in text


def test_every_table_has_its_origin(page: Path) -> None:
    """Command, days, machine and versions stand below each of the five tables; a sweep with too few rounds says so."""
    write_page(page, WHOLE)
    text = page.read_text()
    assert text.count("`make measurement-study`, ") == 5
    assert text.count("2026-01-02 to 2026-01-03, a CPU, 2 cores, Linux 6, onnxruntime 1.31.1.") == 4
    assert "too few rounds for a test" in text
    tables = [line for line in text.splitlines() if line.startswith("|")]
    for line in tables:
        assert line.endswith("|")
    assert any(line.startswith("| 3 % | 3.0 % [2.0, 4.0] | 60 of 100: 60.0 %") for line in tables)


def test_the_figure_is_the_same_whenever_it_is_drawn(page: Path) -> None:
    """Equal observations give equal bytes, so that a commit shows only what changed."""
    write_page(page, WHOLE)
    first = (page.parent / FIGURE).read_bytes()
    write_page(page, WHOLE)
    assert (page.parent / FIGURE).read_bytes() == first


def test_a_page_without_marks_is_not_overwritten(tmp_path: Path) -> None:
    """The message says which marks are missing where."""
    path = tmp_path / "measurement.md"
    path.write_text("all by hand")
    with pytest.raises(InputError, match="measurement:begin"):
        write_page(path, Summary())
    assert path.read_text() == "all by hand"


def test_the_summary_is_read_as_it_was_written(tmp_path: Path) -> None:
    """Nothing is lost on the way through JSON; no file is an empty summary, a wrong one is named."""
    path = tmp_path / "measurement.json"
    assert read_summary(path) == Summary()
    write_summary(path, WHOLE)
    assert read_summary(path) == WHOLE
    path.write_text("{")
    with pytest.raises(InputError, match=r"measurement\.json: not a summary"):
        read_summary(path)
