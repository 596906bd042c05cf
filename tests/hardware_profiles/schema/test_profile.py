"""Profiles: what is shipped holds together, and what contradicts itself is refused with field, finding and what is allowed."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from hardware_profiles.runtimes.table import FOREIGN_RUNTIMES, RUNTIMES
from hardware_profiles.schema.library import known_profiles, load_profile
from hardware_profiles.schema.profile import Calibration, HardwareProfile
from tests.hardware_profiles.profile_factory import INT8_ALONE, tree

SHIPPED = known_profiles()
CALIBRATION = {"networks": 9, "leave_one_out_mape": 0.1, "validated_on": "architectures only", "origin": "own times"}


def profile(**changes: Any) -> HardwareProfile:
    return HardwareProfile.model_validate(tree(**changes))


@pytest.mark.parametrize("name", SHIPPED)
def test_every_source_says_whence(name: str) -> None:
    """A source is derived from something, chosen for a reason, measured, fitted, assumed in words, or a place to look it up."""
    starts = ("derived:", "chosen:", "measured", "fitted", "taken to be")
    for field, source in load_profile(name).sources.items():
        assert source.startswith(starts) or "page" in source, f"{name}: {field}: {source!r} does not say where the number is from"


@pytest.mark.parametrize("name", SHIPPED)
def test_no_source_names_a_place_that_only_its_writer_has(name: str) -> None:
    """Sources are for readers of the repository: no local paths, no private collections."""
    for source in load_profile(name).sources.values():
        assert not any(word in source for word in ("shared/", ".csv", "NOTES", "/work", "/tmp"))


def test_jetson_nano_has_no_int8() -> None:
    """Its GPU lacks dp4a, so no int8 peak may appear."""
    nano = load_profile("jetson-nano")
    assert "int8" not in nano.dtypes
    assert nano.peak_gops.int8 is None


def test_the_edge_tpu_takes_int8_alone_and_hands_the_rest_over() -> None:
    """Coral's compiler page: 6.91 MiB of parameters stay on the chip; float operators run on the processor beside it."""
    coral = load_profile("coral-edge-tpu")
    assert (coral.dtypes, coral.float_dtype, coral.host_cpu) == (("int8",), None, "raspberry-pi-4")
    assert coral.memory.on_chip_bytes == pytest.approx(6.91 * 2**20, abs=1)
    assert coral.link is not None


def test_producible_follows_the_runtime() -> None:
    """Files are made for onnxruntime and openvino; the other devices say what they would need."""
    foreign = {name: load_profile(name).file_format for name in SHIPPED if not load_profile(name).producible}
    assert foreign == {
        "coral-edge-tpu": "Edge TPU compiled .tflite",
        "jetson-nano": "TensorRT engine, built on the device",
        "jetson-orin-nano": "TensorRT engine, built on the device",
        "nvidia-t4": "TensorRT engine, built on the device",
        "rk3588-npu": "RKNN .rknn",
    }
    assert load_profile("raspberry-pi-5").file_format == ".onnx"


def test_peaks_are_arithmetic() -> None:
    """Cores x pipes x lanes x 2 operations x clock, worked by hand; tensor cores: 32 x 256 multiply-adds x 2 x 1.02 GHz."""
    pi_4, pi_5, n100 = (load_profile(name).peak_gops for name in ("raspberry-pi-4", "raspberry-pi-5", "intel-n100"))
    assert (pi_4.fp32, pi_4.int8) == pytest.approx((4 * 1 * 4 * 2 * 1.8, 4 * 1 * 8 * 2 * 1.8))
    assert (pi_5.fp32, pi_5.int8) == pytest.approx((4 * 2 * 4 * 2 * 2.4, 4 * 2 * 16 * 2 * 2.4))
    assert (n100.fp32, n100.int8) == pytest.approx((4 * 2 * 4 * 2 * 3.4, 4 * 2 * 16 * 2 * 3.4))
    orin = load_profile("jetson-orin-nano").peak_gops
    assert (orin.fp16, orin.int8) == pytest.approx((32 * 256 * 2 * 1.02, 2 * 32 * 256 * 2 * 1.02), rel=1e-4)


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_two_threads_have_twice_the_peak_of_one(runtime: str) -> None:
    """The 2-thread host profiles describe the same cores."""
    one, two = (load_profile(f"x86-{runtime}-{threads}t") for threads in (1, 2))
    assert (two.threads, two.peak_gops.fp32, two.peak_gops.int8) == (
        2,
        pytest.approx(2 * (one.peak_gops.fp32 or 0)),
        pytest.approx(2 * (one.peak_gops.int8 or 0)),
    )


@pytest.mark.parametrize("runtime", [*RUNTIMES, *FOREIGN_RUNTIMES])
def test_every_runtime_may_be_described(runtime: str) -> None:
    """Those we make files for, and those we only estimate, each with the name of its files."""
    assert profile(runtime=runtime).file_format


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"runtime": "tvm"}, "unknown runtime 'tvm'; allowed: onnxruntime, openvino, ncnn, tflite, tensorrt, rknn, edgetpu"),
        ({"peak_gops": {"fp32": 200, "int8": 100}}, "peak_gops.int8: 100 is below fp32's 200; give dense peaks"),
        (
            {"dtypes": ["fp32", "fp16", "int8"], "peak_gops": {"fp32": 100, "fp16": 500, "int8": 400}},
            "peak_gops.int8: 400 is below fp16's 500",
        ),
        ({"float_dtype": "fp16"}, "float_dtype: fp16 is not among dtypes fp32, int8"),
        ({"float_dtype": None}, "float_dtype: null, but dtypes are fp32, int8; name the float type"),
        ({"dtypes": ["fp32", "fp32", "int8"]}, "dtypes: fp32, fp32, int8 names a type twice"),
        ({"winograd": ["fp16"]}, "winograd: fp16 is not among dtypes"),
        ({"calibration": {"fp16": CALIBRATION}}, "calibration.fp16: fp16 is not among dtypes"),
        ({"class_utilisation": {"fp16": {"conv1x1": 0.5}}}, "class_utilisation.fp16: fp16 is not among dtypes"),
        ({"peak_gops": {"fp32": 100}}, "peak_gops.int8: null, but int8 is among dtypes; give the number or remove the type"),
        ({"utilisation": {"fp32": 0.5}}, "utilisation.int8: null, but int8 is among dtypes"),
        ({"interval_factor": {"fp32": 2}}, "interval_factor.int8: null, but int8 is among dtypes"),
        ({"interval_factor": {"fp32": 0.9, "int8": 3}}, "interval_factor.fp32: 0.9 is below 1; an interval holds its own estimate"),
        ({"utilisation": {"fp32": 60, "int8": 0.5}}, "utilisation.fp32: 60 times the peak; allowed up to 5.0625: give a share"),
        ({"class_utilisation": {"int8": {"depthwise": 9}}}, "class_utilisation.int8.depthwise: 9 times the peak"),
        (
            {"memory": {"bandwidth_theoretical_gbs": 10, "bandwidth_effective_gbs": 20}},
            "memory.bandwidth_effective_gbs: 20 is above the theoretical 10",
        ),
        ({"memory": {"on_chip_bytes": 1000}}, "memory.on_chip_bytes: no bandwidth says what lies beyond it costs"),
        ({"link": {"bandwidth_gbs": 1}}, "link: a device of class arm_cpu shares its memory with the application; make link null"),
        (INT8_ALONE, "host_cpu: null, but the device takes int8 alone"),
        ({"host_cpu": "board"}, "host_cpu: circular: board names itself"),
        (
            {"kind": "host", "runtime": "ncnn"},
            "runtime: ncnn cannot be measured here; a host profile needs onnxruntime or openvino",
        ),
        ({"kind": "host", "device_class": "edge_gpu"}, "device_class: edge_gpu, but host profiles are measured on the processor"),
    ],
)
def test_contradictions_are_refused(changes: dict[str, Any], message: str) -> None:
    """Each field is fine alone; together they cannot be true, and the message says which field, what was found and what to do."""
    with pytest.raises(ValidationError) as refusal:
        profile(**changes)
    assert message in str(refusal.value)


def test_all_contradictions_are_told_at_once() -> None:
    """One round of corrections is enough."""
    with pytest.raises(ValidationError) as refusal:
        profile(peak_gops={"fp32": 200, "int8": 100}, interval_factor={"fp32": 0.5, "int8": 3}, host_cpu="board")
    assert all(field in str(refusal.value) for field in ("peak_gops.int8: ", "interval_factor.fp32: ", "host_cpu: circular"))


def test_a_number_without_source_is_refused() -> None:
    """The rule that keeps guesses out of profiles."""
    sources = tree()["sources"]
    del sources["utilisation.int8"]
    with pytest.raises(ValidationError, match=r"sources: no source for utilisation\.int8; add one, or make the number null"):
        profile(sources=sources)


def test_a_source_without_number_is_refused() -> None:
    """A number set to null takes its source with it; a misspelt field is found this way too."""
    with pytest.raises(ValidationError, match=r"sources\.op_overhead_us\.fp32: no number of this profile"):
        profile(op_overhead_us={}, sources=tree()["sources"])


def test_a_calibration_is_its_own_source() -> None:
    """Its numbers say in `origin` where they come from, so `sources` need not repeat it."""
    fitted = profile(calibration={"fp32": CALIBRATION}, sources=tree()["sources"])
    assert fitted.calibration.fp32 is not None
    assert fitted.calibration.fp32.holds


@pytest.mark.parametrize(
    ("networks", "mape", "holds"), [(5, 0.3, True), (4, 0.01, False), (100, 0.31, False), (5, 0.301, False), (16, 0.12, True)]
)
def test_a_calibration_holds_from_five_networks_and_up_to_thirty_percent(networks: int, mape: float, holds: bool) -> None:
    """Under 5 networks or over 30 % error an estimate stays `estimated`."""
    own = Calibration(networks=networks, leave_one_out_mape=mape, validated_on="architectures only", origin="own times")
    assert own.holds is holds


def test_a_calibration_under_its_older_name_is_read() -> None:
    """Profiles that users fitted with the first version say `anchors`."""
    older = {"anchors" if name == "networks" else name: value for name, value in CALIBRATION.items()}
    assert Calibration.model_validate(older) == Calibration.model_validate(CALIBRATION)


def test_profiles_are_frozen() -> None:
    """A profile read once is the same for everybody."""
    with pytest.raises(ValidationError, match="frozen"):
        profile().threads = 2  # type: ignore[misc]
