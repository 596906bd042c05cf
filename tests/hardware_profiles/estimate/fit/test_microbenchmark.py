"""Chains of one operator: what their slopes say, with a clock that is made up, and that both runtimes run them as meant."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import onnx
import pytest

from hardware_profiles.estimate.fit import microbenchmark
from hardware_profiles.estimate.fit.microbenchmark import ChainNumbers, measure_chains, session_timer, with_chains
from hardware_profiles.estimate.fit.operator_chains import Chain, write_chain
from hardware_profiles.estimate.graph.read import read_operators
from hardware_profiles.estimate.model import estimate
from hardware_profiles.runtimes.table import OUTPUTS, open_session
from hardware_profiles.schema.library import load_profile
from hardware_profiles.schema.profile import Calibrations, DType, HardwareProfile, Memory
from tests.hardware_profiles.profile_factory import tree

FOUND = ChainNumbers("fp32", 2.5, 0.25, 0.125, 0.5, 20.0, 90.0, 4.0, 3.0, None, rounds=3, spread=1.1)
INT8 = ChainNumbers("int8", 5.0, 0.1, 0.05, 0.2, 20.0, 90.0, None, 3.0, 6.0, rounds=3, spread=1.1)
NOTHING = {"picture_place_ns": None, "partial_place_ns": None, "resize_ns": None}
RUNTIME = "onnxruntime"


def device() -> HardwareProfile:
    """100 G operations a second, blocks of 16, nothing but products costs time until chains say more."""
    blocks = {"fp32": 16, "int8": 16}
    return HardwareProfile.model_validate(tree(channel_alignment=blocks, memory={}, op_overhead_us={}, threads=1))


def test_slopes_give_back_what_the_clock_was_made_from(tmp_path: Path) -> None:
    """A clock that follows a known profile: the chains find its overhead, its classes and all its other costs again."""
    truth = with_chains(device(), [FOUND])

    def clock(path: Path) -> float:
        return estimate(read_operators(path), truth).point_s + 1e-3  # whatever else a call costs cancels

    found = measure_chains(device(), "fp32", tmp_path, rounds=1, timer=clock)
    # The chain's own 16 products per place add to the overhead that it is meant to show.
    assert found.op_overhead_us == pytest.approx(2.5, rel=0.1)
    assert (found.depthwise, found.depthwise_partial) == pytest.approx((0.25, 0.125), rel=0.01)
    assert (found.picture, found.picture_place_ns) == pytest.approx((0.5, 20.0), rel=0.05)
    assert found.partial_place_ns == pytest.approx(90.0)
    assert (found.softmax_ns, found.resize_ns) == pytest.approx((4.0, 3.0), rel=0.05)


@pytest.mark.parametrize("dtype", ["fp32", "int8"])
def test_what_costs_nothing_has_no_number(dtype: DType, tmp_path: Path) -> None:
    """Where places cost the same, filled or not, and a Resize what moving its data does, the profile keeps null."""
    truth = with_chains(device(), [dataclasses.replace(own, **NOTHING) for own in (FOUND, INT8)])
    truth = truth.model_copy(update={"memory": Memory(bandwidth_effective_gbs=200)})  # so that moving takes time as well
    found = measure_chains(truth, dtype, tmp_path, rounds=1, timer=lambda path: estimate(read_operators(path), truth).point_s)
    assert {name: getattr(found, name) for name in NOTHING} == NOTHING
    assert found.picture == (pytest.approx(0.5, rel=0.05) if dtype == "fp32" else None)
    changed = with_chains(with_chains(device(), [FOUND, INT8]), [found])
    assert [getattr(changed, name).of(dtype) for name in NOTHING] == [None] * 3
    assert f"resize_ns.{dtype}" not in changed.sources


@pytest.mark.parametrize("zero_point_us", [6.0, None])
def test_zero_points_cost_something_or_nothing(zero_point_us: float | None, tmp_path: Path) -> None:
    """Int8 convolutions that take 6 us more with a zero point say so; where it makes no difference the profile keeps null."""
    truth = with_chains(device(), [dataclasses.replace(INT8, zero_point_us=zero_point_us)])
    found = measure_chains(device(), "int8", tmp_path, rounds=1, timer=lambda path: estimate(read_operators(path), truth).point_s)
    assert found.zero_point_us == (None if zero_point_us is None else pytest.approx(6.0))
    assert found.depthwise == pytest.approx(0.1, rel=0.01)
    assert with_chains(truth, [found]).zero_point_us == zero_point_us


def test_numbers_go_into_the_profile_with_their_source() -> None:
    """Eight numbers of one type, each with where it comes from; int8 stays as it was."""
    own = load_profile("x86-onnxruntime-1t")
    changed = with_chains(own, [FOUND])
    assert (changed.op_overhead_us.fp32, changed.softmax_ns.fp32, changed.resize_ns.fp32) == (2.5, 4.0, 3.0)
    assert (changed.picture_place_ns.fp32, changed.partial_place_ns.fp32) == (20.0, 90.0)
    assert changed.class_utilisation.fp32 is not None
    assert (changed.class_utilisation.fp32.depthwise, changed.class_utilisation.fp32.picture) == (0.25, 0.5)
    assert changed.sources["class_utilisation.fp32.depthwise_partial"].startswith(
        "measured: processor time over length of chains of 8 to 64"
    )
    assert changed.op_overhead_us.int8 == own.op_overhead_us.int8


def test_the_command_writes_a_profile_that_claims_no_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The numbers are in it, the calibration of the old ones is not; a file that is there is refused before anything is timed."""
    timed: list[DType] = []

    def chains(_profile: HardwareProfile, dtype: DType, *_: object) -> ChainNumbers:
        timed.append(dtype)
        return {"fp32": FOUND, "int8": INT8}[dtype]

    monkeypatch.setattr(microbenchmark, "measure_chains", chains)
    monkeypatch.setattr(microbenchmark, "choose_cores", lambda _: None)
    arguments = ["x86-onnxruntime-1t", "--write", str(tmp_path / "mine.yaml")]
    assert microbenchmark._main(arguments) == 0
    made = load_profile("mine", tmp_path)
    assert (made.op_overhead_us.fp32, made.op_overhead_us.int8) == (2.5, 5.0)
    assert made.calibration == Calibrations() != load_profile("x86-onnxruntime-1t").calibration
    timed.clear()
    with pytest.raises(SystemExit) as refused:
        microbenchmark._main(arguments)
    assert (refused.value.code, timed) == (2, [])


@pytest.mark.parametrize("quantized", [False, True], ids=["float", "int8"])
@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_chains_run_as_they_are_meant(runtime: str, quantized: bool, tmp_path: Path) -> None:
    """Both runtimes open the file, and its graph has one more operator for every link, in the type that is asked for."""
    chain = Chain("depthwise", 24, (32, 32), (4, 4), quantized)
    short, long = (write_chain(chain, length, tmp_path, runtime) for length in (2, 5))
    operators = [read_operators(path, runtime) for path in (short, long)]
    assert len(operators[1]) - len(operators[0]) == 3
    depthwise = [operator for operator in operators[1] if operator.kind == "depthwise"]
    assert [operator.quantized for operator in depthwise] == [quantized] * 5
    assert next(operator.quantized for operator in operators[1] if operator.macs) == quantized  # the first convolution
    boxes, scores = open_session(runtime, long, 1)(np.full((1, 32, 32, 3), 128, np.uint8))
    assert (boxes.shape, scores.shape) == ((1, 4 * 4 * 24 // 4, 4), (1, 16, 24))


@pytest.mark.parametrize("operator", ["pointwise", "resize"])
def test_onnxruntime_computes_int8_chains_in_int8(operator: Literal["pointwise", "resize"], tmp_path: Path) -> None:
    """Its optimised graph has integer convolutions only, the first one over bytes: no link fell back to float."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.log_severity_level = 3
    path = write_chain(Chain(operator, 16, (64, 64), (2, 2), quantized=True), 3, tmp_path, RUNTIME)
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    executed = [node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node]
    assert executed.count("QLinearConv") == 2 + 3
    assert executed.count("QuantizeLinear") == 0
    assert "Conv" not in executed


@pytest.mark.parametrize("operator", ["pointwise", "resize"])
def test_openvino_computes_int8_chains_in_int8(operator: Literal["pointwise", "resize"], tmp_path: Path) -> None:
    """Every convolution and Resize of the compiled graph reads bytes, the first one those of the picture, and nothing converts."""
    path = write_chain(Chain(operator, 16, (64, 64), (2, 2), quantized=True), 3, tmp_path, "openvino")
    session = cast(Any, open_session("openvino", path, 1))
    executed = {"Convolution": 0, "Interpolate": 0, "Subgraph": 0}
    for node in session.compiled.get_runtime_model().get_ops():
        kind = node.get_rt_info()["layerType"]
        executed[kind] = executed.get(kind, 0) + 1
        if kind in ("Convolution", "Interpolate"):
            assert node.input(0).get_element_type().get_type_name() == "u8", node
    assert executed["Convolution"] == 2 + 3
    assert executed["Interpolate"] == (3 if operator == "resize" else 0)
    assert executed["Subgraph"] == len(OUTPUTS)  # the results, as numbers


def test_the_clock_is_one_session(tmp_path: Path) -> None:
    """The timer runs a file in the profile's runtime and gives seconds."""
    path = write_chain(Chain("softmax", 16, (32, 32), (4, 4), quantized=False), 1, tmp_path, RUNTIME)
    assert 0 < session_timer(load_profile("x86-onnxruntime-1t"), calls=3)(path) < 1
