"""What `inspect` says of files that it times."""

from __future__ import annotations

import numpy as np
import pytest

from detection.checkpoint import Detector
from detection.data.dataset import Images
from flows.inspect.int8_timing import Int8Timing, int8_timings


@pytest.mark.parametrize(("float_s", "int8_s", "said"), [
    (0.002, 0.001, "takes 1 ms in int8, 2 in float: int8 is 2.00x as fast"),
    (0.002, 0.00198, "int8 does not pay (1.01x); `quantization: [{precision: float16}]` makes the file smaller"),
    (0.002, 0.0025, "int8 does not pay (0.80x)"),
])  # fmt: skip
def test_what_pays_is_said_in_numbers(float_s: float, int8_s: float, said: str) -> None:
    """Faster by less than a short look can tell does not pay."""
    assert said in Int8Timing("openvino", float_s, int8_s).sentence()


def test_both_files_are_timed_in_each_runtime(tiny_detector: Detector, tiny_train: Images) -> None:
    """Seconds of a call; nothing on too few pictures."""
    shown = [np.array(tiny_train.pixels[row]) for row in range(8)]
    found = list(int8_timings(tiny_detector, shown, ("onnxruntime", "openvino"), 1))
    assert [own.runtime for own in found] == ["onnxruntime", "openvino"]
    assert all(0 < seconds < 1 for own in found for seconds in (own.float_s, own.int8_s))
    assert list(int8_timings(tiny_detector, shown[:7], ("onnxruntime",), 1)) == []
