"""Int8 files take pictures as they are stored, and say of them what they would say of their planes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import pytest

from compressors.quantization.calibrators import observe, ranges_of
from compressors.quantization.float_parts import activations_of, float_stem, float_tail
from detection.checkpoint import Detector, fresh
from detection.data.dataset import Images
from detection.evaluation import Pixels, as_input
from detection.export import INPUT_NAME, export_onnx
from hardware_profiles.runtimes.onnxruntime.int8 import prepare, write_int8
from hardware_profiles.runtimes.openvino import int8 as openvino_int8
from hardware_profiles.runtimes.ranges import PICTURE_RANGE, Ranges
from hardware_profiles.runtimes.table import open_session
from hardware_profiles.runtimes.writing import as_planes


@pytest.fixture(scope="module", params=[2, 4], ids=["stem of 2", "stem of patches"])
def ready(request: pytest.FixtureRequest, tiny_detector: Detector, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny detector as ONNX Runtime's quantizer takes it, and one that takes four pixels of a row as one place."""
    folder, before = tmp_path_factory.mktemp("ready"), tiny_detector.spec
    first_width = before.settings.stage_widths[0]
    architecture = before.settings.model_copy(update={"stem_stride": request.param, "stem_width": first_width})
    export_onnx(fresh(before.model_copy(update={"settings": architecture}), 0), folder / "planes.onnx", planes=True)
    return prepare(folder / "planes.onnx")


@pytest.fixture
def planes(ready: Path) -> Callable[[Pixels], np.ndarray]:
    """A picture (height, width, 3) -> what the file takes."""
    return partial(as_planes, onnx.load(ready))


def test_four_pixels_of_a_row_are_one_place(ready: Path, planes: Callable[[Pixels], np.ndarray], tiny_val: Images) -> None:
    """Channels 3 to 5 of the first place are the second pixel's colours where there are twelve."""
    pixels = tiny_val.pixels[0]
    taken = planes(pixels)
    if taken.shape[1] == 3:
        assert taken[0, :, 0, 1].tolist() == pixels[0, 1].tolist()
    else:
        assert taken[0, 3:6, 0, 0].tolist() == pixels[0, 1].tolist()


@pytest.fixture(scope="module")
def ranges(ready: Path, tiny_train: Images) -> Ranges:
    """Of every activation; the picture's is that of bytes."""
    names = activations_of(onnx.load(ready))
    return ranges_of(observe(ready, names, [as_planes(onnx.load(ready), own) for own in tiny_train.pixels[:8]]), "minmax", 99.0) | {
        INPUT_NAME: PICTURE_RANGE
    }


@pytest.mark.parametrize("stem_stays", [False, True], ids=["int8 stem", "float stem"])
def test_onnxruntime_says_of_a_picture_what_it_says_of_its_planes(
    stem_stays: bool, ready: Path, ranges: Ranges, planes: Callable[[Pixels], np.ndarray], tiny_val: Images, tmp_path: Path
) -> None:
    """Bit for bit, whether the first convolution reads bytes as int8 or widened to floats."""
    graph = onnx.load(ready)
    left_float = [*float_tail(graph), *(float_stem(graph) if stem_stays else [])]
    for name, takes_planes in (("planes", True), ("pictures", False)):
        write_int8(ready, ranges, tmp_path / f"{name}.onnx", left_float=left_float, planes=takes_planes)
    of_planes, of_pictures = (open_session("onnxruntime", tmp_path / f"{name}.onnx", 1) for name in ("planes", "pictures"))
    for pixels in tiny_val.pixels:
        for own, expected in zip(of_pictures(as_input(pixels)), of_planes(planes(pixels)), strict=True):
            np.testing.assert_array_equal(own, expected)


def test_openvino_says_of_a_picture_what_it_says_of_its_planes(
    ready: Path, ranges: Ranges, planes: Callable[[Pixels], np.ndarray], tiny_train: Images, tiny_val: Images, tmp_path: Path
) -> None:
    """Bit for bit: rounding by levels of 1 changes no byte."""
    shown = [planes(own) for own in tiny_train.pixels[:8]]
    model = openvino_int8.quantized(openvino_int8.convert(ready), shown, float_tail(onnx.load(ready)))
    openvino_int8.write(openvino_int8.with_ranges(model, ranges), tmp_path / "planes.xml")
    openvino_int8.write(openvino_int8.take_pictures(openvino_int8.with_ranges(model, ranges)), tmp_path / "pictures.xml")
    of_planes, of_pictures = (open_session("openvino", tmp_path / f"{name}.xml", 1) for name in ("planes", "pictures"))
    for pixels in tiny_val.pixels:
        for own, expected in zip(of_pictures(as_input(pixels)), of_planes(planes(pixels)), strict=True):
            np.testing.assert_array_equal(own, expected)
