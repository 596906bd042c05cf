"""Whether a method got as small as it was asked to."""

from __future__ import annotations

import pytest

from compressors.target import Target


@pytest.mark.parametrize(
    ("asked", "reached", "missed", "words"),
    [
        (0.5, 0.6385, True, "pruning: 64% stay where keep_macs asks for 50%"),
        (0.5, 0.5021, True, "pruning: 50.2% stay where keep_macs asks for 50.0%"),
        (0.5, 0.5, False, "pruning: 50.000% stay where keep_macs asks for 50.000%"),
        (0.5, 0.48, False, "pruning: 48% stay where keep_macs asks for 50%"),
    ],
)
def test_a_target_says_what_stays(asked: float, reached: float, missed: bool, words: str) -> None:
    """More than was asked for is a miss; there are digits enough to see it."""
    target = Target(method="pruning", setting="keep_macs", asked=asked, reached=reached)
    assert target.missed == missed
    assert target.in_words() == words
