"""What is told of two cells, against numbers worked by hand."""

from __future__ import annotations

import pytest

from flows.compare.two_cells_text import CellComparison, ProfileComparison, RuntimeComparison, rows, sentences
from flows.stats.latency import Comparison
from flows.stats.map_bootstrap import NO_DIFFERENCE, Difference


def in_runtime(test: Difference, a_bytes: int = 3_000_000, b_bytes: int = 1_000_000, same: bool = False) -> RuntimeComparison:
    """B's test mAP is 0.508, A's 0.5; the difference of mAP is given."""
    return RuntimeComparison(
        runtime="openvino", val=test, test=test, val_map_50_95=(0.51, 0.518), test_map_50_95=(0.5, 0.508),
        size_bytes=(a_bytes, b_bytes), size_ratio=a_bytes / b_bytes, is_same_file=same,
    )  # fmt: skip


def on_profile(ratio: float, interval: tuple[float, float] | None, verdict: str, equal: bool | None) -> ProfileComparison:
    """A ratio and its interval as they are; B took 2 ms."""
    comparison = Comparison.model_validate(
        {
            "verdict": verdict,
            "ratio": ratio,
            "range": (ratio * 0.9, ratio * 1.1),
            "interval": interval,
            "p": 0.01 if interval else None,
            "p_corrected": None,
            "minimal_effect": None,
            "rounds": 8 if interval else 3,
        }
    )
    return ProfileComparison(
        profile="x86-openvino-1t", runtime="openvino 2026.4", p50_s=(0.002 * ratio, 0.002), comparison=comparison,
        is_equal_within_5_percent=equal, why=None,
    )  # fmt: skip


def found(runtimes: tuple[RuntimeComparison, ...] = (), profiles: tuple[ProfileComparison, ...] = ()) -> CellComparison:
    """A comparison of `a` with `b`."""
    return CellComparison(sweep="toy", a="a", b="b", pictures={"val": 8, "test": 8}, runtimes=runtimes, profiles=profiles)


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (0.001, 0.015, "In openvino `b` has more test mAP than `a`: +0.8 points [+0.1, +1.5]; "),
        (-0.007, 0.023, "In openvino `b` and `a` are not told apart by test mAP: +0.8 points [−0.7, +2.3]; "),
    ],
)
def test_more_is_said_only_where_the_interval_excludes_none(low: float, high: float, said: str) -> None:
    """Otherwise the two are not told apart; the size follows."""
    (first, *_) = sentences(found((in_runtime(Difference(mean=0.008, low=low, high=high, p=0.1)),)))
    assert first == said + "the file of `b` is 3.00x smaller (1.00 MB against 3.00 MB)."


def test_less_and_larger_are_told_likewise() -> None:
    """A loss, and a file that grew."""
    own = in_runtime(Difference(mean=-0.02, low=-0.03, high=-0.01, p=0.001), a_bytes=1_000_000, b_bytes=2_000_000)
    (first, *_) = sentences(found((own,)))
    assert first == (
        "In openvino `b` has less test mAP than `a`: −2.0 points [−3.0, −1.0]; "
        "the file of `b` is 2.00x larger (2.00 MB against 1.00 MB)."
    )


@pytest.mark.parametrize(
    ("own", "said"),
    [
        (on_profile(2.0, (1.9, 2.1), "faster", False), "`b` is 2.00x faster than `a` [1.90, 2.10]."),
        (on_profile(0.5, (0.4, 0.625), "slower", False), "`b` is 2.00x slower than `a` [1.60, 2.50]."),
        (on_profile(1.01, (0.99, 1.03), "no difference", True), "they are equally fast within 5 %: 1.010x [0.990, 1.030]."),
        (on_profile(1.03, (1.02, 1.04), "faster", True), "they are equally fast within 5 %: 1.030x [1.020, 1.040]."),
        (
            on_profile(1.02, (0.96, 1.08), "no difference", False),
            "they are neither told apart nor shown to be equal within 5 %: 1.020x [0.960, 1.080].",
        ),
        (
            on_profile(2.0, None, "too few rounds", None),
            "`b` runs at 2.00x the speed of `a` (1.80 to 2.20 in 3 rounds, too few to test).",
        ),
        (on_profile(1.0, (1.0, 1.0), "same file", True), "both are the same file, so equally fast."),
    ],
    ids=["faster", "slower", "equal", "faster-yet-equal", "undecided", "few-rounds", "same-file"],
)  # fmt: skip
def test_speed_is_told_as_far_as_the_rounds_go(own: ProfileComparison, said: str) -> None:
    """One sentence per profile: faster and slower beyond chance, equal within 5 %, or neither."""
    assert sentences(found(profiles=(own,)))[-1] == f"On x86-openvino-1t {said}"


def test_nothing_in_common_is_said() -> None:
    """No runtime and no profile that has both."""
    assert sentences(found()) == (
        "`a` and `b` have no file of the same runtime, so their accuracy is not compared.",
        "No profile has measured both in the same rounds, so nothing is said of their speed.",
    )


def test_the_same_file_is_called_so() -> None:
    """Nothing to compare in that runtime."""
    assert sentences(found((in_runtime(NO_DIFFERENCE, same=True),)))[0] == "In openvino both are the same file."


def test_the_table_has_accuracy_size_and_speed() -> None:
    """Two splits and the size per runtime, a line per profile, and why where there is no ratio."""
    missing = ProfileComparison(
        profile="raspberry-pi-5",
        runtime="onnxruntime",
        p50_s=None,
        comparison=None,
        is_equal_within_5_percent=None,
        why="estimated",
    )
    own = in_runtime(Difference(mean=0.008, low=0.001, high=0.015, p=0.0005))
    assert rows(found((own,), (on_profile(2.0, (1.9, 2.1), "faster", False), missing))) == (
        ("openvino", "val mAP", "0.510", "0.518", "+0.8 pt", "[+0.1, +1.5]", "< 0.001"),
        ("openvino", "test mAP", "0.500", "0.508", "+0.8 pt", "[+0.1, +1.5]", "< 0.001"),
        ("openvino", "size, MB", "3.00", "1.00", "3.00x smaller", "", ""),
        ("x86-openvino-1t", "p50, ms", "4.00", "2.00", "2.000x the speed", "[1.900, 2.100]", "0.010"),
        ("raspberry-pi-5", "p50, ms", "", "", "estimated", "", ""),
    )
