"""How a user's file is fed: worked by hand, one pixel at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from detection.file_interface.interface import FileInterface

PIXELS = np.array([[[255, 0, 51], [0, 102, 255]]], np.uint8)  # one row of two pixels
IMAGENET: dict[str, Any] = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


def interface(layout: str = "nchw", dtype: str = "float32", **picture: Any) -> FileInterface:
    """A file of this input, whose outputs are boxes and scores."""
    decoding = {"boxes": {"outputs": ["boxes"], "form": "xyxy"}, "scores": {"outputs": ["scores"]}}
    return FileInterface.model_validate(
        {"layout": layout, "dtype": dtype, "picture": picture, "outputs": ("boxes", "scores"), "decoding": decoding, "classes": 2}
    )


@pytest.mark.parametrize(
    ("picture", "channels"),
    [
        ({}, [[1.0, 0.0], [0.0, 0.4], [0.2, 1.0]]),
        ({"colour": "bgr"}, [[0.2, 1.0], [0.0, 0.4], [1.0, 0.0]]),
        ({"scale": 1.0}, [[255, 0], [0, 102], [51, 255]]),
        ({"scale": 127.5, "mean": (1.0, 1.0, 1.0)}, [[1.0, -1.0], [-1.0, -0.2], [-0.6, 1.0]]),
        ({"scale": 1.0, "mean": (255.0, 0.0, 51.0), "std": (1.0, 2.0, 4.0)}, [[0, -255], [0, 51], [0, 51]]),
        # 255 x 0.299 + 51 x 0.114 = 82.06 and 102 x 0.587 + 255 x 0.114 = 88.94
        ({"colour": "grey", "scale": 1.0, "mean": (0.0,), "std": (1.0,)}, [[82, 89]]),
    ],
)
def test_pixels_become_numbers(picture: dict[str, Any], channels: list[list[float]]) -> None:
    """Colours in the file's order, then division, mean and deviation of each channel of that order."""
    tensor = interface(**picture).tensor(PIXELS)
    assert (tensor.dtype, tensor.flags.c_contiguous) == (np.float32, True)
    np.testing.assert_allclose(tensor, np.asarray(channels, np.float32)[None, :, None, :], atol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float16", "uint8"])
@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_the_tensor_has_the_files_layout_and_type(layout: str, dtype: str) -> None:
    """Channels first or last; bytes are handed on unscaled, in the file's order of colours."""
    tensor = interface(layout, dtype, colour="bgr").tensor(PIXELS)
    assert (tensor.shape, tensor.dtype) == ((1, 3, 1, 2) if layout == "nchw" else (1, 1, 2, 3), np.dtype(dtype))
    first = tensor[0, :, 0, 0] if layout == "nchw" else tensor[0, 0, 0]
    np.testing.assert_allclose(first.astype(float), [51, 0, 255] if dtype == "uint8" else [0.2, 0.0, 1.0], rtol=1e-3)


def test_the_limits_of_a_pixel() -> None:
    """What black and white become, over all channels: (0 - 0.485) / 0.229 and (1 - 0.406) / 0.225 and so on."""
    assert interface().limits() == (0.0, 1.0)
    assert interface(**IMAGENET).limits() == pytest.approx((-0.485 / 0.229, (1 - 0.406) / 0.225), rel=1e-6)
