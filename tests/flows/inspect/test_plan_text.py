"""Settings put into a params file: everything else stays as it was written, and notes are renewed."""

from __future__ import annotations

import pytest

from detection.frozen import InputError
from flows.inspect.plan_text import Setting, as_text, with_settings

TEXT = """# a plan
data:
  name: cells   # ours
  resize: letterbox   # as trained

detector:
  onnx: a.onnx
  decode:
    boxes: {outputs: [0], form: xyxy}   # corners
    scores: {outputs: [1]}
grid:
  runtimes: [onnxruntime]
"""
NOTE = "val does not tell resize stretch from letterbox"


def test_a_setting_is_replaced_or_added_in_its_section() -> None:
    """Comments behind values stay, other sections and empty lines too."""
    sections = {
        "data": {"resize": Setting("stretch")},
        "detector": {"input": Setting({"colour": "bgr"}), "decode": Setting("yolov8")},
    }
    assert with_settings(TEXT, sections) == TEXT.replace("letterbox", "stretch").replace(
        "decode:\n    boxes: {outputs: [0], form: xyxy}   # corners\n    scores: {outputs: [1]}\n",
        "decode: yolov8\n  input: {colour: bgr}\n",
    )


def test_a_setting_that_is_the_same_keeps_its_lines() -> None:
    """With the comments in them."""
    same = {"boxes": {"outputs": [0], "form": "xyxy"}, "scores": {"outputs": [1]}}
    assert with_settings(TEXT, {"detector": {"decode": Setting(same)}}) == TEXT


def test_a_note_stands_behind_the_comment_until_val_decides() -> None:
    """Written again it stands there once; a decided setting loses it."""
    open_part = {"data": {"resize": Setting("stretch", NOTE)}}
    once = with_settings(TEXT, open_part)
    assert f"  resize: stretch   # as trained  # {NOTE}\n" in once
    assert with_settings(once, open_part) == once
    assert with_settings(once, {"data": {"resize": Setting("stretch")}}) == TEXT.replace("letterbox", "stretch")
    assert as_text(open_part) == f"data:\n  resize: stretch  # {NOTE}"


def test_a_section_that_is_missing_is_added() -> None:
    """At the end."""
    sections = {
        "detector": {"onnx": Setting("a.onnx"), "input": Setting({"colour": "rgb"}, "val does not tell colour rgb from bgr")}
    }
    added = "detector:\n  onnx: a.onnx\n  input: {colour: rgb}  # val does not tell colour rgb from bgr\n"
    assert with_settings("data:\n  name: cells\n", sections) == f"data:\n  name: cells\n\n{added}"
    assert with_settings("data:\n  name: cells", sections) == f"data:\n  name: cells\n\n{added}"


@pytest.mark.parametrize("text", ["data: {name: cells, resize: letterbox}\n", "data: &own\n  name: cells\nother: *own\n"])
def test_another_layout_is_not_touched(text: str) -> None:
    """One message, and nothing is written."""
    with pytest.raises(InputError, match="nothing was written"):
        with_settings(text, {"data": {"resize": Setting("stretch")}})
