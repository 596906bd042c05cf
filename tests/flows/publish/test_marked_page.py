"""Pages that are generated in part: what is between the marks changes, and nothing else does."""

from __future__ import annotations

from pathlib import Path

import jinja2
import pytest

from detection.frozen import InputError
from flows.publish.marked_page import marks, render, rewrite, table

FIRST, SECOND = marks("first"), marks("second")


def test_only_the_named_parts_change(tmp_path: Path) -> None:
    """Twice in a row the same; a part may be empty; what is written by hand stays."""
    page = tmp_path / "page.md"
    page.write_text(f"# Title\n\n{FIRST[0]}\nold\n{FIRST[1]}\n\nby hand\n{SECOND[0]}\nold too\n{SECOND[1]}\nend")
    for _ in range(2):
        rewrite(page, {"second": "", "first": "\nnew\n"})
        assert page.read_text() == (f"# Title\n\n{FIRST[0]}\n\nnew\n{FIRST[1]}\n\nby hand\n{SECOND[0]}\n{SECOND[1]}\nend")


@pytest.mark.parametrize("text", ["", "all by hand", f"{FIRST[0]}{FIRST[1]}", f"{FIRST[0]}{FIRST[1]}{SECOND[1]}{SECOND[0]}"])
def test_a_page_without_the_marks_is_not_touched(text: str, tmp_path: Path) -> None:
    """The message says which are missing where, and no part is written."""
    page = tmp_path / "page.md"
    page.write_text(text)
    with pytest.raises(InputError, match=r"page\.md: the marks <!-- (first|second):begin -->"):
        rewrite(page, {"first": "new\n", "second": "new\n"})
    assert page.read_text() == text


def test_a_table_is_left_aligned_or_right_aligned_behind_its_first_columns() -> None:
    """Numbers are read from the right."""
    assert table(["a", "b"], [["1", "2"]]) == "| a | b |\n|---|---|\n| 1 | 2 |"
    assert table(["a", "b"], [["1", "2"]], left=1) == "| a | b |\n|---|---:|\n| 1 | 2 |"


def test_a_template_that_names_what_is_not_there_is_an_error(tmp_path: Path) -> None:
    """A hole in a page would pass for a result."""
    (tmp_path / "page.j2").write_text("{{ there }} {{ missing }}")
    with pytest.raises(jinja2.UndefinedError, match="missing"):
        render(tmp_path / "page.j2", there=1)
