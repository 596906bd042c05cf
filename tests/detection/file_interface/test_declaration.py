"""Declarations: the one that the documentation shows, and those that contradict themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from pydantic import ValidationError

from detection.file_interface.declaration import Decoding
from detection.file_interface.outputs import decode

FIXTURES = Path(__file__).parent / "fixtures"
GRID = {"kind": "grid", "strides": [32]}
PIXELS = {"outputs": ["boxes"], "form": "xyxy"}
SCORES = {"outputs": ["scores"]}
FASTESTDET = """
boxes: {outputs: [0], columns: [1, 5], channels: first, form: tanh_sigmoid}
objectness: {outputs: [0], columns: [0, 1], channels: first, powers: [0.6, 0.4]}
scores: {outputs: [0], columns: [5, null], channels: first, best_class_only: true}
points: {kind: grid, strides: [16], offset: 0}
"""


def test_fastestdet_is_declared_in_four_lines() -> None:
    """A detector that no preset knows: its authors' formula on the same tensor, and the lines that the documentation shows."""
    decoding = Decoding.model_validate(yaml.safe_load(FASTESTDET))
    stored = np.load(FIXTURES / "fastestdet.npz")
    found = decode(decoding, {"output": stored["output"]}, (64, 96), 3)
    np.testing.assert_allclose(found.boxes_xyxy_px, stored["boxes_xyxy_px"], atol=1e-4)
    np.testing.assert_allclose(found.scores, stored["scores"], atol=1e-6)
    assert decoding.select == "nms"
    assert FASTESTDET.split() == (Decoding.__doc__ or "").partition("plan:")[2].split()


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"boxes": {**PIXELS, "form": "ltrb"}}, "form ltrb with points of kind none; it takes grid or anchors or priors or given"),
        (
            {"boxes": {**PIXELS, "form": "ssd"}, "points": GRID},
            "form ssd with points of kind grid; it takes anchors or priors or given",
        ),
        ({"points": GRID}, "form xyxy with points of kind grid; it takes none"),
        ({"boxes": {**PIXELS, "unit": "stride"}}, "form xyxy with points of kind none; it takes grid"),
        ({"boxes": {**PIXELS, "form": "ltrb_dfl"}, "points": GRID}, "bins belongs to boxes.form ltrb_dfl, which needs it"),
        ({"boxes": {**PIXELS, "bins": 4}}, "bins belongs to boxes.form ltrb_dfl"),
        ({"scores": {**SCORES, "peaks": True}}, "peaks looks for neighbours in points of kind grid with one stride"),
        ({"scores": {**SCORES, "background": "last"}, "labels": {"outputs": [0]}}, "labels chooses one class per row"),
        (
            {"boxes": {"outputs": [0, 1], "form": "ltrb"}, "points": {**GRID, "strides": [8, 16, 32]}},
            "2 outputs for 3 strides; name one",
        ),
        ({"boxes": {**PIXELS, "shape": "xyxy"}}, "Extra inputs are not permitted"),
    ],
    ids=str,
)
def test_declarations_that_contradict_themselves(parts: dict[str, Any], message: str) -> None:
    """They are refused before any file is run."""
    with pytest.raises(ValidationError, match=message):
        Decoding.model_validate({"boxes": PIXELS, "scores": SCORES, **parts})
