"""Presets against the decoders of the detectors' own authors, and against the shapes that files have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detection.boxes import Array
from detection.file_interface.outputs import Candidates, contradiction, decode
from detection.file_interface.presets import PRESETS, Shapes, fitting, named
from detection.frozen import InputError

FIXTURES = Path(__file__).parent / "fixtures"
SIZE = (64, 96)
RAW_HEADS = ("head_8", "head_16", "head_32")


@pytest.mark.parametrize(
    ("file", "outputs", "preset", "input_size", "classes"),
    [
        ("yolox", None, "yolox", SIZE, 3),
        ("nanodet_plus", None, "nanodet", SIZE, 3),
        ("nanodet_gfl", None, "picodet", SIZE, 3),
        ("yolov7", ("output",), "yolov5", SIZE, 3),
        ("yolov7", RAW_HEADS, "yolov5", SIZE, 3),
        ("ssd", None, "ssd", (300, 300), 3),
        ("retinaface", None, "ssd", SIZE, 1),
        ("detr", None, "detr", SIZE, 3),
        ("centernet", None, "centernet", SIZE, 3),
        ("efficientdet", None, "efficientdet", (128, 128), 3),
    ],
)
def test_a_preset_decodes_as_its_authors_do(
    file: str, outputs: tuple[str, ...] | None, preset: str, input_size: tuple[int, int], classes: int
) -> None:
    """Of all variants that fit the shapes and whose values make sense, one gives the authors' boxes and scores: that preset's."""
    stored = dict(np.load(FIXTURES / f"{file}.npz"))
    boxes, scores, rows = stored.pop("boxes_xyxy_px"), stored.pop("scores"), stored.pop("rows", slice(None))
    tensors = {name: stored[name].astype(np.float32) for name in outputs or stored}
    same = []
    for name, decoding in fitting({name: tensor.shape for name, tensor in tensors.items()}, input_size, classes):
        if contradiction(decoding, tensors, input_size, classes) is None:
            found = decode(decoding, tensors, input_size, classes)
            ours = AS_THEY_COUNT.get(file, lambda own, *_: own)(Candidates(found.boxes_xyxy_px[rows], found.scores[rows]), boxes)
            same += [name] if close(ours.boxes_xyxy_px, boxes) and close(ours.scores, scores) else []
    assert same == [preset]


def close(ours: Array, theirs: Array) -> bool:
    """Equal to 1e-4, or to the last digits where boxes are far larger than the input."""
    return ours.shape == theirs.shape and np.allclose(ours, theirs, rtol=1e-6, atol=1e-4)


def inside(own: Candidates, theirs: Array) -> Candidates:
    """Boxes limited to the input."""
    return own._replace(boxes_xyxy_px=own.boxes_xyxy_px.clip(0, [SIZE[1], SIZE[0]] * 2))


def best_class(own: Candidates, theirs: Array) -> Candidates:
    """Only the best class of each row."""
    best = np.arange(own.scores.shape[1]) == own.scores.argmax(1)[:, None]
    return own._replace(scores=np.where(best, own.scores, 0))


def one_by_one(own: Candidates, theirs: Array) -> Candidates:
    """A row for every score above 0, best first."""
    points, labels = np.nonzero(own.scores)
    order = np.argsort(-own.scores[points, labels])
    points, labels = points[order], labels[order]
    scores = np.where(np.arange(own.scores.shape[1]) == labels[:, None], own.scores[points], 0)
    return Candidates(own.boxes_xyxy_px[points], scores)


AS_THEY_COUNT: dict[str, Any] = {
    "nanodet_plus": inside,
    "nanodet_gfl": inside,
    "detr": best_class,
    "centernet": one_by_one,
}


def test_centerface_is_a_variant_of_centernet() -> None:
    """Its boxes where the border did not change them; it picks no peaks, so only the scores that we keep are the same."""
    stored = np.load(FIXTURES / "centerface.npz")
    tensors = {name: stored[name].astype(np.float32) for name in ("heatmap", "scale", "offset")}
    theirs, scores = stored["boxes_xyxy_px"], stored["scores"]
    whole = (theirs > 0).all(1) & (theirs < [96, 64, 96, 64]).all(1)
    same = []
    for decoding in named("centernet", {name: tensor.shape for name, tensor in tensors.items()}, SIZE, 1):
        found = decode(decoding, tensors, SIZE, 1)
        kept = found.scores > 0
        if close(found.boxes_xyxy_px[whole], theirs[whole]) and close(found.scores[kept], scores[kept]):
            same.append(decoding)
    assert whole.sum() > 100
    assert [(decoding.boxes.form, decoding.boxes.order, decoding.scores.form) for decoding in same] == [
        ("cxcywh_exp", "yx", "as_is")
    ]


PICODET = {
    f"{what}_{cells}": (1, cells, width) for cells in (7600, 1900, 475, 130) for what, width in (("scores", 10), ("sides", 32))
}
RKNN = {f"{what}_{side}": (1, width, side, side) for side in (80, 40, 20) for what, width in (("sides", 64), ("scores", 80))}
YOLOX_APART = {f"{what}_{side}": (1, width, side, side) for what, width in (("c", 3), ("b", 4), ("o", 1)) for side in (8, 4, 2)}
FILES: list[tuple[str, Shapes, tuple[int, int], int, dict[str, Any]]] = [
    ("yolov8", {"output0": (1, 84, 8400)}, (640, 640), 80, {"boxes": {"channels": "first", "form": "cxcywh", "unit": "pixels"}}),
    ("yolov5", {"output0": (1, 25200, 85)}, (640, 640), 80, {"objectness": {"columns": (4, 5)}, "select": "nms"}),
    (
        "yolov5",
        {"a": (1, 255, 10, 20), "b": (1, 255, 20, 40), "c": (1, 255, 40, 80)},
        (320, 640),
        80,
        {"boxes": {"outputs": ("c", "b", "a")}},
    ),
    ("yolov10", {"output0": (1, 300, 6)}, (640, 640), 80, {"labels": {"columns": (5, 6)}, "select": "best"}),
    ("yolov10", {"output0": (7, 6)}, (640, 640), 80, {"boxes": {"form": "xyxy"}}),
    ("yolox", {"output": (1, 3549, 85)}, (416, 416), 80, {"points": {"strides": (8, 16, 32), "offset": 0}}),
    ("yolox", {"output": (1, 85, 22, 22)}, (352, 352), 80, {"points": {"strides": (16,)}}),
    ("yolox", YOLOX_APART, (64, 64), 3, {"objectness": {"outputs": ("o_8", "o_4", "o_2")}, "scores": {"form": "sigmoid"}}),
    ("nanodet", {"output": (1, 3598, 112)}, (416, 416), 80, {"boxes": {"bins": 8, "columns": (80, None)}, "points": {"offset": 0}}),
    ("picodet", PICODET, (800, 608), 10, {"boxes": {"bins": 8}, "points": {"strides": (8, 16, 32, 64), "offset": 0.5}}),
    ("picodet", RKNN, (640, 640), 80, {"boxes": {"bins": 16}, "scores": {"form": "sigmoid"}}),
    ("picodet", {"output": (1, 144, 8400)}, (640, 640), 80, {"boxes": {"bins": 16, "columns": (0, 64)}}),
    ("ssd", {"s": (1, 8732, 21), "b": (1, 8732, 4)}, (300, 300), 20, {"boxes": {"form": "ssd"}, "scores": {"background": "first"}}),
    ("ssd", {"scores": (1, 4420, 2), "boxes": (1, 4420, 4)}, (240, 320), 1, {"boxes": {"form": "xyxy", "unit": "share"}}),
    (
        "detr",
        {"logits": (1, 100, 92), "pred_boxes": (1, 100, 4)},
        (800, 800),
        91,
        {"scores": {"form": "softmax", "background": "last"}},
    ),
    (
        "detr",
        {"logits": (1, 300, 80), "pred_boxes": (1, 300, 4)},
        (640, 640),
        80,
        {"scores": {"form": "sigmoid"}, "select": "best"},
    ),
    ("detr", {"output0": (1, 300, 84)}, (640, 640), 80, {"boxes": {"columns": (0, 4), "unit": "share"}, "select": "best"}),
    (
        "centernet",
        {"hm": (1, 80, 64, 64), "wh": (1, 2, 64, 64), "reg": (1, 2, 64, 64)},
        (256, 256),
        80,
        {"scores": {"peaks": True}},
    ),
    ("boxes_scores", {"boxes": (1, 2100, 4), "scores": (1, 2100, 3)}, (320, 320), 3, {"boxes": {"form": "xyxy", "unit": "pixels"}}),
    ("boxes_scores", {"boxes": (1, 10647, 1, 4), "confs": (1, 10647, 80)}, (416, 416), 80, {"boxes": {"unit": "share"}}),
    ("boxes_scores", {"scores": (1, 50, 4), "boxes": (1, 50, 4)}, (320, 320), 4, {"boxes": {"outputs": ("boxes",)}}),
    ("efficientdet", {"r": (1, 49104, 4), "c": (1, 49104, 90)}, (512, 512), 90, {"points": {"strides": (8, 16, 32, 64, 128)}}),
    ("end_to_end", {"boxes": (300, 6), "count": (1,)}, (320, 320), 80, {"boxes": {"columns": (2, 6)}, "count": "count"}),
    ("end_to_end", {"output": (35, 7)}, (640, 640), 80, {"boxes": {"columns": (1, 5)}, "scores": {"columns": (6, 7)}}),
    ("end_to_end", {"detection_out": (1, 1, 200, 7)}, (300, 300), 20, {"boxes": {"unit": "share"}, "labels": {"first": 1}}),
    ("end_to_end", {"boxes": (1, 4), "c": (1,), "scores": (1,)}, (320, 320), 90, {"labels": {"outputs": ("c",)}, "count": None}),
    ("end_to_end", {"dets": (1, 100, 5), "labels": (1, 100)}, (320, 320), 80, {"scores": {"columns": (4, 5)}}),
    (
        "end_to_end",
        {"boxes": (9, 4), "labels": (9,), "scores": (9,)},
        (320, 320),
        90,
        {"labels": {"outputs": ("labels",), "first": 1}},
    ),
    (
        "end_to_end",
        {"boxes": (1, 10, 4), "classes": (1, 10), "scores": (1, 10), "number": (1,)},
        (300, 300),
        90,
        {"boxes": {"order": "yx", "unit": "share"}, "scores": {"outputs": ("scores",)}, "count": "number"},
    ),
]


def within(wanted: Any, found: Any) -> bool:
    """Whether all that is wanted of a declaration stands in it."""
    return all(within(value, found[key]) for key, value in wanted.items()) if isinstance(wanted, dict) else bool(wanted == found)


@pytest.mark.parametrize(("preset", "outputs", "input_size", "classes", "wanted"), FILES, ids=str)
def test_the_shapes_of_known_files_are_recognised(
    preset: str, outputs: Shapes, input_size: tuple[int, int], classes: int, wanted: dict[str, Any]
) -> None:
    """The preset is among those that fit, filled in; all that fit take these shapes, and none stands twice."""
    found = fitting(outputs, input_size, classes)
    assert [name for name, decoding in found if name == preset and within(wanted, decoding.model_dump())]
    assert len({decoding for _, decoding in found}) == len(found) < 100
    tensors = {name: np.zeros(shape, np.float32) for name, shape in outputs.items()}
    for name, decoding in found:
        result = decode(decoding, tensors, input_size, classes)
        assert result.scores.shape == (len(result.boxes_xyxy_px), classes), (name, decoding)


def test_further_outputs_do_not_hide_the_right_one() -> None:
    """YOLOv5 files often have their raw heads as well, segmenting ones their masks."""
    heads = {f"head_{side}": (1, 3, side, side, 85) for side in (80, 40, 20)}
    assert "yolov5" in dict(fitting({"output": (1, 25200, 85), **heads}, (640, 640), 80))
    assert "detr" in dict(fitting({"masks": (1, 32, 160, 160), "logits": (1, 300, 80), "boxes": (1, 300, 4)}, (640, 640), 80))


def test_levels_of_any_number() -> None:
    """Four levels, of which the coarsest is one cell: there is no fifth, and presets for one or three levels keep silent."""
    for anchors, among in ((1, {"yolox"}), (3, set())):
        found = fitting({f"p{side}": (1, anchors * 9, side, side) for side in (8, 4, 2, 1)}, (64, 64), 4)
        assert {name for name, _ in found} == among
        assert {decoding.boxes.outputs for _, decoding in found} <= {("p8", "p4", "p2", "p1")}
    heats = {f"{what}{side}": (1, width, side, side) for what, width in (("heat", 3), ("a", 2), ("b", 2)) for side in (16, 8)}
    assert fitting(heats, (64, 64), 3) == []


def test_maps_are_not_taken_for_lists() -> None:
    """Numbers of cells, channels last, are not boxes that have been decoded in the file."""
    assert {name for name, _ in fitting({"output": (1, 22, 22, 85)}, (352, 352), 80)} == {"yolox"}


def test_nothing_fits_what_is_no_detector() -> None:
    """A classifier's output, or a batch of two."""
    assert fitting({"logits": (1, 1000)}, (224, 224), 80) == []
    assert fitting({"output": (2, 8400, 84)}, (640, 640), 80) == []


def test_a_preset_by_name_gives_the_usual_variant_first() -> None:
    """YOLOv8's boxes are in pixels, with shares as the other possibility."""
    found = named("yolov8", {"output0": (1, 84, 8400)}, (640, 640), 80)
    assert [decoding.boxes.unit for decoding in found] == ["pixels", "share"]


def test_a_preset_that_does_not_fit_says_what_it_takes() -> None:
    """With what the file has; an unknown name is answered with the known ones."""
    with pytest.raises(
        InputError, match=r"preset yolov8 does not fit outputs out \(1, 8400, 85\), .* 80 classes.* takes \(1, 4 \+ C, N\)"
    ):
        named("yolov8", {"out": (1, 8400, 85)}, (640, 640), 80)
    with pytest.raises(InputError, match="no preset 'yolo'; there are yolov8, yolov5"):
        named("yolo", {}, (640, 640), 80)
    assert all(preset.__doc__ and preset.__doc__.endswith(".") for preset in PRESETS.values())
