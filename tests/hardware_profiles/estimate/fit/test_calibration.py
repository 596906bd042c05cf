"""Fits: numbers that are known come back, errors are those of networks left out, and too little is called too little."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from hardware_profiles.estimate.fit.calibration import HeldOut, calibrate, held_out
from hardware_profiles.estimate.fit.least_squares import FORMS, Coefficients, networks_of
from hardware_profiles.estimate.fit.measurements import MeasuredNetwork, MeasurementError
from hardware_profiles.estimate.model import estimate
from hardware_profiles.schema.profile import HardwareProfile
from tests.hardware_profiles.measured_factory import device, measured, network, operator

TRUTH = device(utilisation={"fp32": 0.31, "int8": 0.17}, op_overhead_us={"fp32": 40, "int8": 25})
BLANK = device()
PLACES = {
    "channel_alignment": {"fp32": 16, "int8": 32},
    "memory": {"bandwidth_effective_gbs": 5},
    "place_ns": {"fp32": 11, "int8": 13},
    "partial_place_ns": {"int8": 17},
    "picture_place_ns": {"fp32": 19, "int8": 23},
    "resize_ns": {"fp32": 29, "int8": 31},
}
"""Every cost by place, and partial blocks in int8: the networks have 16 channels."""


def test_known_numbers_come_back() -> None:
    """Twelve networks timed by a device of 0.31 of its peak and 40 us an operator: the fit finds both, and no error is left."""
    found = calibrate(BLANK, measured(TRUTH, 12))
    assert found.utilisation.fp32 == pytest.approx(0.31, rel=0.01)
    assert found.op_overhead_us.fp32 == pytest.approx(40, rel=0.01)
    assert found.base_us.fp32 is None
    assert found.calibration.fp32 is not None
    assert found.calibration.fp32.networks == 12
    assert found.calibration.fp32.leave_one_out_mape < 0.01
    assert found.interval_factor.fp32 == pytest.approx(1.0, abs=0.02)


def test_the_processor_is_written_down() -> None:
    """Of networks that say which it was; the others leave it open."""
    timed = tuple(dataclasses.replace(network, cpu="cpu family 1") for network in measured(TRUTH, 12))
    found = (calibrate(BLANK, timed), calibrate(BLANK, measured(TRUTH, 12)))
    assert [own.calibration.fp32 and own.calibration.fp32.cpu for own in found] == ["cpu family 1", None]


def test_a_base_comes_back() -> None:
    """3 ms before the first operator are told from overheads when networks differ in length."""
    truth = device(utilisation={"fp32": 0.31, "int8": 0.17}, base_us={"fp32": 3_000})
    found = calibrate(BLANK, measured(truth, 12))
    assert found.base_us.fp32 == pytest.approx(3_000, rel=0.02)
    assert (found.op_overhead_us.fp32 or 0) < 5


def test_a_fit_does_not_start_from_an_earlier_one() -> None:
    """Fitting a fitted profile again gives the same numbers: only what was measured or derived is taken over."""
    truth = device(utilisation={"fp32": 0.31, "int8": 0.17}, op_overhead_us={"fp32": 40}, base_us={"fp32": 3_000})
    once = calibrate(BLANK, measured(truth, 12))
    again = calibrate(once, measured(truth, 12))
    assert (again.utilisation, again.op_overhead_us, again.base_us) == (once.utilisation, once.op_overhead_us, once.base_us)
    assert calibrate(once, measured(TRUTH, 12)).base_us.fp32 is None


def test_zero_points_come_back() -> None:
    """Every third int8 network has zero points that cost 90 us an operator; where a profile knows of no cost, none is sought."""
    truth = device(utilisation={"fp32": 0.5, "int8": 0.17}, op_overhead_us={"int8": 25}, zero_point_us=90)
    found = calibrate(device(zero_point_us=1), measured(truth, 15, "int8"))
    assert calibrate(BLANK, measured(truth, 15, "int8")).zero_point_us is None
    assert found.zero_point_us == pytest.approx(90, rel=0.03)
    assert found.op_overhead_us.int8 == pytest.approx(25, rel=0.05)


def test_what_a_place_costs_comes_back() -> None:
    """Patches that cost 20 ns a place are told from overheads where maps differ in size; eight networks or more say so."""
    truth = device(utilisation={"fp32": 0.31, "int8": 0.17}, op_overhead_us={"fp32": 40}, place_ns={"fp32": 20})
    found = calibrate(BLANK, measured(truth, 12, spread_places=True))
    assert found.place_ns.fp32 == pytest.approx(20, rel=0.02)
    assert found.op_overhead_us.fp32 == pytest.approx(40, rel=0.05)
    assert found.sources["place_ns.fp32"].startswith("fitted by least squares")
    assert "and per place" in found.sources["place_ns.fp32"]
    assert calibrate(BLANK, measured(truth, 7, spread_places=True)).place_ns.fp32 is None
    assert calibrate(found, measured(TRUTH, 12)).place_ns.fp32 is None


def test_classes_come_back_from_sixteen_networks_on() -> None:
    """Depthwise at a tenth of the rate of the others: 24 networks give every class a number of its own, 15 none.

    The slow class is found within 10 %; fast ones, which matter less, are held back towards the common number.
    """
    classes = {"fp32": {"conv3x3s1": 0.6, "conv1x1": 0.4, "conv_other": 0.3, "depthwise": 0.04}}
    truth = device(op_overhead_us={"fp32": 40}, class_utilisation=classes)
    many, few = (calibrate(BLANK, measured(truth, count)) for count in (24, 15))
    assert many.class_utilisation.fp32 is not None
    assert many.class_utilisation.fp32.depthwise == pytest.approx(0.04, rel=0.1)
    assert many.class_utilisation.fp32.conv3x3s1 == pytest.approx(0.6, rel=0.25)
    assert many.class_utilisation.fp32.conv_other == pytest.approx(0.3, rel=0.25)
    assert few.class_utilisation.fp32 is None


def test_classes_that_the_profile_knows_are_kept() -> None:
    """What a micro-benchmark measured is not fitted again."""
    known = {"class_utilisation": {"fp32": {"depthwise": 0.05}}}
    truth = device(utilisation={"fp32": 0.31, "int8": 0.2}, op_overhead_us={"fp32": 40}, **known)
    found = calibrate(device(**known), measured(truth, 24))
    assert found.class_utilisation.fp32 is not None
    assert found.class_utilisation.fp32.depthwise == 0.05
    assert found.utilisation.fp32 == pytest.approx(0.31, rel=0.01)


def test_int8_networks_take_float_operators_from_the_float_fit() -> None:
    """Mixed networks: the float part keeps the numbers fitted on float networks, the int8 numbers explain the rest."""
    mixed = [
        dataclasses.replace(
            own, operators=own.operators + network(3), latency_s=estimate(own.operators + network(3), TRUTH).point_s
        )
        for own in measured(TRUTH, 12, "int8")
    ]
    found = calibrate(BLANK, [*measured(TRUTH, 12), *mixed])
    assert found.utilisation.int8 == pytest.approx(0.17, rel=0.03)
    assert found.utilisation.fp32 == pytest.approx(0.31, rel=0.01)


@pytest.mark.parametrize(
    "profile",
    [
        BLANK,
        TRUTH,
        device(memory={"bandwidth_effective_gbs": 1}, softmax_ns={"fp32": 3}, zero_point_us=7),
        device(**PLACES),
        device(class_utilisation={name: {"conv3x3s1": 0.4, "picture": 0.2} for name in ("fp32", "int8")}, **PLACES),
    ],
)
def test_fits_and_estimates_are_one_model(profile: HardwareProfile) -> None:
    """The arrays of the fit say what `estimate` says, operator by operator."""
    for dtype in ("fp32", "int8"):
        own = measured(profile, 6, dtype, spread_places=True)
        seconds = networks_of(profile, own, dtype).seconds(Coefficients.of(profile, dtype))
        assert list(seconds) == pytest.approx([estimate(network.operators, profile).point_s for network in own])


def test_errors_are_of_networks_left_out() -> None:
    """Two networks of equal work, one twice as slow: each is predicted with the other's rate, 2 and 1/2 times its own time.

    The errors are 100 % and 50 %, their mean 75 %; both logarithms are ln 2, so k is exp(1.64 ln 2).
    """
    work = operator("conv1x1", 1_000_000)
    graphs = {"fast": (work, 1e-3), "slow": (dataclasses.replace(work, op_type="Gemm"), 2e-3)}
    pair = [MeasuredNetwork(name, (own,), "fp32", seconds) for name, (own, seconds) in graphs.items()]
    seen = held_out(BLANK, pair, FORMS[0])
    assert seen.predicted_s == pytest.approx((2e-3, 1e-3), rel=1e-4)
    assert seen.mape == pytest.approx(0.75, rel=1e-3)
    assert seen.interval_factor == pytest.approx(math.exp(1.64 * math.log(2)), rel=1e-3)


def test_families_are_left_out_whole() -> None:
    """Three networks of one family are predicted from the fourth alone, whatever their own rate."""
    work = (operator("conv1x1", 1_000_000),)
    times = {"a": (1e-3, 1e-3, 1e-3), "b": (3e-3,)}
    named = [
        MeasuredNetwork(f"{family}{i}", work, "fp32", s, family=family) for family, own in times.items() for i, s in enumerate(own)
    ]
    assert held_out(BLANK, named, FORMS[0]).predicted_s == pytest.approx((3e-3, 3e-3, 3e-3, 1e-3), rel=1e-4)


def test_twins_are_left_out_together() -> None:
    """Two networks of one graph, trained differently: neither helps to predict the other."""
    work, other = operator("conv1x1", 1_000_000), operator("conv1x1", 2_000_000)
    named = [
        MeasuredNetwork(name, (own,), "fp32", s) for name, own, s in (("a", work, 1e-3), ("twin", work, 1e-3), ("b", other, 8e-3))
    ]
    assert held_out(BLANK, named, FORMS[0]).predicted_s == pytest.approx((4e-3, 4e-3, 2e-3), rel=1e-4)


def test_a_worse_form_is_not_taken_for_its_numbers() -> None:
    """Times with 5 % of noise around one rate: the fit stays with one utilisation and does not invent overheads."""
    found = calibrate(BLANK, measured(device(utilisation={"fp32": 0.31, "int8": 0.2}), 12, scale=(1.05, 0.95, 1.0)))
    assert "(one utilisation)" in found.sources["utilisation.fp32"]
    assert found.op_overhead_us.fp32 is None


def test_what_is_fitted_has_a_source() -> None:
    """Number of networks, form and origin stand beside each number; what was fitted away has neither number nor source."""
    before = device(op_overhead_us={"fp32": 5, "int8": 6}, base_us={"fp32": 9})
    truth = device(utilisation={"fp32": 0.3, "int8": 0.2}, op_overhead_us={"fp32": 40})
    found = calibrate(before, measured(truth, 12, origin="times.csv", runtime_version="1.2"), "our cells")
    assert found.sources["utilisation.fp32"].startswith("fitted by least squares on log times of 12 networks")
    assert found.sources["utilisation.fp32"].endswith("times.csv (1.2)")
    assert found.calibration.fp32 is not None
    assert (found.calibration.fp32.validated_on, found.calibration.fp32.origin) == ("our cells", "times.csv (1.2)")
    assert found.sources["op_overhead_us.int8"] == before.sources["op_overhead_us.int8"]


@pytest.mark.parametrize(
    ("count", "scale", "origin"), [(4, (1.0,), "estimated"), (8, (1.0,), "calibrated"), (8, (0.4, 1, 3), "estimated")]
)
def test_too_few_or_too_bad_stays_an_estimate(count: int, scale: tuple[float, ...], origin: str) -> None:
    """Four networks, or eight that spread by a factor of 7.5, leave rows `estimated` and the interval no narrower than it was."""
    found = calibrate(BLANK, measured(TRUTH, count, scale=scale))
    assert estimate(network(1), found).origin == origin
    before, after = BLANK.interval_factor.fp32, found.interval_factor.fp32
    assert before is not None
    assert after is not None
    assert (after < before) == (origin == "calibrated")


def test_networks_that_do_not_suit_the_profile_are_refused() -> None:
    """Other threads, a type that the device has not, operators that it cannot run, too few, none, or one family alone."""
    own = measured(TRUTH, 3)
    int8_alone = device(dtypes=["int8"], float_dtype=None, runtime="edgetpu", device_class="edge_npu", host_cpu="x")
    refused = {
        "measured with 2 threads, board is for 4": (BLANK, [dataclasses.replace(own[0], threads=2)]),
        "measured in fp16; board computes in fp32, int8": (BLANK, [dataclasses.replace(own[0], dtype="fp16")]),
        "measured in fp32; board computes in": (int8_alone, own),
        "a board cannot run Conv; such networks cannot calibrate it": (device(unsupported_ops=["Conv"]), own),
        "1 measured fp32 network; at least 2": (BLANK, own[:1]),
        "no measured networks; at least 5": (BLANK, []),
        "3 measured networks of one family": (BLANK, [dataclasses.replace(network, family="only") for network in own]),
    }
    for message, (profile, wrong) in refused.items():
        with pytest.raises(MeasurementError, match=message):
            calibrate(profile, wrong)


def test_held_out_by_hand() -> None:
    """Predicted 1.1 and 0.8 of what was measured: 15 % on average."""
    assert HeldOut(np.array([1.0, 1.0]), np.array([1.1, 0.8])).mape == pytest.approx(0.15)
