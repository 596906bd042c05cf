"""Chains of one operator: what their slopes say, with a clock that is made up, and that both runtimes run them as meant."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import onnx
import pytest

from hardware_profiles.chains import Chain, write_chain
from hardware_profiles.estimate import estimate
from hardware_profiles.graph import read_operators
from hardware_profiles.library import load_profile
from hardware_profiles.overhead import ChainNumbers, measure_chains, session_timer, with_chains
from hardware_profiles.profile import HardwareProfile
from hardware_profiles.runtimes import open_session
from tests.hardware_profiles.profile_factory import tree

FOUND = ChainNumbers("fp32", 2.5, 0.25, 0.125, 0.5, 4.0, None, rounds=3, spread=1.1)
INT8 = ChainNumbers("int8", 5.0, 0.1, 0.05, 0.2, None, 6.0, rounds=3, spread=1.1)


def device() -> HardwareProfile:
    """100 G operations a second, blocks of 16, nothing but products costs time until chains say more."""
    blocks = {"fp32": 16, "int8": 16}
    return HardwareProfile.model_validate(tree(channel_alignment=blocks, memory={}, op_overhead_us={}, threads=1))


def test_slopes_give_back_what_the_clock_was_made_from(tmp_path: Path) -> None:
    """A clock that follows a known profile: the chains find its overhead, its classes and its softmax again."""
    truth = with_chains(device(), [FOUND])

    def clock(path: Path) -> float:
        return estimate(read_operators(path), truth).point_s + 1e-3  # whatever else a call costs cancels

    found = measure_chains(device(), "fp32", tmp_path, rounds=1, timer=clock)
    # The chain's own 16 products per place add to the overhead that it is meant to show.
    assert found.op_overhead_us == pytest.approx(2.5, rel=0.1)
    assert (found.depthwise, found.depthwise_partial) == pytest.approx((0.25, 0.125), rel=0.01)
    assert found.picture == pytest.approx(0.5, rel=0.05)
    assert found.softmax_ns == pytest.approx(4.0, rel=0.05)


@pytest.mark.parametrize("zero_point_us", [6.0, None])
def test_zero_points_cost_something_or_nothing(zero_point_us: float | None, tmp_path: Path) -> None:
    """Int8 convolutions that take 6 us more with a zero point say so; where it makes no difference the profile keeps null."""
    truth = with_chains(device(), [dataclasses.replace(INT8, zero_point_us=zero_point_us)])
    found = measure_chains(device(), "int8", tmp_path, rounds=1, timer=lambda path: estimate(read_operators(path), truth).point_s)
    assert found.zero_point_us == (None if zero_point_us is None else pytest.approx(6.0))
    assert found.depthwise == pytest.approx(0.1, rel=0.01)
    assert with_chains(truth, [found]).zero_point_us == zero_point_us


def test_numbers_go_into_the_profile_with_their_source() -> None:
    """Five numbers of one type, each with where it comes from; int8 stays as it was."""
    own = load_profile("x86-onnxruntime-1t")
    changed = with_chains(own, [FOUND])
    assert (changed.op_overhead_us.fp32, changed.softmax_ns.fp32) == (2.5, 4.0)
    assert changed.class_utilisation.fp32 is not None
    assert (changed.class_utilisation.fp32.depthwise, changed.class_utilisation.fp32.picture) == (0.25, 0.5)
    assert changed.sources["class_utilisation.fp32.depthwise_partial"].startswith(
        "measured: processor time over length of chains of 8 to 64"
    )
    assert changed.op_overhead_us.int8 == own.op_overhead_us.int8


@pytest.mark.parametrize("quantized", [False, True], ids=["float", "int8"])
@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_chains_run_as_they_are_meant(runtime: str, quantized: bool, tmp_path: Path) -> None:
    """Both runtimes open the file, and its graph has one more operator for every link, in the type that is asked for."""
    chain = Chain("depthwise", 24, (32, 32), 4, quantized)
    short, long = (write_chain(chain, length, tmp_path) for length in (2, 5))
    operators = [read_operators(path, runtime) for path in (short, long)]
    assert len(operators[1]) - len(operators[0]) == 3
    depthwise = [operator for operator in operators[1] if operator.kind == "depthwise"]
    assert [operator.quantized for operator in depthwise] == [quantized] * 5
    boxes, scores = open_session(runtime, long, 1)(np.full((1, 3, 32, 32), 0.5, np.float32))
    assert (boxes.shape, scores.shape) == ((1, 4 * 4 * 24 // 4, 4), (1, 16, 24))


def test_onnxruntime_computes_int8_chains_in_int8(tmp_path: Path) -> None:
    """Its optimised graph has integer convolutions only: no link fell back to float."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.log_severity_level = 3
    path = write_chain(Chain("pointwise", 16, (32, 32), 8, quantized=True), 3, tmp_path)
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    executed = [node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node]
    assert executed.count("QLinearConv") == 2 + 3
    assert "Conv" not in executed


def test_the_clock_is_one_session(tmp_path: Path) -> None:
    """The timer runs a file in the profile's runtime and gives seconds."""
    path = write_chain(Chain("softmax", 16, (32, 32), 4, quantized=False), 1, tmp_path)
    assert 0 < session_timer(load_profile("x86-onnxruntime-1t"), calls=3)(path) < 1
