"""The text of a plan: one setting a line, its reason in a comment above it."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence

from flows.init.settings import Setting

WIDTH = 126
HEADS = {"training": "training: &schedule"}
"""Sections that other settings refer to."""


def plan_text(header: Iterable[str], settings: Sequence[Setting]) -> str:
    """The whole file; `header` is its first comment, a paragraph an entry. Settings of a section follow one another."""
    lines = [line for paragraph in header for line in _comment(paragraph, "")]
    opened: list[str] = []
    for setting in settings:
        *sections, name = setting.name.split(".")
        for depth, section in enumerate(sections):
            if opened[: depth + 1] != sections[: depth + 1]:
                lines += [*([] if depth else [""]), f"{'  ' * depth}{HEADS.get(section, f'{section}:')}"]
                opened = sections[: depth + 1]
        opened, indent = sections, "  " * len(sections)
        lines += [*_comment(setting.reason, indent), f"{indent}{name}: {setting.value}"]
    return "\n".join(lines) + "\n"


def _comment(text: str, indent: str) -> list[str]:
    start = f"{indent}# "
    return textwrap.wrap(text, WIDTH, initial_indent=start, subsequent_indent=start, break_on_hyphens=False)
