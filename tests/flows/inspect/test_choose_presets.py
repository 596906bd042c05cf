"""How an unknown file is read: a detector that says the same in the outputs of every preset, in every variant of each."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from detection.boxes import Detections, fitted, select
from detection.data.labelled import Picture
from detection.evaluation import IOU_THRESHOLD, MOST_DETECTIONS, SCORE_THRESHOLD
from detection.file_interface.declaration import Decoding
from detection.file_interface.interface import FileInterface, PictureForm
from detection.file_interface.outputs import decode
from detection.file_interface.presets import PRESETS, Shapes, fitting, named
from detection.frozen import InputError
from flows.inspect.choose import Choice, choose
from flows.inspect.feeding import Feeding, feedings
from tests.flows.inspect.encoding import encoded
from tests.flows.inspect.squares import COLOURS, SIZE, SquareFinder, pictures

CELLS = {8: (12, 16), 16: (6, 8), 32: (3, 4)}
"""Of an input of 96 x 128 pixels, by stride."""
LARGE = (300, 300)
FILES: dict[str, tuple[Shapes, int, tuple[int, int]]] = {
    "yolov8": ({"out": (1, 7, 60)}, 3, SIZE),
    "yolov8, points first": ({"out": (1, 60, 7)}, 3, SIZE),
    "yolov5": ({"out": (1, 60, 8)}, 3, SIZE),
    "yolov5, raw": ({f"p{stride}": (1, 24, *cells) for stride, cells in CELLS.items()}, 3, SIZE),
    "yolov5, raw, anchors apart, coarse first": ({f"p{stride}": (1, 3, *CELLS[stride], 8) for stride in (32, 16, 8)}, 3, SIZE),
    "yolov5, raw and joined": ({"out": (1, 756, 8)}, 3, SIZE),
    "yolov10": ({"out": (1, 20, 6)}, 3, SIZE),
    "boxes_scores": ({"boxes": (1, 60, 4), "scores": (1, 60, 3)}, 3, SIZE),
    "boxes_scores, points last": ({"scores": (1, 3, 60), "boxes": (1, 4, 60)}, 3, SIZE),
    "boxes_scores, four axes": ({"confs": (1, 60, 3), "boxes": (1, 60, 1, 4)}, 3, SIZE),
    "detr with background": ({"logits": (1, 60, 3), "pred_boxes": (1, 60, 4)}, 2, SIZE),
    "end to end, six columns and a count": ({"out": (20, 6), "count": (1,)}, 3, SIZE),
    "end to end, seven columns": ({"out": (1, 1, 20, 7)}, 3, SIZE),
    "end to end, five columns": ({"dets": (1, 20, 5), "labels": (1, 20)}, 3, SIZE),
    "end to end, apart": ({"boxes": (20, 4), "labels": (20,), "scores": (20,)}, 3, SIZE),
    "end to end, apart with a count": ({"b": (1, 20, 4), "c": (1, 20), "s": (1, 20), "n": (1,)}, 3, SIZE),
    "yolox": ({"out": (1, 252, 8)}, 3, SIZE),
    "yolox, by level": ({f"p{stride}": (1, 8, *cells) for stride, cells in CELLS.items()}, 3, SIZE),
    "yolox, apart": (
        {f"{what}{stride}": (1, width, *own) for what, width in (("c", 2), ("b", 4), ("o", 1)) for stride, own in CELLS.items()},
        2,
        SIZE,
    ),
    "nanodet": ({"out": (1, 252, 3 + 4 * 8)}, 3, SIZE),
    "picodet": (
        {f"{what}{rows}": (1, rows, width) for rows in (192, 48, 12) for what, width in (("scores", 3), ("sides", 32))}, 3, SIZE,
    ),
    "picodet, channels first": (
        {f"{what}{stride}": (1, width, *own) for stride, own in CELLS.items() for what, width in (("sides", 32), ("scores", 3))},
        3,
        SIZE,
    ),
    "retinaface": ({"boxes": (1, 504, 4), "scores": (1, 504, 3)}, 2, SIZE),
    "ssd300 of VGG16": ({"scores": (1, 8732, 3), "boxes": (1, 8732, 4)}, 2, LARGE),
    "ssd300 of MobileNet": ({"scores": (1, 3000, 3), "boxes": (1, 3000, 4)}, 2, LARGE),
    "centernet": ({"hm": (1, 3, 24, 32), "wh": (1, 2, 24, 32), "reg": (1, 2, 24, 32)}, 3, SIZE),
    "efficientdet": ({"boxes": (1, 9 * 257, 4), "classes": (1, 9 * 257, 3)}, 3, SIZE),
}  # fmt: skip
"""Shapes of outputs, classes and input size (height, width)."""
MANY = 20
BYTES = feedings("uint8", 3, PictureForm(), "letterbox")


FLOATS = feedings("float32", 3, PictureForm(), "letterbox")
PRESET_FILES = {
    "yolov8": "yolov8",
    "yolov5": "yolov5, raw",
    "yolov10": "yolov10",
    "boxes_scores": "boxes_scores, points last",
    "detr": "detr with background",
    "end_to_end": "end to end, apart",
    "yolox": "yolox, by level",
    "nanodet": "nanodet",
    "picodet": "picodet",
    "ssd": "retinaface",
    "centernet": "centernet",
    "efficientdet": "efficientdet",
}
"""For each preset the file in whose usual form the outputs mean it."""


def chosen(
    call: Any, shapes: Shapes, size: tuple[int, int], classes: int, seen: list[Picture], ways: list[Feeding] = BYTES
) -> Choice:
    """What is chosen for a file of bytes, or of float32 numbers."""
    candidates = fitting(shapes, size, classes)
    dtype = "uint8" if ways is BYTES else "float32"
    file = FileInterface(
        layout="nchw", dtype=dtype, picture=PictureForm(), outputs=tuple(shapes), decoding=candidates[0][1], classes=classes
    )
    return choose(file, call, size, ways, candidates, seen, list(COLOURS)[:classes])


def detections(decoding: Decoding, outputs: dict[str, NDArray[Any]], size: tuple[int, int], classes: int) -> Detections:
    """The final detections of one picture."""
    found = decode(decoding, outputs, size, classes)
    suppressed_above = IOU_THRESHOLD if decoding.select == "nms" else None
    return select(found.boxes_xyxy_px, found.scores, SCORE_THRESHOLD, suppressed_above, MOST_DETECTIONS)


def in_order(found: Detections) -> Detections:
    """From left to right: scores may be equal."""
    order = np.lexsort(found.boxes_xyxy_px.round().T)
    return Detections(*(own[order] for own in found))


@pytest.mark.parametrize("name", FILES)
def test_whatever_the_outputs_mean_the_same_is_detected(name: str) -> None:
    """For every decoding that takes these shapes, or one in five of CenterNet's 48: what is chosen finds the same, scores too."""
    shapes, classes, size = FILES[name]
    colours = dict(list(COLOURS.items())[:classes])
    seen = pictures(6, colours=colours, size=size)
    finder = SquareFinder(PictureForm(), "uint8", colours=colours)
    tensors = [fitted(own.pixels(), size).transpose(2, 0, 1)[None] for own in seen]
    variants = fitting(shapes, size, classes)
    for preset, true in variants if len(variants) < MANY else variants[::5]:
        found = chosen(
            lambda own, true=true: list(encoded(true, shapes, size, classes, finder(own)).values()), shapes, size, classes, seen
        )
        assert found.feeding == BYTES[0]
        for tensor in tensors:
            wanted = finder(tensor)
            got = detections(found.decoding, encoded(true, shapes, size, classes, wanted), size, classes)
            about = f"{preset}: {true}, read as {found.preset}: {found.decoding}"
            assert len(got.labels) == len(wanted.labels), about
            for ours, theirs, most in zip(in_order(got), in_order(wanted), (0.05, 1e-3, 0), strict=True):
                np.testing.assert_allclose(ours, theirs, atol=most, err_msg=about)


def test_every_preset_is_among_the_files() -> None:
    """Or the test above would leave one out."""
    assert {preset for shapes, classes, size in FILES.values() for preset, _ in fitting(shapes, size, classes)} == set(PRESETS)
    assert list(PRESET_FILES) == list(PRESETS)
    for number in range(len(PRESETS)):
        met = FLOATS[number :: len(PRESETS)]
        assert ({own.colour for own in met}, {own.resize for own in met}) == ({"rgb", "bgr"}, {"letterbox", "stretch"})


@pytest.mark.parametrize("number", range(len(FLOATS)), ids=[str(own) for own in FLOATS])
def test_every_way_of_feeding_is_found_with_every_preset(number: int) -> None:
    """28 ways go round 12 presets, so that each preset meets both orders of colours and both ways to resize."""
    preset, true = list(PRESETS)[number % len(PRESETS)], FLOATS[number]
    shapes, classes, size = FILES[PRESET_FILES[preset]]
    colours = dict(list(COLOURS.items())[:classes])
    finder = SquareFinder(true.form, colours=colours)
    reading = named(preset, shapes, size, classes)[0]
    seen = pictures(6, true.resize, colours=colours, size=size)
    found = chosen(
        lambda own: list(encoded(reading, shapes, size, classes, finder(own)).values()), shapes, size, classes, seen, FLOATS
    )
    assert found.feeding == true
    assert all(own.decided for own in found.axes)
    assert found.accuracy.map_50 == 1.0


@pytest.mark.parametrize("name", FILES)
def test_noise_fits_no_preset(name: str) -> None:
    """Numbers of any size, other ones for every picture."""
    shapes, classes, size = FILES[name]

    def noise(tensor: NDArray[Any]) -> list[NDArray[Any]]:
        generator = np.random.default_rng(int(tensor.sum(dtype=np.int64)))
        return [generator.normal(0, 3, shape).astype(np.float32) for shape in shapes.values()]

    with pytest.raises(InputError, match="ways of reading the outputs finds what is labelled"):
        chosen(noise, shapes, size, classes, pictures(6, size=size, colours=dict(list(COLOURS.items())[:classes])))


def test_objects_of_one_level_do_not_hide_the_others() -> None:
    """Where all objects lie in one level's tensor, the file is still read with all of its levels."""
    shapes, classes, size = FILES["picodet"]
    true = fitting(shapes, size, classes)[-1][1]
    finder = SquareFinder(PictureForm(), "uint8")
    found = chosen(lambda own: list(encoded(true, shapes, size, classes, finder(own)).values()), shapes, size, classes, pictures(6))
    assert found.decoding == true
    assert {len(own.decoding.scores.outputs) for own in found.read} == {3}
