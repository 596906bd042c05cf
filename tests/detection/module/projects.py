"""A user's project as a folder of small files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from textwrap import dedent

DETECTOR = {
    "my_pkg/__init__.py": "",
    "my_pkg/detector.py": """
        from .blocks import width

        class family:
            value = width()
        """,
    "my_pkg/blocks.py": """
        from my_pkg import numbers_of_mine

        def width():
            return numbers_of_mine.WIDTH * 2
        """,
    "my_pkg/numbers_of_mine.py": "WIDTH = 16",
}
"""`my_pkg.detector:family`, whose value is 32; the last file is two imports away."""
REFERENCE = "my_pkg.detector:family"


def write(base: Path, files: Mapping[str, str]) -> Path:
    """The folder, with these files in it: path -> text, whose common indentation is taken off."""
    for path, text in files.items():
        (base / path).parent.mkdir(parents=True, exist_ok=True)
        (base / path).write_text(dedent(text), encoding="utf-8")
    return base
