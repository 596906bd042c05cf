"""Markdown pages that are generated in part: text between two comments is rewritten, what is written by hand stays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from detection.frozen import InputError
from flows.records.files import write_text
from flows.records.formatting import megabytes, milliseconds, points


def marks(name: str) -> tuple[str, str]:
    """The comments before and after the generated part of this name."""
    return f"<!-- {name}:begin -->", f"<!-- {name}:end -->"


def rewrite(page: Path, parts: Mapping[str, str]) -> None:
    """Replace the named parts of a page, all or none; InputError where one has no marks. A part ends in a newline or is empty."""
    text = page.read_text() if page.is_file() else ""
    for name, part in parts.items():
        begin, end = marks(name)
        before, found_begin, rest = text.partition(begin)
        _, found_end, after = rest.partition(end)
        if not found_begin or not found_end:
            raise InputError(f"{page}: the marks {begin} and {end} are not there. Put them where the numbers belong.")
        text = f"{before}{begin}\n{part}{end}{after}"
    write_text(page, text)


def render(template: Path, **values: Any) -> str:
    """The template filled in with the values; a name that is not among them is an error."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(template.parent),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=template.name.endswith(".html.j2"),  # Markdown is from our own records
    )
    environment.globals |= {"megabytes": megabytes, "milliseconds": milliseconds, "points": points, "table": table}
    return environment.get_template(template.name).render(**values)


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], left: int | None = None) -> str:
    """A Markdown table without its last newline; columns after the first `left` ones are right-aligned."""
    aligned = ["---"] * len(heads) if left is None else ["---"] * left + ["---:"] * (len(heads) - left)
    lines = ["| " + " | ".join(heads) + " |", "|" + "|".join(aligned) + "|", *("| " + " | ".join(row) + " |" for row in rows)]
    return "\n".join(lines)
