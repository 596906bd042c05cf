"""Decodings of well-known detectors, filled in from the shapes of a file's outputs.

Shapes seldom tell one convention from another: each preset gives every variant that fits, the usual one first, and labelled
pictures decide. C classes, N points, M detections.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from itertools import combinations, permutations, product
from typing import Any, NamedTuple

from detection.file_interface.declaration import Channels, Decoding
from detection.file_interface.points import Anchors, Grid, Priors, Size, cells, place
from detection.frozen import InputError

Shapes = Mapping[str, tuple[int, ...]]
"""The outputs of one run of the file by name, in the file's order."""
STRIDES = (4, 8, 16, 32, 64, 128)
BINS = range(2, 33)
"""Distances per side that a distribution may have; published detectors have 8, 16 or 17."""


def fitting(outputs: Shapes, input_size: tuple[int, int], classes_count: int) -> list[tuple[str, Decoding]]:
    """Every (preset, decoding) that takes outputs of these shapes; a decoding stands once, under the first preset that gives it.

    `input_size` is (height, width) in pixels; shapes are those of a run, without unknown sides.
    """
    names: dict[Decoding, str] = {}
    for name, preset in PRESETS.items():
        for decoding in preset(_File(outputs, input_size, classes_count)):
            names.setdefault(decoding, name)
    return [(name, decoding) for decoding, name in names.items()]


def named(name: str, outputs: Shapes, input_size: tuple[int, int], classes_count: int) -> list[Decoding]:
    """The decodings of one preset that take outputs of these shapes, the usual one first. InputError where there is none."""
    if name not in PRESETS:
        raise InputError(f"decode: no preset {name!r}; there are {', '.join(PRESETS)}. Name one of them, or declare the parts.")
    found = list(dict.fromkeys(PRESETS[name](_File(outputs, input_size, classes_count))))
    if not found:
        have = ", ".join(f"{output} {shape}" for output, shape in outputs.items())
        raise InputError(
            f"decode: preset {name} does not fit outputs {have}, an input of {input_size[0]} x {input_size[1]} and {classes_count} "
            f"classes. It takes {PRESETS[name].__doc__} Name another preset, declare the parts, or correct the list of classes."
        )
    return found


class _Found(NamedTuple):
    """Tensors that are one part together."""

    outputs: tuple[str, ...]
    channels: Channels
    rows: int
    strides: tuple[int, ...] = ()

    def at(self, first: int = 0, end: int | None = None, /, **fields: Any) -> dict[str, Any]:
        """A part of a declaration: these columns, with further fields."""
        columns = (first, end) if first or end else None
        return {"outputs": self.outputs, "channels": self.channels, "columns": columns, **fields}


class _File(NamedTuple):
    """What a preset looks at."""

    shapes: Shapes
    input_size: tuple[int, int]
    classes: int

    def whole(self, width: int) -> list[_Found]:
        """Single tensors with this many numbers per row."""
        found = []
        for name, shape in self.shapes.items():
            sides: list[tuple[Channels, int, int]] = []
            if len(shape) == 2:
                sides = [("last", shape[0], shape[1])]
            elif len(shape) == 3 and shape[0] == 1:
                sides = [("last", shape[1], shape[2]), ("first", shape[2], shape[1])]
            elif len(shape) == 4 and shape[0] == 1 and 1 in shape[1:3]:  # (1, N, 1, 4) of YOLOv4, (1, 1, M, 7) of SSD in OpenVINO
                sides = [("last", shape[1] * shape[2], shape[3])]
            found += [_Found((name,), channels, rows) for channels, rows, columns in sides if columns == width]
        return found

    def gridded(self, width: int, anchors: int = 1) -> list[_Found]:
        """Tensors with a row for each anchor of each cell: single ones for all levels, or one for each level."""
        levelled: list[_Found] = []
        sides: tuple[Channels, ...] = ("first", "last")
        for channels in sides:
            levels = {stride: self._level(stride, channels, width, anchors) for stride in STRIDES if stride <= max(self.input_size)}
            levels = {stride: names for stride, names in levels.items() if names}
            # tensors of equal width, as boxes and scores of four classes: the first of every level belong together, then the second
            for names in zip(*levels.values(), strict=False):
                levelled.append(_Found(names, channels, anchors * self._cells(tuple(levels)), tuple(levels)))
        one_of_many = {name for found in levelled if len(found.strides) > 1 for name in found.outputs}
        runs = [STRIDES[first:end] for first, end in combinations(range(len(STRIDES) + 1), 2)]
        return [
            whole._replace(strides=strides)
            for whole, strides in product(self.whole(width), runs)
            if whole.rows == anchors * self._cells(strides) and whole.outputs[0] not in one_of_many
        ] + levelled

    def vectors(self, rows: int) -> list[dict[str, Any]]:
        """Parts with one number per row."""
        wanted = {(rows,), (1, rows), (rows, 1), (1, rows, 1)}
        return [{"outputs": (name,)} for name, shape in self.shapes.items() if shape in wanted]

    def single_number(self, *others: dict[str, Any]) -> str | None:
        """A tensor with one number in all, apart from those of other parts."""
        taken = {name for other in others for name in other["outputs"]}
        return next((name for name, shape in self.shapes.items() if math.prod(shape) == 1 and name not in taken), None)

    def _cells(self, strides: tuple[int, ...]) -> int:
        return sum(math.prod(cells(self.input_size, stride)) for stride in strides)

    def _level(self, stride: int, channels: Channels, width: int, anchors: int) -> list[str]:
        """Tensors that hold one level."""
        height, across = cells(self.input_size, stride)
        allowed = {(1, height, across, anchors * width), (1, anchors, height, across, width), (1, anchors * height * across, width)}
        if channels == "first":
            allowed = {
                (1, anchors * width, height, across),
                (1, anchors, width, height, across),
                (1, width, anchors * height * across),
            }
        return [name for name, shape in self.shapes.items() if shape in allowed]


def _matched(*parts: list[_Found]) -> Iterator[tuple[_Found, ...]]:
    """Every choice of different tensors for the same rows, one for each part."""
    for chosen in product(*parts):
        names = [name for found in chosen for name in found.outputs]
        if len({(found.rows, found.strides) for found in chosen}) == 1 and len(set(names)) == len(names):
            yield chosen


def _declared(**parts: Any) -> Decoding:
    """A decoding from its parts, as a plan would write them."""
    return Decoding.model_validate(parts)


FORMS = ("as_is", "sigmoid")


def _yolov5(file: _File) -> Iterator[Decoding]:
    """(1, N, 5 + C): centre and size, objectness, classes (YOLOv5, v6, v7); or raw heads by level, with the published anchors."""
    width = 5 + file.classes
    for found, unit in product(file.whole(width), ("pixels", "share")):
        yield _declared(boxes=found.at(0, 4, form="cxcywh", unit=unit), objectness=found.at(4, 5), scores=found.at(5))
    for found, sizes_px in product(file.gridded(width, anchors=3), YOLOV5_ANCHORS):
        if len(found.strides) == len(sizes_px):
            yield _declared(
                boxes=found.at(0, 4, form="anchor_sigmoid"),
                objectness=found.at(4, 5, form="sigmoid"),
                scores=found.at(5, form="sigmoid"),
                points=Anchors(strides=found.strides, offset=0, sizes_px=sizes_px, order="outer"),
            )


def _yolov8(file: _File) -> Iterator[Decoding]:
    """(1, 4 + C, N): centre and size, classes (YOLOv8, v9, 11, 12)."""
    for found, unit in product(file.whole(4 + file.classes), ("pixels", "share")):
        yield _declared(boxes=found.at(0, 4, form="cxcywh", unit=unit), scores=found.at(4))


def _yolov10(file: _File) -> Iterator[Decoding]:
    """(1, M, 6): corners, score, class; already suppressed (YOLOv10, YOLO26, exports with suppression inside)."""
    for found in file.whole(6):
        yield _declared(boxes=found.at(0, 4, form="xyxy"), scores=found.at(4, 5), labels=found.at(5, 6), select="best")


def _end_to_end(file: _File) -> Iterator[Decoding]:
    """(1, M, 4), (1, M) and (1, M): boxes, scores, classes; or rows of them, (M, 5) to (M, 7). Already suppressed."""
    parts: list[tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = []
    for found in file.whole(6):  # PaddleDetection: class, score, corners
        parts.append((found.at(2, 6), found.at(1, 2), found.at(0, 1, first=0)))
    for found in file.whole(7):
        parts.append((found.at(1, 5), found.at(6, 7), found.at(5, 6, first=0)))  # YOLOv7: picture, corners, class, score
        parts.append((found.at(3, 7, unit="share"), found.at(2, 3), found.at(1, 2, first=1)))  # SSD: picture, class, score, corners
    for found in file.whole(5):  # MMDeploy: corners and score
        for labels, first in product(file.vectors(found.rows), (0, 1)):
            parts.append((found.at(0, 4), found.at(4, 5), {**labels, "first": first}))
    for found, first in product(file.whole(4), (0, 1)):
        for scores, labels in permutations(file.vectors(found.rows), 2):
            for unit, order in (("pixels", "xy"), ("share", "xy"), ("share", "yx")):
                parts.append((found.at(unit=unit, order=order), scores, {**labels, "first": first}))
    for boxes, scores, labels in parts:
        count = file.single_number(boxes, scores, labels)
        yield _declared(boxes={**boxes, "form": "xyxy"}, scores=scores, labels=labels, count=count, select="best")


def _yolox(file: _File) -> Iterator[Decoding]:
    """(1, N, 5 + C): centre and logarithm of the size relative to the grid, objectness, classes; whole, or by level, or apart."""
    width = 5 + file.classes
    parts = [(found.strides, found.at(0, 4), found.at(4, 5), found.at(5)) for found in file.gridded(width)]
    for boxes, objectness, scores in _matched(file.gridded(4), file.gridded(1), file.gridded(file.classes)):
        parts.append((boxes.strides, boxes.at(), objectness.at(), scores.at()))
    for (strides, *three), form in product(parts, FORMS):
        yield _declared(
            boxes={**three[0], "form": "cxcywh_exp"},
            objectness={**three[1], "form": form},
            scores={**three[2], "form": form},
            points=Grid(strides=strides, offset=0),
        )
    for found in file.whole(width):  # with the grid in the file
        yield _declared(boxes=found.at(0, 4, form="cxcywh"), objectness=found.at(4, 5), scores=found.at(5))


def _nanodet(file: _File) -> Iterator[Decoding]:
    """(1, N, C + 4 * bins): classes, distributions of the distances from the corner of cells; whole, or by level, or apart."""
    yield from _distributed(file, 0.0)


def _picodet(file: _File) -> Iterator[Decoding]:
    """(1, N, C) and (1, N, 4 * bins) for each stride: distributions of the distances from the middle of cells; or joined."""
    yield from _distributed(file, 0.5)


def _distributed(file: _File, offset: float) -> Iterator[Decoding]:
    for bins, form in product(BINS, FORMS):
        sides = 4 * bins
        apart = _matched(file.gridded(sides), file.gridded(file.classes))
        parts = [(boxes.strides, boxes.at(), scores.at()) for boxes, scores in apart]
        for found in file.gridded(file.classes + sides):
            parts.append((found.strides, found.at(file.classes), found.at(0, file.classes)))
            parts.append((found.strides, found.at(0, sides), found.at(sides)))
        for strides, boxes, scores in parts:
            box = {**boxes, "form": "ltrb_dfl", "unit": "stride", "bins": bins}
            yield _declared(boxes=box, scores={**scores, "form": form}, points=Grid(strides=strides, offset=offset))


def _ssd(file: _File) -> Iterator[Decoding]:
    """(1, N, 4) and (1, N, C + 1): boxes, or numbers relative to published priors; classes after the background."""
    for (boxes, classes), form in product(_matched(file.whole(4), file.whole(file.classes + 1)), ("softmax", "as_is")):
        scores = classes.at(form=form, background="first")
        for unit in ("share", "pixels"):
            yield _declared(boxes=boxes.at(form="xyxy", unit=unit), scores=scores)
        for points in PRIORS:
            if len(place(points, file.input_size).centres_px) == boxes.rows:
                yield _declared(boxes=boxes.at(form="ssd"), scores=scores, points=points)


def _efficientdet(file: _File) -> Iterator[Decoding]:
    """(1, N, 4) and (1, N, C): numbers relative to nine anchors in each cell, y before x, and classes."""
    for (boxes, scores), form in product(_matched(file.gridded(4, 9), file.gridded(file.classes, 9)), FORMS):
        points = Anchors(strides=boxes.strides, sizes_px=tuple(map(_efficientdet_sizes, boxes.strides)))
        yield _declared(boxes=boxes.at(form="ssd", order="yx", variances=(1, 1)), scores=scores.at(form=form), points=points)


def _efficientdet_sizes(stride: int) -> tuple[Size, ...]:
    """Three octaves from four strides on, at three shapes (Tan et al. 2020; the shapes are those of its code)."""
    octaves = (4 * stride * 2 ** (third / 3) for third in range(3))
    return tuple((octave * height, octave * width) for octave in octaves for height, width in ((1, 1), (0.7, 1.4), (1.4, 0.7)))


def _detr(file: _File) -> Iterator[Decoding]:
    """(1, N, 4) and (1, N, C) or (1, N, C + 1): centre and size as shares, classes (DETR, RT-DETR, D-FINE, RF-DETR)."""
    forms = (("sigmoid", "none"), ("as_is", "none"), ("softmax", "last"), ("sigmoid", "last"), ("sigmoid", "first"))
    for form, background in forms:
        for boxes, scores in _matched(file.whole(4), file.whole(file.classes + (background != "none"))):
            how = scores.at(form=form, background=background)
            yield _declared(boxes=boxes.at(form="cxcywh", unit="share"), scores=how, select="best")
    for found, form in product(file.whole(4 + file.classes), FORMS):
        yield _declared(boxes=found.at(0, 4, form="cxcywh", unit="share"), scores=found.at(4, form=form), select="best")


def _centernet(file: _File) -> Iterator[Decoding]:
    """(1, C, height, width) and twice (1, 2, height, width): a heat map whose peaks are objects, their sizes and offsets."""
    sizes = (("cxcywh_linear", "stride"), ("cxcywh_linear", "pixels"), ("cxcywh_exp", "pixels"))
    for heat, size, centre in _matched(file.gridded(file.classes), file.gridded(2), file.gridded(2)):
        for (form, unit), offset, order, score_form in product(sizes, (0.0, 0.5), ("xy", "yx"), FORMS):
            if len(heat.strides) == 1:
                yield _declared(
                    boxes=size.at(form=form, unit=unit, order=order, centres=centre.at()),
                    scores=heat.at(form=score_form, peaks=True),
                    points=Grid(strides=heat.strides, offset=offset),
                    select="best",
                )


def _boxes_scores(file: _File) -> Iterator[Decoding]:
    """(1, N, 4) and (1, N, C): corners, or centre and size, and classes."""
    for boxes, scores in _matched(file.whole(4), file.whole(file.classes)):
        for form, unit, score_form in product(("xyxy", "cxcywh"), ("pixels", "share"), FORMS):
            yield _declared(boxes=boxes.at(form=form, unit=unit), scores=scores.at(form=score_form))


PRESETS: dict[str, Callable[[_File], Iterator[Decoding]]] = {
    "yolov8": _yolov8,
    "yolov5": _yolov5,
    "yolov10": _yolov10,
    "boxes_scores": _boxes_scores,
    "detr": _detr,
    "end_to_end": _end_to_end,
    "yolox": _yolox,
    "nanodet": _nanodet,
    "picodet": _picodet,
    "ssd": _ssd,
    "centernet": _centernet,
    "efficientdet": _efficientdet,
}
"""Each says in its docstring which shapes it takes."""

YOLOV5_ANCHORS: tuple[tuple[tuple[Size, ...], ...], ...] = (
    (((13, 10), (30, 16), (23, 33)), ((61, 30), (45, 62), (119, 59)), ((90, 116), (198, 156), (326, 373))),  # YOLOv5, YOLOv7-tiny
    (((16, 12), (36, 19), (28, 40)), ((75, 36), (55, 76), (146, 72)), ((110, 142), (243, 192), (401, 459))),  # YOLOv7
)
PRIORS: tuple[Priors | Anchors, ...] = (
    Priors(  # SSD300 with VGG16, on VOC
        strides=(8, 16, 32, 64, 100, 300),
        min_sizes_px=(30, 60, 111, 162, 213, 264),
        max_sizes_px=(60, 111, 162, 213, 264, 315),
        aspect_ratios=((2,), (2, 3), (2, 3), (2, 3), (2,), (2,)),
        clip=True,
    ),
    Priors(  # SSD300 with MobileNet (qfgaohao/pytorch-ssd)
        strides=(16, 32, 64, 100, 150, 300),
        min_sizes_px=(60, 105, 150, 195, 240, 285),
        max_sizes_px=(105, 150, 195, 240, 285, 330),
        aspect_ratios=((2, 3),) * 6,
        clip=True,
    ),
    Anchors(strides=(8, 16, 32), sizes_px=(((16, 16), (32, 32)), ((64, 64), (128, 128)), ((256, 256), (512, 512)))),  # RetinaFace
)
