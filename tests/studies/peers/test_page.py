"""The generated part of docs/peers.md, from fixed records."""

from __future__ import annotations

from pathlib import Path

from studies.peers.page import all_table, sentences, write_page
from tests.studies.peers.peers_factory import summary


def test_sentences_follow_the_intervals() -> None:
    """A difference counts where its interval excludes none; a group without a choice is said to have none."""
    (page,) = summary().profiles
    assert list(sentences(page)) == [
        "ONNX Runtime alone: sixfold's choice is faster (1.20x its speed) and more accurate (+1.0 points).",
        "Tucker-2, then ONNX Runtime: none of its files is within the drop and faster than the control.",
    ]
    (first, *_), nothing = page.versus, page.model_copy(update={"ours": None})
    slow = first.model_copy(update={"speed_ratio": 0.8, "speed_ratio_ci95": (0.7, 0.9)})
    assert "slower (0.80x its speed)" in next(sentences(page.model_copy(update={"versus": (slow,)})))
    assert next(sentences(nothing)).endswith("nothing of sixfold's is within the drop and faster than the control.")


def test_all_files_stand_in_the_order_of_their_speed() -> None:
    """What was not timed is last, with a dash; pictures are all that went through a network."""
    (page,) = summary().profiles
    rows = all_table(page).splitlines()[2:]
    assert [row.split("`")[1] for row in rows] == ["quantization", "checkpoint+ort-minmax", "none", "checkpoint+ort-entropy"]
    assert "| 1,023 | 1.5 |" in rows[0]
    assert rows[-1].endswith("| \u2013 | \u2013 | 1,023 | 1.5 |")


def test_the_page_is_rewritten_between_its_marks(tmp_path: Path) -> None:
    """What is written by hand stays; failures are shown with what the tool said."""
    page = tmp_path / "peers.md"
    page.write_text("By hand.\n<!-- peers:begin -->\nformer\n<!-- peers:end -->\nToo.\n")
    write_page(page, summary())
    text = page.read_text()
    assert text.startswith("By hand.\n")
    assert text.endswith("Too.\n")
    assert "former" not in text
    assert "| pruned-lamp | onnxruntime | `ValueError: no such \\| layer` |" in text
    assert "at most 2 points below" in text
    assert "what was not made cannot be chosen: `ort-mixed` of 3 of 56 (onnxruntime)." in text
