"""Drawn pictures, and a store of model files and detections, for the tests of the report."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from detection.boxes import fit_of, fitted
from detection.checkpoint import SPEC_FILE, WEIGHTS_FILE
from detection.compact.architecture import Architecture
from detection.data.dataset import Images
from detection.spec import Spec
from flows.records.schema import CellsFile
from flows.records.store import Store
from tests.flows.records_factory import CLASSES, INPUT_SIZE, digest


def pictures(count: int = 8, size: tuple[int, int] = (120, 200), seed: int = 0) -> Images:
    """Drawn pictures (height, width) with one to three boxes each, letterboxed as a prepared split is."""
    random = np.random.default_rng(seed)
    truth: dict[str, Any] = {
        "images": [],
        "annotations": [],
        "categories": [{"id": i + 1, "name": name} for i, name in enumerate(CLASSES)],
    }
    pixels, boxes, labels = [], [], []
    fit = fit_of(size, INPUT_SIZE)
    for picture_id in range(1, count + 1):
        picture = np.full((*size, 3), 200, dtype=np.uint8)
        own = [_draw(picture, random) for _ in range(1 + picture_id % 3)]
        truth["images"].append({"id": picture_id, "file_name": f"{picture_id}.png", "height": size[0], "width": size[1]})
        for label, (x, y, w, h) in own:
            truth["annotations"].append(
                {
                    "id": len(truth["annotations"]) + 1,
                    "image_id": picture_id,
                    "category_id": label + 1,
                    "bbox": [x, y, w, h],
                    "area": w * h,
                    "iscrowd": 0,
                }
            )
        xyxy = np.array([[x, y, x + w, y + h] for _, (x, y, w, h) in own], dtype=np.float32)
        pixels.append(fitted(picture, INPUT_SIZE))
        boxes.append(fit.to_input(xyxy))
        labels.append(np.array([label for label, _ in own], dtype=np.int64))
    ids = tuple(range(1, count + 1))
    return Images(
        split="test",
        pixels=np.stack(pixels),
        boxes_xyxy_px=tuple(boxes),
        labels=tuple(labels),
        picture_ids=ids,
        fits=(fit,) * count,
        classes=CLASSES,
        ground_truth=truth,
        digest=digest("pictures"),
    )


def perfect_detections(images: Images, score: float = 0.9, missed: Sequence[int] = ()) -> list[dict[str, Any]]:
    """The ground truth as COCO results, without the pictures in `missed`."""
    return [
        {"image_id": a["image_id"], "category_id": a["category_id"], "bbox": a["bbox"], "score": score}
        for a in images.ground_truth["annotations"]
        if a["image_id"] not in missed
    ]


def write_store(root: Path, cells: CellsFile, images: Images) -> Store:
    """A store at root with model files, their networks and detections of every ok cell and reference."""
    store, spec = Store(root), Spec(classes=CLASSES, input_size=INPUT_SIZE, settings=Architecture())
    for number, cell in enumerate((*cells.cells, *cells.references)):
        for artifact_record in cell.artifacts.values():
            model = root / artifact_record.url
            model.parent.mkdir(parents=True, exist_ok=True)
            model.write_bytes(f"model of {cell.cell}".encode())
            (model.parent / SPEC_FILE).write_text(spec.model_dump_json(by_alias=True))
            (model.parent / WEIGHTS_FILE).write_bytes(f"float weights of {cell.cell}".encode())
            if model.suffix == ".xml":
                model.with_suffix(".bin").write_bytes(f"weights of {cell.cell}".encode())
            missed = images.picture_ids[: number % 3]
            for place in (artifact_record.val.detections, artifact_record.test.detections):
                (root / place).write_text(json.dumps(perfect_detections(images, missed=missed)))
    return store


def _draw(picture: np.ndarray[Any, np.dtype[np.uint8]], random: np.random.Generator) -> tuple[int, tuple[int, int, int, int]]:
    side = int(random.integers(20, 50))
    x, y = int(random.integers(0, picture.shape[1] - side)), int(random.integers(0, picture.shape[0] - side))
    label = int(random.integers(0, 2))
    inside = np.ones((side, side), dtype=bool)
    if label == 0:
        row, column = np.mgrid[:side, :side] - (side - 1) / 2
        inside = row**2 + column**2 <= (side / 2) ** 2
    picture[y : y + side, x : x + side][inside] = random.integers(30, 160, 3)
    return label, (x, y, side, side)
