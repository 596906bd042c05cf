"""Speed and memory of `sixfold prepare` on many pictures, against a bare loop: `python -m studies.data_speed --folder FOLDER`.

The folder is filled once with drawn pictures of 640 x 480 in JPEG and their COCO labels (about 40 KB a picture).
"""

from __future__ import annotations

import json
import resource
import time
from pathlib import Path
from typing import Annotated

import typer

from studies.entry import run_app

SIZE, DRAWINGS, BOXES = (480, 640), 50, 5
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, help=__doc__)


@app.command()
def measure(
    folder: Annotated[Path, typer.Option(help="For pictures and results; made where it is not there.")],
    pictures: int = 20_000,
    input_size: tuple[int, int] = (192, 256),
) -> None:
    """Prepare the pictures, then decode and resize them in a loop, and print both."""
    import cv2

    from detection.data.coco import CocoSource
    from detection.data.sources import Data
    from flows.prepare.stage import prepare

    if not (folder / "labels.json").is_file():
        _draw(folder, pictures)
    cv2.setNumThreads(1)
    data = Data(name="speed", source=CocoSource(root=folder, annotations=Path("labels.json")), input_size=input_size)
    started_s = time.perf_counter()
    prepare(data, Path(), folder / "prepared", 0, print)
    took_s, peak_gb = time.perf_counter() - started_s, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    started_s = time.perf_counter()
    for path in sorted(folder.glob("*.jpg")):
        cv2.resize(cv2.imread(str(path)), input_size[::-1], interpolation=cv2.INTER_AREA)
    bare_s = time.perf_counter() - started_s
    print(f"| {pictures:,} pictures | s | pictures/s |\n|---|---:|---:|")
    for name, own_s in (("prepare", took_s), ("cv2.imread and cv2.resize alone", bare_s)):
        print(f"| {name} | {own_s:.1f} | {pictures / own_s:.0f} |")
    print(f"\nprepare has {bare_s / took_s:.0%} of the bare loop's speed; greatest memory {peak_gb:.2f} GB")


def _draw(folder: Path, pictures: int) -> None:
    """Pictures and labels: a few drawings of rectangles, each time with other noise."""
    import cv2
    import numpy as np

    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    corners = rng.integers((0, 0, 20, 20), (500, 340, 140, 140), (DRAWINGS, BOXES, 4))  # x, y, width, height
    images = [{"id": n, "file_name": f"{n:06d}.jpg", "height": SIZE[0], "width": SIZE[1]} for n in range(pictures)]
    for number, image in enumerate(images):
        canvas = np.full((*SIZE, 3), (number % DRAWINGS * 5, 120, 90), np.uint8)
        for x, y, width, height in corners[number % DRAWINGS].tolist():
            cv2.rectangle(canvas, (x, y), (x + width, y + height), rng.integers(0, 255, 3).tolist(), -1)
        noise = rng.integers(0, 40, (SIZE[0] // 2, SIZE[1] // 2, 3), np.uint8)
        cv2.imwrite(str(folder / str(image["file_name"])), cv2.add(canvas, cv2.resize(noise, SIZE[::-1])))
    boxes = [(n, box) for n in range(pictures) for box in corners[n % DRAWINGS].tolist()]
    annotations = [{"id": i, "image_id": n, "category_id": 1, "bbox": box, "iscrowd": 0} for i, (n, box) in enumerate(boxes)]
    labels = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "rectangle"}]}
    (folder / "labels.json").write_text(json.dumps(labels))


if __name__ == "__main__":
    run_app(app, "data speed")
