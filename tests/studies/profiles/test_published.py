"""Which published rows make a series, and what the shipped profiles say about them."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from hardware_profiles.schema.library import load_profile
from studies.profiles import published
from studies.profiles.published_fits import fit_series
from studies.profiles.results import PublishedFit
from studies.profiles.summary import read_summary
from tests.places import ROOT, SHARED

HARDWARE = SHARED / "hardware"
COLUMNS = (
    *("device", "compute_unit", "runtime", "precision", "threads", "model"),
    *("input", "gflops", "params_m", "latency_ms", "source"),
)
FOUND = read_summary(ROOT / "docs/profiles.json")
SHIPPED = [own for own in (FOUND.published if FOUND else ()) if own.profile]


def table(path: Path, rows: list[tuple[object, ...]]) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *rows])
    return path


def t4(model: str, gflops: object, latency_ms: float) -> tuple[object, ...]:
    return ("nvidia_t4", "gpu", "tensorrt-10", "fp16", "", model, 640, gflops, 3.0, latency_ms, "a page")


def zoo(latency_ms: float = 20.0) -> list[tuple[object, ...]]:
    return [
        ("rk3588_npu_1core", "npu", "rknn", "int8", "1", model, 640, "", "", latency_ms, "a zoo") for model in published.RKNN_ZOO
    ]


def test_rows_without_operations_are_left_out(tmp_path: Path) -> None:
    """A row whose operations nobody published makes no anchor, and too few rows make no series."""
    rows = [t4(f"yolo11{size}", gflops, 2.0) for size, gflops in (("n", 6.5), ("s", 21.5), ("m", 68.0), ("l", ""))]
    series = list(published.anchors(table(tmp_path / "anchors.csv", [*zoo(), *rows])))
    assert [own.device for own in series] == ["RK3588 NPU, 1 core"]


def test_an_affine_device_is_found(tmp_path: Path) -> None:
    """1 ms and 10 TFLOP/s planted in whole-network figures come back, and every network is foretold without itself."""
    rows = [t4(f"yolo11{size}", gflops, 1 + gflops / 10) for size, gflops in (("n", 6.5), ("s", 21.5), ("m", 68.0), ("l", 86.9))]
    series = list(published.anchors(table(tmp_path / "anchors.csv", [*zoo(), *rows])))[1]
    found = fit_series(series)
    assert not found.per_operator
    assert found.coefficients.rate_gops == pytest.approx(10_000, rel=1e-2)
    assert found.coefficients.base_us == pytest.approx(1000, rel=1e-2)
    assert found.network_out.ours < 0.01
    assert found.family_out is None
    assert found.network_out.flops > 0.2


def test_the_zoo_has_its_operators(tmp_path: Path) -> None:
    """The RKNN zoo's networks come with the parameters that were published: 1.9 million for YOLOv5n, 11.2 for YOLOv8s."""
    (series,) = published.anchors(table(tmp_path / "anchors.csv", zoo()))
    parameters = {own.name: own.parameters / 1e6 for own in series.measured}
    assert parameters["yolov5n"] == pytest.approx(1.9, rel=0.02)
    assert parameters["yolov8s"] == pytest.approx(11.2, rel=0.02)
    assert series.families == ("YOLOv5", "YOLOv6", "YOLOv7", "YOLOv8")


def test_depthwise_networks_have_their_operators(tmp_path: Path) -> None:
    """EfficientDet-Lite rows of one board, type and number of threads make one series with all operators."""
    rows = [
        ("intel_n100", "cpu", published.TFLITE, "int8", threads, f"efficientdet-lite{size}", 320, "", "", 10.0 * (1 + size), "logs")
        for threads in ("1", "4")
        for size in range(5)
    ]
    _, one, four = published.anchors(table(tmp_path / "anchors.csv", [*zoo(), *rows]))
    assert (one.threads, one.several_threads, four.several_threads) == ("1", False, True)
    assert (one.dtype, len(one.measured), one.per_operator) == ("int8", 5, True)
    assert any(operator.kind == "depthwise" for operator in one.measured[0].operators)


@pytest.mark.skipif(not (HARDWARE / "latency_anchors.csv").is_file(), reason="the published latencies are not beside this checkout")
def test_no_series_mixes_sources() -> None:
    """Reading the real table raises nothing: each series has one source, at least four networks and positive times."""
    for series in published.anchors(HARDWARE / "latency_anchors.csv"):
        assert len(series.measured) >= published.MIN_NETWORKS
        assert min(own.latency_s for own in series.measured) > 0
        assert ";" not in series.source


@pytest.mark.skipif(not SHIPPED, reason="docs/profiles.json is not there yet; `make profiles-accuracy` makes it")
@pytest.mark.parametrize("own", SHIPPED, ids=lambda own: f"{own.profile}-{own.precision}")
def test_profiles_hold_what_was_found(own: PublishedFit) -> None:
    """The numbers of a profile are those of docs/profiles.json: coefficients, networks, error; its interval is no narrower."""
    assert own.profile is not None
    profile, found = load_profile(own.profile), own.coefficients
    dtype = "fp32" if own.precision == "fp32" else "fp16" if own.precision == "fp16" else "int8"
    peak, utilisation, calibration = (field.of(dtype) for field in (profile.peak_gops, profile.utilisation, profile.calibration))
    assert peak is not None
    assert utilisation is not None
    assert calibration is not None
    assert peak * utilisation == pytest.approx(found.rate_gops, rel=2e-3)
    for shipped, value in (
        (profile.memory.bandwidth_effective_gbs, found.bandwidth_gbs),
        (profile.op_overhead_us.of(dtype), found.op_overhead_us),
        (profile.base_us.of(dtype), found.base_us),
    ):
        assert shipped == (None if value is None else pytest.approx(value, rel=2e-3))
    assert calibration.anchors == own.measured
    assert calibration.leave_one_out_mape == pytest.approx(own.shipped_mape, abs=1e-3)
    assert (profile.interval_factor.of(dtype) or 0) >= own.interval_factor - 0.005
