"""An ONNX file that finds squares of exact colours, and labelled pictures of such squares in a folder, with a plan."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from detection.boxes import Resize
from detection.data.labelled import Picture
from detection.file_interface.interface import PictureForm
from tests.flows.inspect.squares import CELL_PX, COLOURS, SIZE, TOLERANCE, pictures

Head = Literal["yolov8", "softmax"]
Shapes = tuple[tuple[int, int], ...]
OWN_SHAPE: Shapes = ((2, 2),)
"""Of the input: letterboxed or stretched is the same."""
SOME_SHAPES: Shapes = ((2, 2), (2, 1))
"""With bars at the sides where the second is letterboxed, as wide as a cell."""
CELLS = (SIZE[0] // CELL_PX) * (SIZE[1] // CELL_PX)
FAR = 1000.0
"""Beyond every pixel."""


def write_square_file(path: Path, form: PictureForm, head: Head = "yolov8") -> None:
    """A file that finds at most one square in each cell of 32 x 32 pixels; yolov8 rows, or boxes and logits of a softmax."""
    graph = _Graph()
    y, x = (own[None, None].astype(np.float32) for own in np.mgrid[: SIZE[0], : SIZE[1]])
    pixels = graph.add("Conv", "pictures", np.eye(3, dtype=np.float32)[:, :, None, None])
    masks = graph.add("Concat", *(_mask(graph, pixels, colour, form) for colour in COLOURS.values()), axis=1)
    seen = graph.add("ReduceMax", masks, axes=[1])
    pool = {"kernel_shape": [CELL_PX, CELL_PX], "strides": [CELL_PX, CELL_PX]}
    ends = [graph.add("MaxPool", graph.add("Mul", seen, own + 1), **pool) for own in (x, y)]
    starts = [graph.add("Sub", FAR, graph.add("MaxPool", graph.add("Mul", seen, FAR - own), **pool)) for own in (x, y)]
    width, height = sides = [graph.add("Max", graph.add("Sub", *pair), 1.0) for pair in zip(ends, starts, strict=True)]
    centres = [graph.add("Mul", graph.add("Add", *pair), 0.5) for pair in zip(ends, starts, strict=True)]
    filled = graph.add("Div", graph.add("Mul", graph.add("AveragePool", masks, **pool), CELL_PX**2), graph.add("Mul", *sides))
    square = graph.add("Less", graph.add("Abs", graph.add("Sub", width, height)), 1.5)
    sure = graph.add("Mul", graph.add("Cast", square, to=TensorProto.FLOAT), graph.add("Add", graph.add("Mul", width, 0.01), 0.6))
    scores, boxes = graph.add("Mul", filled, sure), graph.add("Concat", *centres, *sides, axis=1)
    if head == "yolov8":
        outputs = [graph.rows(graph.add("Concat", boxes, scores, axis=1), 4 + len(COLOURS))]
    else:
        rest = graph.add("Sub", 1.0, graph.add("ReduceMax", scores, axes=[1]))
        logits = graph.add("Log", graph.add("Max", graph.add("Concat", scores, rest, axis=1), 1e-4))
        shares = graph.add("Div", boxes, np.tile(np.array(SIZE[::-1], np.float32), 2)[None, :, None, None])
        outputs = [graph.rows(logits, len(COLOURS) + 1, last=True), graph.rows(shares, 4, last=True)]
    graph.save(path, outputs)


def _mask(graph: _Graph, pixels: str, colour: tuple[int, int, int], form: PictureForm) -> str:
    """1 where a pixel has this colour, (1, 1, height, width)."""
    ordered = np.array(colour if form.colour == "rgb" else colour[::-1], np.float32)
    scale, mean, std = (np.array(own, np.float32) for own in (form.scale, form.mean, form.std))
    apart = graph.add("Abs", graph.add("Sub", pixels, ((ordered / scale - mean) / std)[None, :, None, None]))
    in_255ths = graph.add("Mul", apart, np.broadcast_to(scale * std, 3)[None, :, None, None].astype(np.float32))
    near = graph.add("Less", graph.add("ReduceMax", in_255ths, axes=[1]), TOLERANCE)
    return graph.add("Cast", near, to=TensorProto.FLOAT)


class _Graph:
    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def add(self, kind: str, *inputs: str | float | NDArray[Any], **attributes: Any) -> str:
        """The output of a new node; numbers become constants."""
        names = [own if isinstance(own, str) else self._constant(np.asarray(own, np.float32)) for own in inputs]
        output = f"{kind.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, names, [output], output, **attributes))
        return output

    def rows(self, value: str, width: int, *, last: bool = False) -> str:
        """(1, width, rows, columns) as (1, width, cells), or with its numbers last."""
        shape = numpy_helper.from_array(np.array([1, width, CELLS]), f"shape{len(self.constants)}")
        self.constants.append(shape)
        flat = self.add("Reshape", value, shape.name)
        return self.add("Transpose", flat, perm=[0, 2, 1]) if last else flat

    def save(self, path: Path, outputs: list[str]) -> None:
        """Write the file."""
        pictures_in = helper.make_tensor_value_info("pictures", TensorProto.FLOAT, (1, 3, *SIZE))
        found = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
        graph = helper.make_graph(self.nodes, "squares", [pictures_in], found, self.constants)
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)

    def _constant(self, value: NDArray[np.float32]) -> str:
        self.constants.append(numpy_helper.from_array(value, f"constant{len(self.constants)}"))
        return self.constants[-1].name


def write_pictures(folder: Path, resize: Resize, shapes: Shapes = SOME_SHAPES, count: int = 12) -> None:
    """PNG files and one COCO file for each split; the squares are squares once the pictures are resized so."""
    seen = pictures(count, resize, shapes)
    folder.mkdir()
    for own in seen:
        cv2.imwrite(str(folder / own.file_name), own.pixels()[..., ::-1])
    splits = {"train": seen[:1], "val": seen[1:-1], "test": seen[-1:]}
    for split, own in splits.items():
        (folder / f"{split}.json").write_text(json.dumps(_coco(own)))


def _coco(seen: list[Picture]) -> dict[str, Any]:
    boxes = [(number, *pair) for number, own in enumerate(seen) for pair in zip(own.boxes_xyxy_px, own.labels, strict=True)]
    return {
        "images": [
            {"id": number, "file_name": own.file_name, "height": own.size[0], "width": own.size[1]}
            for number, own in enumerate(seen)
        ],
        "categories": [{"id": label, "name": name} for label, name in enumerate(COLOURS)],
        "annotations": [
            {"id": at, "image_id": number, "category_id": int(label), "iscrowd": 0, "area": float((box[2:] - box[:2]).prod()),
             "bbox": [*box[:2].tolist(), *(box[2:] - box[:2]).tolist()]}
            for at, (number, box, label) in enumerate(boxes)
        ],
    }  # fmt: skip


PLAN = """sweep: squares
store: {url: store}
data:   # drawn
  name: squares
  source:
    kind: coco
    root: pictures
    annotations: {train: train.json, val: val.json, test: test.json}
"""
DETECTOR = """detector:
  onnx: squares.onnx
  classes: [red, olive, sky]
"""
