"""Detectors whose boxes are known beforehand, pictures to show them, and `predict` with what it says."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import yaml
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from flows.predict.command import predict
from flows.report.model_export import ModelCard, ModelFile, ModelInput, ModelOutputs
from tests.flows.records_factory import artifact, digest, measured_row

INPUT_SIZE = (64, 96)
CLASSES = ("cat", "dog")
BOXES = np.array([[10, 20, 50, 60], [12, 20, 52, 60], [60, 8, 90, 28]], np.float32)
SCORES = np.array([[0.9, 0.0], [0.8, 0.1], [0.0, 0.6]], np.float32)
"""The second box overlaps the first by 38 of 42 columns, IoU 0.905, and gives way to it as a cat; as a dog its score is 0.1."""
IN_PICTURE = (("cat", 0.9, (20.0, 40.0, 80.0, 80.0)), ("dog", 0.6, (120.0, 16.0, 60.0, 40.0)))
"""What is found at 0.35, best first: class, score, and x, y, width, height in a picture twice as large as the input."""


def write_constant(path: Path, outputs: Mapping[str, NDArray[np.float32]], shape: Sequence[int], dtype: int) -> Path:
    """Write a file that gives these outputs whatever it is shown, from one input `images`."""
    nodes = [
        helper.make_node("Cast", ["images"], ["numbers"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMax", ["numbers"], ["most"], keepdims=0),
        helper.make_node("Mul", ["most", "nought"], ["nothing"]),
        *(helper.make_node("Add", [f"{name}_known", "nothing"], [name], name=f"add_{name}") for name in outputs),
    ]
    constants = {"nought": np.zeros((), np.float32), **{f"{name}_known": value for name, value in outputs.items()}}
    graph = helper.make_graph(
        nodes,
        "constant",
        [helper.make_tensor_value_info("images", dtype, shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, value.shape) for name, value in outputs.items()],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def write_ours(path: Path, boxes: NDArray[np.float32] = BOXES, scores: NDArray[np.float32] = SCORES) -> Path:
    """Write a file as we export them that finds these boxes (N, 4) in every picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_constant(path, {"boxes": boxes[None], "scores": scores[None]}, (1, *INPUT_SIZE, 3), TensorProto.UINT8)


def write_best(folder: Path, **changes: Any) -> Path:
    """A folder of a recommended model, its file and its card, some fields of which are changed; the folder."""
    model = write_ours(folder / "model.onnx")
    record = artifact("pruning", "onnxruntime", 0.5, 0.5, 1)
    card = ModelCard(
        profile=folder.name,
        runtime="onnxruntime 1.31.1",
        cell="pruning",
        methods=("pruning",),
        variant={},
        seed=0,
        node=digest("pruning"),
        artifact_digest=record.digest,
        files=(ModelFile(name=model.name, size_bytes=model.stat().st_size, sha256=digest("model")),),
        classes=CLASSES,
        input=ModelInput(size=INPUT_SIZE),
        outputs=ModelOutputs(),
        score_threshold=0.35,
        iou_threshold=0.6,
        val=record.val,
        test=record.test,
        latency=measured_row("pruning", folder.name, 0.005, 0.01),
    )
    (folder / "model.json").write_text(card.model_copy(update=changes).model_dump_json(by_alias=True))
    return folder


def write_users(folder: Path, *, decode: Any = None, resize: str = "letterbox") -> tuple[Path, Path]:
    """A user's file, which takes planes and gives one output of centres, sizes and scores, and the plan that describes it."""
    centres = np.concatenate([(BOXES[:, :2] + BOXES[:, 2:]) / 2, BOXES[:, 2:] - BOXES[:, :2]], 1)
    found = np.concatenate([centres, SCORES], 1)[None]
    model = write_constant(folder / "users.onnx", {"found": found}, (1, 3, *INPUT_SIZE), TensorProto.FLOAT)
    declared = {
        "boxes": {"outputs": ["found"], "columns": [0, 4], "form": "cxcywh"},
        "scores": {"outputs": ["found"], "columns": [4, None]},
    }
    plan = {
        "sweep": "users",
        "data": {"input_size": list(INPUT_SIZE), "resize": resize},
        "detector": {"onnx": "users.onnx", "classes": list(CLASSES), "decode": decode or declared},
    }
    (folder / "users.yaml").write_text(yaml.safe_dump(plan))
    return model, folder / "users.yaml"


def write_pictures(folder: Path, *names: str, size: tuple[int, int] = (128, 192)) -> Path:
    """Pictures of noise, (height, width) in pixels, of these names; the folder."""
    random = np.random.default_rng(0)
    for name in names or ("a.png",):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (*size, 3), dtype=np.uint8)).save(folder / name)
    return folder


def write_labels(path: Path, names: Sequence[str], categories: Mapping[int, str], size: tuple[int, int] = (128, 192)) -> Path:
    """COCO labels: every picture holds the boxes of IN_PICTURE whose class is among the categories."""
    ids = {name: own for own, name in categories.items()}
    boxes = [(ids[name], bbox) for name, _, bbox in IN_PICTURE if name in ids]
    content = {
        "images": [{"id": row, "file_name": name, "height": size[0], "width": size[1]} for row, name in enumerate(names)],
        "categories": [{"id": own, "name": name} for own, name in categories.items()],
        "annotations": [
            {"image_id": row, "category_id": category, "bbox": bbox} for row in range(len(names)) for category, bbox in boxes
        ],
    }
    path.write_text(json.dumps(content))
    return path


class Predicted:
    """One run of `predict`: what it said, its table, and what it wrote."""

    def __init__(self, model: Path | str, images: Sequence[Path | str], out: Path, **options: Any) -> None:
        self.out, self.lines, self.table = out, list[str](), list[Sequence[str]]()
        usual: dict[str, Any] = {
            "params": None,
            "runtime": None,
            "threads": 1,
            "score": None,
            "iou": None,
            "labels": None,
            "as_json": True,
        }
        predict(
            str(model), [str(own) for own in images], out, **(usual | options), say=self.lines.append,
            table=lambda heads, lines: self.table.extend([heads, *lines]),
        )  # fmt: skip

    @property
    def files(self) -> list[str]:
        """Names in the folder, without those that are hidden."""
        return sorted(path.name for path in self.out.iterdir() if path.name[0] != ".")

    @property
    def content(self) -> dict[str, Any]:
        """predictions.json as another program reads it."""
        found: dict[str, Any] = json.loads((self.out / "predictions.json").read_text())
        return found

    @property
    def boxes(self) -> tuple[tuple[str, float, tuple[float, ...]], ...]:
        """Class, score and bbox of every prediction."""
        return tuple((own["category"], own["score"], tuple(own["bbox"])) for own in self.content["predictions"])
