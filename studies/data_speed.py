"""Speed and memory of `sixfold prepare`, against a bare decoding loop: `python -m studies.data_speed FOLDER`. The folder is filled
once with drawn pictures of 640 x 480 in JPEG and their COCO labels."""

from __future__ import annotations

import json
import resource
import time
from pathlib import Path

import cv2
import numpy as np
import typer

from detection.data.coco import CocoSource
from detection.data.sources import Data
from flows.prepare.stage import prepare
from studies.entry import run_app

INPUT_SIZE, DRAWINGS = (192, 256), 50
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, help=__doc__)


@app.command()
def measure(folder: Path, pictures: int = 20_000) -> None:
    """Prepare the pictures, then decode and resize them in a loop, and print both."""
    if not (folder / "labels.json").is_file():
        _draw(folder, pictures)
    cv2.setNumThreads(1)
    data = Data(source=CocoSource(root=folder, annotations=Path("labels.json")), input_size=INPUT_SIZE)
    started_s = time.perf_counter()
    prepare(data, Path(), folder / "prepared", 0, print)
    took_s, peak_gb = time.perf_counter() - started_s, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    started_s = time.perf_counter()
    for path in sorted(folder.glob("*.jpg")):
        cv2.resize(cv2.imread(str(path)), INPUT_SIZE[::-1], interpolation=cv2.INTER_AREA)
    bare_s = time.perf_counter() - started_s
    print("| | s | pictures/s | greatest memory, GB |\n|---|---:|---:|---:|")
    print(f"| `sixfold prepare` | {took_s:.1f} | {pictures / took_s:.0f} | {peak_gb:.2f} |")
    print(f"| cv2.imread and cv2.resize | {bare_s:.1f} | {pictures / bare_s:.0f} | |\n\n{bare_s / took_s:.0%} of the loop's speed")


def _draw(folder: Path, pictures: int) -> None:
    """A few drawings of rectangles, each time with other noise and colours, and their boxes."""
    rng, found = np.random.default_rng(0), []
    folder.mkdir(parents=True, exist_ok=True)
    drawings = rng.integers((0, 0, 20, 20), (500, 340, 140, 140), (DRAWINGS, 5, 4)).tolist()  # x, y, width, height
    for n in range(pictures):
        canvas = cv2.resize(rng.integers(60, 140, (240, 320, 3), np.uint8), (640, 480))
        for box in drawings[n % DRAWINGS]:
            cv2.rectangle(canvas, box, rng.integers(0, 255, 3).tolist(), -1)
            found.append({"image_id": n, "category_id": 1, "bbox": box})
        cv2.imwrite(str(folder / f"{n:06d}.jpg"), canvas)
    images = [{"id": n, "file_name": f"{n:06d}.jpg", "height": 480, "width": 640} for n in range(pictures)]
    labels = {"images": images, "annotations": found, "categories": [{"id": 1, "name": "rectangle"}]}
    (folder / "labels.json").write_text(json.dumps(labels))


if __name__ == "__main__":
    run_app(app, "data speed")
