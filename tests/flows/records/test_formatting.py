"""Numbers as people read them."""

from __future__ import annotations

import pytest

from flows.records.formatting import describe_failure, megabytes, milliseconds, not_applicable, permitted, points


@pytest.mark.parametrize(("share", "said"), [(0.01, "1 point"), (0.02, "2 points"), (0.005, "0.5 points"), (0.0, "0 points")])
def test_one_point_is_singular(share: float, said: str) -> None:
    """A permitted drop of 0.01 is 1 point; every other is points."""
    assert permitted(share) == said


@pytest.mark.parametrize(("share", "said"), [(0.0123, "+1.2"), (-0.0123, "\u22121.2"), (-0.0004, "0.0"), (0.0, "0.0")])
def test_points_have_a_sign_unless_they_round_to_nothing(share: float, said: str) -> None:
    """A true minus sign, and no sign before 0.0."""
    assert points(share) == said


@pytest.mark.parametrize(("seconds", "said"), [(0.00042, "0.42"), (0.01249, "12.5"), (0.1249, "125")])
def test_milliseconds_show_the_digits_that_count(seconds: float, said: str) -> None:
    """Two decimals below 10 ms, one below 100, none above."""
    assert milliseconds(seconds) == said


def test_a_megabyte_is_a_million_bytes() -> None:
    """10,671,234 bytes are 10.67 MB."""
    assert megabytes(10_671_234) == "10.67"


def test_methods_that_do_not_apply_for_one_reason_stand_together() -> None:
    """Each reason once, in the order of the methods, as a sentence."""
    assert not_applicable({"nas": "it is a file.", "pruning": "it is small.", "low_rank": "it is a file."}) == (
        "not applicable to this detector: nas, low_rank. It is a file.",
        "not applicable to this detector: pruning. It is small.",
    )


def test_a_failure_is_one_line() -> None:
    """Kind and first line; where there are no words, that is said."""
    assert describe_failure(ValueError("first\nsecond")) == "ValueError: first"
    assert describe_failure(KeyError()) == "KeyError: no message"
