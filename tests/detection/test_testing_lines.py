"""How broken claims of a family are told."""

from __future__ import annotations

from detection.testing import told_once


def test_a_reason_is_told_once() -> None:
    """Claims that break for the same reason share a line, in the order in which they were tried."""
    broken = {"learns": "no layer 'centre'", "exports": "not the same", "protects": "no layer 'centre'"}
    assert told_once(broken) == ["- learns, protects: no layer 'centre'", "- exports: not the same"]
