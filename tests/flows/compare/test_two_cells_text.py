"""How a comparison of two cells is put."""

from __future__ import annotations

from flows.compare.two_cells import HEADS, CellComparison, ProfileComparison, RuntimeComparison, rows, sentences
from flows.stats.latency import Comparison
from flows.stats.map_bootstrap import NO_DIFFERENCE, Difference
from tests.golden import assert_golden


def in_runtime(name: str, test: Difference, a_bytes: int = 3_000_000, b_bytes: int = 1_000_000) -> RuntimeComparison:
    """B's test mAP is 0.508, A's 0.5; the difference of mAP is given."""
    return RuntimeComparison(
        runtime=name, val=test, test=test, val_map_50_95=(0.51, 0.518), test_map_50_95=(0.5, 0.508),
        size_bytes=(a_bytes, b_bytes), size_ratio=a_bytes / b_bytes, is_same_file=test is NO_DIFFERENCE,
    )  # fmt: skip


def on_profile(
    name: str, ratio: float, interval: tuple[float, float] | None, verdict: str, equal: bool | None
) -> ProfileComparison:
    """A ratio and its interval as they are; B took 2 ms."""
    comparison = Comparison.model_validate(
        {
            "verdict": verdict,
            "ratio": ratio,
            "range": (ratio * 0.9, ratio * 1.1),
            "interval": interval,
            "p": 0.01 if interval else None,
            "p_corrected": None,
            "minimum_detectable_effect": None,
            "rounds": 8 if interval else 3,
        }
    )
    return ProfileComparison(
        profile=name, runtime="openvino 2026.4", p50_s=(0.002 * ratio, 0.002), comparison=comparison,
        is_equal_within_5_percent=equal, why=None,
    )  # fmt: skip


def no_ratio(name: str) -> ProfileComparison:
    """A profile that was not measured."""
    return ProfileComparison(
        profile=name, runtime="x", p50_s=None, comparison=None, is_equal_within_5_percent=None, why="estimated"
    )  # fmt: skip


RUNTIMES = (
    in_runtime("more-and-smaller", Difference(mean=0.008, low=0.001, high=0.015, p=0.0005)),
    in_runtime("neither", Difference(mean=0.008, low=-0.007, high=0.023, p=0.1), 1_000_000),
    in_runtime("less-and-larger", Difference(mean=-0.02, low=-0.03, high=-0.01, p=0.001), 1_000_000, 2_000_000),
    in_runtime("same-file", NO_DIFFERENCE),
)
PROFILES = (
    on_profile("faster", 2.0, (1.9, 2.1), "faster", False),
    on_profile("slower", 0.5, (0.4, 0.625), "slower", False),
    on_profile("equal", 1.01, (0.99, 1.03), "not significant", True),
    on_profile("faster-yet-equal", 1.03, (1.02, 1.04), "faster", True),
    on_profile("undecided", 1.02, (0.96, 1.08), "not significant", False),
    on_profile("few-rounds", 2.0, None, "too few rounds", None),
    on_profile("same-file", 1.0, (1.0, 1.0), "same file", True),
    no_ratio("estimated"),
)


def test_a_comparison_is_put_so() -> None:
    """More, less, faster and slower only where the interval excludes none; equal within 5 %; why where there is no ratio."""
    pictures = {"val": 8, "test": 8}
    full, nothing = (
        CellComparison(sweep="toy", a="a", b="b", pictures=pictures, runtimes=runtimes, profiles=profiles)
        for runtimes, profiles in ((RUNTIMES, PROFILES), ((), ()))
    )
    lines = [*sentences(full), *(" | ".join(row) for row in (HEADS, *rows(full))), *sentences(nothing)]
    assert_golden("comparison.txt", "\n".join(lines) + "\n")
