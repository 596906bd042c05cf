"""Ranges of activations: worked by hand where a histogram is simple enough."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper
from scipy.stats import entropy

from compressors.quantization.calibrators import (
    BINS,
    Histogram,
    by_entropy,
    by_minmax,
    by_mse,
    by_percentile,
    observe,
    ranges_of,
)
from hardware_profiles.runtimes.ranges import Range


def histogram(values: NDArray[Any], low: float, high: float) -> Histogram:
    """Of these values, by numpy."""
    return Histogram(np.histogram(values, BINS, (low, high))[0], low, high)


UNIFORM = Histogram(np.ones(BINS, np.int64), -1024.0, 1024.0)
"""One value in the middle of each bin of width 1."""


def test_levels_of_a_range() -> None:
    """0..25.5 has levels 0.1 apart and zero is the lowest; -1..1 has zero at level 128, moved by half a level."""
    plain, both = Range(0.0, 25.5), Range(-1.0, 1.0)
    assert (plain.scale, plain.zero_point) == (pytest.approx(0.1), 0)
    assert plain.with_exact_zero() == pytest.approx(plain)
    assert (both.scale, both.zero_point) == (pytest.approx(2 / 255), 128)
    assert both.with_exact_zero() == pytest.approx((-256 / 255, 254 / 255))


def test_a_tensor_of_zeros_has_a_range() -> None:
    """Dead channels occur: the scale is 1 then, never 0."""
    assert Range(0.0, 0.0).scale == 1.0
    dead = Histogram(np.eye(1, BINS, dtype=np.int64)[0] * 50, 0.0, 0.0)
    assert by_minmax(dead) == by_mse(dead) == by_entropy(dead) == by_percentile(dead, 99.0) == Range(0.0, 0.0)


def test_minmax_keeps_all() -> None:
    """The ends of the histogram."""
    assert by_minmax(UNIFORM) == Range(-1024.0, 1024.0)


def test_percentile_leaves_half_of_the_rest_at_each_end() -> None:
    """Of 2048 equal bins 90 % are the middle: 5 %, which is 102.4 bins, lie beyond each end."""
    assert by_percentile(UNIFORM, 90.0) == pytest.approx((-1024 + 102, 1024 - 102), abs=1)
    assert by_percentile(UNIFORM, 100.0) == Range(-1024.0, 1024.0)


def test_percentile_agrees_with_numpys() -> None:
    """To the width of a bin, on a lopsided distribution: half a percent of all values beyond each end."""
    values = np.random.default_rng(2).gumbel(size=20_000) - 1
    found = histogram(values, float(values.min()), float(values.max()))
    assert by_percentile(found, 99.0) == pytest.approx(np.percentile(values, (0.5, 99.5)), abs=1.01 * found.width)


def test_percentile_of_one_side_leaves_all_of_the_rest_there() -> None:
    """Where nothing is negative the lower end is zero, and 10 % of 2048 equal bins lie beyond the other; mirrored, the same."""
    assert by_percentile(Histogram(np.ones(BINS, np.int64), 0.0, 2048.0), 90.0) == pytest.approx((0.0, 2048 - 205), abs=1)
    assert by_percentile(Histogram(np.ones(BINS, np.int64), -2048.0, 0.0), 90.0) == pytest.approx((205 - 2048, 0.0), abs=1)


def test_percentile_behind_a_relu_agrees_with_numpys() -> None:
    """Half of the values are zero: of all of them 1 % lie beyond, not half a percent."""
    values = np.maximum(np.random.default_rng(2).normal(size=20_000), 0)
    found = histogram(values, 0.0, float(values.max()))
    assert by_percentile(found, 99.0) == pytest.approx((0.0, np.percentile(values, 99.0)), abs=1.01 * found.width)


def test_mse_clips_one_outlier_among_many_and_not_among_few() -> None:
    """n values within 0..1 and one of 10: a range up to h costs n (h / 255)^2 / 12 for rounding and (10 - h)^2 for clipping.

    That is least at h = 10 / (1 + n / 780300): at 9.99 for a thousand values, at 2.8 for two million.
    """
    few, many = (histogram(np.append(np.linspace(0, 1, count), 10.0), 0.0, 10.0) for count in (1_000, 2_000_000))
    assert by_mse(few).high > 9.5
    assert by_mse(many).high == pytest.approx(2.8, abs=0.15)


def test_entropy_keeps_what_is_evenly_filled_and_clips_a_thin_tail() -> None:
    """Cutting a uniform distribution piles its end up; cutting the tail of a bell saves levels for where the values are."""
    bell = np.abs(np.random.default_rng(0).normal(size=200_000))
    assert by_entropy(Histogram(np.full(BINS, 100), 0.0, 1.0)) == Range(0.0, 1.0)
    tailed = by_entropy(histogram(np.append(bell, 40.0), 0.0, 40.0))
    assert 3 < tailed.high < 8


def test_entropy_as_published() -> None:
    """The same end as by Migacz's pseudocode, written out bin by bin with scipy's divergence, among the same candidates."""
    values = np.abs(np.random.default_rng(1).normal(size=50_000)) ** 1.5
    found = histogram(values, 0.0, float(values.max()))
    counts = found.counts.copy()
    counts[0] = counts[1]
    divergences = {}
    for end in range(256, BINS + 1, 16):
        level = np.digitize(np.arange(end), np.linspace(0, end, 257)) - 1
        spread = np.zeros(end)
        for one in range(256):
            filled = (level == one) & (counts[:end] > 0)
            spread[filled] = counts[:end][level == one].sum() / max(1, filled.sum())
        clipped = counts[:end].astype(float)
        clipped[-1] += counts[end:].sum()
        if ((spread == 0) & (clipped > 0)).any():
            continue  # an infinite divergence
        divergences[end] = entropy(clipped, spread)
    best = min(divergences, key=lambda end: divergences[end])
    assert by_entropy(found).high == pytest.approx(best * found.width, abs=16 * found.width)
    assert 256 < best < BINS


def test_entropy_is_not_deceived_by_the_zeros_behind_a_relu() -> None:
    """Nine in ten values exactly zero change nothing: zero is a level of every range."""
    bell = np.abs(np.random.default_rng(0).normal(size=100_000)) + 0.02
    own, with_zeros = (histogram(values, 0.0, 20.0) for values in (bell, np.append(bell, np.zeros(900_000))))
    assert by_entropy(with_zeros).high == pytest.approx(by_entropy(own).high, abs=0.5)


@pytest.fixture(scope="module")
def relu_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """images (1, 3, 2, 2) -> images - 0.5 -> relu."""
    half = helper.make_tensor("half", TensorProto.FLOAT, (), [0.5])
    nodes = [helper.make_node("Sub", ["images", "half"], ["moved"]), helper.make_node("Relu", ["moved"], ["boxes"])]
    inputs, outputs = ([helper.make_tensor_value_info(name, TensorProto.FLOAT, (1, 3, 2, 2))] for name in ("images", "boxes"))
    model = helper.make_model(
        helper.make_graph(nodes, "relu", inputs, outputs, [half]), opset_imports=[helper.make_opsetid("", 18)]
    )
    model.ir_version = 10
    path = tmp_path_factory.mktemp("relu") / "relu.onnx"
    onnx.save(model, path)
    return path


def test_every_value_of_every_picture_is_counted(relu_file: Path) -> None:
    """Two pictures of twelve values: picture, shifted values and output have 24 counts each, between the ends that occur."""
    pictures = [np.linspace(0.0, 1.0, 12, dtype=np.float32).reshape(1, 3, 2, 2), np.zeros((1, 3, 2, 2), np.float32)]
    found = observe(relu_file, ["images", "moved", "boxes"], pictures)
    assert {name: int(own.counts.sum()) for name, own in found.items()} == {"images": 24, "moved": 24, "boxes": 24}
    ends = {name: (own.low, own.high) for name, own in found.items()}
    assert ends == {"images": (0.0, 1.0), "moved": (-0.5, 0.5), "boxes": (0.0, 0.5)}
    assert found["boxes"].counts[0] == 12 + 6, "all of the dark picture, half of the other"


def test_each_calibrator_gives_every_tensor_a_range(relu_file: Path) -> None:
    """No tensor is forgotten, and every range holds zero."""
    pictures = [np.random.default_rng(seed).random((1, 3, 2, 2), dtype=np.float32) for seed in range(8)]
    found = observe(relu_file, ["moved", "boxes"], pictures)
    for calibrator in ("minmax", "entropy", "percentile", "mse"):
        ranges = ranges_of(found, calibrator, 99.0)  # type: ignore[arg-type]
        assert ranges.keys() == {"moved", "boxes"}
        assert all(own.low <= 0 <= own.high for own in ranges.values())
