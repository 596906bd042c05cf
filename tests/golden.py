"""Pages and sentences as they were last accepted: tests compare with files in `tests/golden/` and one word rewrites them."""

from __future__ import annotations

import os

from tests.places import ROOT

FOLDER = ROOT / "tests" / "golden"


def assert_golden(name: str, text: str) -> None:
    """The text is what the file of that name holds. `UPDATE_GOLDEN=1 pytest ...` writes the file; read the diff before a commit."""
    path = FOLDER / name
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8"), f"{path}: differs; where that is meant, run the test with UPDATE_GOLDEN=1"
